//! What a run finds of the one before it, in one sentence. Pure.

use jiff::Timestamp;
use muster_proto::coordinator::StepStatus;

use crate::plans::Plan;
use crate::progress::shown;
use crate::record::{Run, RunPhase};

/// Said when the run before, of the same cluster and kind, did not come to its end.
pub fn unfinished(before: &Run, steps: &[StepStatus], next: &Plan) -> Option<String> {
    if before.cluster.name != next.cluster.name || before.kind != next.kind {
        return None;
    }
    let (how, states): (&str, &[&str]) = match before.phase {
        RunPhase::Interrupted => ("was interrupted", &["changing", "running", "waiting"]),
        RunPhase::Failed => ("failed", &["failed", "blocked"]),
        RunPhase::Running | RunPhase::Done => return None,
    };
    // What changes something says more than what only looks.
    let first = states.iter().find_map(|state| steps.iter().find(|step| step.state == *state));
    let at = match first {
        Some(step) if step.detail.is_empty() => format!("at {}", step.id),
        Some(step) => format!("at {} ({})", step.id, step.detail.replace('\n', " ")),
        None => {
            let done = steps.iter().filter(|step| step.state == "done").count();
            format!("after {done} of {} steps", steps.len())
        }
    };
    Some(format!("resuming: the run of {} {how} {at}; it goes on from there", shown(before.started)))
}

/// Said to whoever asks for the run that is under way.
pub fn attached(began: Timestamp) -> String {
    format!("attached: this run began {} and goes on", shown(began))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::cluster::ClusterFacts;
    use crate::plans::kind::RunKind;
    use crate::progress::fold;
    use muster_proto::change::Change;
    use muster_proto::event::{Complaint, Event, EventKind};

    fn run(phase: RunPhase) -> Run {
        Run::of_test(RunKind::Bootstrap, &["m1/kubeadm-init", "w1/kubeadm-join"], phase)
    }
    fn plan(cluster: &str) -> Plan {
        let cluster = ClusterFacts::named(cluster.parse().unwrap());
        Plan { kind: RunKind::Bootstrap, cluster, steps: Vec::new() }
    }
    fn steps(kinds: Vec<EventKind>) -> Vec<StepStatus> {
        let event = |(sequence, kind)| Event {
            sequence,
            time: Timestamp::UNIX_EPOCH,
            run: "r1".into(),
            step: "w1/kubeadm-join".parse().unwrap(),
            kind,
        };
        let events: Vec<Event> = (1..).zip(kinds).map(event).collect();
        fold(&run(RunPhase::Running), &events).steps
    }
    fn started() -> EventKind {
        EventKind::Started { content: String::new(), attempt: 1 }
    }

    #[test]
    fn the_change_that_was_under_way_is_named() {
        let summary = "run kubeadm join".to_owned();
        let intended =
            EventKind::Intended { index: 0, change: Change::ReloadUnits.record(), summary, before: None };
        let steps = steps(vec![started(), intended]);
        assert_eq!(
            unfinished(&run(RunPhase::Interrupted), &steps, &plan("lab")).unwrap(),
            "resuming: the run of 1970-01-01T00:00:00Z was interrupted at w1/kubeadm-join (run kubeadm join); it goes on from there"
        );
    }

    #[test]
    fn a_failure_is_named_and_an_interruption_between_two_steps_is_counted() {
        let failed = EventKind::Failed { complaint: Complaint::new("no route", "", "mend it") };
        let said = unfinished(&run(RunPhase::Failed), &steps(vec![started(), failed]), &plan("lab")).unwrap();
        assert!(said.contains("failed at w1/kubeadm-join (no route); it goes on"), "{said}");
        let done = steps(vec![started(), EventKind::Done { changes: 0 }]);
        let said = unfinished(&run(RunPhase::Interrupted), &done, &plan("lab")).unwrap();
        assert!(said.contains("was interrupted after 1 of 2 steps"), "{said}");
    }

    #[test]
    fn nothing_is_said_of_a_finished_run_another_cluster_or_a_reset() {
        assert_eq!(unfinished(&run(RunPhase::Done), &[], &plan("lab")), None);
        assert_eq!(unfinished(&run(RunPhase::Failed), &[], &plan("other")), None);
        let reset = Run { kind: RunKind::Reset, ..run(RunPhase::Failed) };
        assert_eq!(unfinished(&reset, &[], &plan("lab")), None);
    }
}
