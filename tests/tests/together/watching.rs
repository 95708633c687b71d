//! Whoever watches hears of a run's end, and of that run's end; coordinator and agents in one process over fake hosts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use muster_coordinator::status::StatusService;
use muster_proto::coordinator::status_server::Status;
use muster_proto::coordinator::{ClusterStatus, GetStatusRequest};
use muster_tests::cluster::{TestCluster, ended};
use tonic::Request;

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_late_is_told_the_end_of_the_own_run_and_not_of_the_next_one() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let held = cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap();
    let (seen, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    cluster.host("w1").programs_take(Duration::from_millis(500));
    let reset = tokio::spawn({
        let request = muster_proto::coordinator::ResetRequest { confirm: "lab".into(), ..Default::default() };
        let next = cluster.runs.reset(request).await.unwrap();
        ended(next)
    });
    let (late, same) = ended(held).await;
    assert_eq!(same, end);
    let own = &seen.last().unwrap().run_id;
    assert!(late.iter().all(|status| status.run_id == *own), "no other run's status is shown");
    assert_eq!(reset.await.unwrap().1.phase, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_the_end_of_a_run_although_no_event_tells_it() {
    // Nobody is enrolled: a run without a step, of which the journal never hears.
    let cluster = TestCluster::of(&[]).await;
    let service = StatusService { runs: cluster.runs.clone() };
    let mut watched = service.watch(Request::new(GetStatusRequest::default())).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().phase, "none");
    cluster.reset(&[]).await;
    let told = tokio::time::timeout(Duration::from_secs(5), done(watched)).await;
    assert_eq!(told.expect("the end is news").kind, "reset");
}

/// The first status that says so.
async fn done(
    mut watched: impl StreamExt<Item = Result<ClusterStatus, tonic::Status>> + Unpin,
) -> ClusterStatus {
    loop {
        let status = watched.next().await.expect("a watch has no end").unwrap();
        if status.phase == "done" {
            return status;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_never_shown_as_interrupted_at_the_moment_of_its_end() {
    // Runs without a step, so that there are many ends.
    let cluster = TestCluster::of(&[]).await;
    let (runs, over) = (cluster.runs.clone(), Arc::new(AtomicBool::new(false)));
    let ended = over.clone();
    let looking = std::thread::spawn(move || {
        let mut phases = BTreeSet::new();
        while !ended.load(Ordering::Relaxed) {
            phases.insert(runs.status().unwrap().phase);
        }
        phases
    });
    for _ in 0..100 {
        assert_eq!(cluster.reset(&[]).await.1.phase, "done");
    }
    over.store(true, Ordering::Relaxed);
    let phases = looking.join().unwrap();
    assert!(phases.contains("running") && !phases.contains("interrupted"), "{phases:?}");
}
