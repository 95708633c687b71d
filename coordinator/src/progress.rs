//! Status is a fold of the plan's steps and the journal's events, and of nothing else: it never claims what the
//! journal does not hold.

use std::collections::HashMap;

use jiff::Timestamp;
use muster_proto::coordinator::{ClusterStatus, Failure, NodeStatus, StepStatus};
use muster_proto::event::{Complaint, Event, EventKind, StepState, transition};
use muster_proto::names::{NodeName, StepId};

use crate::record::{Run, RunPhase};

/// The detail of a step that found nothing to change.
pub const NOTHING_TO_CHANGE: &str = "nothing to change";

/// Where one step stands, with what a person wants to know of it.
#[derive(Debug, Clone, Default)]
struct StepFold {
    state: StepState,
    detail: String,
    /// What it left as it is, which its end does not hide.
    left: Vec<String>,
    started: String,
    finished: String,
    changes: u32,
    attempt: u32,
}

impl StepFold {
    fn take(&mut self, event: &Event) {
        // An event that may not follow was refused by the journal; were one there, the state stays what it was.
        let Ok(state) = transition(self.state, &event.kind) else { return };
        self.state = state;
        let time = shown(event.time);
        match &event.kind {
            EventKind::Dispatched | EventKind::Started { .. } => {
                if let EventKind::Started { attempt, .. } = &event.kind {
                    self.attempt = *attempt;
                }
                if self.started.is_empty() {
                    self.started = time;
                }
            }
            EventKind::Intended { summary, .. } => self.detail = shortened(summary),
            EventKind::Made { .. }
            | EventKind::NotMade { .. }
            | EventKind::EndUnknown { .. }
            | EventKind::Refused { .. } => {}
            EventKind::Waiting { for_what } => self.detail = shortened(for_what),
            EventKind::Noticed { what, .. } => self.detail = shortened(what),
            // Once, although an agent that died in between says it again.
            EventKind::Left { what } => {
                let what = shortened(what);
                if self.left.len() < LEFT && !self.left.contains(&what) {
                    self.left.push(what);
                }
            }
            EventKind::Done { changes } => {
                self.changes = *changes;
                self.detail = match *changes {
                    _ if !self.left.is_empty() => self.left.join("\n"),
                    0 => NOTHING_TO_CHANGE.into(),
                    _ => String::new(),
                };
                self.finished = time;
            }
            EventKind::Blocked { complaint } | EventKind::Failed { complaint } => {
                self.detail = shortened(&complaint.cause);
                self.finished = time;
            }
        }
    }
}

/// What is shown of one text of a step, in bytes: the journal holds all of it.
const SHOWN: usize = 1024;
/// So many things that a step left as they are are shown.
const LEFT: usize = 16;
/// All failures of a run together, in bytes; of those that come later the cause is shown without its evidence.
const FAILURES: usize = 1 << 20;

/// A run's events folded as they come, oldest first. What it holds grows with the steps, not with what is said of them.
#[derive(Debug)]
pub struct Folded {
    index: HashMap<StepId, usize>,
    steps: Vec<StepFold>,
    failures: Vec<Failure>,
    /// Bytes of the failures.
    told: usize,
    cluster: NodeName,
    sequence: u64,
}

impl Folded {
    /// Before its first event.
    pub fn of(run: &Run) -> Self {
        Self {
            index: run.steps.iter().cloned().zip(0..).collect(),
            steps: vec![StepFold::default(); run.steps.len()],
            failures: Vec::new(),
            told: 0,
            cluster: run.cluster.name.clone(),
            sequence: 0,
        }
    }

    /// Of the last event that was taken.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The next event of the run.
    pub fn take(&mut self, event: &Event) {
        self.sequence = event.sequence;
        let Some(index) = self.index.get(&event.step) else { return };
        let step = &mut self.steps[*index];
        step.take(event);
        if let EventKind::Blocked { complaint } | EventKind::Failed { complaint } = &event.kind {
            let blocked = matches!(event.kind, EventKind::Blocked { .. });
            let failure = failure(&event.step, complaint, &self.cluster);
            let mut failure = Failure { attempt: step.attempt, blocked, ..failure };
            if self.told > FAILURES {
                failure.cause = shortened(&failure.cause);
                failure.evidence.clear();
            }
            self.told += failure.cause.len() + failure.evidence.len() + failure.remedy.len();
            self.failures.push(failure);
        }
    }

    /// The status of the run, which is the one that this was begun with.
    pub fn status(&self, run: &Run) -> ClusterStatus {
        let step_statuses = run.steps.iter().zip(&self.steps).map(|(id, fold)| StepStatus {
            id: id.to_string(),
            node: id.node().to_owned(),
            state: fold.state.word().to_owned(),
            detail: fold.detail.clone(),
            started: fold.started.clone(),
            finished: fold.finished.clone(),
            changes: fold.changes,
        });
        let mut order: Vec<&str> = Vec::new();
        let mut own: HashMap<&str, Vec<(&StepId, &StepFold)>> = HashMap::new();
        for (id, fold) in run.steps.iter().zip(&self.steps) {
            let steps = own.entry(id.node()).or_default();
            if steps.is_empty() {
                order.push(id.node());
            }
            steps.push((id, fold));
        }
        ClusterStatus {
            cluster: run.cluster.name.to_string(),
            phase: run.phase.word().to_owned(),
            run_id: run.id.clone(),
            started: shown(run.started),
            finished: run.finished.map(shown).unwrap_or_default(),
            nodes: order.iter().map(|name| node(name, run, &own[name])).collect(),
            steps: step_statuses.collect(),
            failures: self.failures.clone(),
            coordinator_version: muster_proto::version::VERSION.to_owned(),
            sequence: self.sequence,
            kind: run.kind.word().to_owned(),
        }
    }
}

/// The status of a run from all of its events, oldest first.
pub fn fold(run: &Run, events: &[Event]) -> ClusterStatus {
    let mut folded = Folded::of(run);
    events.iter().for_each(|event| folded.take(event));
    folded.status(run)
}

/// As much of a text as a status shows.
fn shortened(text: &str) -> String {
    let cut = (0..=SHOWN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if text.len() <= SHOWN { text.to_owned() } else { format!("{}…", &text[..cut]) }
}

/// A complaint of a step as people and scripts get it.
pub fn failure(step: &StepId, complaint: &Complaint, cluster: &NodeName) -> Failure {
    let complaint = complaint.in_cluster(cluster.as_str());
    Failure {
        node: step.node().to_owned(),
        step: step.step().to_owned(),
        cause: complaint.cause,
        evidence: complaint.evidence,
        remedy: complaint.remedy,
        ..Failure::default()
    }
}

fn node(name: &str, run: &Run, own: &[(&StepId, &StepFold)]) -> NodeStatus {
    let done = own.iter().filter(|(_, step)| step.state == StepState::Done).count();
    let failed = own.iter().any(|(_, step)| matches!(step.state, StepState::Failed | StepState::Blocked));
    // A step that changes something says more than one that waits.
    let current = own.iter().find(|(_, step)| matches!(step.state, StepState::Changing(_))).or_else(|| {
        own.iter().find(|(_, step)| matches!(step.state, StepState::Running | StepState::Waiting))
    });
    let state = match (failed, done == own.len(), run.phase, done) {
        (true, ..) => "failed",
        (_, true, ..) => "done",
        (_, _, RunPhase::Running, _) if current.is_some() || done > 0 => "running",
        (_, _, RunPhase::Running, _) => "pending",
        _ => "stopped",
    };
    NodeStatus {
        name: name.to_owned(),
        connected: false,
        address: String::new(),
        steps_done: done as u32,
        steps: own.len() as u32,
        current: current.map(|(id, _)| id.step().to_owned()).unwrap_or_default(),
        state: state.to_owned(),
    }
}

/// A time as people and scripts get it.
pub(crate) fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::kind::RunKind;
    use muster_proto::change::Change;
    use muster_proto::event::reset_command;

    fn run(phase: RunPhase) -> Run {
        Run::of_test(RunKind::Bootstrap, &["m1/swap", "m1/kubeadm-init", "w1/swap"], phase)
    }
    fn event(sequence: u64, step: &str, kind: EventKind) -> Event {
        Event { sequence, time: Timestamp::UNIX_EPOCH, run: "r1".into(), step: step.parse().unwrap(), kind }
    }

    #[test]
    fn a_run_without_events_claims_nothing() {
        let status = fold(&run(RunPhase::Running), &[]);
        assert!(status.steps.iter().all(|step| step.state == "pending"));
        assert!(status.nodes.iter().all(|node| node.state == "pending" && node.steps_done == 0));
    }

    #[test]
    fn a_node_shows_the_step_that_changes_something_and_counts_what_is_done() {
        let events = [
            event(1, "m1/swap", EventKind::Dispatched),
            event(2, "m1/swap", EventKind::Started { content: String::new(), attempt: 1 }),
            event(3, "m1/swap", EventKind::Done { changes: 1 }),
            event(4, "m1/kubeadm-init", EventKind::Dispatched),
        ];
        let status = fold(&run(RunPhase::Running), &events);
        let master = &status.nodes[0];
        assert_eq!((master.steps_done, master.steps, master.current.as_str()), (1, 2, "kubeadm-init"));
        assert_eq!((status.sequence, status.nodes[1].state.as_str()), (4, "pending"));
    }

    #[test]
    fn what_keeps_a_running_program_from_its_end_is_shown_while_it_runs() {
        let intended = EventKind::Intended {
            index: 0,
            change: Change::ReloadUnits.record(),
            summary: "run kubeadm init".into(),
            before: None,
        };
        let events = [
            event(1, "m1/swap", EventKind::Started { content: String::new(), attempt: 1 }),
            event(2, "m1/swap", intended),
            event(3, "m1/swap", EventKind::Noticed { index: 0, what: "Docker does not run".into() }),
        ];
        let status = fold(&run(RunPhase::Running), &events);
        assert_eq!(
            (status.steps[0].state.as_str(), status.steps[0].detail.as_str()),
            ("changing", "Docker does not run")
        );
    }

    #[test]
    fn what_a_step_left_as_it_is_is_shown_when_it_is_done() {
        let left = || EventKind::Left { what: "swap on /dev/zram0 stays off".into() };
        let events = [
            event(1, "m1/swap", EventKind::Started { content: String::new(), attempt: 1 }),
            event(2, "m1/swap", left()),
            event(3, "m1/swap", EventKind::Started { content: String::new(), attempt: 2 }),
            event(4, "m1/swap", left()),
            event(5, "m1/swap", EventKind::Done { changes: 0 }),
        ];
        let status = fold(&run(RunPhase::Running), &events);
        let step = &status.steps[0];
        assert_eq!((step.state.as_str(), step.detail.as_str()), ("done", "swap on /dev/zram0 stays off"));
    }

    #[test]
    fn the_first_failure_stays_on_top() {
        let remedy = || format!("`{}`", reset_command("w1"));
        let blocked = |cause: &str| EventKind::Blocked { complaint: Complaint::new(cause, "", remedy()) };
        let started = || EventKind::Started { content: String::new(), attempt: 2 };
        let events = [
            event(1, "w1/swap", started()),
            event(2, "w1/swap", blocked("first")),
            event(3, "m1/swap", started()),
            event(4, "m1/swap", blocked("second")),
        ];
        let status = fold(&run(RunPhase::Failed), &events);
        assert_eq!(status.failures.iter().map(|f| f.cause.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(status.nodes[1].state, "failed");
        let first = &status.failures[0];
        assert_eq!(
            (first.attempt, first.remedy.as_str()),
            (2, "`sudo coordinator reset --node w1 --confirm lab`")
        );
    }
}
