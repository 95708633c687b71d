//! Status is a fold of the plan's steps and the journal's events, and of nothing else: it never claims what the
//! journal does not hold.

use std::collections::BTreeMap;

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
    complaint: Option<Complaint>,
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
            EventKind::Intended { summary, .. } => self.detail.clone_from(summary),
            EventKind::Made { .. }
            | EventKind::NotMade { .. }
            | EventKind::EndUnknown { .. }
            | EventKind::Refused { .. } => {}
            EventKind::Waiting { for_what } => self.detail.clone_from(for_what),
            EventKind::Noticed { what, .. } => self.detail.clone_from(what),
            // Once, although an agent that died in between says it again.
            EventKind::Left { what } if self.left.contains(what) => {}
            EventKind::Left { what } => self.left.push(what.clone()),
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
                self.detail.clone_from(&complaint.cause);
                self.complaint = Some(complaint.clone());
                self.finished = time;
            }
        }
    }
}

/// The status of a run from its events, oldest first.
pub fn fold(run: &Run, events: &[Event]) -> ClusterStatus {
    let mut steps: BTreeMap<&StepId, StepFold> =
        run.steps.iter().map(|id| (id, StepFold::default())).collect();
    let mut failures = Vec::new();
    for event in events {
        let Some(step) = steps.get_mut(&event.step) else { continue };
        step.take(event);
        if let EventKind::Blocked { complaint } | EventKind::Failed { complaint } = &event.kind {
            let attempt = step.attempt;
            let blocked = matches!(event.kind, EventKind::Blocked { .. });
            failures.push(Failure { attempt, blocked, ..failure(&event.step, complaint, &run.cluster.name) });
        }
    }
    let step_statuses = run.steps.iter().map(|id| {
        let fold = &steps[id];
        StepStatus {
            id: id.to_string(),
            node: id.node().to_owned(),
            state: fold.state.word().to_owned(),
            detail: fold.detail.clone(),
            started: fold.started.clone(),
            finished: fold.finished.clone(),
            changes: fold.changes,
        }
    });
    let mut names: Vec<&str> = Vec::new();
    for id in &run.steps {
        if !names.contains(&id.node()) {
            names.push(id.node());
        }
    }
    ClusterStatus {
        cluster: run.cluster.name.to_string(),
        phase: run.phase.word().to_owned(),
        run_id: run.id.clone(),
        started: shown(run.started),
        finished: run.finished.map(shown).unwrap_or_default(),
        nodes: names.iter().map(|name| node(name, run, &steps)).collect(),
        steps: step_statuses.collect(),
        failures,
        coordinator_version: muster_proto::version::VERSION.to_owned(),
        sequence: events.last().map_or(0, |event| event.sequence),
        kind: run.kind.word().to_owned(),
    }
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

fn node(name: &str, run: &Run, steps: &BTreeMap<&StepId, StepFold>) -> NodeStatus {
    let own: Vec<(&StepId, &StepFold)> =
        run.steps.iter().filter(|id| id.node() == name).map(|id| (id, &steps[id])).collect();
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
