//! What a reset cannot delete or put back one by one: what goes with something else, and what is not there any more.

use std::time::Duration;

use muster_agent::host::change::ProgramName;
use muster_agent::host::fake::State;
use muster_tests::cluster::TestCluster;

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

#[tokio::test(flavor = "multi_thread")]
async fn routes_through_a_link_that_is_deleted_are_left_to_it_and_the_reset_ends_well() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let routes = cluster.host("w1").file("/proc/net/route").unwrap();
    assert!(routes.contains("flannel.1\t0001F40A\t0001F40A"), "by a gateway, as flannel's VXLAN: {routes}");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    for host in cluster.hosts.values() {
        let log = host.run_log();
        assert!(!log.iter().any(|line| line == "ip route delete 10.244.1.0/24"), "{log:#?}");
        assert!(!host.file("/proc/net/route").unwrap().contains("F40A"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_on_what_is_not_there_any_more_is_named_and_the_reset_comes_to_its_end() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let host = cluster.host("w1");
    // Compressed swap in memory and a swap file, beside the partition.
    let partitions = host.file("/proc/partitions").unwrap();
    host.put_file("/proc/partitions", format!("{partitions} 253        0    2002284 zram0\n"));
    host.put_file("/swapfile", "");
    host.with(|state| state.swaps.extend(["/dev/zram0".into(), "/swapfile".into()]));
    cluster.bootstrap(RUNS_PODS).await;
    host.with(|state| assert!(state.swaps.is_empty()));

    // The machine starts anew without zram's unit, and somebody removes the file.
    host.put_file("/proc/partitions", partitions);
    host.with(|state| state.files.remove(std::path::Path::new("/swapfile")));
    let (seen, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    host.with(|state| assert_eq!(state.swaps, ["/dev/sda5".into()].into(), "what is there is on again"));
    let steps = &seen.last().unwrap().steps;
    let detail = &steps.iter().find(|step| step.id == "w1/restore").unwrap().detail;
    assert!(detail.contains("/dev/zram0") && detail.contains("/swapfile"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_configuration_that_stood_there_before_the_cluster_stays() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    // CRI-O's stock configuration; and one that an earlier cluster's network of the same kind left. Both sort after the new one.
    let bridge = "{\"name\": \"crio\", \"plugins\": [{\"type\": \"bridge\", \"bridge\": \"cni0\", \"ipam\": {\"subnet\": \"10.85.0.0/16\"}}]}";
    let flannel = "{\"name\": \"old\", \"plugins\": [{\"type\": \"flannel\"}]}";
    let stood =
        [("/etc/cni/net.d/100-crio-bridge.conflist", bridge), ("/etc/cni/net.d/11-old.conflist", flannel)];
    for (path, content) in stood {
        cluster.host("w1").put_file(path, content);
    }
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    for (path, content) in stood {
        assert_eq!(cluster.host("w1").file(path).as_deref(), Some(content), "{path}");
    }
    assert_eq!(cluster.host("w1").file("/etc/cni/net.d/10-flannel.conflist"), None, "the pod network's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_others_set_while_links_and_routes_are_removed_are_not_lost() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let host = cluster.host("w1").clone();
    host.programs_take(Duration::from_millis(100));
    let rule = "-A INPUT -s 192.0.2.7/32 -j DROP\n";
    // fail2ban bans somebody while the first link goes.
    let bans = tokio::spawn(async move {
        while !host.run_log().iter().any(|line| line.starts_with("ip link delete")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        host.with(|state| {
            state.packet_filter = state.packet_filter.replace("COMMIT\n", &format!("{rule}COMMIT\n"));
        });
    });
    let (_, end) = cluster.reset(&[]).await;
    bans.await.unwrap();
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    let rules = cluster.host("w1").with(|state| state.packet_filter.clone());
    assert!(rules.contains(rule) && !rules.contains("KUBE-"), "{rules}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_was_masked_until_the_next_reboot_is_not_masked_for_good() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let state_of = |state: &mut State| state.units["dev-sda5.swap"].file_state.clone();
    let host = cluster.host("w1");
    host.with(|state| state.units.get_mut("dev-sda5.swap").unwrap().file_state = "masked-runtime".into());
    cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(host.with(state_of), "masked");
    assert_eq!(cluster.reset(&[]).await.1.phase, "done");
    assert_ne!(host.with(state_of), "masked", "the mask of ours is gone");
}

/// What `kubeadm reset` has removed before it comes to the data folders.
fn cut_off_in_the_middle(state: &mut State) {
    state.files.retain(|path, _| !path.starts_with("/etc/kubernetes"));
    state.remove_containers();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_a_control_plane_that_was_cut_off_is_ended_by_the_same_command() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.bootstrap(RUNS_PODS).await;
    let master = cluster.host("m1");
    master.fail_next(ProgramName::Kubeadm, 137, "it was cut off");
    assert_eq!(cluster.reset(&[]).await.1.phase, "failed");
    master.with(cut_off_in_the_middle);
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert!(master.file("/var/lib/etcd/member/snap/db").is_none());
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done", "it can be made again");
}
