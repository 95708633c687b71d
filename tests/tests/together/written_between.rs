//! What somebody wrote between two of our own writes stays, and all that ours added or changed is undone.

use muster_proto::coordinator::ClusterFiles;
use muster_tests::cluster::{TestCluster, ended};

const RUNS_PODS: &str = "  controlPlane: {runsPods: true}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_line_between_two_bootstraps_stays_and_no_line_of_either_is_left() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    let host = cluster.host("m1");
    let [hosts, fstab] = ["/etc/hosts", "/etc/fstab"].map(|path| host.file(path).unwrap());
    let all = cluster.files(RUNS_PODS);
    let without_w2 = all.spec.replace("    - {name: w2, role: worker}\n", "");
    let (_, end) =
        ended(cluster.runs.bootstrap(ClusterFiles { spec: without_w2, ..all }).await.unwrap()).await;
    assert_eq!(end.phase, "done", "{end:?}");

    let (printer, swap) = ("10.88.0.50 printer\n", "/dev/sdb2 none swap sw 0 0\n");
    for (path, line) in [("/etc/hosts", printer), ("/etc/fstab", swap)] {
        host.put_file(path, host.file(path).unwrap() + line);
    }
    let (_, end) = cluster.bootstrap(RUNS_PODS).await;
    assert_eq!(end.phase, "done", "{end:?}");
    assert!(host.file("/etc/hosts").unwrap().contains("10.88.0.13 w2"));
    assert!(host.file("/etc/fstab").unwrap().contains("# muster: /dev/sdb2"));

    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert_eq!(host.file("/etc/hosts").unwrap(), hosts + printer);
    assert_eq!(host.file("/etc/fstab").unwrap(), fstab + swap);
}
