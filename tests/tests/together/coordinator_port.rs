//! The one rule of ufw that lets the nodes dial the coordinator: a journalled step that a reset takes back.

use std::net::SocketAddr;

use muster_agent::host::fake::State;
use muster_proto::coordinator::ResetRequest;
use muster_proto::event::EventKind;
use muster_proto::journal::Journal;
use muster_tests::cluster::TestCluster;

use super::reset::{RUNS_PODS, assert_same, but_the_named_list, states};

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
    let removal = ResetRequest { nodes: vec!["w1".into()], confirm: "lab".into(), remove: true };
    let error = cluster.runs.reset(removal).await.err().unwrap();
    assert!(error.message().contains("nodes revoke"), "{error}");
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
