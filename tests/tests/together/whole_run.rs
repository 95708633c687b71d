//! The whole of a bootstrap, coordinator and agents in one process over fake hosts: what a run must hold to, whatever
//! its steps are. Real kubeadm is the lab's business (tests/lab).

use std::time::Duration;

use muster_agent::host::change::ProgramName;
use muster_agent::host::fake::Moment;
use muster_agent::host::query::JournalLine;
use muster_proto::event::{EventKind, StepState};
use muster_proto::journal::Journal;
use muster_tests::cluster::TestCluster;

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_become_a_cluster_and_again_there_is_nothing_to_do() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert!(end.changed_steps > 10, "{end:?}");
    let before: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    let (_, again) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!((again.phase.as_str(), again.changed_steps), ("done", 0), "{again:?}");
    let after: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    assert!(before == after, "a second run changes nothing");
    assert_eq!(
        cluster.host("w1").run_log().iter().filter(|line| line.starts_with("kubeadm join")).count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_alone_runs_the_pods_itself() {
    let cluster = TestCluster::of(&["m1"]).await;
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_the_changes_and_leaves_every_host_and_every_journal_as_it_was() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let hosts = || -> Vec<_> { cluster.hosts.values().map(|host| host.snapshot()).collect() };
    let (before, kubernetes) = (hosts(), cluster.kubernetes.snapshot());
    let plan = cluster.runs.plan(cluster.files(RUNS_PODS)).await.unwrap();
    assert!(before == hosts(), "planning changes no host");
    assert!(kubernetes == cluster.kubernetes.snapshot(), "nor the cluster");
    assert_eq!(plan.nodes.len(), 3);
    for name in ["m1", "w1", "w2"] {
        let journal = Journal::read_only(&cluster.agent_journal(name)).unwrap();
        assert_eq!(journal.after(0).unwrap(), [], "the agent of {name} intended nothing");
        assert!(cluster.host(name).run_log().is_empty(), "and ran nothing");
    }
    assert_eq!(cluster.runs.status().unwrap().phase, "none", "and no run was begun");
    let hosts = plan.nodes[0].steps.iter().find(|step| step.step_id == "m1/hosts").unwrap();
    assert_eq!(hosts.finding, "todo");
    assert!(hosts.changes[0].difference.contains("+10.88.0.11 m1"), "{hosts:?}");
    assert!(plan.nodes.iter().flat_map(|node| &node.steps).all(|step| step.finding != "blocked"), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_over_a_finished_cluster_finds_nothing_to_change_and_nothing_blocked() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let plan = cluster.runs.plan(cluster.files(RUNS_PODS)).await.unwrap();
    for step in plan.nodes.iter().flat_map(|node| &node.steps) {
        assert!(step.finding == "done" || step.step_id.ends_with("/smoke-answer"), "{step:?}");
        assert_ne!(step.finding, "blocked", "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_test_that_is_not_kept_is_gone_afterwards_and_not_done_again() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let removed = "  controlPlane: {runsPods: true}\n  smokeTest: {keep: false}\n";
    let (_, end) = cluster.bootstrap(removed).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert!(
        cluster.kubernetes.with(|state| state.get("Deployment", "default", "muster-smoke-test").is_none())
    );
    let applied = |log: Vec<String>| log.iter().filter(|line| line.starts_with("kubectl")).count();
    let before = applied(cluster.host("m1").run_log());
    let (_, again) = cluster.bootstrap(removed).await;
    assert_eq!((again.phase.as_str(), again.changed_steps), ("done", 0), "{again:?}");
    assert_eq!(applied(cluster.host("m1").run_log()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_never_goes_backwards_and_the_journals_are_gap_free() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let (mut seen, _) = cluster.bootstrap(RUNS_PODS).await;
    // The next run has no events of its own at first.
    seen.extend(cluster.bootstrap(RUNS_PODS).await.0);
    for pair in seen.windows(2) {
        assert!(pair[0].sequence <= pair[1].sequence);
        if pair[0].run_id != pair[1].run_id {
            continue;
        }
        for (before, after) in pair[0].nodes.iter().zip(&pair[1].nodes) {
            assert!(before.steps_done <= after.steps_done, "{}", after.name);
        }
    }
    for name in ["m1", "w1"] {
        Journal::read_only(&cluster.agent_journal(name)).unwrap().whole().unwrap();
    }
    Journal::read_only(&cluster.folder.path().join("journal.db")).unwrap().whole().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeadm_that_only_waited_is_explained_by_the_kubelets_journal() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let host = cluster.host("m1");
    host.fail_next(ProgramName::Kubeadm, 1, "[certs] Generating\n\t\ttimed out waiting for the condition\nerror execution phase wait-control-plane: couldn't initialize a Kubernetes cluster\n");
    let line = JournalLine {
        time: "2100-01-01T00:00:00Z".parse().unwrap(),
        message: "F1122 11:03:33.652436   28093 server.go:269] failed to run Kubelet: running with swap on is not supported, please disable swap!".into(),
    };
    host.with(|state| state.kubelet_journal.push(line));
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    let first = &end.failures[0];
    assert_eq!(
        (first.step.as_str(), first.cause.as_str()),
        ("kubeadm-init", "swap is on, and the kubelet refuses to run with it")
    );
    assert!(
        first.evidence.contains("as a consequence, error execution phase wait-control-plane"),
        "{first:?}"
    );
    assert!(
        first.remedy.contains("`sudo coordinator reset --node m1 --confirm lab` on the master"),
        "{first:?}"
    );
    assert_eq!(first.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_output_that_is_kept_reaches_the_coordinators_journal() {
    let cluster = TestCluster::of(&["m1"]).await;
    // As long as an agent keeps it, and of characters that grow on the way.
    let said = "\"\n".repeat(512 * 1024);
    cluster.host("m1").fail_next(ProgramName::Kubeadm, 1, said.clone());
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.failures[0].step, "kubeadm-init", "{:?}", end.failures[0].cause);
    let journal = Journal::read_only(&cluster.folder.path().join("journal.db")).unwrap();
    let kept = journal.whole().unwrap().into_iter().find_map(|event| match event.kind {
        EventKind::NotMade { outcome, .. } => Some(outcome.output),
        _ => None,
    });
    assert!(kept == Some(said), "nothing of it is lost on the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_nodes_failure_stops_no_other() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    cluster.host("w1").fail_next(ProgramName::Kubeadm, 1, "error execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR Swap]: running with swap on is not supported. Please disable swap\n");
    let (seen, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "failed");
    let first = &end.failures[0];
    assert_eq!((first.node.as_str(), first.step.as_str()), ("w1", "kubeadm-join"));
    assert!(first.cause.contains("running with swap on"), "{first:?}");
    let state =
        |id: &str| seen.last().unwrap().steps.iter().find(|step| step.id == id).unwrap().state.clone();
    assert_eq!(state("w2/kubeadm-join"), "done");
    assert_eq!(state("m1/nodes-ready"), "pending");
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "the same command goes on: {end:?}");
}

/// How many changes a clean run makes on a node.
async fn changes_of_a_clean_run(name: &str) -> u32 {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    cluster.host(name).applied()
}

/// The agent of one node dies in its n-th change, before the effect or after it, comes back, and the run goes on.
async fn survives(name: &'static str, nth: u32, moment: Moment) {
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host(name).crash_at(nth, moment);
    let (runs, files) = (cluster.runs.clone(), cluster.files(RUNS_PODS));
    let run = tokio::spawn(async move {
        use futures_util::StreamExt;
        let mut last = None;
        let mut progress = runs.bootstrap(files).await.unwrap();
        while let Some(message) = progress.next().await {
            last = message.unwrap().item;
        }
        last
    });
    tokio::time::timeout(Duration::from_secs(60), cluster.host(name).died())
        .await
        .unwrap_or_else(|_| panic!("{name}: the fault at change {nth} never fired"));
    cluster.kill_agent(name);
    cluster.start_agent(name);
    let what = format!("{name}: change {nth} {moment:?}");
    let Ok(last) = tokio::time::timeout(Duration::from_secs(40), run).await else {
        let journal = Journal::read_only(&cluster.agent_journal(name)).unwrap().after(0).unwrap();
        panic!("{what}: the run does not end; the agent's journal: {journal:#?}");
    };
    let last = last.unwrap();
    let Some(muster_proto::coordinator::progress::Item::End(end)) = last else { panic!("{what}: no end") };
    assert_eq!(end.phase, "done", "{what}: {end:?}");
    let log = cluster.host(name).run_log();
    for once in ["kubeadm init", "kubeadm join"] {
        let count = log.iter().filter(|line| line.starts_with(once)).count();
        assert!(count <= 1, "{what}: {once} ran {count} times");
    }
    assert_eq!(cluster.host(name).overlaps(), 0, "{what}");
    let journal = Journal::read_only(&cluster.agent_journal(name)).unwrap();
    let status = cluster.runs.status().unwrap();
    for step in status.steps.iter().filter(|step| step.node == name) {
        assert_eq!(
            journal.state(&status.run_id, &step.id.parse().unwrap()).unwrap(),
            StepState::Done,
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_masters_agent_may_die_at_every_change_and_the_run_goes_on() {
    for nth in 1..=changes_of_a_clean_run("m1").await {
        survives("m1", nth, Moment::BeforeEffect).await;
        survives("m1", nth, Moment::AfterEffect).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_agent_may_die_at_every_change_and_the_run_goes_on() {
    for nth in 1..=changes_of_a_clean_run("w1").await {
        survives("w1", nth, Moment::BeforeEffect).await;
        survives("w1", nth, Moment::AfterEffect).await;
    }
}
