//! A cluster file that cannot be used, from the coordinator's answer on: everything that is wrong, nothing begun.

use std::time::Duration;

use futures_util::StreamExt;
use muster_proto::coordinator::{ClusterFiles, Problems, progress};
use muster_tests::cluster::TestCluster;

async fn refused(cluster: &TestCluster, files: ClusterFiles) -> Problems {
    let planned = cluster.runs.plan(files.clone()).await.unwrap();
    assert!(planned.nodes.is_empty());
    let mut begun = cluster.runs.bootstrap(files).await.unwrap();
    let Some(progress::Item::Problems(problems)) = begun.next().await.unwrap().unwrap().item else {
        panic!("a run began")
    };
    assert!(begun.next().await.is_none());
    assert_eq!(cluster.runs.status().unwrap().phase, "none");
    assert_eq!(planned.problems.as_ref(), Some(&problems), "plan and bootstrap say the same");
    problems
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_mistakes_is_answered_with_all_of_them_and_no_run_begins() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let mut files = cluster.files("  smoketest: {keep: true}\n");
    let strangers = "    - {name: w2, role: worker}\n    - {name: w3, role: worker}\n  networking:";
    files.spec = files.spec.replace("  networking:", strangers).replace("10.244.0.0/16", "10.5.0.0/16");
    let problems = refused(&cluster, files).await;
    let fields: Vec<&str> = problems.list.iter().map(|problem| problem.field.as_str()).collect();
    let expected = ["spec.nodes[2].name", "spec.nodes[3].name", "spec.networking.manifest", "spec.smoketest"];
    assert_eq!(fields, expected, "{problems:?}");
    assert!(problems.list[1].what.contains("w3 is not enrolled"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_holds_a_machines_address_is_a_problem_of_the_file() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let mut files = cluster.files("");
    files.spec = files.spec.replace("podSubnet:", "serviceSubnet: 10.88.0.0/20, podSubnet:");
    let problems = refused(&cluster, files).await;
    assert_eq!(problems.list.len(), 2, "{problems:?}");
    assert!(
        problems.list[0].what.contains("10.88.0.0/20 holds the address 10.88.0.11 of m1"),
        "{problems:?}"
    );
    assert_eq!(problems.list[0].line, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_away_is_told_together_with_the_mistakes_of_the_file() {
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    let away = "w1".parse().unwrap();
    cluster.fleet.agent(&away, Duration::from_secs(5)).await.unwrap();
    let mut changes = cluster.fleet.changes();
    changes.mark_unchanged();
    cluster.kill_agent("w1");
    while cluster.fleet.connected().iter().any(|agent| agent.node == away) {
        changes.changed().await.unwrap();
    }
    let planned = cluster.runs.plan(cluster.files("  smoketest: {keep: true}\n")).await.unwrap();
    let list = planned.problems.unwrap().list;
    let fields: Vec<&str> = list.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["spec.nodes[1].name", "spec.smoketest"], "{list:?}");
    assert!(list[0].what.contains("the agent of w1 is not connected"), "{list:?}");
}
