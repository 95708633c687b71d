//! What a reset cannot delete or put back one by one: what goes with something else.

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
