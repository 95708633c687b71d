//! The one engine: look, say what would change, change, look again. Every step goes through here, so that idempotence,
//! resume, verification and the journal are written once.

#[cfg(test)]
mod asked_again;
mod attempt;
mod contents;
mod follow;
mod host_checks;
pub(crate) mod inspect;
mod open_changes;
mod outgoing;
#[cfg(test)]
mod panicked;
mod serving;
mod watched;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use muster_proto::agent::{self, CheckStepReply, CheckStepRequest, RunStepReply, RunStepRequest};
use muster_proto::cause::chain;
use muster_proto::event::{Event, EventKind, StepState};
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, StepId};
use muster_proto::panics::{self, Panicked};
use muster_proto::step_kind::StepKind;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use attempt::{Attempt, output_of};
use contents::Contents;
use follow::follow;

use crate::cluster::ticket::{NoTicket, Ticket};
use crate::files::difference;
use crate::host::HostError;
use crate::host::change::Host;
use crate::host::foreseen;
use crate::steps::{BadStep, Finding, Input, Step};
use crate::undo::ledger::Ledger;

/// A request that the agent does not carry out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the step's id")]
    Id(#[from] Malformed),
    #[error("the step")]
    Step(#[from] BadStep),
    #[error("the id {id} is not that of a step of the kind {kind}")]
    OtherKind { id: StepId, kind: StepKind },
    #[error("the join ticket")]
    Ticket(#[from] NoTicket),
    #[error(
        "{0} was begun already with another content: wait for its end, then run the same command again, which is a run of its own"
    )]
    OtherContent(StepId),
    #[error("this node's agent.toml does not allow the step {0}")]
    NotAllowed(StepKind),
    #[error(
        "this node's owner forbids a reset: set `allow_reset = true` in /etc/muster/agent.toml there, `systemctl restart muster-agent`, \
         then run the same command again"
    )]
    NoReset,
    #[error("this agent does not have the step that is called by its digest")]
    NotKept,
    #[error("what was asked: {0}")]
    Asked(String),
    #[error("looking at the host")]
    Host(#[from] HostError),
    #[error("the agent's journal")]
    Journal(#[from] JournalError),
    #[error("the step stopped: {0}")]
    Stopped(String),
    #[error("{0}; `journalctl -u muster-agent` on this node says more")]
    Panicked(Panicked),
}

/// What this node's owner lets the coordinator do; all of it when nothing is said.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// None: all of them. Those of a reset are not among them.
    pub steps: Option<Vec<StepKind>>,
    pub no_reset: bool,
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
    allowed: Allowed,
    memory: Mutex<Memory>,
    contents: Contents,
    /// The account of the host, as of this sequence of the journal.
    ledger: Mutex<Option<(u64, Ledger)>>,
    /// One CHANGING step at a time per node; waiting blocks nobody, nor does looking but that of a step of membership.
    changing: tokio::sync::Mutex<()>,
}

/// What is lost when the agent dies, and must not matter when it is.
#[derive(Default)]
struct Memory {
    /// Captured from kubeadm's output; a lost one is minted anew.
    ticket: Option<Ticket>,
    jobs: BTreeMap<StepId, Job>,
}

/// What a step yields at its end, or why the journal does not hold that.
type End = Result<agent::StepOutput, String>;

struct Job {
    run: String,
    content: String,
    /// None while the step runs.
    end: watch::Receiver<Option<End>>,
}

impl<H: Host + 'static> Engine<H> {
    pub fn new(host: H, journal: Journal, allowed: Allowed) -> Self {
        let inner = Inner {
            host,
            journal,
            allowed,
            memory: Mutex::default(),
            contents: Contents::default(),
            ledger: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn host(&self) -> &H {
        &self.inner.host
    }

    /// What running the step would change. Changes nothing: `check` cannot.
    pub async fn check(&self, request: CheckStepRequest) -> Result<CheckStepReply, Refused> {
        let (asked, _) = self.inner.contents.meant(request.step, &request.content)?;
        let step = self.inner.admit(&request.step_id.parse()?, asked.as_ref())?;
        let mut input = Input { ticket: self.inner.memory().ticket.clone(), ..Input::default() };
        if step.kind().reads_ledger() {
            input.ledger = self.inner.ledger()?;
        }
        let host = &self.inner.host;
        let finding = match step.check(host, &input).await? {
            Finding::Done(_) => agent::check_step_reply::Finding::Done(agent::Done {}),
            Finding::Blocked(complaint) => agent::check_step_reply::Finding::Blocked(complaint.into()),
            Finding::Wait(_) => agent::check_step_reply::Finding::Todo(agent::Todo { changes: Vec::new() }),
            Finding::Todo(changes) => {
                if let Some(complaint) = foreseen::of_changes(host, &changes).await? {
                    let finding = agent::check_step_reply::Finding::Blocked(complaint.into());
                    return Ok(CheckStepReply { finding: Some(finding) });
                }
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
        let (asked, content) = self.inner.contents.meant(request.step, &request.content)?;
        let step = self.inner.admit(&id, asked.as_ref())?;
        let input = self.inner.input(request.input.as_ref())?;
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

    /// The end of the step's job, started here unless it runs or ran in this very run. Within one run a step has one content,
    /// whether it runs, has ended, or was begun in an earlier life of the agent; another run may bring another one.
    fn start(
        &self,
        run: &str,
        id: &StepId,
        step: Step,
        content: String,
        input: Input,
    ) -> Result<watch::Receiver<Option<End>>, Refused> {
        let mut memory = self.inner.memory();
        let mut before = None;
        if let Some(job) = memory.jobs.get(id) {
            let ended = job.end.borrow().is_some();
            let active = !ended && job.end.has_changed().is_ok();
            if job.content != content && (active || job.run == run) {
                return Err(Refused::OtherContent(id.clone()));
            }
            if job.run == run && (active || ended) {
                return Ok(job.end.clone());
            }
            before = active.then(|| job.end.clone());
        }
        if self.inner.begun_with(run, id)?.is_some_and(|begun| begun != content) {
            return Err(Refused::OtherContent(id.clone()));
        }
        let (ended, end) = watch::channel(None);
        if self.inner.journal.state(run, id)?.is_final() {
            // An earlier life of the agent finished it; what it yielded is looked up again.
            let job = Job { run: run.to_owned(), content: content.clone(), end: end.clone() };
            memory.jobs.insert(id.clone(), job);
            let (inner, id, run) = (self.inner.clone(), id.clone(), run.to_owned());
            tokio::spawn(async move {
                let output = panics::caught(inner.yield_again(run, id, content, step, input)).await;
                ended.send_replace(Some(output.unwrap_or_else(|panicked| Err(panicked.to_string()))));
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
            let output = panics::caught(attempt.run()).await;
            ended.send_replace(Some(output.unwrap_or_else(|panicked| Err(panicked.to_string()))));
        });
        Ok(end)
    }
}

impl<H: Host> Inner<H> {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of the lock panics")
    }

    /// Folded anew only when the journal grew: a step that waits looks every second, over a journal of years.
    fn ledger(&self) -> Result<Ledger, JournalError> {
        // Also after a panic of whoever held it: it is replaced as a whole.
        let mut held = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = self.journal.last_sequence();
        match &*held {
            Some((of, ledger)) if *of == sequence => Ok(ledger.clone()),
            _ => {
                let ledger = Ledger::of(&self.journal.after(0)?);
                *held = Some((sequence, ledger.clone()));
                Ok(ledger)
            }
        }
    }

    /// The step, if it is the one that its id names and the owner allows it.
    fn admit(&self, id: &StepId, message: Option<&agent::Step>) -> Result<Step, Refused> {
        let step = Step::parse(message.ok_or(BadStep::Unknown)?)?;
        let kind = step.kind();
        if id.kind() != Some(kind) {
            return Err(Refused::OtherKind { id: id.clone(), kind });
        }
        if kind.undoes() {
            return if self.allowed.no_reset { Err(Refused::NoReset) } else { Ok(step) };
        }
        if self.allowed.steps.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
            return Err(Refused::NotAllowed(kind));
        }
        Ok(step)
    }

    /// What a step that ended in an earlier life yields: nothing unless it was done. Mostly looking tells. A ticket is gone
    /// with the life that held it: then its step, and no other, makes a fresh one, as a step of its own in the journal,
    /// because the finished one stays as it is.
    async fn yield_again(
        self: Arc<Self>,
        run: String,
        id: StepId,
        content: String,
        step: Step,
        input: Input,
    ) -> End {
        if self.journal.state(&run, &id).map_err(|error| chain(&error))? != StepState::Done {
            return Ok(agent::StepOutput::default());
        }
        let ticket = input.ticket.clone().or_else(|| self.memory().ticket.clone());
        let finding =
            step.check(&self.host, &Input { ticket, pods: input.pods.clone(), ..Input::default() }).await;
        match finding {
            Ok(Finding::Done(result)) => Ok(output_of(result)),
            Ok(Finding::Todo(_)) if step.kind().may_be_repeated() => {
                let id = self.unfinished(&run, &id).map_err(|error| chain(&error))?;
                Attempt { inner: self, run, id, content, step, input }.run().await
            }
            _ => Ok(agent::StepOutput::default()),
        }
    }

    /// The content that the step was begun with in this run, in whatever life of the agent.
    fn begun_with(&self, run: &str, id: &StepId) -> Result<Option<String>, JournalError> {
        let content = |event: Event| match event.kind {
            EventKind::Started { content, .. } => Some(content),
            _ => None,
        };
        Ok(self.journal.of_step(run, id)?.into_iter().rev().find_map(content))
    }

    /// The first of `NAME.again`, `NAME.again.again` ... that did not end in this run.
    fn unfinished(&self, run: &str, id: &StepId) -> Result<StepId, Refused> {
        let mut id = id.clone();
        while self.journal.state(run, &id)?.is_final() {
            id = format!("{id}.again").parse()?;
        }
        Ok(id)
    }

    fn input(&self, message: Option<&agent::StepInput>) -> Result<Input, Refused> {
        let ticket = message.and_then(|input| input.ticket.as_ref()).map(Ticket::from_message).transpose()?;
        Ok(Input {
            ticket,
            pods: message.map(|input| input.pods.clone()).unwrap_or_default(),
            ..Input::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::cluster::control_plane::tests::message;
    use crate::host::change::ProgramName;
    use crate::host::fake::{FakeCluster, FakeHost};

    async fn output(engine: &Engine<FakeHost>, name: &str, kind: Kind) -> agent::StepOutput {
        let request = RunStepRequest {
            run_id: "run".into(),
            step_id: format!("m1/{name}"),
            step: Some(agent::Step { kind: Some(kind) }),
            ..RunStepRequest::default()
        };
        let replies: Vec<_> = engine.run(request).unwrap().collect().await;
        match replies.into_iter().next_back().unwrap().unwrap().item {
            Some(agent::run_step_reply::Item::Output(output)) => output,
            other => panic!("the stream ends with {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_ticket_that_died_with_the_agent_after_its_step_was_done_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|state| {
            state.swaps.clear();
            state.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
        });
        let life = || {
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            Engine::new(host.clone(), journal, Allowed::default())
        };
        let ticket = || Kind::JoinTicket(agent::JoinTicket { nodes: vec!["w1".into()] });
        let first = life();
        output(&first, "kubeadm-init", Kind::KubeadmInit(message())).await;
        let held = output(&first, "join-ticket", ticket()).await.ticket.expect("init's own ticket");
        let made = host.runs(ProgramName::Kubeadm);
        for lives in 1..3 {
            let fresh = output(&life(), "join-ticket", ticket()).await.ticket.expect("a fresh ticket");
            assert_ne!(fresh.token, held.token);
            assert_eq!(host.runs(ProgramName::Kubeadm), made + lives);
        }
        let events = life().inner.journal.after(0).unwrap();
        let intended = |step: &str| {
            let of = |event: &&Event| event.step.step() == step;
            events.iter().filter(of).filter(|event| matches!(event.kind, EventKind::Intended { .. })).count()
        };
        assert_eq!([intended("join-ticket"), intended("join-ticket.again")], [0, 1]);
        assert_eq!(intended("join-ticket.again.again"), 1);
    }
}
