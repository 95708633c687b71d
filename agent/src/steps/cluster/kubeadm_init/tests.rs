//! What `kubeadm init` is given, and what is done about one that was cut off.

use muster_proto::agent::step::Kind;

use super::*;
use crate::cluster::control_plane::tests::message;
use crate::host::fake::{FakeCluster, FakeHost};
use crate::steps::rehearsal::{cause_of, master, prepared, step, waits_for};
use crate::undo::ledger::Ledger;

async fn look(host: &FakeHost) -> Finding {
    step(Kind::KubeadmInit(message())).check(host, &Input::default()).await.unwrap()
}

#[tokio::test]
async fn a_clean_host_gets_the_configuration_and_one_init_that_prints_no_secret_in_its_arguments() {
    let host = prepared("m1", &FakeCluster::default());
    let skipping = agent::KubeadmInit { skip_phases: vec!["addon/coredns".into()], ..message() };
    let finding = step(Kind::KubeadmInit(skipping)).check(&host, &Input::default()).await.unwrap();
    let Finding::Todo(changes) = finding else { panic!("{finding:?}") };
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "write /var/lib/muster-agent/kubeadm-init.yaml (mode 0600)",
            "run kubeadm init --config /var/lib/muster-agent/kubeadm-init.yaml --skip-phases=addon/coredns",
        ]
    );
}

#[tokio::test]
async fn after_init_it_is_done_and_a_silent_api_server_is_waited_for() {
    let (host, _) = master().await;
    assert!(matches!(look(&host).await, Finding::Done(_)));
    host.cluster.with(|cluster| cluster.unreachable = true);
    let waits = waits_for(look(&host).await);
    assert!(waits.starts_with("the API server of m1 does not answer"), "{waits}");
}

#[tokio::test]
async fn an_init_that_did_not_reach_its_end_blocks_with_what_is_there_and_what_is_missing() {
    let (host, _) = master().await;
    host.cluster.with(|cluster| cluster.delete("DaemonSet", "kube-system", "kube-proxy"));
    let Finding::Blocked(complaint) = look(&host).await else { panic!() };
    assert_eq!(complaint.cause, "kubeadm init on m1 is half done");
    assert!(complaint.evidence.ends_with("missing: kube-proxy"), "{}", complaint.evidence);
    assert!(
        complaint.remedy.contains("`sudo coordinator reset --node m1 --confirm CLUSTER`"),
        "{}",
        complaint.remedy
    );

    let killed_early = prepared("m1", &FakeCluster::default());
    killed_early.put_file(files::CA_CERTIFICATE, "");
    assert_eq!(cause_of(look(&killed_early).await), "kubeadm init on m1 is half done");
}

#[tokio::test]
async fn a_half_done_init_is_reset_only_if_the_spec_allows_it_and_nobody_can_have_joined() {
    let allowed = step(Kind::KubeadmInit(agent::KubeadmInit { redo_half_done: true, ..message() }));
    let knows = |init| Input { ledger: Ledger { init, ..Ledger::default() }, ..Input::default() };
    let (host, _) = master().await;
    host.cluster.with(|cluster| cluster.delete("DaemonSet", "kube-system", "kube-proxy"));
    let Finding::Todo(changes) = allowed.check(&host, &knows(Progress::Begun)).await.unwrap() else {
        panic!()
    };
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert!(change.to_string().starts_with("run kubeadm reset -f"), "{change}");

    let half_done = "kubeadm init on m1 is half done";
    // Not begun by Muster, or once at its end: a ticket may have been given out.
    for init in [Progress::Never, Progress::Done] {
        assert_eq!(cause_of(allowed.check(&host, &knows(init)).await.unwrap()), half_done, "{init:?}");
    }
    let forbidden = step(Kind::KubeadmInit(message()));
    assert_eq!(cause_of(forbidden.check(&host, &knows(Progress::Begun)).await.unwrap()), half_done);
    host.cluster.with(|cluster| cluster.add_node("w1", "10.88.0.12", "v1.20.2", false));
    assert_eq!(cause_of(allowed.check(&host, &knows(Progress::Begun)).await.unwrap()), half_done);
}

#[tokio::test]
async fn a_working_cluster_that_lost_a_file_is_not_told_to_reset_itself() {
    let (host, _) = master().await;
    host.with(|state| state.files.remove(Path::new("/etc/kubernetes/scheduler.conf")));
    let Finding::Blocked(complaint) = look(&host).await else { panic!() };
    assert!(complaint.cause.starts_with("the control plane of m1 works"), "{}", complaint.cause);
    assert!(!complaint.remedy.contains("reset"), "{}", complaint.remedy);
}

#[tokio::test]
async fn a_cluster_made_with_other_values_blocks_with_every_difference_and_the_way_back() {
    let (host, _) = master().await;
    let changed = agent::KubeadmInit {
        pod_subnet: "10.200.0.0/16".into(),
        service_subnet: "10.97.0.0/16".into(),
        kubernetes_version: "v1.20.9".into(),
        ..message()
    };
    let finding = step(Kind::KubeadmInit(changed.clone())).check(&host, &Input::default()).await.unwrap();
    let Finding::Blocked(complaint) = finding else { panic!("{finding:?}") };
    assert_eq!(complaint.cause, "the cluster that runs on m1 was made with other values than the file has");
    assert_eq!(
        complaint.evidence.lines().collect::<Vec<_>>(),
        [
            "spec.kubernetesVersion: the cluster says v1.20.2, the file says v1.20.9",
            "spec.networking.podSubnet: the cluster says 10.244.0.0/16, the file says 10.200.0.0/16",
            "spec.networking.serviceSubnet: the cluster says 10.96.0.0/12, the file says 10.97.0.0/16",
        ]
    );
    let told = complaint.in_cluster("lab").remedy;
    assert!(told.contains("`sudo coordinator reset --all --confirm lab`"), "{told}");

    let moved = agent::KubeadmInit { bind_port: 6444, ..changed };
    let finding = step(Kind::KubeadmInit(moved)).check(&host, &Input::default()).await.unwrap();
    let Finding::Blocked(complaint) = finding else { panic!("{finding:?}") };
    assert_eq!(complaint.evidence.lines().count(), 4, "{}", complaint.evidence);
    assert!(
        complaint.evidence.starts_with(
            "API server: the cluster says https://10.88.0.11:6443, the file says https://10.88.0.11:6444\n"
        ),
        "{}",
        complaint.evidence
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_does_not_block() {
    let (host, _) = master().await;
    host.cluster.with(|cluster| {
        cluster.put(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "ClusterConfiguration": "- [" },
            "metadata": { "name": "kubeadm-config", "namespace": "kube-system" },
        }));
    });
    assert!(matches!(look(&host).await, Finding::Done(_)));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_left_alone() {
    let host = prepared("m1", &FakeCluster::default());
    host.put_file(KUBELET_CONF, "clusters: [{cluster: {server: \"https://10.88.0.99:6443\"}}]\n");
    assert_eq!(cause_of(look(&host).await), "m1 is a member of another cluster");
}

#[tokio::test]
async fn a_disk_of_its_own_for_etcd_is_taken_and_what_else_lies_in_its_folder_is_named() {
    let host = prepared("m1", &FakeCluster::default());
    let look = async || step(Kind::KubeadmInit(message())).check(&host, &Input::default()).await.unwrap();
    host.put_file("/var/lib/etcd/lost+found/x", "");
    let Finding::Todo(changes) = look().await else { panic!() };
    let call = changes.last().unwrap().to_string();
    assert!(call.ends_with(" --ignore-preflight-errors=DirAvailable--var-lib-etcd"), "{call}");
    host.put_file("/var/lib/etcd/backup.db", "");
    let Finding::Blocked(complaint) = look().await else { panic!() };
    assert!(complaint.cause.starts_with("/var/lib/etcd of m1 is not empty"), "{complaint}");
    assert_eq!(complaint.evidence, "/var/lib/etcd/backup.db");
    assert!(!complaint.remedy.contains("reset"), "{complaint}");
}

#[tokio::test]
async fn a_flag_of_the_kubelets_that_wins_over_kubeadms_is_told_before_init() {
    let host = prepared("m1", &FakeCluster::default());
    host.put_file(
        "/etc/systemd/system/kubelet.service.d/20-mine.conf",
        "[Service]\nExecStart=/usr/bin/kubelet --node-ip=10.0.2.15\n",
    );
    let cause = cause_of(step(Kind::KubeadmInit(message())).check(&host, &Input::default()).await.unwrap());
    assert!(cause.contains("20-mine.conf of this machine sets --node-ip=10.0.2.15"), "{cause}");
}
