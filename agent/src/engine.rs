//! The one engine: look, say what would change, change, look again. Every step goes through here, so that idempotence,
//! resume, verification and the journal are written once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::digest;
use futures_util::Stream;
use muster_proto::agent::{self, CheckStepReply, CheckStepRequest, RunStepReply, RunStepRequest};
use muster_proto::cause::chain;
use muster_proto::event::{Complaint, Event, EventKind, Outcome};
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, StepId};
use prost::Message;
use secrecy::ExposeSecret;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use crate::diagnosis;
use crate::difference;
use crate::host::HostError;
use crate::host::change::{Applied, Change, ChangeId, Host};
use crate::steps::{BadStep, Finding, Input, Step, Yield};
use crate::ticket::{NoTicket, Ticket};

/// How often a step that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How often different changes may follow each other in one step before the engine calls it going in circles.
const ROUNDS: u32 = 6;

/// A request that the agent does not carry out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the step's id")]
    Id(#[from] Malformed),
    #[error("the step")]
    Step(#[from] BadStep),
    #[error("the join ticket")]
    Ticket(#[from] NoTicket),
    #[error("{0} runs already with another content: wait for its end, or cancel the other run")]
    OtherContent(StepId),
    #[error("this node's agent.toml does not allow the step {0}")]
    NotAllowed(String),
    #[error("looking at the host")]
    Host(#[from] HostError),
    #[error("the agent's journal")]
    Journal(#[from] JournalError),
}

/// Runs steps on one host. Cheap to clone; all clones are one.
pub struct Engine<H> {
    inner: Arc<Inner<H>>,
}

impl<H> Clone for Engine<H> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<H> {
    host: H,
    journal: Journal,
    /// Steps that this node's owner forbids, by name.
    forbidden: Vec<String>,
    memory: Mutex<Memory>,
    /// One CHANGING step at a time per node; waiting and looking block nobody.
    changing: tokio::sync::Mutex<()>,
}

/// What is lost when the agent dies, and must not matter when it is.
#[derive(Default)]
struct Memory {
    /// Captured from kubeadm's output; a lost one is minted anew.
    ticket: Option<Ticket>,
    jobs: BTreeMap<StepId, Job>,
}

struct Job {
    run: String,
    content: String,
    /// None while the step runs.
    end: watch::Receiver<Option<agent::StepOutput>>,
}

impl<H: Host + 'static> Engine<H> {
    pub fn new(host: H, journal: Journal, forbidden: Vec<String>) -> Self {
        let inner = Inner {
            host,
            journal,
            forbidden,
            memory: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn host(&self) -> &H {
        &self.inner.host
    }

    /// What running the step would change. Changes nothing: `check` cannot.
    pub async fn check(&self, request: CheckStepRequest) -> Result<CheckStepReply, Refused> {
        let _: StepId = request.step_id.parse()?;
        let step = self.inner.admit(request.step.as_ref())?;
        let input = self.inner.input(None)?;
        let host = &self.inner.host;
        let finding = match step.check(host, &input).await? {
            Finding::Done(_) => agent::check_step_reply::Finding::Done(agent::Done {}),
            Finding::Blocked(complaint) => agent::check_step_reply::Finding::Blocked(complaint.into()),
            Finding::Wait(_) => agent::check_step_reply::Finding::Todo(agent::Todo { changes: Vec::new() }),
            Finding::Todo(changes) => {
                let mut planned = Vec::with_capacity(changes.len());
                for change in &changes {
                    let difference = difference::of(host, change).await?;
                    planned.push(agent::PlannedChange { summary: change.to_string(), difference });
                }
                agent::check_step_reply::Finding::Todo(agent::Todo { changes: planned })
            }
        };
        Ok(CheckStepReply { finding: Some(finding) })
    }

    /// Starts the step, or attaches to it, and streams its events that come after `after_sequence`, then its output.
    /// Dropping the stream changes nothing for the step.
    pub fn run(
        &self,
        request: RunStepRequest,
    ) -> Result<impl Stream<Item = Result<RunStepReply, Refused>> + use<H>, Refused> {
        let id: StepId = request.step_id.parse()?;
        let step = self.inner.admit(request.step.as_ref())?;
        let input = self.inner.input(request.input.as_ref())?;
        let content = content_of(request.step.as_ref());
        let end = self.start(&request.run_id, &id, step, content, input)?;
        let (events, stream) = mpsc::channel(64);
        tokio::spawn(follow(
            self.inner.journal.clone(),
            request.run_id,
            id,
            request.after_sequence,
            end,
            events,
        ));
        Ok(ReceiverStream::new(stream))
    }

    /// The end of the step's job, started here unless it runs or ran in this very run.
    fn start(
        &self,
        run: &str,
        id: &StepId,
        step: Step,
        content: String,
        input: Input,
    ) -> Result<watch::Receiver<Option<agent::StepOutput>>, Refused> {
        let mut memory = self.inner.memory();
        let mut before = None;
        if let Some(job) = memory.jobs.get(id) {
            let active = job.end.borrow().is_none() && job.end.has_changed().is_ok();
            if active && job.content != content {
                return Err(Refused::OtherContent(id.clone()));
            }
            if job.run == run && (active || job.end.borrow().is_some()) {
                return Ok(job.end.clone());
            }
            before = active.then(|| job.end.clone());
        }
        let (ended, end) = watch::channel(None);
        if self.inner.journal.state(run, id)?.is_final() {
            // An earlier life of the agent finished it; what it yielded is looked up again below, by looking alone.
            let inner = self.inner.clone();
            let (id, run) = (id.clone(), run.to_owned());
            memory.jobs.insert(id.clone(), Job { run, content, end: end.clone() });
            tokio::spawn(async move {
                let output = match step.check(&inner.host, &input).await {
                    Ok(Finding::Done(result)) => output_of(result),
                    _ => agent::StepOutput::default(),
                };
                ended.send_replace(Some(output));
            });
            return Ok(end);
        }
        memory
            .jobs
            .insert(id.clone(), Job { run: run.to_owned(), content: content.clone(), end: end.clone() });
        let attempt =
            Attempt { inner: self.inner.clone(), run: run.to_owned(), id: id.clone(), content, step, input };
        tokio::spawn(async move {
            if let Some(mut before) = before {
                // The same step of an earlier run is still under way: it is finished first, then looked at again.
                let _ = before.wait_for(Option::is_some).await;
            }
            let output = attempt.run().await;
            ended.send_replace(Some(output));
        });
        Ok(end)
    }
}

impl<H: Host> Inner<H> {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of the lock panics")
    }

    fn admit(&self, message: Option<&agent::Step>) -> Result<Step, Refused> {
        let step = Step::parse(message.ok_or(BadStep::Unknown)?)?;
        if self.forbidden.iter().any(|name| name == step.name()) {
            return Err(Refused::NotAllowed(step.name().to_owned()));
        }
        Ok(step)
    }

    fn input(&self, message: Option<&agent::StepInput>) -> Result<Input, Refused> {
        let sent = message.and_then(|input| input.ticket.as_ref()).map(Ticket::from_message).transpose()?;
        let ticket = sent.or_else(|| self.memory().ticket.clone());
        Ok(Input { ticket, pods: message.map(|input| input.pods.clone()).unwrap_or_default() })
    }
}

/// One attempt at one step.
struct Attempt<H> {
    inner: Arc<Inner<H>>,
    run: String,
    id: StepId,
    content: String,
    step: Step,
    input: Input,
}

/// How an attempt ends when it is not done.
enum Stop {
    Blocked(Complaint),
    Failed(Complaint),
    /// The journal cannot be written: nothing more may be changed, and nothing more can be recorded.
    Unrecorded(JournalError),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Unrecorded(error)
    }
}

impl<H: Host> Attempt<H> {
    async fn run(mut self) -> agent::StepOutput {
        let (kind, output) = match self.until_done().await {
            Ok((changes, output)) => (EventKind::Done { changes }, output_of(output)),
            Err(Stop::Blocked(complaint)) => (EventKind::Blocked { complaint }, agent::StepOutput::default()),
            Err(Stop::Failed(complaint)) => (EventKind::Failed { complaint }, agent::StepOutput::default()),
            Err(Stop::Unrecorded(error)) => {
                tracing::error!(step = %self.id, error = chain(&error), "the journal cannot be written; the step stops here");
                return agent::StepOutput::default();
            }
        };
        if let Err(error) = self.record(kind) {
            tracing::error!(step = %self.id, error = chain(&error), "the step's end could not be journalled");
        }
        output
    }

    async fn until_done(&mut self) -> Result<(u32, Yield), Stop> {
        let before = self.inner.journal.last_of_step(&self.id)?;
        let same_run = before.first().is_some_and(|event| event.run == self.run);
        let attempt = 1 + before
            .iter()
            .filter(|event| same_run && matches!(event.kind, EventKind::Started { .. }))
            .count() as u32;
        self.record(EventKind::Started { content: self.content.clone(), attempt })?;
        self.settle_open_change(&before).await?;

        let mut changes_made = 0;
        let mut index = if same_run { next_index(&before) } else { 0 };
        let mut rounds = 0;
        let mut deadline = Instant::now() + self.step.settle();
        let mut last_made: Vec<String> = Vec::new();
        let mut waiting_for = String::new();
        loop {
            let what = match self.look().await? {
                Finding::Done(result) => return Ok((changes_made, result)),
                Finding::Blocked(complaint) => return Err(Stop::Blocked(complaint)),
                Finding::Wait(what) => what,
                Finding::Todo(changes) => {
                    let wanted: Vec<String> = changes.iter().map(ToString::to_string).collect();
                    if wanted == last_made {
                        format!("to see the effect of: {}", wanted.join(", "))
                    } else if rounds == ROUNDS {
                        return Err(Stop::Failed(self.going_in_circles(&wanted)));
                    } else {
                        self.make(&changes, &mut index).await?;
                        changes_made += changes.len() as u32;
                        rounds += 1;
                        last_made = wanted;
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
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Looks once; an answer that may come a moment later (an API server that restarts) counts as waiting.
    async fn look(&self) -> Result<Finding, Stop> {
        // A ticket captured by an earlier step of this node, or by a program of this very step.
        let ticket = self.input.ticket.clone().or_else(|| self.inner.memory().ticket.clone());
        let input = Input { ticket, pods: self.input.pods.clone() };
        match self.step.check(&self.inner.host, &input).await {
            Ok(finding) => Ok(finding),
            Err(error) if error.is_transient() => Ok(Finding::Wait(chain(&error))),
            Err(error) => Err(Stop::Failed(Complaint::new(
                chain(&error),
                "",
                "remove the cause and run bootstrap again",
            ))),
        }
    }

    async fn make(&mut self, changes: &[Change], index: &mut u32) -> Result<(), Stop> {
        let inner = self.inner.clone();
        let _one_at_a_time = inner.changing.lock().await;
        for change in changes {
            let id = ChangeId { step: self.id.clone(), index: *index };
            *index += 1;
            let before = match inner.host.before(change).await {
                Ok(before) => before,
                Err(error) => return Err(Stop::Failed(not_possible(change, &error))),
            };
            let record = serde_json::to_value(change).unwrap_or_default();
            self.record(EventKind::Intended {
                index: id.index,
                change: record,
                summary: change.to_string(),
                before,
            })?;
            let applied = inner.host.apply(change, &id).await;
            match applied {
                Ok(applied) => self.take(&id, change, applied).await?,
                Err(error) => {
                    let outcome = Outcome { error: Some(chain(&error)), ..Outcome::default() };
                    self.record(EventKind::NotMade { index: id.index, outcome })?;
                    return Err(Stop::Failed(not_possible(change, &error)));
                }
            }
        }
        Ok(())
    }

    /// Journals how a change ended, keeps what a program yielded, and lets its unit go.
    async fn take(&mut self, id: &ChangeId, change: &Change, applied: Applied) -> Result<(), Stop> {
        let Applied { made, outcome, standard_output } = applied;
        let kind = if made {
            EventKind::Made { index: id.index, outcome: outcome.clone() }
        } else {
            EventKind::NotMade { index: id.index, outcome: outcome.clone() }
        };
        self.record(kind)?;
        if let Change::Run(program) = change {
            if made && program.yields_ticket {
                match Ticket::parse(standard_output.expose_secret()) {
                    Ok(ticket) => self.inner.memory().ticket = Some(ticket),
                    Err(error) => {
                        tracing::warn!(step = %self.id, %error, "a fresh ticket will be minted when one is needed")
                    }
                }
            }
            self.forget(id).await;
        }
        if made { Ok(()) } else { Err(Stop::Failed(diagnosis::of_change(change, &outcome))) }
    }

    /// A program that an earlier life of the agent started and whose end it never wrote: it is waited for and its
    /// result taken, never started a second time. Without its unit, looking at the host decides.
    async fn settle_open_change(&mut self, before: &[Event]) -> Result<(), Stop> {
        let mut open: BTreeMap<u32, &serde_json::Value> = BTreeMap::new();
        let mut ended = Vec::new();
        for event in before {
            match &event.kind {
                EventKind::Intended { index, change, .. } if change["change"] == "run" => {
                    open.insert(*index, change);
                }
                EventKind::Made { index, .. } | EventKind::NotMade { index, .. } => {
                    if open.remove(index).is_some() {
                        ended.push(*index);
                    }
                }
                _ => {}
            }
        }
        for index in ended {
            self.forget(&ChangeId { step: self.id.clone(), index }).await;
        }
        for (index, record) in open {
            let id = ChangeId { step: self.id.clone(), index };
            let found = self.inner.host.attach(&id).await;
            let applied = found
                .map_err(|error| Stop::Failed(Complaint::new(chain(&error), "", "run bootstrap again")))?;
            let Some(applied) = applied else { continue };
            let Applied { made, outcome, standard_output } = applied;
            let kind = if made {
                EventKind::Made { index, outcome: outcome.clone() }
            } else {
                EventKind::NotMade { index, outcome: outcome.clone() }
            };
            self.record(kind)?;
            if made && record["yields_ticket"] == true {
                self.inner.memory().ticket = Ticket::parse(standard_output.expose_secret()).ok();
            }
            self.forget(&id).await;
            if !made {
                let said = outcome.output.lines().last().unwrap_or_default().to_owned();
                let ended = outcome.error.unwrap_or_else(|| format!("exit code {:?}", outcome.exit_code));
                let cause = format!("the program that went on while the agent was away failed: {ended}");
                return Err(Stop::Failed(Complaint::new(
                    cause,
                    said,
                    "look at `sudo agent journal` on that node, then run bootstrap again",
                )));
            }
        }
        Ok(())
    }

    async fn forget(&self, id: &ChangeId) {
        if let Err(error) = self.inner.host.forget(id).await {
            tracing::warn!(unit = id.unit(), error = chain(&error), "a finished unit could not be removed");
        }
    }

    fn record(&self, kind: EventKind) -> Result<Event, JournalError> {
        self.inner.journal.append(&self.run, &self.id, kind)
    }

    fn not_in_time(&self, what: &str) -> Complaint {
        let limit = self.step.settle().as_secs();
        Complaint::new(
            format!("waited {limit} s in vain: {what}"),
            "",
            "remove the cause and run bootstrap again; it goes on from here",
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

fn not_possible(change: &Change, error: &HostError) -> Complaint {
    Complaint::new(
        format!("could not {change}: {}", chain(error)),
        "",
        "remove the cause and run bootstrap again",
    )
}

fn next_index(events: &[Event]) -> u32 {
    let indexes = events.iter().filter_map(|event| match event.kind {
        EventKind::Intended { index, .. } => Some(index + 1),
        _ => None,
    });
    indexes.max().unwrap_or(0)
}

/// The identity of what is asked: a digest of the step's part of the spec, without the inputs of an attempt.
fn content_of(step: Option<&agent::Step>) -> String {
    let bytes = step.map(Message::encode_to_vec).unwrap_or_default();
    digest::digest(&digest::SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn output_of(result: Yield) -> agent::StepOutput {
    match result {
        Yield::Nothing => agent::StepOutput::default(),
        Yield::Ticket(ticket) => agent::StepOutput { ticket: Some(ticket.to_message()), pods: Vec::new() },
        Yield::Pods(pods) => agent::StepOutput { ticket: None, pods },
    }
}

/// Sends the journal's events of one step in one run, as they come, then the output. Ends when nobody listens.
async fn follow(
    journal: Journal,
    run: String,
    id: StepId,
    after: u64,
    mut end: watch::Receiver<Option<agent::StepOutput>>,
    events: mpsc::Sender<Result<RunStepReply, Refused>>,
) {
    let mut sent = after;
    let mut news = journal.follow();
    loop {
        // Taken before the journal is read: what is written after this is seen in the next round.
        let ended = end.borrow_and_update().clone();
        let gone = end.has_changed().is_err();
        news.borrow_and_update();
        match journal.of_step(&run, &id) {
            Ok(all) => {
                let held = sent;
                for event in all.into_iter().filter(|event| event.sequence > held) {
                    sent = event.sequence;
                    let body = serde_json::to_string(&event).unwrap_or_default();
                    let item = agent::run_step_reply::Item::Event(agent::AgentEvent {
                        sequence: event.sequence,
                        body,
                    });
                    if events.send(Ok(RunStepReply { item: Some(item) })).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = events.send(Err(error.into())).await;
                return;
            }
        }
        if let Some(output) = ended {
            let item = agent::run_step_reply::Item::Output(output);
            let _ = events.send(Ok(RunStepReply { item: Some(item) })).await;
            return;
        }
        if gone {
            return;
        }
        tokio::select! {
            _ = news.changed() => {}
            _ = end.changed() => {}
            () = events.closed() => return,
        }
    }
}
