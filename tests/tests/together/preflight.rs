//! Everything that would stop a bootstrap is told at once, before anything is changed.

use std::net::IpAddr;

use muster_agent::host::change::ProgramName;
use muster_agent::host::obstacle::Obstacle;
use muster_proto::coordinator::{Failure, PreflightReply};
use muster_tests::cluster::TestCluster;

async fn preflight(cluster: &TestCluster) -> PreflightReply {
    cluster.runs.preflight(cluster.files("")).await.expect("the hosts are looked at")
}
fn lines(found: &[Failure]) -> Vec<String> {
    found.iter().map(|one| format!("{}/{}: {}", one.node, one.step, one.cause)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_hosts_have_nothing_in_the_way_and_are_told_what_will_be_changed() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    let before: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    let found = preflight(&cluster).await;
    assert_eq!(lines(&found.complaints), Vec::<String>::new());
    let notes = lines(&found.notes);
    assert!(notes.iter().any(|note| note.starts_with("m1/swap: swap is on")), "{notes:#?}");
    assert!(notes.iter().any(|note| note.starts_with("w1/firewall: ufw is on")), "{notes:#?}");
    let after: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_on_all_nodes_is_told_at_once_and_no_run_begins() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("m1").with(|state| {
        state.processors = 1;
        state.images.remove("k8s.gcr.io/etcd:3.4.13-0");
        state.put("/proc/net/tcp", "sl local rem st\n0: 00000000:192B 00000000:0000 0A\n");
    });
    cluster.host("w1").with(|state| {
        state.disk.available = 1;
        state.put("/etc/machine-id", format!("{:032x}\n", 11));
        state.put("/etc/kubernetes/pki/ca.crt", "");
        state.addresses.push(IpAddr::from([10, 244, 7, 1]));
        state.put(
            "/proc/net/route",
            "Iface\tDestination\nold0\t0007F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n",
        );
        state.unreachable.insert("10.88.0.11:6443".into(), "no answer within 2 s".into());
    });
    let before: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    let (statuses, end) = cluster.bootstrap("").await;
    assert_eq!((statuses.len(), end.phase.as_str()), (0, "preflight"));
    let complaints = lines(&end.failures);
    for expected in [
        "m1/processors: m1 has 1 processor",
        "m1/images: ",
        "m1/ports: another program listens on TCP port 6443 of m1",
        "w1/disk: w1 has so little disk left",
        "w1/leftovers: on w1 is what is left of an earlier cluster",
        "w1/identity: m1 and w1 have the same machine-id",
        "w1/routes: the pods' range 10.244.0.0/16 overlaps",
    ] {
        assert!(complaints.iter().any(|line| line.starts_with(expected)), "{expected}\n{complaints:#?}");
    }
    // The firewall is on at both and goes off in the run, so that what it may block is a note.
    assert!(complaints.iter().all(|line| !line.contains("/mesh")), "{complaints:#?}");
    let after: Vec<_> = cluster.hosts.values().map(|host| host.snapshot()).collect();
    assert_eq!(before, after);
    assert_eq!(cluster.host("m1").runs(ProgramName::Kubeadm), 0);
    assert_eq!(cluster.runs.status().unwrap().phase, "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_file_that_the_master_does_not_have_is_told_before_there_is_a_cluster() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("m1").with(|state| state.users.clear());
    let (_, end) = cluster.bootstrap("").await;
    assert_eq!(end.phase, "preflight");
    assert_eq!(lines(&end.failures), ["m1/kubeconfig.student: there is no user student on this host"]);
    assert!(end.failures.iter().all(|failure| failure.blocked));
    assert_eq!(cluster.host("m1").runs(ProgramName::Kubeadm), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_reach_the_master_is_told_before_kubeadm_runs() {
    let cluster = TestCluster::of(&["m1", "w1", "w2"]).await;
    for host in cluster.hosts.values() {
        host.put_file("/etc/ufw/ufw.conf", "ENABLED=no\n");
    }
    let why = "no answer within 2 s".to_owned();
    cluster.host("w1").with(|state| state.unreachable.insert("10.88.0.11:6443".into(), why));
    let found = preflight(&cluster).await;
    assert_eq!(
        lines(&found.complaints),
        ["w1/mesh: w1 cannot reach TCP 6443 (the API server) of m1: w1 itself does not let it out"]
    );
    assert!(found.complaints[0].evidence.contains("no answer within 2 s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_ignored_stops_nothing_and_an_unknown_one_is_refused() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("m1").with(|state| state.processors = 1);
    let mut files = cluster.files("");
    files.ignored_checks = vec!["processors".into()];
    let found = cluster.runs.preflight(files.clone()).await.unwrap();
    assert!(found.complaints.is_empty() && lines(&found.notes)[0].starts_with("m1/"));
    files.ignored_checks = vec!["everything".into()];
    assert_eq!(cluster.runs.preflight(files).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_this_very_cluster_are_left_alone() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    assert_eq!(cluster.bootstrap("").await.1.phase, "done");
    cluster.host("m1").with(|state| {
        state.put("/proc/net/tcp", "sl local rem st\n0: 00000000:192B 00000000:0000 0A\n");
        state.put("/proc/net/dev", "Inter-|\n face |\n  cni0: 0\n");
    });
    assert_eq!(preflight(&cluster).await, PreflightReply::default());
    assert_eq!(cluster.bootstrap("").await.1.phase, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_over_a_finished_cluster_is_told_with_what_the_cluster_has() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    assert_eq!(cluster.bootstrap("").await.1.phase, "done");
    for (more, line) in [
        (
            "  controlPlane: {bindPort: 6444}\n",
            "API server: the cluster says https://10.88.0.11:6443, the file says https://10.88.0.11:6444",
        ),
        (
            "  controlPlane: {imageRepository: registry.example/k8s}\n",
            "spec.controlPlane.imageRepository: the cluster says kubeadm's own, the file says registry.example/k8s",
        ),
    ] {
        let held = |state: &mut muster_agent::host::fake::State| {
            let mirrored: Vec<String> = state
                .images
                .iter()
                .map(|image| image.replace("k8s.gcr.io", "registry.example/k8s"))
                .collect();
            state.images.extend(mirrored);
        };
        cluster.host("m1").with(held);
        cluster.host("w1").with(held);
        let failures = cluster.bootstrap(more).await.1.failures;
        let [failure] = &failures[..] else { panic!("{failures:?}") };
        assert_eq!((failure.node.as_str(), failure.step.as_str()), ("m1", "kubeadm-init"), "{failure:?}");
        assert_eq!(failure.evidence, line);
        assert!(failure.remedy.contains("`sudo coordinator reset --all --confirm lab`"), "{failure:?}");
    }
    assert_eq!(cluster.bootstrap("").await.1.phase, "done", "nothing was touched");
}

/// A bridge of the same range on every machine, as containerd and podman bring it.
const BRIDGE: &str = "{\"name\": \"containerd-net\", \"plugins\": [{\"type\": \"bridge\", \"ipam\": {\"subnet\": \"10.22.0.0/16\"}}]}";

#[tokio::test(flavor = "multi_thread")]
async fn a_network_configuration_of_somebody_else_that_would_be_taken_is_told_before_there_is_a_cluster() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    for host in cluster.hosts.values() {
        host.put_file("/etc/cni/net.d/10-containerd-net.conflist", BRIDGE);
        host.put_file("/etc/cni/net.d/87-podman-bridge.conflist", BRIDGE);
    }
    let (_, end) = cluster.bootstrap("").await;
    let taken = |node: &str| {
        format!(
            "{node}/leftovers: /etc/cni/net.d/10-containerd-net.conflist of {node} would be taken instead of the pod network's configuration"
        )
    };
    assert_eq!((end.phase.as_str(), lines(&end.failures)), ("preflight", vec![taken("m1"), taken("w1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sorts_behind_the_pod_networks_is_a_note_and_the_bootstrap_ends_well() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("w1").put_file("/etc/cni/net.d/87-podman-bridge.conflist", BRIDGE);
    let (_, end) = cluster.bootstrap("  controlPlane: {runsPods: true}\n").await;
    assert_eq!((end.phase.as_str(), lines(&end.failures)), ("done", vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_earlier_step_mends_is_told_at_once_by_plan_and_preflight_although_those_are_open() {
    let cluster = TestCluster::of(&["m1", "w1"]).await;
    cluster.host("m1").with(|state| {
        state.put("/etc/docker/daemon.json", "{\n  \"log-driver\": \"json-file\",\n}\n");
        let attribute = Obstacle::Attribute { path: "/etc/hosts".into(), letter: 'i' };
        state.obstacles.insert("/etc/hosts".into(), attribute);
    });
    cluster.host("w1").put_file("/etc/sysctl.d/99-zzz.conf", "net.ipv4.ip_forward = 0\n");
    let expected = [
        "m1/hosts: /etc/hosts is immutable: not even root can replace it",
        "w1/kernel: a file that is read later sets one of our kernel settings otherwise at every boot",
        "m1/runtime: Docker's configuration cannot be read, and Docker would not start with it",
    ];
    assert_eq!(lines(&preflight(&cluster).await.complaints), expected);
    let plan = cluster.runs.plan(cluster.files("")).await.unwrap();
    let blocked = plan.nodes.iter().flat_map(|node| &node.steps).filter(|step| step.finding == "blocked");
    let mut blocked: Vec<_> = blocked.map(|step| step.step_id.as_str()).collect();
    blocked.sort_unstable();
    assert_eq!(blocked, ["m1/hosts", "m1/runtime", "w1/kernel"]);
}
