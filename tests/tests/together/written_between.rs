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

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_anew_before_every_bootstrap_keeps_no_block_of_ours_and_no_reset_from_its_end()
{
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let host = cluster.host("m1");
    let template = |comment: &str| {
        format!("# {comment}\n::1 localhost6\n127.0.1.1 m1.example.org m1\n127.0.0.1 localhost\n")
    };
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
    for comment in ["managed by a template", "and once more"] {
        host.put_file("/etc/hosts", template(comment));
        assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
        assert!(host.file("/etc/hosts").unwrap().contains("10.88.0.11 m1"));
    }
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert_eq!(host.file("/etc/hosts").unwrap(), template("and once more"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_in_capitals_is_put_back() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let host = cluster.host("m1");
    host.with(|state| state.hostname = "M1".into());
    host.put_file("/etc/hostname", "M1\n");
    let hosts = host.file("/etc/hosts").unwrap().replace("m1.example.org\tm1", "M1.example.org\tM1");
    host.put_file("/etc/hosts", hosts.clone());
    assert_eq!(cluster.bootstrap(RUNS_PODS).await.1.phase, "done");
    assert_eq!(host.with(|state| state.hostname.clone()), "m1");
    assert!(host.file("/etc/hosts").unwrap().contains("127.0.1.1\tM1.example.org\n"), "the own name is gone");
    let (_, end) = cluster.reset(&[]).await;
    assert_eq!((end.phase.as_str(), &end.failures[..]), ("done", &[][..]));
    assert_eq!(host.with(|state| state.hostname.clone()), "M1");
    assert_eq!([host.file("/etc/hostname"), host.file("/etc/hosts")], [Some("M1\n".into()), Some(hosts)]);
}
