//! Taking a worker out of the cluster for good: it leaves the list once all is undone, and not before.

use std::time::Duration;

use futures_util::StreamExt;
use muster_agent::host::change::ProgramName;
use muster_proto::coordinator::ResetRequest;
use muster_tests::cluster::{TestCluster, ended};

use super::reset::RUNS_PODS;

/// A removal of w1.
fn removal() -> ResetRequest {
    ResetRequest { nodes: vec!["w1".into()], confirm: "lab".into(), remove: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_worker_is_off_the_list_also_when_who_asked_went_away_and_its_name_can_come_back() {
    let mut cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    cluster.host("w1").programs_take(Duration::from_millis(200));
    let mut listening = cluster.runs.reset(removal()).await.unwrap();
    listening.next().await.unwrap().unwrap();
    assert_eq!(cluster.runs.status().unwrap().phase, "running");
    // Ctrl-C: nobody listens any more.
    drop(listening);
    let off_the_list = async {
        while cluster.enrolled().iter().any(|name| name == "w1") {
            assert!(cluster.runs.status().unwrap().phase != "failed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), off_the_list).await.expect("its identity is revoked");
    // The end is recorded after that.
    let over = async {
        while cluster.runs.status().unwrap().phase == "running" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), over).await.expect("the run ends");
    assert_eq!(cluster.runs.status().unwrap().phase, "done");
    let w1 = "w1".parse().unwrap();
    cluster.gone("w1").await;
    cluster.start_agent("w1");
    let error = cluster.fleet.agent(&w1, Duration::from_millis(500)).await;
    assert!(error.is_err(), "whoever is not on the list is not let in again: {error:?}");
    let kubernetes = &cluster.kubernetes;
    assert_eq!(kubernetes.with(|state| state.of_kind("Node").count()), 2, "w1 is out of the cluster");

    cluster.enrol("w1");
    cluster.start_agent("w1");
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!(cluster.kubernetes.with(|state| state.of_kind("Node").count()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_removed_is_waited_for_neither_by_the_same_command_nor_by_a_reset_of_all() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!(end.phase, "done", "{end:?}");
    cluster.gone("w1").await;
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!((end.phase.as_str(), end.changed_steps), ("done", 0), "{end:?}");
    let typed = ResetRequest { nodes: vec!["w9".into()], ..removal() };
    let error = cluster.runs.reset(typed).await.err().unwrap();
    assert!(error.message().contains("w9 is neither enrolled"), "{error}");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "m1 and w2 are undone all the same: {end:?}");
    assert_eq!(cluster.kubernetes.with(|state| state.of_kind("Node").count()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_names_a_reset_as_one_and_never_says_of_it_that_the_cluster_is_done() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let told = || {
        let status = cluster.runs.status().unwrap();
        (status.kind, status.phase)
    };
    assert_eq!(told(), (String::new(), "none".into()), "nothing was ever run");
    cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(told(), ("bootstrap".into(), "done".into()));
    ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!(told(), ("remove".into(), "done".into()), "a removal makes no cluster either");
    cluster.reset(&[]).await;
    assert_eq!(told(), ("reset".into(), "done".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_failed_revokes_nobody_and_the_same_command_ends_it() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    cluster.host("w1").fail_next(ProgramName::Kubeadm, 1, "error: etcd does not answer");
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!(end.phase, "failed");
    assert_eq!((cluster.enrolled().len(), cluster.fleet.connected().len()), (2, 2));
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!(cluster.enrolled(), ["m1"]);
    cluster.gone("w1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_does_not_attach_to_a_reset_of_the_same_steps() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    cluster.host("w1").programs_take(Duration::from_millis(200));
    let all = |remove| ResetRequest { nodes: Vec::new(), confirm: "lab".into(), remove };
    let reset = cluster.runs.reset(all(false)).await.unwrap();
    let error = cluster.runs.reset(all(true)).await.err().unwrap();
    assert!(error.message().contains("is under way"), "{error}");
    assert_eq!(ended(reset).await.1.phase, "done");
    assert_eq!(cluster.enrolled().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_never_done_while_a_node_of_it_is_on_the_list() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let open = |file: &str| rusqlite::Connection::open(cluster.folder.path().join(file)).unwrap();
    let (nodes, runs) = (open("nodes.db"), open("runs.db"));
    nodes
        .execute_batch(
            "CREATE TRIGGER full BEFORE DELETE ON nodes BEGIN SELECT RAISE(ABORT, 'disk is full'); END",
        )
        .unwrap();
    runs.execute_batch(
        "CREATE TABLE recorded (phase TEXT);
         CREATE TRIGGER noted AFTER UPDATE OF phase ON run BEGIN INSERT INTO recorded VALUES (new.phase); END",
    )
    .unwrap();
    let recorded = || -> Vec<String> {
        let mut phases = runs.prepare("SELECT phase FROM recorded").unwrap();
        phases.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!((end.phase.as_str(), recorded()), ("failed", vec!["failed".to_owned()]));
    assert!(end.failures[0].cause.contains("disk is full"), "{end:?}");
    assert!(end.failures[0].remedy.contains("coordinator nodes revoke w1"), "{end:?}");

    nodes.execute_batch("DROP TRIGGER full").unwrap();
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!((end.phase.as_str(), cluster.enrolled()), ("done", vec!["m1".to_owned()]), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_containers_cannot_be_ended_stays_on_the_list_and_in_the_cluster() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    cluster.host("w1").with(|state| state.containers_stay = true);
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!(end.phase, "failed", "{end:?}");
    assert_eq!(
        (cluster.enrolled().len(), cluster.fleet.connected().len()),
        (2, 2),
        "its agent is not cut off"
    );
    assert_eq!(cluster.kubernetes.with(|state| state.of_kind("Node").count()), 2);
    cluster.host("w1").with(|state| state.containers_stay = false);
    let (_, end) = ended(cluster.runs.reset(removal()).await.unwrap()).await;
    assert_eq!((end.phase.as_str(), cluster.enrolled()), ("done", vec!["m1".to_owned()]), "{end:?}");
}
