//! What a reset knows of the cluster that stands: what was made, not what the file says by now; and what stays untouched
//! where nothing is known.

#![allow(clippy::disallowed_methods, reason = "a test takes the record away")]

use std::time::Duration;

use muster_coordinator::plans::bootstrap::plan;
use muster_coordinator::preflight::preflight;
use muster_coordinator::spec::ClusterSpec;
use muster_proto::agent::HostFacts;
use muster_proto::coordinator::ResetRequest;
use muster_tests::cluster::{TestCluster, ended};
use tonic::Code;

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";
const OF_THE_PODS: &str = "-A FORWARD -s 10.244.0.0/16 -j ACCEPT\n";

async fn of_three() -> TestCluster {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    cluster
}

fn request(nodes: &[&str], confirm: &str) -> ResetRequest {
    let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
    ResetRequest { nodes, confirm: confirm.to_owned(), remove: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_only_left_out_of_the_file_is_reset_with_all_others() {
    let cluster = of_three().await;
    let mut files = cluster.files(RUNS_PODS);
    files.spec = files.spec.replace("    - {name: w2, role: worker}\n", "");
    let (_, end) = ended(cluster.runs.bootstrap(files).await.unwrap()).await;
    assert_eq!(end.phase, "done", "{end:?}");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!(cluster.host("w2").file("/etc/kubernetes/kubelet.conf"), None, "w2 is out of the cluster too");
    // After the whole reset the cluster of two is a new one: nothing more is known of w2.
    let mut files = cluster.files(RUNS_PODS);
    files.spec = files.spec.replace("    - {name: w2, role: worker}\n", "");
    let (_, end) = ended(cluster.runs.bootstrap(files).await.unwrap()).await;
    assert_eq!(end.phase, "done", "{end:?}");
    let (seen, _) = cluster.reset(&[]).await;
    let nodes: Vec<&str> = seen[0].nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["w1", "m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_takes_out_the_rules_of_the_range_that_the_cluster_was_made_with() {
    let cluster = of_three().await;
    let w1 = cluster.host("w1");
    w1.with(|state| {
        state.packet_filter = state.packet_filter.replacen("COMMIT", &format!("{OF_THE_PODS}COMMIT"), 1)
    });
    let mut files = cluster.files(RUNS_PODS);
    files.spec = files.spec.replace("10.244.", "10.55.");
    for content in files.files.values_mut() {
        *content = content.replace("10.244.", "10.55.");
    }
    let (_, end) = ended(cluster.runs.bootstrap(files).await.unwrap()).await;
    assert_eq!(end.phase, "failed", "a cluster that stands keeps its range: {end:?}");
    w1.with(|state| assert!(state.packet_filter.contains(OF_THE_PODS)));
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    w1.with(|state| assert!(!state.packet_filter.contains(OF_THE_PODS), "{}", state.packet_filter));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_lost_its_record_takes_no_living_cluster_apart() {
    let mut cluster = of_three().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(cluster.folder.path().join(format!("runs.db{end}")));
    }
    cluster.restart_coordinator();
    for name in ["m1", "w1", "w2"] {
        cluster.start_agent(name);
    }
    let before: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    let (_, end) = ended(cluster.runs.reset(request(&[], "")).await.unwrap()).await;
    assert_eq!((end.phase.as_str(), end.failures.len()), ("failed", 3));
    for failure in &end.failures {
        assert!(failure.blocked && failure.cause.contains("is a member of a cluster"), "{failure:?}");
        assert!(failure.remedy.contains("coordinator bootstrap"), "{failure:?}");
    }
    let after: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    assert!(before == after, "nothing was changed");
    // What the remedy says.
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_there_is_a_cluster_a_name_that_nobody_has_is_refused_at_once() {
    let cluster = TestCluster::of(&["m1"]).await;
    let Err(refused) = cluster.runs.reset(request(&["w9"], "")).await else { panic!("a run began") };
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("w9 is not enrolled"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_reset_goes_on_neither_a_bootstrap_nor_the_checks_look_at_the_hosts() {
    let cluster = of_three().await;
    cluster.host("w1").programs_take(Duration::from_millis(500));
    let under_way = cluster.runs.reset(request(&["w1"], "lab")).await.unwrap();
    let Err(preflight) = cluster.runs.preflight(cluster.files(RUNS_PODS)).await else { panic!("it looked") };
    let Err(bootstrap) = cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await else { panic!("it began") };
    for refused in [preflight, bootstrap] {
        assert!(
            refused.message().contains("another run, of another cluster.yaml or a reset, is under way"),
            "{refused}"
        );
    }
    let (_, end) = ended(under_way).await;
    assert_eq!(end.phase, "done", "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_cannot_be_looked_at_makes_no_strangers_of_its_workers() {
    let mut cluster = of_three().await;
    let enrolled = cluster.hosts.keys().cloned().collect();
    let spec = ClusterSpec::parse(&cluster.files(RUNS_PODS), &enrolled).unwrap();
    let facts =
        |agent: &muster_coordinator::doors::fleet::ConnectedAgent| HostFacts { ..agent.facts.clone() };
    let hosts =
        cluster.fleet.connected().iter().map(|agent| (agent.node.clone(), Ok(facts(agent)))).collect();
    let plan = plan(&spec, &hosts, None).unwrap();
    cluster.kill_agent("m1");
    cluster.gone("m1").await;
    let found = preflight(&cluster.fleet, &spec, &plan, &Default::default()).await;
    let of_workers: Vec<_> = found.complaints.iter().filter(|found| found.node.as_str() != "m1").collect();
    assert!(of_workers.is_empty(), "{of_workers:#?}");
}
