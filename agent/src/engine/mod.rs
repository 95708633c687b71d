//! The one engine: look, say what would change, change, look again. Every step goes through here, so that idempotence,
//! resume, verification and the journal are written once.

mod attempt;
mod follow;
mod serving;
mod watched;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest;
use futures_util::Stream;
use muster_proto::agent::{self, CheckStepReply, CheckStepRequest, RunStepReply, RunStepRequest};
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, StepId};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use attempt::{Attempt, output_of};
use follow::follow;

use crate::difference;
use crate::host::HostError;
use crate::host::change::Host;
use crate::ledger::Ledger;
use crate::steps::{BadStep, Finding, Input, Step};
use crate::ticket::{NoTicket, Ticket};

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
    #[error(
        "this node's owner forbids a reset: set `allow_reset = true` in /etc/muster/agent.toml there, `systemctl restart muster-agent`, \
         then run the same command again"
    )]
    NoReset,
    #[error("looking at the host")]
    Host(#[from] HostError),
    #[error("the agent's journal")]
    Journal(#[from] JournalError),
    #[error("the step stopped, because what it does cannot be recorded: {0}")]
    Unrecorded(String),
}

/// What this node's owner lets the coordinator do; all of it when nothing is said.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// The steps by name; none: all of them. Those of a reset are not among them.
    pub steps: Option<Vec<String>>,
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

/// What a step yields at its end, or why the journal could not be written.
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
        let mut input = Input { ticket: self.inner.memory().ticket.clone(), ..Input::default() };
        if step.reads_ledger() {
            input.ledger = Ledger::of(&self.inner.journal.after(0)?);
        }
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
    ) -> Result<watch::Receiver<Option<End>>, Refused> {
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
                let ticket = input.ticket.or_else(|| inner.memory().ticket.clone());
                let input = Input { ticket, ..input };
                let output = match step.check(&inner.host, &input).await {
                    Ok(Finding::Done(result)) => output_of(result),
                    _ => agent::StepOutput::default(),
                };
                ended.send_replace(Some(Ok(output)));
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
        if step.is_of_a_reset() {
            return if self.allowed.no_reset { Err(Refused::NoReset) } else { Ok(step) };
        }
        if self.allowed.steps.as_ref().is_some_and(|names| !names.iter().any(|name| name == step.name())) {
            return Err(Refused::NotAllowed(step.name().to_owned()));
        }
        Ok(step)
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

/// The identity of what is asked: a digest of the step's part of the spec, without the inputs of an attempt.
fn content_of(step: Option<&agent::Step>) -> String {
    let bytes = step.map(Message::encode_to_vec).unwrap_or_default();
    digest::digest(&digest::SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
