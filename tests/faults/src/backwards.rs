//! Whether a status says less than one that was seen before it. Which state of a step may come after which is not decided
//! here: it follows from the one transition function of the events.

use std::collections::BTreeMap;

use muster_proto::change::Change;
use muster_proto::coordinator::{ClusterStatus, NodeStatus, StepStatus};
use muster_proto::event::{Complaint, EventKind, Outcome, StepState, transition};

/// A run in one of these is over; what goes on is another run.
const OVER: [&str; 3] = ["done", "failed", "interrupted"];
/// A node in one of these is through with its run.
const THROUGH: [&str; 2] = ["done", "failed"];

const STATES: [StepState; 7] = [
    StepState::Pending,
    StepState::Running,
    StepState::Changing(0),
    StepState::Waiting,
    StepState::Done,
    StepState::Blocked,
    StepState::Failed,
];

/// What was seen up to now.
#[derive(Debug, Default)]
pub struct Past {
    last: ClusterStatus,
    /// Every run, in the order in which they were seen.
    runs: Vec<String>,
}

impl Past {
    /// What of it is less than what was seen before; empty when nothing is.
    pub fn take(&mut self, status: ClusterStatus) -> Vec<String> {
        let last = std::mem::replace(&mut self.last, status);
        let now = &self.last;
        let mut less = Vec::new();
        if now.sequence < last.sequence {
            less.push(format!("the sequence went from {} to {}", last.sequence, now.sequence));
        }
        if now.run_id == last.run_id {
            within_a_run(&last, now, &mut less);
        } else if now.run_id.is_empty() {
            less.push(format!("the run {} is gone", last.run_id));
        } else if self.runs.contains(&now.run_id) {
            less.push(format!("the older run {} stands in the place of {}", now.run_id, last.run_id));
        } else {
            self.runs.push(now.run_id.clone());
        }
        less
    }
}

fn within_a_run(last: &ClusterStatus, now: &ClusterStatus, less: &mut Vec<String>) {
    if OVER.contains(&last.phase.as_str()) && now.phase != last.phase {
        less.push(format!("the run was {} and is {}", last.phase, now.phase));
    }
    if !last.finished.is_empty() && now.finished != last.finished {
        less.push(format!("the run ended {} and now {:?}", last.finished, now.finished));
    }
    if !now.failures.starts_with(&last.failures) {
        less.push(format!("there were {} failures, and they are not the first of now", last.failures.len()));
    }
    let steps: BTreeMap<&str, &StepStatus> = now.steps.iter().map(|step| (step.id.as_str(), step)).collect();
    if steps.len() != last.steps.len() {
        less.push(format!("the run had {} steps and has {}", last.steps.len(), steps.len()));
    }
    for before in &last.steps {
        match steps.get(before.id.as_str()) {
            Some(after) => of_a_step(before, after, less),
            None => less.push(format!("{} is gone", before.id)),
        }
    }
    for before in &last.nodes {
        match now.nodes.iter().find(|node| node.name == before.name) {
            Some(after) => of_a_node(before, after, less),
            None => less.push(format!("the node {} is gone", before.name)),
        }
    }
}

fn of_a_step(before: &StepStatus, after: &StepStatus, less: &mut Vec<String>) {
    if !may_become(&before.state, &after.state) {
        less.push(format!("{} went from {} to {}", before.id, before.state, after.state));
    }
    if after.changes < before.changes {
        less.push(format!("{} made {} changes and then {}", before.id, before.changes, after.changes));
    }
    for (what, was, is) in
        [("began", &before.started, &after.started), ("ended", &before.finished, &after.finished)]
    {
        if !was.is_empty() && was != is {
            less.push(format!("{} {what} {was} and then {is:?}", before.id));
        }
    }
}

fn of_a_node(before: &NodeStatus, after: &NodeStatus, less: &mut Vec<String>) {
    if after.steps_done < before.steps_done || after.steps != before.steps {
        less.push(format!(
            "{} was at {}/{} and is at {}/{}",
            before.name, before.steps_done, before.steps, after.steps_done, after.steps
        ));
    }
    if THROUGH.contains(&before.state.as_str()) && after.state != before.state {
        less.push(format!("{} was {} and is {}", before.name, before.state, after.state));
    }
}

/// Whether events lead from the one state to the other; between two looks there may be many.
fn may_become(before: &str, after: &str) -> bool {
    let mut known: Vec<StepState> = STATES.into_iter().filter(|state| state.word() == before).collect();
    let mut next = 0;
    while let Some(state) = known.get(next).copied() {
        for event in events() {
            match transition(state, &event) {
                Ok(reached) if !known.contains(&reached) => known.push(reached),
                _ => {}
            }
        }
        next += 1;
    }
    known.iter().any(|state| state.word() == after)
}

/// One of every kind.
fn events() -> Vec<EventKind> {
    let complaint = || Complaint::new("", "", "");
    let outcome = Outcome::default;
    vec![
        EventKind::Dispatched,
        EventKind::Started { content: String::new(), attempt: 1 },
        EventKind::Intended {
            index: 0,
            change: Change::ReloadUnits.record(),
            summary: String::new(),
            before: None,
        },
        EventKind::Made { index: 0, outcome: outcome() },
        EventKind::NotMade { index: 0, outcome: outcome() },
        EventKind::Waiting { for_what: String::new() },
        EventKind::Noticed { index: 0, what: String::new() },
        EventKind::Left { what: String::new() },
        EventKind::Done { changes: 0 },
        EventKind::Blocked { complaint: complaint() },
        EventKind::Failed { complaint: complaint() },
        EventKind::Refused { why: String::new(), source: String::new() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(state: &str) -> StepStatus {
        StepStatus { id: "w1/swap".into(), state: state.into(), ..StepStatus::default() }
    }
    fn status(run: &str, sequence: u64, state: &str) -> ClusterStatus {
        ClusterStatus {
            run_id: run.into(),
            phase: "running".into(),
            sequence,
            steps: vec![step(state)],
            nodes: vec![NodeStatus { name: "w1".into(), steps_done: 2, steps: 3, ..NodeStatus::default() }],
            ..ClusterStatus::default()
        }
    }
    fn seen(all: &[ClusterStatus]) -> Vec<String> {
        let mut past = Past::default();
        all.iter().flat_map(|status| past.take(status.clone())).collect()
    }

    #[test]
    fn what_an_agent_that_died_begins_again_is_not_backwards() {
        let way = ["pending", "running", "changing", "running", "waiting", "changing", "done", "done"];
        let all: Vec<_> = way.iter().zip(1..).map(|(state, at)| status("r1", at, state)).collect();
        assert_eq!(seen(&all), Vec::<String>::new());
        assert_eq!(seen(&[status("r1", 7, "failed"), status("r2", 7, "pending")]), Vec::<String>::new());
    }

    #[test]
    fn no_state_goes_back_to_pending_and_none_leaves_its_end() {
        for (before, after) in
            [("running", "pending"), ("waiting", "pending"), ("done", "running"), ("failed", "done")]
        {
            assert_eq!(
                seen(&[status("r1", 1, before), status("r1", 1, after)]),
                [format!("w1/swap went from {before} to {after}")]
            );
        }
    }

    #[test]
    fn an_older_run_never_comes_back_and_none_goes_away() {
        let told =
            seen(&[status("r1", 1, "done"), status("r2", 2, "pending"), status("r1", 3, "done")]).join("\n");
        assert!(told.contains("the older run r1 stands in the place of r2"), "{told}");
        assert_eq!(
            seen(&[status("r1", 1, "done"), ClusterStatus { sequence: 1, ..Default::default() }]),
            ["the run r1 is gone"]
        );
    }

    #[test]
    fn counters_phases_ends_and_failures_stay() {
        let whole = |change: fn(&mut ClusterStatus)| {
            let (before, mut after) = (status("r1", 2, "running"), status("r1", 2, "running"));
            change(&mut after);
            seen(&[before, after])
        };
        assert_eq!(whole(|status| status.nodes[0].steps_done = 1), ["w1 was at 2/3 and is at 1/3"]);
        assert_eq!(whole(|status| status.sequence = 1), ["the sequence went from 2 to 1"]);
        assert_eq!(whole(|status| status.nodes.clear()), ["the node w1 is gone"]);
        assert_eq!(whole(|status| status.steps.clear()).len(), 2);
        let over = |phase: &str| ClusterStatus { phase: phase.into(), ..status("r1", 2, "done") };
        assert_eq!(seen(&[over("done"), over("running")]), ["the run was done and is running"]);
        let failed = ClusterStatus { failures: vec![Default::default()], ..over("running") };
        assert_eq!(seen(&[failed, over("running")]).len(), 1);
    }
}
