//! After a fault the same command says what it found, goes on from there, and meanwhile nobody else suffered; coordinator
//! and agents in one process over fake hosts. Real processes are the business of the fault matrix.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use muster_agent::host::change::ProgramName;
use muster_agent::host::fake::Moment;
use muster_proto::coordinator::{Progress, RunEnd, StepStatus, progress};
use muster_proto::event::EventKind;
use muster_proto::journal::Journal;
use muster_tests::cluster::TestCluster;
use tonic::Status;

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

/// What is said first, and the end.
async fn told(mut progress: BoxStream<'static, Result<Progress, Status>>) -> (String, RunEnd) {
    let mut found = String::new();
    while let Some(message) = progress.next().await {
        match message.unwrap().item {
            Some(progress::Item::Found(text)) => found = text,
            Some(progress::Item::End(end)) => return (found, end),
            _ => {}
        }
    }
    panic!("the progress ended without the run's end");
}

/// Which change of a clean run on the node is this one, from 1.
async fn position(name: &str, summary: &str) -> u32 {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let events = Journal::read_only(&cluster.agent_journal(name)).unwrap().whole().unwrap();
    let intended = events.iter().filter_map(|event| match &event.kind {
        EventKind::Intended { summary, .. } => Some(summary.clone()),
        _ => None,
    });
    1 + intended.into_iter().position(|change| change.starts_with(summary)).unwrap() as u32
}

/// Until the status shows the step in this state.
async fn shown(cluster: &TestCluster, id: &str, state: &str) {
    until(cluster, |steps| steps.iter().any(|step| step.id == id && step.state == state)).await;
}

/// Until this step, and no other one, changes something.
async fn alone_changing(cluster: &TestCluster, id: &str) {
    let changes = |step: &&StepStatus| step.state == "changing";
    let alone = |steps: &[StepStatus]| steps.iter().filter(changes).all(|step| step.id == id);
    until(cluster, |steps| steps.iter().any(|step| changes(&step)) && alone(steps)).await;
}

async fn until(cluster: &TestCluster, holds: impl Fn(&[StepStatus]) -> bool) {
    let seen = async {
        while !holds(&cluster.runs.status().unwrap().steps) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("the run comes that far");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_the_coordinator_left_is_interrupted_and_the_same_command_says_where_and_goes_on() {
    let join = position("w1", "run kubeadm join").await;
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("w1").crash_at(join, Moment::WhileRunning);
    let first = cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap();
    alone_changing(&cluster, "w1/kubeadm-join").await;
    drop(first);
    cluster.restart_coordinator();
    let status = cluster.runs.status().unwrap();
    assert_eq!((status.phase.as_str(), status.nodes[1].state.as_str()), ("interrupted", "stopped"));
    for name in ["m1", "w1"] {
        cluster.start_agent(name);
    }
    let (found, end) = told(cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap()).await;
    assert!(
        found.starts_with("resuming: the run of ")
            && found.ends_with(
                "was interrupted at w1/kubeadm-join (run kubeadm join --config /dev/stdin); it goes on from there"
            ),
        "{found}"
    );
    assert_eq!(end.phase, "done", "{end:?}");
    let joins = cluster.host("w1").run_log().iter().filter(|line| line.starts_with("kubeadm join")).count();
    assert_eq!((joins, cluster.host("w1").overlaps()), (1, 0));
    let (found, _) = told(cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap()).await;
    assert_eq!(found, "", "there is nothing to resume any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_given_again_while_the_hosts_are_checked_is_one_run_that_all_follow() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    // One after the other, so that some look while others' checks hold the ports open that Kubernetes will use.
    let bootstrap = async |nth: u64| {
        tokio::time::sleep(Duration::from_millis(4 * nth)).await;
        told(cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap()).await
    };
    for (_, end) in join_all((0..20).map(bootstrap)).await {
        assert_eq!(end.phase, "done", "{end:?}");
    }
    let inits = cluster.host("m1").run_log().iter().filter(|line| line.starts_with("kubeadm init")).count();
    assert_eq!(inits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_run_that_goes_on_is_attached_and_told_so() {
    let cluster = TestCluster::of(&["m1"]).await;
    cluster.host("m1").programs_take(Duration::from_millis(300));
    let first = cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap();
    let second = cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap();
    let ((found, end), (attached, same)) = tokio::join!(told(first), told(second));
    assert_eq!((found.as_str(), &end), ("", &same));
    assert!(attached.starts_with("attached: this run began "), "{attached}");
    let inits = cluster.host("m1").run_log().iter().filter(|line| line.starts_with("kubeadm init")).count();
    assert_eq!(inits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_while_a_node_is_away_is_attached_all_the_same() {
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("m1").programs_take(Duration::from_millis(800));
    let first = cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap();
    shown(&cluster, "m1/kubeadm-init", "changing").await;
    cluster.kill_agent("w1");
    cluster.gone("w1").await;
    let asked =
        tokio::time::timeout(Duration::from_secs(5), cluster.runs.bootstrap(cluster.files(RUNS_PODS)));
    let second = asked.await.expect("nobody waits for w1").unwrap();
    cluster.start_agent("w1");
    let ((_, end), (attached, same)) = tokio::join!(told(first), told(second));
    assert!(attached.starts_with("attached: this run began "), "{attached}");
    assert_eq!((end.phase.as_str(), &end), ("done", &same));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_done_init_blocks_with_one_command_and_is_redone_where_the_file_allows_it() {
    let half_done = async || {
        let cluster = TestCluster::of(&["m1", "w1"]).await;
        cluster.host("m1").fail_next(ProgramName::Kubeadm, 1, "error: it was cut off");
        assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "failed");
        cluster.host("m1").put_file("/etc/kubernetes/pki/ca.crt", "left by an init that was cut off");
        cluster
    };
    let verbs = |cluster: &TestCluster| {
        let log = cluster.host("m1").run_log();
        let verb = |line: &String| line.strip_prefix("kubeadm ")?.split(' ').next().map(str::to_owned);
        log.iter().filter_map(verb).collect::<Vec<_>>()
    };
    let cluster = half_done().await;
    // Looking before the run finds it already.
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.failures[0].cause, "kubeadm init on m1 is half done", "{end:?}");
    assert!(end.failures[0].remedy.contains("`sudo coordinator reset --node m1 --confirm lab`"), "{end:?}");
    assert_eq!(verbs(&cluster), ["init"], "nothing is done again");
    assert_eq!(cluster.reset(&["m1"]).await.1.phase, "done");
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done", "the one command was enough");

    let cluster = half_done().await;
    let allowed = cluster.files("  controlPlane: {runsPods: true, redoHalfDoneInit: true}\n");
    let (found, end) = told(cluster.runs.bootstrap(allowed).await.unwrap()).await;
    assert!(found.contains("failed at m1/kubeadm-init"), "{found}");
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!(verbs(&cluster), ["init", "reset", "init"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_disappears_is_named_the_others_go_on_and_the_same_command_finishes() {
    let mut cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    cluster.runs = cluster.runs.clone().with_patience(Duration::from_secs(1));
    cluster.host("w1").crash_at(1, Moment::BeforeEffect);
    let run = tokio::spawn(told(cluster.runs.bootstrap(cluster.files(RUNS_PODS)).await.unwrap()));
    cluster.host("w1").died().await;
    cluster.kill_agent("w1");
    let ended = tokio::time::timeout(Duration::from_secs(60), run).await;
    let (_, end) = ended.expect("no wait is without an end").unwrap();
    assert_eq!(end.phase, "failed");
    for failure in &end.failures {
        assert_eq!(failure.node, "w1", "{failure:?}");
        assert!(failure.cause.contains("the agent of w1 is not connected"), "{failure:?}");
        assert!(failure.remedy.contains("on w1: `systemctl status muster-agent`"), "{failure:?}");
    }
    assert!(!end.failures.is_empty());
    shown(&cluster, "w2/kubeadm-join", "done").await;
    cluster.start_agent("w1");
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done", "the same command goes on");
}

/// From now on the file takes no event more, as on a full disk.
fn fill(journal: &Path) {
    change(
        journal,
        "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    );
}

fn free(journal: &Path) {
    change(journal, "DROP TRIGGER full");
}

fn change(journal: &Path, statement: &str) {
    rusqlite::Connection::open(journal).unwrap().execute_batch(statement).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_a_worker_is_named_changes_nothing_there_and_stops_no_other_node() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let journal = cluster.agent_journal("w1");
    let before = cluster.host("w1").snapshot().host;
    fill(&journal);
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "failed");
    assert!(end.failures.iter().all(|failure| failure.node == "w1"), "{end:?}");
    let cause = &end.failures[0].cause;
    for part in [journal.to_str().unwrap(), "cannot be recorded", "database or disk is full"] {
        assert!(cause.contains(part), "{cause}");
    }
    assert!(cluster.host("w1").snapshot().host == before, "no change without its intent");
    shown(&cluster, "w2/kubeadm-join", "done").await;
    free(&journal);
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done", "the same command goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_the_coordinator_is_named_although_it_cannot_be_recorded() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let journal = cluster.folder.path().join("journal.db");
    fill(&journal);
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "failed");
    let first = &end.failures[0];
    assert!(first.cause.contains(journal.to_str().unwrap()), "{first:?}");
    assert!(first.remedy.contains("on the coordinator: free space"), "{first:?}");
    free(&journal);
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done", "the same command goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_refused_and_once_it_is_moved_away_the_same_command_finishes() {
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
    cluster.kill_agent("w1");
    let path = cluster.agent_journal("w1");
    // A connection that closes moves the log into the file.
    change(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    spoil(&path);
    let error = Journal::open(&path).err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("away, keep them"), "{error}");
    move_away(&path);
    cluster.start_agent("w1");
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!((end.phase.as_str(), end.changed_steps), ("done", 0), "{end:?}");
    // The numbers of the new journal began again, and are adopted beside the old ones.
    Journal::read_only(&cluster.folder.path().join("journal.db")).unwrap().whole().unwrap();
}

#[allow(clippy::disallowed_methods, reason = "a test damages a file of its own")]
fn spoil(path: &Path) {
    let whole = std::fs::read(path).unwrap();
    std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
}

#[allow(clippy::disallowed_methods, reason = "a test moves a file of its own")]
fn move_away(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let from = format!("{}{end}", path.display());
        let _ = std::fs::rename(&from, format!("{from}.damaged"));
    }
}
