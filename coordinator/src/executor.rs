//! Executes a plan: every step whose predecessors are done runs at once, on its node's agent. One node's failure
//! stops no other; only what comes after a failed step is not begun.

mod intake;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use muster_proto::agent::{RunStepRequest, StepInput, StepOutput, run_step_reply::Item};
use muster_proto::bounds::{self, NoEvent};
use muster_proto::cause::chain;
use muster_proto::event::{Complaint, EventKind, StepState};
use muster_proto::failpoint::{self, Point, Then};
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{NodeName, StepId};
use muster_proto::transport::connection_ended;
use tokio::task::JoinSet;
use tonic::Code;

use self::intake::{Intake, excessive};
use self::order::Order;
use crate::doors::answers::is_too_large;
use crate::doors::fleet::Fleet;
use crate::doors::fleet::said;
use crate::plans::{Plan, PlannedStep};

/// Long enough for a machine that starts again.
pub const AGENT_PATIENCE: Duration = Duration::from_secs(120);

/// No step may take longer, whatever its agent says; kubeadm's own limits are far below.
const STEP_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Executes one run.
#[derive(Clone)]
pub struct Executor {
    pub fleet: Fleet,
    pub journal: Journal,
    pub run: String,
    /// How long a step waits for its node's agent to come back before it fails by name.
    pub patience: Duration,
}

/// How all of it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub done: BTreeSet<StepId>,
    pub failed: BTreeSet<StepId>,
    /// Failures that the journal could not take: a full disk, mostly.
    pub unrecorded: Vec<(StepId, Complaint)>,
}

impl Executor {
    /// Runs the plan to its end. Returns when nothing runs and nothing more can begin.
    pub async fn execute(self, plan: &Plan) -> Ended {
        let mut ended = Ended::default();
        let mut outputs: BTreeMap<StepId, StepOutput> = BTreeMap::new();
        let mut order = Order::of(plan);
        let mut ready = order.first();
        let mut running = JoinSet::new();
        loop {
            for step in ready.drain(..).map(|index| &plan.steps[index]) {
                let given = given(step.input_from.iter().filter_map(|id| outputs.get(id)));
                running.spawn(self.clone().run_step(step.clone(), given));
            }
            match running.join_next().await {
                None => return ended,
                Some(Ok((id, Ok((StepState::Done, output))))) => {
                    ready = order.done(&id);
                    if output != StepOutput::default() {
                        outputs.insert(id.clone(), output);
                    }
                    ended.done.insert(id);
                }
                Some(Ok((id, result))) => {
                    ended.unrecorded.extend(result.err().map(|complaint| (id.clone(), complaint)));
                    ended.failed.insert(id);
                }
                Some(Err(error)) => tracing::error!(%error, "a step's task ended abnormally"),
            }
        }
    }

    /// How the step ended; an error when the journal does not hold that.
    async fn run_step(self, step: PlannedStep, given: Option<StepInput>) -> (StepId, StepEnd) {
        let (id, limit) = (step.id.clone(), STEP_LIMIT.as_secs() / 60);
        let failed = match tokio::time::timeout(STEP_LIMIT, self.to_its_end(&step, given)).await {
            Ok(Ok(end)) => return (id, Ok(end)),
            Ok(Err(complaint)) => complaint,
            Err(_) => Complaint::new(
                format!("the agent gave no result within {limit} minutes"),
                "",
                "look at `sudo agent journal` on that node, then run the same command again: it re-attaches",
            ),
        };
        match self
            .journal
            .append_grouped(&self.run, &id, EventKind::Failed { complaint: failed.clone() })
            .await
        {
            Ok(_) => (id, Ok((StepState::Failed, StepOutput::default()))),
            Err(error) => {
                tracing::error!(step = %id, error = chain(&error), "a failure could not be journalled");
                (id, Err(failed))
            }
        }
    }

    /// Sends the step and follows it over lost connections, until the journal holds its end.
    async fn to_its_end(
        &self,
        step: &PlannedStep,
        input: Option<StepInput>,
    ) -> Result<(StepState, StepOutput), Complaint> {
        if let Some(ticket) = input.as_ref().and_then(|input| input.ticket.as_ref()) {
            trust(&ticket.ca_hashes, &ticket.ca_certificate_hash)?;
        }
        failpoint::reach(Point::BeforeDispatch, &step.id).await;
        self.journal
            .append_grouped(&self.run, &step.id, EventKind::Dispatched)
            .await
            .map_err(|error| unrecorded(&error))?;
        failpoint::reach(Point::Dispatched, &step.id).await;
        let mut pauses = pauses();
        // The agent's journal is another one than it was (moved away because it was damaged): its numbers begin again.
        let mut silent = false;
        let mut intake = Intake::default();
        loop {
            let agent =
                self.fleet.agent(&step.node, failpoint::limit(self.patience)).await.map_err(|error| {
                    let remedy = format!(
                        "on {}: `systemctl status muster-agent`; then run the same command again",
                        step.node
                    );
                    Complaint::new(chain(&error), "", remedy)
                })?;
            let held = self.journal.adopted_from(step.node.as_str(), &self.run, &step.id);
            let after_sequence = if silent { 0 } else { held.map_err(|error| unrecorded(&error))? };
            let send = |asked, content| {
                let request = RunStepRequest {
                    run_id: self.run.clone(),
                    step_id: step.id.to_string(),
                    step: asked,
                    input: input.clone(),
                    after_sequence,
                    content,
                };
                let agent = agent.clone();
                async move { agent.run_step(request).await }
            };
            let answer = agent.given.ask(&step.step, send).await;
            if failpoint::reach(Point::Sent, &step.id).await == Then::Replay {
                let _ = agent.given.ask(&step.step, send).await;
            }
            let lost = match answer {
                Ok(stream) => match self.follow(step, stream, &mut intake).await? {
                    Followed::Ended(state, output) => return Ok((state, output)),
                    Followed::Silent if silent => return Err(endless(step)),
                    Followed::Silent => {
                        silent = true;
                        "the agent ended the step without saying how".to_owned()
                    }
                    Followed::Lost(why, progressed) => {
                        if progressed {
                            pauses = self::pauses();
                        }
                        why
                    }
                },
                Err(status) => refused_or_lost(&step.node, &status)?,
            };
            tracing::info!(step = %step.id, why = lost, "the connection to the agent was lost; the step goes on there");
            tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(5))).await;
        }
    }

    async fn follow(
        &self,
        step: &PlannedStep,
        mut stream: tonic::Streaming<muster_proto::agent::RunStepReply>,
        intake: &mut Intake,
    ) -> Result<Followed, Complaint> {
        let mut progressed = false;
        loop {
            let reply = match stream.message().await {
                Ok(Some(reply)) => reply,
                Ok(None) => return Ok(Followed::Lost("the stream ended".into(), progressed)),
                Err(status) => {
                    return refused_or_lost(&step.node, &status).map(|why| Followed::Lost(why, progressed));
                }
            };
            intake.take(&step.node, &reply)?;
            match reply.item {
                Some(Item::Event(event)) => {
                    progressed = true;
                    self.adopt(step, event.sequence, &event.body).await?;
                }
                Some(Item::Output(output)) => {
                    let output = bounds::taken(output).map_err(|what| excessive(&step.node, &what))?;
                    let state =
                        self.journal.state(&self.run, &step.id).map_err(|error| unrecorded(&error))?;
                    return Ok(if state.is_final() {
                        Followed::Ended(state, output)
                    } else {
                        Followed::Silent
                    });
                }
                None => {}
            }
        }
    }

    /// Takes over one event of the agent's journal; what does not belong to this step is refused.
    async fn adopt(&self, step: &PlannedStep, sequence: u64, body: &str) -> Result<(), Complaint> {
        let remedy = "install the same version of muster-agent and muster-coordinator, then run the same command again";
        let event = bounds::event(body).map_err(|error| match error {
            NoEvent::TooMuch(what) => excessive(&step.node, &what),
            NoEvent::Unreadable(error) => {
                let cause = format!("the agent of {} sent an event that cannot be read", step.node);
                Complaint::new(cause, error.to_string(), remedy)
            }
        })?;
        if event.step != step.id || event.run != self.run || event.sequence != sequence {
            let seen =
                format!("{} of run {} instead of {} of run {}", event.step, event.run, step.id, self.run);
            let cause = format!("the agent of {} sent an event of another step", step.node);
            return Err(Complaint::new(cause, seen, remedy));
        }
        if event.kind.is_result() {
            failpoint::reach(Point::BeforeStored, &step.id).await;
        }
        self.journal
            .adopt_grouped(step.node.as_str(), event)
            .await
            .map(|_| ())
            .map_err(|error| unrecorded(&error))
    }
}

/// What a step is given of those that it takes something from; none when none yields anything.
fn given<'a>(outputs: impl Iterator<Item = &'a StepOutput>) -> Option<StepInput> {
    outputs.fold(None, |input: Option<StepInput>, output| {
        let mut input = input.unwrap_or_default();
        input.ticket = input.ticket.or_else(|| output.ticket.clone());
        input.pods.extend(output.pods.iter().cloned());
        Some(input)
    })
}

/// The step's last state and what it yields; a complaint that the journal could not take.
type StepEnd = Result<(StepState, StepOutput), Complaint>;

enum Followed {
    Ended(StepState, StepOutput),
    /// The agent says that the step ended, and of the events that were asked for none tells how.
    Silent,
    /// Why, and whether anything came over this connection.
    Lost(String, bool),
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build()
}

/// Asked for all of its events, the agent says once more that the step ended, and not how.
fn endless(step: &PlannedStep) -> Complaint {
    let remedy = format!("on {}: look at `sudo agent journal`; then run the same command again", step.node);
    Complaint::new(format!("the agent of {} ended the step without saying how", step.node), "", remedy)
}

/// A refusal is the step's end; everything else is a lost connection, and the step goes on at its agent.
fn refused_or_lost(node: &NodeName, status: &tonic::Status) -> Result<String, Complaint> {
    match status.code() {
        _ if connection_ended(status) => Ok(format!("{:?}: {}", status.code(), said(status))),
        _ if is_too_large(status) => Err(excessive(node, &said(status))),
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::Internal => Err(Complaint::new(
            format!("the agent refused the step: {}", said(status)),
            "",
            "remove the cause and run the same command again",
        )),
        code => Ok(format!("{code:?}: {}", said(status))),
    }
}

/// The hash that kubeadm printed and the one of the CA file must be one: otherwise somebody else's cluster would be joined.
fn trust(printed: &[String], of_the_file: &str) -> Result<(), Complaint> {
    if printed.iter().any(|hash| hash == of_the_file) {
        return Ok(());
    }
    Err(Complaint::new(
        "the CA hash that kubeadm printed is not the hash of /etc/kubernetes/pki/ca.crt",
        format!("printed: {}\nof the file: {of_the_file}", printed.join(", ")),
        "somebody replaced the CA after `kubeadm init`: reset the control plane and start over",
    ))
}

fn unrecorded(error: &JournalError) -> Complaint {
    Complaint::new(chain(error), "", format!("on the coordinator: {}", error.remedy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::agent;

    #[test]
    fn a_ticket_whose_hash_is_not_that_of_the_ca_file_is_never_used() {
        let hash = |c: &str| format!("sha256:{}", c.repeat(64));
        assert!(trust(&[hash("a")], &hash("a")).is_ok());
        let complaint = trust(&[hash("a")], &hash("b")).unwrap_err();
        assert!(complaint.evidence.contains(&hash("a")) && complaint.evidence.contains(&hash("b")));
        assert!(trust(&[], "").is_err());
    }

    #[test]
    fn a_step_is_given_what_all_those_yield_that_it_takes_from() {
        let pods = |pod: &str| StepOutput {
            pods: vec![agent::PodAddress { pod: pod.into(), ..agent::PodAddress::default() }],
            ticket: None,
        };
        let ticket = StepOutput { ticket: Some(agent::Ticket::default()), pods: Vec::new() };
        let input = given([&pods("a"), &ticket, &pods("b")].into_iter()).unwrap();
        assert!(input.ticket.is_some());
        assert_eq!(input.pods.iter().map(|pod| pod.pod.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(given([].into_iter()), None);
    }

    #[test]
    fn what_the_journal_cannot_take_has_the_remedy_of_its_cause() {
        let illegal = muster_proto::event::transition(StepState::Done, &EventKind::Dispatched).unwrap_err();
        let remedy = unrecorded(&illegal.into()).remedy;
        assert!(remedy.contains("same version") && !remedy.contains("space"), "{remedy}");
    }

    #[test]
    fn a_refusal_ends_the_step_and_a_lost_connection_does_not() {
        let node = "w1".parse().unwrap();
        let too_large =
            refused_or_lost(&node, &tonic::Status::out_of_range("message too large")).unwrap_err();
        assert!(too_large.cause.contains("agent of w1"), "asking again would bring the same: {too_large}");
        assert!(refused_or_lost(&node, &tonic::Status::failed_precondition("other content")).is_err());
        assert!(refused_or_lost(&node, &tonic::Status::unavailable("gone")).is_ok());
        assert!(refused_or_lost(&node, &tonic::Status::unknown("broken pipe")).is_ok());
        // As a connection that is cut for its silence is told: with a refusal's code, and no agent ever said it.
        let mut cut = tonic::Status::internal("h2 protocol error: http2 error");
        cut.set_source(std::sync::Arc::new(std::io::Error::other("keepalive timed out")));
        assert!(refused_or_lost(&node, &cut).is_ok());
    }
}
