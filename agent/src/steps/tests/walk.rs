//! Two fake hosts become a cluster, step by step in the order of a plan; on the way every step is watched.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::event::{Event, EventKind};
use muster_proto::names::StepId;
use muster_proto::step_kind::{StepKind, UndoneBy};
use secrecy::ExposeSecret;

use super::samples::plan;
use crate::cluster::ticket::Ticket;
use crate::host::change::{Change, ChangeId, Host};
use crate::host::fake::{FakeCluster, FakeHost};
use crate::steps::{Finding, Input, Step, Yield};
use crate::undo::ledger::{Entry, Ledger, Place, Target};

fn steps() -> Vec<(&'static str, Step)> {
    let parsed = |(host, message): (_, agent::Step)| {
        let step = Step::parse(&message).unwrap_or_else(|error| panic!("{message:?}: {error}"));
        assert_eq!(step.kind(), StepKind::of(message.kind.as_ref().unwrap()));
        (host, step)
    };
    plan().into_iter().map(parsed).collect()
}

struct Walk {
    master: FakeHost,
    worker: FakeHost,
    input: Input,
    /// What the agents' journals would hold of it.
    intended: Vec<Event>,
}

impl Walk {
    fn new() -> Self {
        let cluster = FakeCluster::default();
        let (master, worker) = (FakeHost::debian("m1", cluster.clone()), FakeHost::debian("w1", cluster));
        Self { master, worker, input: Input::default(), intended: Vec::new() }
    }

    fn host(&self, name: &str) -> &FakeHost {
        if name == "m1" { &self.master } else { &self.worker }
    }

    /// Looks, and makes sure that looking changed nothing, there or elsewhere.
    async fn check(&self, host: &FakeHost, step: &Step) -> Finding {
        let before = (self.master.snapshot(), self.worker.snapshot());
        let finding = step.check(host, &self.input).await.unwrap_or_else(|e| panic!("{}: {e}", step.kind()));
        let after = (self.master.snapshot(), self.worker.snapshot());
        assert_eq!(before, after, "{}: looking changed something", step.kind());
        finding
    }

    /// Makes the changes, those that are no programs twice: the second time must change nothing.
    async fn make(&mut self, name: &str, step: &Step, changes: &[Change]) {
        let host = self.host(name).clone();
        let id: StepId = format!("{name}/{}", step.kind()).parse().unwrap();
        for (index, change) in (0u32..).zip(changes) {
            let id = ChangeId { step: id.clone(), index };
            let before = host.before(change).await.unwrap_or_else(|e| panic!("{id:?} {change}: {e}"));
            self.intended.push(intended(&id, change, before));
            let applied = host.apply(change, &id).await.unwrap_or_else(|e| panic!("{id:?} {change}: {e}"));
            assert!(applied.made, "{}: {change}: {}", step.kind(), applied.outcome.output);
            if let Change::Run(program) = change {
                host.forget(&id).await.unwrap();
                if program.yields_ticket {
                    let ticket = Ticket::parse(applied.standard_output.expose_secret());
                    self.input.ticket = Some(ticket.unwrap());
                }
            } else {
                let once = host.snapshot();
                host.apply(change, &id).await.unwrap_or_else(|e| panic!("{id:?} {change}, twice: {e}"));
                assert_eq!(once, host.snapshot(), "{}: {change}: twice is not as once", step.kind());
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
                        !changed || (step.kind().undoes() && !again),
                        "{}: more to do after its changes: {changes:?}",
                        step.kind()
                    );
                    made.extend(changes.iter().map(ToString::to_string));
                    assert!(!changes.is_empty(), "{}: a Todo without changes", step.kind());
                    changed = true;
                    self.make(name, step, &changes).await;
                }
                Finding::Wait(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Finding::Blocked(complaint) => panic!("{} on {name}: {complaint}", step.kind()),
            }
        }
        panic!("{} on {name} waits for ever", step.kind());
    }
}

fn intended(id: &ChangeId, change: &Change, before: Option<serde_json::Value>) -> Event {
    let (change, summary) = (change.record(), change.to_string());
    Event {
        sequence: 1,
        time: jiff::Timestamp::UNIX_EPOCH,
        run: "r".into(),
        step: id.step.clone(),
        kind: EventKind::Intended { index: id.index, change, summary, before },
    }
}

#[test]
fn every_kind_has_a_sample() {
    let there: BTreeSet<StepKind> = steps().iter().map(|(_, step)| step.kind()).collect();
    assert_eq!(there, StepKind::ALL.iter().copied().collect());
}

#[tokio::test]
async fn looking_changes_nothing_and_after_its_changes_every_step_is_done() {
    let mut walk = Walk::new();
    for (name, step) in steps() {
        walk.run(name, &step).await;
        assert!(!walk.run(name, &step).await, "{}: something to do when it was done", step.kind());
    }
}

/// Every kind says what takes its effect away; here that is held against what it did.
#[tokio::test]
async fn the_account_holds_what_restore_has_to_put_back_and_nothing_else() {
    let mut walk = Walk::new();
    for host in [&walk.master, &walk.worker] {
        host.put_file("/etc/hostname", "debian\n");
        host.with(|state| state.hostname = "debian".into());
    }
    for (name, step) in steps() {
        walk.run(name, &step).await;
    }
    let mut wrong: Vec<String> = Vec::new();
    for kind in StepKind::ALL {
        let of_kind: Vec<Event> =
            walk.intended.iter().filter(|event| event.step.kind() == Some(*kind)).cloned().collect();
        assert!(!kind.looks_only() || of_kind.is_empty(), "{kind} changes something: {of_kind:?}");
        let account = Ledger::of(&of_kind).entries;
        let is_own_file = |entry: &Entry| matches!(&entry.target, Target::File { place: Place::Host(path), .. } if path.starts_with("/var/lib/muster-agent"));
        let fits = match kind.undone_by() {
            UndoneBy::Restore => !account.is_empty(),
            // kubeadm's configuration is Muster's own file.
            UndoneBy::KubeadmReset => account.iter().all(is_own_file),
            UndoneBy::EndOfCluster | UndoneBy::NothingStays | UndoneBy::Undoes => account.is_empty(),
        };
        if !fits {
            wrong.push(format!(
                "{kind} is undone by {:?}, and the account holds {account:?}",
                kind.undone_by()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_finished_cluster_gives_no_step_anything_to_do() {
    let mut walk = Walk::new();
    let undoing = [StepKind::SmokeCleanup, StepKind::DrainNode, StepKind::ForgetNode];
    let lasting = |(_, step): &(&str, Step)| !step.kind().undoes() && !undoing.contains(&step.kind());
    let steps: Vec<_> = steps().into_iter().filter(lasting).collect();
    for (name, step) in &steps {
        walk.run(name, step).await;
    }
    for (name, step) in &steps {
        assert!(!walk.run(name, step).await, "{} on {name}: something to do", step.kind());
    }
}

#[tokio::test]
async fn no_step_changes_a_host_before_its_turn_comes() {
    let walk = Walk::new();
    for (name, step) in steps() {
        // A step may answer, wait, complain or fail on a host where nothing was done; looking must still be harmless.
        let before = walk.host(name).snapshot();
        let _ = step.check(walk.host(name), &walk.input).await;
        assert_eq!(before, walk.host(name).snapshot(), "{}", step.kind());
    }
}
