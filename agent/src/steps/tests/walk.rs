//! Two fake hosts become a cluster, step by step in the order of a plan; on the way every step is watched.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::StepId;
use secrecy::ExposeSecret;

use super::samples::{number, plan};
use crate::cluster::ticket::Ticket;
use crate::host::change::{Change, ChangeId, Host};
use crate::host::fake::{FakeCluster, FakeHost};
use crate::steps::{BadStep, Finding, Input, Step, Yield};

/// The steps of the plan that this agent knows.
fn steps() -> Vec<(&'static str, Step)> {
    let known = |(host, message): (_, agent::Step)| match Step::parse(&message) {
        Ok(step) => Some((host, step)),
        Err(BadStep::Unknown) => None,
        Err(error) => panic!("{message:?}: {error}"),
    };
    plan().into_iter().filter_map(known).collect()
}

struct Walk {
    master: FakeHost,
    worker: FakeHost,
    input: Input,
}

impl Walk {
    fn new() -> Self {
        let cluster = FakeCluster::default();
        let (master, worker) = (FakeHost::debian("m1", cluster.clone()), FakeHost::debian("w1", cluster));
        Self { master, worker, input: Input::default() }
    }

    fn host(&self, name: &str) -> &FakeHost {
        if name == "m1" { &self.master } else { &self.worker }
    }

    /// Looks, and makes sure that looking changed nothing, there or elsewhere.
    async fn check(&self, host: &FakeHost, step: &Step) -> Finding {
        let before = (self.master.snapshot(), self.worker.snapshot());
        let finding = step.check(host, &self.input).await.unwrap_or_else(|e| panic!("{}: {e}", step.name()));
        let after = (self.master.snapshot(), self.worker.snapshot());
        assert_eq!(before, after, "{}: looking changed something", step.name());
        finding
    }

    /// Makes the changes, those that are no programs twice: the second time must change nothing.
    async fn make(&mut self, name: &str, step: &Step, changes: &[Change]) {
        let host = self.host(name).clone();
        let id: StepId = format!("{name}/{}", step.name()).parse().unwrap();
        for (index, change) in (0u32..).zip(changes) {
            let id = ChangeId { step: id.clone(), index };
            let applied = host.apply(change, &id).await.unwrap_or_else(|e| panic!("{id:?} {change}: {e}"));
            assert!(applied.made, "{}: {change}: {}", step.name(), applied.outcome.output);
            if let Change::Run(program) = change {
                host.forget(&id).await.unwrap();
                if program.yields_ticket {
                    let ticket = Ticket::parse(applied.standard_output.expose_secret());
                    self.input.ticket = Some(ticket.unwrap());
                }
            } else {
                let once = host.snapshot();
                host.apply(change, &id).await.unwrap_or_else(|e| panic!("{id:?} {change}, twice: {e}"));
                assert_eq!(once, host.snapshot(), "{}: {change}: twice is not as once", step.name());
            }
        }
    }

    /// Runs a step to its end; whether it changed anything.
    async fn run(&mut self, name: &str, step: &Step) -> bool {
        let host = self.host(name).clone();
        let mut changed = false;
        let mut made: Vec<String> = Vec::new();
        for _ in 0..100 {
            match self.check(&host, step).await {
                Finding::Done(Yield::Nothing | Yield::Left(_)) => return changed,
                Finding::Done(Yield::Ticket(ticket)) => {
                    self.input.ticket = Some(ticket);
                    return changed;
                }
                Finding::Done(Yield::Pods(pods)) => {
                    self.input.pods = pods;
                    return changed;
                }
                Finding::Todo(changes) => {
                    // A step that undoes may want more once the first of it is gone, but nothing a second time.
                    let again = changes.iter().any(|change| made.contains(&change.to_string()));
                    assert!(
                        !changed || (step.is_of_a_reset() && !again),
                        "{}: more to do after its changes: {changes:?}",
                        step.name()
                    );
                    made.extend(changes.iter().map(ToString::to_string));
                    assert!(!changes.is_empty(), "{}: a Todo without changes", step.name());
                    changed = true;
                    self.make(name, step, &changes).await;
                }
                Finding::Wait(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Finding::Blocked(complaint) => panic!("{} on {name}: {complaint}", step.name()),
            }
        }
        panic!("{} on {name} waits for ever", step.name());
    }
}

#[test]
fn every_kind_has_a_sample() {
    let mut there: Vec<usize> = plan().iter().map(|(_, step)| number(step.kind.as_ref().unwrap())).collect();
    there.sort_unstable();
    there.dedup();
    // The highest number that `number` gives: it has to be raised with a new kind.
    assert_eq!(there, (1..=29).collect::<Vec<_>>());
}

#[tokio::test]
async fn looking_changes_nothing_and_after_its_changes_every_step_is_done() {
    let mut walk = Walk::new();
    for (name, step) in steps() {
        walk.run(name, &step).await;
        assert!(!walk.run(name, &step).await, "{}: something to do when it was done", step.name());
    }
}

#[tokio::test]
async fn a_finished_cluster_gives_no_step_anything_to_do() {
    let mut walk = Walk::new();
    let undoing = ["smoke-cleanup", "drain-node", "forget-node"];
    let lasting = |(_, step): &(&str, Step)| !step.is_of_a_reset() && !undoing.contains(&step.name());
    let steps: Vec<_> = steps().into_iter().filter(lasting).collect();
    for (name, step) in &steps {
        walk.run(name, step).await;
    }
    for (name, step) in &steps {
        assert!(!walk.run(name, step).await, "{} on {name}: something to do", step.name());
    }
}

#[tokio::test]
async fn no_step_changes_a_host_before_its_turn_comes() {
    let walk = Walk::new();
    for (name, step) in steps() {
        // A step may answer, wait, complain or fail on a host where nothing was done; looking must still be harmless.
        let before = walk.host(name).snapshot();
        let _ = step.check(walk.host(name), &walk.input).await;
        assert_eq!(before, walk.host(name).snapshot(), "{}", step.name());
    }
}
