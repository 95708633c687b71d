//! Undoing: after a reset every host is as it was before the bootstrap, but for a short named list; whatever happens on
//! the way, and with what others changed in between kept.

use std::time::Duration;

use muster_agent::host::change::ProgramName;
use muster_agent::host::fake::{FakeHost, Moment, State};
use muster_proto::coordinator::ResetRequest;
use muster_proto::event::EventKind;
use muster_proto::journal::Journal;
use muster_tests::cluster::{TestCluster, ended};

pub(super) const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

/// All of a host but what a reset leaves: loaded kernel modules with their sysctls, which go with the next reboot, and
/// the kubelet's unit, which kubeadm stopped; before, it was waiting to be configured.
pub(super) fn but_the_named_list(host: &FakeHost) -> State {
    let mut state = host.snapshot().host;
    for module in ["br_netfilter", "overlay"] {
        state.modules.remove(module);
    }
    state.sysctls.retain(|key, _| !key.starts_with("net.bridge."));
    state.units.remove("kubelet.service");
    state
}

pub(super) fn states(cluster: &TestCluster) -> Vec<State> {
    cluster.hosts.values().map(but_the_named_list).collect()
}

/// The difference file by file; a whole state is too much to read.
pub(super) fn assert_same(before: &[State], after: &[State], what: &str) {
    for (before, after) in before.iter().zip(after) {
        for path in before.files.keys().chain(after.files.keys()) {
            assert_eq!(before.files.get(path), after.files.get(path), "{what}: {}", path.display());
        }
        assert_eq!(before.units, after.units, "{what}");
        let rest = |state: &State| State { files: Default::default(), ..state.clone() };
        assert!(before == after, "{what}: {:?}\nis now {:?}", rest(before), rest(after));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_every_host_is_as_before_and_bootstrap_makes_the_cluster_again() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let before = states(&cluster);
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert_same(&before, &states(&cluster), "after the reset");
    let (_, again) = cluster.reset(&[]).await;
    assert_eq!((again.phase.as_str(), again.changed_steps), ("done", 0), "twice is nothing to do: {again:?}");
    let (seen, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert!(seen.last().unwrap().steps.iter().any(|step| step.id == "m1/smoke-test"), "tested again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_reset_alone_the_cluster_forgets_it_and_it_comes_back() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let before = but_the_named_list(cluster.host("w1"));
    cluster.bootstrap(RUNS_PODS).await;
    let (_, end) = cluster.reset(&["w1"]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!((cluster.enrolled().len(), cluster.fleet.connected().len()), (3, 3), "a reset revokes nobody");
    assert_same(&[before], &[but_the_named_list(cluster.host("w1"))], "w1");
    let nodes = cluster.kubernetes.with(|state| state.of_kind("Node").count());
    assert_eq!(nodes, 2, "the Node object of w1 is gone, the others stay");
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!(cluster.kubernetes.with(|state| state.of_kind("Node").count()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_named_twice_is_reset_once() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let (seen, end) = cluster.reset(&["w1", "w1"]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    let status = seen.last().unwrap();
    let ids: Vec<&str> = status.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids.iter().filter(|id| **id == "w1/kubeadm-reset").count(), 1, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubeadm_is_reset_first_then_the_network_then_our_own_changes_and_the_firewall_last() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let begun = Journal::read_only(&cluster.agent_journal("w1")).unwrap().last_sequence();
    cluster.reset(&[]).await;
    let events = Journal::read_only(&cluster.agent_journal("w1")).unwrap().after(begun).unwrap();
    let changes: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Intended { summary, .. } => Some(summary.as_str()),
            _ => None,
        })
        .collect();
    let mut last = None;
    for change in [
        "run kubeadm reset",
        "remove /etc/cni/net.d/10-flannel.conflist",
        "run ip link delete cni0",
        "run ip link delete flannel.1",
        "run ip route delete",
        "run iptables-restore",
        "write /etc/hosts",
        "run swapon",
        "run ufw --force enable",
    ] {
        let at = changes.iter().position(|done| done.starts_with(change));
        assert!(at.is_some() && at > last, "{change}: {changes:#?}");
        last = at;
    }
    assert_eq!(last, Some(changes.len() - 1), "{changes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_without_the_clusters_name_is_refused_and_changes_nothing() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let asked = |confirm: &str| ResetRequest { confirm: confirm.into(), ..ResetRequest::default() };
    cluster.bootstrap(RUNS_PODS).await;
    let before = states(&cluster);
    for confirm in ["", "prod"] {
        let error = cluster.runs.reset(asked(confirm)).await.err().unwrap();
        assert!(error.message().contains("destroys the cluster lab"), "{error}");
        assert!(error.message().contains("--confirm lab"), "{error}");
    }
    assert_same(&before, &states(&cluster), "after a refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_since_is_kept_and_named_only_where_nobody_can_tell_what_is_left_of_it() {
    const OURS: &str = "/etc/modules-load.d/muster.conf";
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let host = cluster.host("w1");
    let fstab = host.file("/etc/fstab").unwrap();
    cluster.bootstrap(RUNS_PODS).await;
    let data = "/dev/sdb1 /data ext4 defaults 0 2\n";
    host.put_file("/etc/fstab", host.file("/etc/fstab").unwrap() + data);
    let modules = host.file(OURS).unwrap();
    host.put_file(OURS, modules.clone() + "loop\n");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "failed");
    let failure = &end.failures[0];
    assert_eq!((failure.node.as_str(), failure.step.as_str()), ("w1", "restore"));
    assert!(failure.evidence.starts_with(OURS) && failure.evidence.contains("overlay"), "{failure:?}");
    assert_eq!(host.file(OURS), Some(modules + "loop\n"));
    assert_eq!(
        host.file("/etc/fstab"),
        Some(fstab + data),
        "everything else is put back, beside what is new"
    );
    host.put_file(OURS, "loop\n");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_eq!(host.file(OURS).as_deref(), Some("loop\n"));
}

/// How many changes a bootstrap and a reset after it make on a node.
async fn changes(name: &str) -> (u32, u32) {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let made = cluster.host(name).applied();
    cluster.reset(&[]).await;
    (made, cluster.host(name).applied())
}

/// The agent dies in its n-th change, before the effect or after it (by turns: a run takes seconds), comes back, and the reset goes on.
async fn survives(name: &'static str, nth: u32, moment: Moment) {
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    let before = states(&cluster);
    cluster.bootstrap(RUNS_PODS).await;
    cluster.host(name).crash_at(nth, moment);
    let request = ResetRequest { confirm: "lab".into(), ..ResetRequest::default() };
    let run = tokio::spawn(ended(cluster.runs.reset(request).await.unwrap()));
    let what = format!("{name}: change {nth} {moment:?}");
    tokio::time::timeout(Duration::from_secs(60), cluster.host(name).died())
        .await
        .unwrap_or_else(|_| panic!("{what}: the fault never fired"));
    cluster.kill_agent(name);
    cluster.start_agent(name);
    let ended = tokio::time::timeout(Duration::from_secs(40), run).await;
    let (_, end) = ended.unwrap_or_else(|_| panic!("{what}: the run does not end")).unwrap();
    assert_eq!(end.phase, "done", "{what}: {end:?}");
    assert_same(&before, &states(&cluster), &what);
    let resets = cluster.host(name).run_log().iter().filter(|line| line.starts_with("kubeadm reset")).count();
    assert_eq!((resets, cluster.host(name).overlaps()), (1, 0), "{what}");
}

/// A worker's does the same; the fault matrix (`reset-all:`) kills both.
#[tokio::test(flavor = "multi_thread")]
async fn the_masters_agent_may_die_at_every_change_of_a_reset_and_it_goes_on() {
    let (made, all) = changes("m1").await;
    for nth in made + 1..=all {
        let moment = if nth % 2 == 0 { Moment::BeforeEffect } else { Moment::AfterEffect };
        survives("m1", nth, moment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_done_join_is_reset_and_done_again_by_the_same_bootstrap() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("w1").fail_next(ProgramName::Kubeadm, 1, "error: it was cut off");
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "failed");
    for path in ["/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/pki/ca.crt"] {
        cluster.host("w1").put_file(path, "left by a join that was cut off");
    }
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    let log = cluster.host("w1").run_log();
    let runs: Vec<&str> = log.iter().filter_map(|line| line.strip_prefix("kubeadm ")).collect();
    let verbs: Vec<&str> = runs.iter().map(|run| run.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(verbs, ["join", "reset", "join"], "{runs:?}");
}

/// The containers and ports of the cluster on a host that a reset could not end.
fn left_on(host: &FakeHost) -> (usize, usize) {
    host.with(|state| (state.pod_containers.len(), state.listeners.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_not_done_while_containers_run_and_the_same_one_finishes_what_is_left() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let before = states(&cluster);
    cluster.bootstrap(RUNS_PODS).await;
    let hosts = ["m1", "w1"].map(|name| cluster.host(name));
    hosts.iter().for_each(|host| host.with(|state| state.containers_stay = true));
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "failed", "{end:?}");
    let failure = &end.failures[0];
    assert_eq!(
        (failure.node.as_str(), failure.step.as_str(), failure.blocked),
        ("w1", "kubeadm-reset", true)
    );
    assert!(failure.evidence.contains("k8s_kube-proxy_"), "{failure:?}");
    assert!(failure.evidence.contains("[reset] Failed to remove containers"), "{failure:?}");
    assert!(
        failure.remedy.contains("aa-remove-unknown") && failure.remedy.contains("same reset"),
        "{failure:?}"
    );
    assert_eq!(cluster.host("w1").with(|state| state.swaps.len()), 0, "nothing is put back under what runs");
    let (_, again) = cluster.reset(&[]).await;
    assert_eq!(again.phase, "failed", "kubeadm's files are gone, and it is not done all the same: {again:?}");

    hosts.iter().for_each(|host| host.with(|state| state.containers_stay = false));
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert_eq!(hosts.map(left_on), [(0, 0), (0, 0)]);
    assert_same(&before, &states(&cluster), "after the reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_started_anew_in_between_is_reset_by_the_same_command() {
    let cluster = TestCluster::of(&["m1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let host = cluster.host("m1");
    host.with(|state| state.containers_stay = true);
    assert_eq!(cluster.reset(&[]).await.1.phase, "failed");
    host.with(State::end_containers);
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..], left_on(host)), ("done", &[][..], (0, 0)));
}
