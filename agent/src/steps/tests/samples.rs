//! One well-formed message of every kind of step, as a plan for the hosts m1 and w1 would hold it.

use muster_proto::agent::step::Kind;
use muster_proto::agent::{
    Addons, CoordinatorPort, DrainNode, Firewall, ForgetNode, Hostname, Hosts, HostsEntry, Images,
    JoinTicket, Kernel, KubeadmInit, KubeadmJoin, KubeadmReset, Kubeconfig, Kubelet, KubeletIdentity,
    NetworkLeftovers, NodeAddress, NodeNetwork, NodesReady, Packages, PodNetwork, Restore, RevokeTickets,
    Runtime, SmokeAnswer, SmokeCleanup, SmokeTest, Step, Swap, Sysctl, Untaint,
};

const VERSION: &str = "v1.20.2";
const SUBNET: &str = "10.244.0.0/16";
const NETWORK: &str = include_str!("pod-network.yaml");

/// Where a step runs, and the step, in the order of a plan.
pub(super) fn plan() -> Vec<(&'static str, Step)> {
    let (master, worker) = ("m1", "w1");
    let port = CoordinatorPort { address: "10.88.0.11".into(), port: 7443 };
    let mut plan = vec![(master, Kind::CoordinatorPort(port))];
    for host in [master, worker] {
        plan.extend(preparation(host).map(|kind| (host, kind)));
    }
    plan.extend(control_plane().map(|kind| (master, kind)));
    plan.push((master, node_network()));
    plan.push((worker, join()));
    plan.push((worker, Kind::KubeletIdentity(KubeletIdentity {})));
    plan.push((worker, node_network()));
    plan.extend(after_joining().map(|kind| (master, kind)));
    plan.push((worker, Kind::SmokeAnswer(SmokeAnswer::default())));
    plan.push((master, Kind::SmokeCleanup(SmokeCleanup {})));
    plan.push((master, Kind::DrainNode(DrainNode { node: "w1".into() })));
    plan.extend(reset().map(|kind| (worker, kind)));
    plan.push((master, Kind::ForgetNode(ForgetNode { node: "w1".into() })));
    plan.into_iter().map(|(host, kind)| (host, Step { kind: Some(kind) })).collect()
}

fn preparation(host: &str) -> [Kind; 9] {
    let entry = |address: &str, name: &str| HostsEntry { address: address.into(), name: name.into() };
    let sysctl = |key: &str| Sysctl { key: key.into(), value: "1".into() };
    [
        Kind::Hostname(Hostname { name: host.into() }),
        Kind::Hosts(Hosts { entries: vec![entry("10.88.0.11", "m1"), entry("10.88.0.12", "w1")] }),
        Kind::Swap(Swap {}),
        Kind::Firewall(Firewall { disable_ufw: true }),
        Kind::Kernel(Kernel {
            modules: vec!["overlay".into(), "br_netfilter".into()],
            sysctls: vec![sysctl("net.bridge.bridge-nf-call-iptables"), sysctl("net.ipv4.ip_forward")],
        }),
        Kind::Packages(Packages { kubernetes_version: VERSION.into() }),
        Kind::Kubelet(Kubelet {}),
        Kind::Runtime(Runtime {
            cgroup_driver: "systemd".into(),
            name: "docker".into(),
            kubernetes_version: VERSION.into(),
            image_repository: "k8s.gcr.io".into(),
        }),
        Kind::Images(Images {
            kubernetes_version: VERSION.into(),
            image_repository: "k8s.gcr.io".into(),
            extra: vec!["nginx:1.22".into()],
            skip_phases: vec!["addon/coredns".into()],
            control_plane: host == "m1",
            runtime: "docker".into(),
        }),
    ]
}

fn control_plane() -> [Kind; 5] {
    [
        Kind::KubeadmInit(KubeadmInit {
            cgroup_v1: false,
            redo_half_done: false,
            node: "m1".into(),
            kubernetes_version: VERSION.into(),
            advertise_address: "10.88.0.11".into(),
            bind_port: 6443,
            pod_subnet: "10.244.0.0/16".into(),
            service_subnet: "10.96.0.0/12".into(),
            image_repository: "k8s.gcr.io".into(),
            skip_phases: vec!["addon/coredns".into()],
            cgroup_driver: "systemd".into(),
            runtime: "docker".into(),
        }),
        Kind::Kubeconfig(Kubeconfig { user: "student".into(), completion: true }),
        Kind::PodNetwork(PodNetwork { manifest: NETWORK.into(), pod_subnet: "10.244.0.0/16".into() }),
        Kind::Untaint(Untaint { node: "m1".into() }),
        Kind::JoinTicket(JoinTicket { nodes: vec!["w1".into()] }),
    ]
}

fn join() -> Kind {
    Kind::KubeadmJoin(KubeadmJoin {
        cgroup_v1: false,
        node: "w1".into(),
        kubernetes_version: VERSION.into(),
        address: "10.88.0.12".into(),
        endpoint: "10.88.0.11:6443".into(),
        runtime: "docker".into(),
    })
}

fn reset() -> [Kind; 3] {
    [
        Kind::KubeadmReset(KubeadmReset {}),
        Kind::NetworkLeftovers(NetworkLeftovers { pod_subnet: "10.244.0.0/16".into() }),
        Kind::Restore(Restore::default()),
    ]
}

fn node_network() -> Kind {
    Kind::NodeNetwork(NodeNetwork { pod_subnet: SUBNET.into(), files: vec!["10-flannel.conflist".into()] })
}

fn after_joining() -> [Kind; 5] {
    let nodes = vec!["m1".into(), "w1".into()];
    let at = |name: &str, address: &str| NodeAddress { name: name.into(), address: address.into() };
    [
        Kind::NodesReady(NodesReady { nodes: vec![at("m1", "10.88.0.11"), at("w1", "10.88.0.12")] }),
        Kind::RevokeTickets(RevokeTickets {}),
        Kind::Addons(Addons {
            kube_proxy: true,
            coredns: false,
            nodes: nodes.clone(),
            pod_subnet: SUBNET.into(),
        }),
        Kind::SmokeTest(SmokeTest {
            image: "nginx:1.22".into(),
            nodes: nodes.clone(),
            pod_subnet: SUBNET.into(),
        }),
        Kind::SmokeAnswer(SmokeAnswer { nodes, pod_subnet: SUBNET.into() }),
    ]
}
