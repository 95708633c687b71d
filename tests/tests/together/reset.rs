//! Undoing: after a reset every host is as it was before the bootstrap, but for a short named list; whatever happens on
//! the way, and with what others changed in between kept.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use muster_agent::host::change::ProgramName;
use muster_agent::host::fake::{FakeHost, Moment, State};
use muster_proto::coordinator::ResetRequest;
use muster_proto::event::EventKind;
use muster_proto::journal::Journal;
use muster_tests::cluster::{TestCluster, ended};

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

/// All of a host but what a reset leaves: loaded kernel modules with their sysctls, which go with the next reboot, and
/// the kubelet's unit, which kubeadm stopped; before, it was waiting to be configured.
fn but_the_named_list(host: &FakeHost) -> State {
    let mut state = host.snapshot().host;
    for module in ["br_netfilter", "overlay"] {
        state.modules.remove(module);
    }
    state.sysctls.retain(|key, _| !key.starts_with("net.bridge."));
    state.units.remove("kubelet.service");
    state
}

fn states(cluster: &TestCluster) -> Vec<State> {
    cluster.hosts.values().map(but_the_named_list).collect()
}

/// The difference file by file; a whole state is too much to read.
fn assert_same(before: &[State], after: &[State], what: &str) {
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
    assert_eq!(told(), ("reset".into(), "done".into()), "a removal makes no cluster either");
    cluster.reset(&[]).await;
    assert_eq!(told(), ("reset".into(), "done".into()));
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

/// Where the nodes dial the coordinator.
fn dialled(cluster: &TestCluster) -> SocketAddr {
    let address = |state: &mut State| *state.addresses.iter().find(|one| !one.is_loopback()).unwrap();
    SocketAddr::new(cluster.host("m1").with(address), 7443)
}

/// ufw is on, drops what no rule names, and lets the nodes dial in by a rule that was asked for. What it said before.
async fn let_nodes_in(cluster: &TestCluster) -> State {
    let master = cluster.host("m1");
    master.put_file("/etc/default/ufw", "DEFAULT_INPUT_POLICY=\"DROP\"\n");
    let before = but_the_named_list(master);
    assert!(cluster.runs.let_nodes_in(dialled(cluster)).await.unwrap().1);
    assert!(has_rule(cluster));
    before
}

fn has_rule(cluster: &TestCluster) -> bool {
    cluster.host("m1").file("/etc/ufw/user.rules").is_some_and(|rules| rules.contains("allow tcp 7443"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_of_ufw_stays_while_nodes_stay_that_dial_in_and_goes_with_the_last_of_them() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let before = let_nodes_in(&cluster).await;
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    let (_, end) = cluster.reset(&["m1"]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert!(has_rule(&cluster), "w1 still dials this coordinator");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert!(!has_rule(&cluster));
    assert_same(&[before], &[but_the_named_list(cluster.host("m1"))], "after both");
    let theirs = "### tuple ### allow tcp 7443 10.88.0.11 any 0.0.0.0/0 in\n";
    cluster.host("m1").put_file("/etc/ufw/user.rules", theirs);
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(
        (end.phase.as_str(), end.changed_steps),
        ("done", 0),
        "the same rule, set by somebody: {end:?}"
    );
    assert!(has_rule(&cluster));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_there_is_a_cluster_a_reset_takes_back_what_init_changed_and_nothing_else() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let states = |cluster: &TestCluster| {
        cluster.hosts.values().map(|host| host.snapshot().host).collect::<Vec<State>>()
    };
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), end.changed_steps), ("done", 0), "nothing was changed: {end:?}");
    let_nodes_in(&cluster).await;
    let before = states(&cluster);
    let (_, end) = cluster.reset(&["m1"]).await;
    assert_eq!((end.phase.as_str(), end.changed_steps), ("done", 0), "w1 dials this coordinator: {end:?}");
    assert_same(&before, &states(&cluster), "after the reset of m1 alone");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), end.changed_steps), ("done", 1), "{end:?}");
    assert!(!has_rule(&cluster));
    let error = cluster.runs.reset(removal()).await.err().unwrap();
    assert!(error.message().contains("nodes revoke"), "{error}");
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
async fn what_somebody_changed_in_between_is_kept_and_named() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let host = cluster.host("w1");
    let fstab = host.file("/etc/fstab").unwrap() + "/dev/sdb1 /data ext4 defaults 0 2\n";
    host.put_file("/etc/fstab", fstab.clone());
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "failed");
    let failure = &end.failures[0];
    assert_eq!((failure.node.as_str(), failure.step.as_str()), ("w1", "restore"));
    assert!(failure.evidence.contains("/etc/fstab: # muster: UUID="), "{failure:?}");
    assert_eq!(host.file("/etc/fstab"), Some(fstab.clone()));
    assert!(!host.file("/etc/hosts").unwrap().contains("muster"), "everything else is put back");
    host.put_file("/etc/fstab", fstab.replace("# muster: ", ""));
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert!(host.file("/etc/fstab").unwrap().contains("/data"));
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

#[tokio::test(flavor = "multi_thread")]
async fn the_firewalls_rule_that_init_has_set_is_in_the_agents_journal_and_a_reset_takes_it_back_last() {
    let mut cluster = TestCluster::of(&["m1", "w1"]).await;
    let mine = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n";
    cluster.host("m1").put_file("/etc/ufw/user.rules", mine);
    let before = states(&cluster);
    let dialled = dialled(&cluster);
    let address = dialled.ip();

    let (node, changed) = cluster.runs.let_nodes_in(dialled).await.unwrap();
    assert_eq!((node.as_str(), changed), ("m1", true));
    let rules = cluster.host("m1").file("/etc/ufw/user.rules").unwrap();
    assert!(rules.starts_with(mine) && rules.contains(&format!("allow tcp 7443 {address}")), "{rules}");
    assert!(!cluster.runs.let_nodes_in(dialled).await.unwrap().1, "it stands there already");
    let events = Journal::read_only(&cluster.agent_journal("m1")).unwrap().after(0).unwrap();
    let image = events.iter().find_map(|event| match &event.kind {
        EventKind::Intended { before: Some(before), .. } => Some(before["/etc/ufw/user.rules"].clone()),
        _ => None,
    });
    assert_eq!(image.unwrap(), mine, "what stood there before is journalled with the intent");

    // The agent dies: what it did is in its journal, not in its memory.
    cluster.kill_agent("m1");
    cluster.gone("m1").await;
    cluster.start_agent("m1");
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert_same(&before, &states(&cluster), "after the reset");
    let log = cluster.host("m1").run_log();
    assert_eq!(log.last().unwrap(), &format!("ufw delete allow in proto tcp to {address} port 7443"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewalls_rule_that_stood_there_before_stays_and_without_an_own_agent_nothing_is_set() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let dialled = dialled(&cluster);
    let address = dialled.ip();
    let mine = format!("### tuple ### allow tcp 7443 {address} any 0.0.0.0/0 in\n");
    cluster.host("m1").put_file("/etc/ufw/user.rules", mine.clone());
    assert!(!cluster.runs.let_nodes_in(dialled).await.unwrap().1);
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
    assert_eq!(cluster.reset(&[]).await.1.phase, "done");
    assert_eq!(cluster.host("m1").file("/etc/ufw/user.rules"), Some(mine));

    let foreign = SocketAddr::new([192, 0, 2, 1].into(), 7443);
    let error = cluster.runs.let_nodes_in(foreign).await.unwrap_err();
    assert!(error.message().contains("coordinator init --node"), "{error}");
}
