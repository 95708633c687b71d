//! One attempt at one step: from the journal's last word on it to done, blocked or failed.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::cause::chain;
use muster_proto::event::{Complaint, Event, EventKind, Outcome};
use muster_proto::failpoint::{self, Point};
use muster_proto::journal::JournalError;
use muster_proto::names::StepId;
use muster_proto::panics::{self, Panicked};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::{End, Inner, Refused};
use crate::cluster::ticket::Ticket;
use crate::diagnosis;
use crate::host::change::{Applied, Change, ChangeId, Host};
use crate::host::{HostError, foreseen};
use crate::steps::{Finding, Input, Step, Yield};
use crate::undo::ledger::Ledger;

/// A step that waits looks again after this, then after twice as long and so on, up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// How often different changes may follow each other in one step before the engine calls it going in circles.
const ROUNDS: u32 = 6;

/// One attempt at one step.
pub(super) struct Attempt<H> {
    pub(super) inner: Arc<Inner<H>>,
    pub(super) run: String,
    pub(super) id: StepId,
    pub(super) content: String,
    pub(super) step: Step,
    pub(super) input: Input,
}

/// How an attempt ends when it is not done.
pub(super) enum Stop {
    Blocked(Complaint),
    Failed(Complaint),
    /// The journal cannot be written: nothing more may be changed, and nothing more can be recorded.
    Unrecorded(JournalError),
}

/// Of a change that is a program: what its output holds.
pub(super) struct Yields {
    pub(super) ticket: bool,
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Unrecorded(error)
    }
}

impl<H: Host> Attempt<H> {
    /// Runs to an end that the journal holds; an error when it cannot hold it. A panic is an end too: the change that it struck
    /// stays open in the journal, and the next attempt looks how that went.
    pub(super) async fn run(self) -> End {
        let ended = panics::caught(self.until_done()).await;
        let (kind, output) = match ended.unwrap_or_else(|panicked| Err(Stop::Failed(flaw(&panicked)))) {
            Ok((changes, output)) => (EventKind::Done { changes }, output_of(output)),
            Err(Stop::Blocked(complaint)) => (EventKind::Blocked { complaint }, agent::StepOutput::default()),
            Err(Stop::Failed(complaint)) => (EventKind::Failed { complaint }, agent::StepOutput::default()),
            Err(Stop::Unrecorded(error)) => return Err(unrecorded(&error)),
        };
        self.record(kind).map(|_| output).map_err(|error| unrecorded(&error))
    }

    async fn until_done(&self) -> Result<(u32, Yield), Stop> {
        let own = self.inner.journal.of_step(&self.run, &self.id)?;
        let started = own.iter().filter(|event| matches!(event.kind, EventKind::Started { .. }));
        let attempt = 1 + started.count() as u32;
        let started = self.record(EventKind::Started { content: self.content.clone(), attempt })?;
        let inner = self.inner.clone();
        // What one step of membership finds on the host is only true while no other one is under way: these look in their
        // turn too. All others take it for their changes alone.
        let looks_in_turn = self.step.kind().is_of_membership();
        let mut turn = if looks_in_turn { Some(inner.changing.lock().await) } else { None };
        self.settle_own(&started).await?;
        self.settle_errands().await?;
        if looks_in_turn {
            self.settle_others().await?;
        }

        let mut changes_made = 0;
        // Numbers of this run, with those of programs that were taken over from an earlier one.
        let mut index = next_index(&self.inner.journal.of_step(&self.run, &self.id)?);
        let mut rounds = 0;
        let mut deadline = Instant::now() + self.step.settle();
        let mut last_made: Vec<Change> = Vec::new();
        let mut waiting_for = String::new();
        let mut pause = FIRST_PAUSE;
        loop {
            if looks_in_turn && turn.is_none() {
                turn = Some(inner.changing.lock().await);
            }
            let what = match self.look(&started).await? {
                Finding::Done(result) => {
                    if let Yield::Left(sentences) = &result {
                        for what in sentences {
                            self.record(EventKind::Left { what: what.clone() })?;
                        }
                    }
                    return Ok((changes_made, result));
                }
                Finding::Blocked(complaint) => return Err(Stop::Blocked(complaint)),
                Finding::Wait(what) => what,
                Finding::Todo(changes) => {
                    if looks_in_turn {
                        self.still_asked_for(&started)?;
                    }
                    let wanted = || changes.iter().map(ToString::to_string).collect::<Vec<_>>();
                    if changes == last_made {
                        format!("to see the effect of: {}", wanted().join(", "))
                    } else if rounds == ROUNDS {
                        return Err(Stop::Failed(self.going_in_circles(&wanted())));
                    } else {
                        if turn.is_none() {
                            let free = inner.changing.try_lock().ok();
                            let waited = free.is_none();
                            turn = Some(match free {
                                Some(free) => free,
                                None => inner.changing.lock().await,
                            });
                            if waited {
                                // Another step changed the host meanwhile: what was found may not hold any more.
                                continue;
                            }
                        }
                        self.possible(&changes).await?;
                        self.make(&changes, &mut index).await?;
                        if !looks_in_turn {
                            turn = None;
                        }
                        changes_made += changes.len() as u32;
                        rounds += 1;
                        last_made = changes;
                        deadline = Instant::now() + self.step.settle();
                        continue;
                    }
                }
            };
            if Instant::now() >= deadline {
                return Err(Stop::Failed(self.not_in_time(&what)));
            }
            if what != waiting_for {
                self.record(EventKind::Waiting { for_what: what.clone() })?;
                waiting_for = what;
                pause = FIRST_PAUSE;
            }
            turn = None;
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Looks once; an answer that may come a moment later (an API server that restarts) counts as waiting.
    async fn look(&self, started: &Event) -> Result<Finding, Stop> {
        // A ticket captured by an earlier step of this node, or by a program of this very step.
        let ticket = self.input.ticket.clone().or_else(|| self.inner.memory().ticket.clone());
        let ledger = match self.step.kind().reads_ledger() {
            true => self.inner.ledger()?,
            false => Ledger::default(),
        };
        let began = Some(started.time);
        let input = Input { ticket, pods: self.input.pods.clone(), began, ledger };
        match self.step.check(&self.inner.host, &input).await {
            Ok(finding) => Ok(finding),
            Err(error) if error.is_transient() => Ok(Finding::Wait(chain(&error))),
            Err(error) => Err(Stop::Failed(unseen(&error))),
        }
    }

    /// Nothing is begun that a file which cannot be written would stop half-way.
    async fn possible(&self, changes: &[Change]) -> Result<(), Stop> {
        match foreseen::of_changes(&self.inner.host, changes).await {
            Ok(None) => Ok(()),
            Ok(Some(complaint)) => Err(Stop::Blocked(complaint)),
            Err(error) => Err(Stop::Failed(unseen(&error))),
        }
    }

    /// Makes the changes one after the other; the caller has the node's turn.
    async fn make(&self, changes: &[Change], index: &mut u32) -> Result<(), Stop> {
        let inner = &self.inner;
        // A half-done init or join that is done again begins with a reset, whatever its step is called.
        if let Some(reset) = changes.iter().find(|change| inner.allowed.no_reset && change.resets()) {
            let cause = Refused::NoReset.to_string();
            return Err(Stop::Blocked(Complaint::new(
                cause,
                format!("needed: {reset}"),
                "as the first line says",
            )));
        }
        for change in changes {
            let id = ChangeId { step: self.id.clone(), index: *index };
            *index += 1;
            let before = match inner.host.before(change).await {
                Ok(before) => before,
                Err(error) => return Err(Stop::Failed(not_possible(change, &error))),
            };
            let record = change.record();
            failpoint::reach(Point::BeforeIntent, &self.id).await;
            let intended = self.record(EventKind::Intended {
                index: id.index,
                change: record,
                summary: change.to_string(),
                before,
            })?;
            failpoint::reach(Point::AfterIntent, &self.id).await;
            let mut watch = self.watch_over(change, intended.time);
            let applied = self.watched(self.apply(change, &id), watch.as_mut(), id.index).await?;
            failpoint::reach(Point::EffectDone, &self.id).await;
            match applied {
                Ok(applied) => {
                    let program = match change {
                        Change::Run(program) => Some(Yields { ticket: program.yields_ticket }),
                        _ => None,
                    };
                    if let Some(outcome) = self.conclude(&id, program, applied).await? {
                        let found = self.look_back(watch).await;
                        let complaint =
                            diagnosis::of_change(change, &outcome, self.id.node(), found.as_ref());
                        return Err(Stop::Failed(complaint));
                    }
                }
                // The change stays open: the next attempt finds the program, or that there is none.
                Err(error @ HostError::EndUnknown { .. }) => {
                    return Err(Stop::Failed(not_possible(change, &error)));
                }
                Err(error) => {
                    let outcome = Outcome { error: Some(chain(&error)), ..Outcome::default() };
                    self.record(EventKind::NotMade { index: id.index, outcome })?;
                    let said = diagnosis::start::complaint(&inner.host, change, &error, intended.time).await;
                    return Err(Stop::Failed(said.unwrap_or_else(|| not_possible(change, &error))));
                }
            }
        }
        Ok(())
    }

    /// Makes the change. A program tells itself when its unit runs; everything else is under way once it was begun.
    async fn apply(&self, change: &Change, id: &ChangeId) -> Result<Applied, HostError> {
        let applying = self.inner.host.apply(change, id);
        if matches!(change, Change::Run(_)) {
            return applying.await;
        }
        let mut applying = pin!(applying);
        let begun = poll_fn(|context| Poll::Ready(applying.as_mut().poll(context))).await;
        failpoint::reach(Point::MidEffect, &self.id).await;
        match begun {
            Poll::Ready(applied) => applied,
            Poll::Pending => applying.await,
        }
    }

    /// Journals how a change ended, keeps what a program yielded, and lets its unit go. The outcome when it was not made.
    pub(super) async fn conclude(
        &self,
        id: &ChangeId,
        program: Option<Yields>,
        applied: Applied,
    ) -> Result<Option<Outcome>, Stop> {
        let Applied { made, outcome, standard_output } = applied;
        let (index, failed) = (id.index, (!made).then(|| outcome.clone()));
        self.record(match made {
            true => EventKind::Made { index, outcome },
            false => EventKind::NotMade { index, outcome },
        })?;
        failpoint::reach(Point::ResultRecorded, &self.id).await;
        let Some(program) = program else { return Ok(failed) };
        if made && program.ticket {
            match Ticket::parse(standard_output.expose_secret()) {
                Ok(ticket) => self.inner.memory().ticket = Some(ticket),
                Err(error) => {
                    tracing::warn!(step = %self.id, %error, "a fresh ticket will be minted when one is needed")
                }
            }
        }
        self.forget(id).await;
        Ok(failed)
    }

    pub(super) async fn forget(&self, id: &ChangeId) {
        if let Err(error) = self.inner.host.forget(id).await {
            tracing::warn!(unit = id.unit(), error = chain(&error), "a finished unit could not be removed");
        }
    }

    pub(super) fn record(&self, kind: EventKind) -> Result<Event, JournalError> {
        self.inner.journal.append(&self.run, &self.id, kind)
    }

    fn not_in_time(&self, what: &str) -> Complaint {
        let limit = self.step.settle().as_secs();
        Complaint::new(
            format!("waited {limit} s in vain: {what}"),
            "",
            "remove the cause and run the same command again; it goes on from here",
        )
    }

    fn going_in_circles(&self, wanted: &[String]) -> Complaint {
        Complaint::new(
            "the host changes back what this step changes",
            wanted.join("\n"),
            "find out what else manages this host (configuration management, cloud-init) and stop it for these files",
        )
    }
}

fn unrecorded(error: &JournalError) -> String {
    format!("what it does cannot be recorded: {}", chain(error))
}

fn flaw(panicked: &Panicked) -> Complaint {
    Complaint::new(
        "the agent has a flaw that something on this host brought to light",
        format!("panicked at {}: {}", panicked.place, panicked.text),
        "report it with this line and the end of `journalctl -u muster-agent`; once the agent is mended, or what brought it to light \
         is gone, the same command goes on from here",
    )
}

/// The host did not tell what has to be known.
fn unseen(error: &HostError) -> Complaint {
    Complaint::new(chain(error), "", "remove the cause and run the same command again")
}

fn not_possible(change: &Change, error: &HostError) -> Complaint {
    Complaint::new(
        format!("could not {change}: {}", chain(error)),
        "",
        "remove the cause and run the same command again",
    )
}

fn next_index(events: &[Event]) -> u32 {
    let indexes = events.iter().filter_map(|event| match event.kind {
        EventKind::Intended { index, .. } => Some(index + 1),
        _ => None,
    });
    indexes.max().unwrap_or(0)
}

/// What the step yields, as the coordinator receives it.
pub(super) fn output_of(result: Yield) -> agent::StepOutput {
    match result {
        Yield::Nothing | Yield::Left(_) => agent::StepOutput::default(),
        Yield::Ticket(ticket) => agent::StepOutput { ticket: Some(ticket.to_message()), pods: Vec::new() },
        Yield::Pods(pods) => agent::StepOutput { ticket: None, pods },
    }
}
