//! `bootstrap`: the table of contents of the whole program.

use std::collections::BTreeMap;

use muster_proto::agent::{self, step::Kind};
use muster_proto::kubernetes::kernel::{MODULES, ON, SYSCTLS};
use muster_proto::names::{ApiEndpoint, Malformed, NodeName, UserName};
use muster_proto::pod_network::configuration_files;
use muster_proto::step_kind::StepKind as K;

use super::addresses::{addresses, endpoint};
use super::builder::After::{self, All, Output, Same, SameOf};
use super::builder::{Line, Place, build, each, shared};
use super::cluster::ClusterFacts;
use super::kind::RunKind;
use super::observed::Observed;
use super::{Hosts, Plan};
use crate::spec::{ClusterSpec, Problem};

/// What `kubeadm init` and `join` need of a host.
const PREPARED: After = SameOf(&[K::Hostname, K::Hosts, K::Swap, K::Kubelet, K::Images]);

/// The order of everything: what is done, where, what is sent there, and after what. What need not wait for each other does not.
#[rustfmt::skip]
fn order<'a>() -> Vec<Line<Wanted<'a>>> {
    vec![
        each  (K::Hostname,         every_node,         hostname,         &[]),
        shared(K::Hosts,            every_node,         hosts,            &[]),
        shared(K::Swap,             every_node,         swap,             &[]),
        shared(K::Firewall,         every_node,         firewall,         &[]),
        shared(K::Kernel,           every_node,         kernel,           &[]),
        shared(K::Packages,         every_node,         packages,         &[]),
        shared(K::Kubelet,          every_node,         kubelet,          &[Same(K::Packages)]),
        // The kernel's settings first: some runtimes set ip_forward themselves when they start, and would hide a missing one.
        shared(K::Runtime,          every_node,         runtime,          &[SameOf(&[K::Packages, K::Kernel, K::Firewall])]),
        each  (K::Images,           every_node,         images,           &[Same(K::Runtime)]),
        each  (K::KubeadmInit,      master,             kubeadm_init,     &[PREPARED]),
        each  (K::Kubeconfig,       for_every_user,     kubeconfig,       &[All(K::KubeadmInit)]),
        shared(K::PodNetwork,       master,             pod_network,      &[All(K::KubeadmInit)]),
        each  (K::Untaint,          if_it_runs_pods,    untaint,          &[All(K::KubeadmInit)]),
        shared(K::JoinTicket,       if_somebody_joins,  join_ticket,      &[All(K::KubeadmInit)]),
        each  (K::KubeadmJoin,      every_worker,       kubeadm_join,     &[PREPARED, Output(K::JoinTicket)]),
        shared(K::KubeletIdentity,  every_worker,       kubelet_identity, &[Same(K::KubeadmJoin)]),
        // Where the pod network was not applied, nobody waits for it.
        shared(K::NodeNetwork,      every_node,         node_network,     &[All(K::PodNetwork), Same(K::KubeletIdentity)]),
        shared(K::NodesReady,       master,             nodes_ready,      &[All(K::NodeNetwork), All(K::Untaint)]),
        shared(K::RevokeTickets,    master,             revoke_tickets,   &[All(K::NodesReady)]),
        shared(K::Addons,           if_it_brings_some,  addons,           &[All(K::NodesReady)]),
        // Pods on every node, each answered from every node. The control plane asks first, where they can be looked up, and hands on
        // the addresses that just answered it.
        shared(K::SmokeTest,        if_tested,          smoke_test,       &[All(K::NodesReady)]).once(test_is_removed),
        shared(K::SmokeAnswer,      if_tested,          smoke_look_up,    &[All(K::SmokeTest)]).once(test_is_removed),
        shared(K::SmokeAnswer,      if_tested_workers,  smoke_answer,     &[Output(K::SmokeAnswer)]).once(test_is_removed),
        shared(K::SmokeCleanup,     if_test_is_removed, smoke_cleanup,    &[All(K::SmokeAnswer)]).once(test_is_removed),
    ]
}

/// The steps that make the cluster of the spec, given what the hosts are and what stands already.
pub fn plan(spec: &ClusterSpec, hosts: &Hosts, observed: Option<&Observed>) -> Result<Plan, Vec<Problem>> {
    let addresses = addresses(spec, hosts)?;
    let wrong = |error: Malformed| vec![Problem::of_the_file(error.to_string())];
    let endpoint = endpoint(&addresses[&spec.control_plane], spec.bind_port).map_err(wrong)?;
    // A cluster that stands keeps the ranges that it was made with, whatever the file says by now.
    let stands = observed.filter(|observed| observed.made && observed.cluster.name == spec.name);
    let (pod_subnet, service_subnet) =
        stands.map(|stands| (stands.cluster.pod_subnet, stands.cluster.service_subnet)).unwrap_or_default();
    let cluster = ClusterFacts {
        name: spec.name.clone(),
        kubernetes_version: Some(spec.kubernetes_version),
        pod_subnet: pod_subnet.or(Some(spec.pod_subnet)),
        service_subnet: service_subnet.or(Some(spec.service_subnet)),
        endpoint: Some(endpoint.clone()),
        control_planes: vec![spec.control_plane.clone()],
    };
    let steps = build(&order(), &Wanted { spec, addresses, endpoint }).map_err(wrong)?;
    Ok(Plan { kind: RunKind::Bootstrap, cluster, steps })
}

/// What the lines are made of.
struct Wanted<'a> {
    spec: &'a ClusterSpec,
    /// Every node's own address.
    addresses: BTreeMap<&'a NodeName, String>,
    /// Where the nodes reach the API server.
    endpoint: ApiEndpoint,
}

// Where.

/// The control plane first.
fn every_node(wanted: &Wanted) -> Vec<Place> {
    wanted.spec.nodes().map(Place::on).collect()
}

fn every_worker(wanted: &Wanted) -> Vec<Place> {
    wanted.spec.workers.iter().map(Place::on).collect()
}

fn master(wanted: &Wanted) -> Vec<Place> {
    vec![Place::on(&wanted.spec.control_plane)]
}

fn for_every_user(wanted: &Wanted) -> Vec<Place> {
    let place = |(index, user)| {
        let label = label_of(user, index + 1);
        Place { label, index, ..Place::on(&wanted.spec.control_plane) }
    };
    wanted.spec.kubectl_users.iter().enumerate().map(place).collect()
}

fn if_it_runs_pods(wanted: &Wanted) -> Vec<Place> {
    if wanted.spec.control_plane_runs_pods { master(wanted) } else { Vec::new() }
}

fn if_somebody_joins(wanted: &Wanted) -> Vec<Place> {
    if wanted.spec.workers.is_empty() { Vec::new() } else { master(wanted) }
}

fn if_tested(wanted: &Wanted) -> Vec<Place> {
    if wanted.spec.smoke_test.is_some() { master(wanted) } else { Vec::new() }
}

fn if_tested_workers(wanted: &Wanted) -> Vec<Place> {
    if wanted.spec.smoke_test.is_some() { every_worker(wanted) } else { Vec::new() }
}

/// Where the file does not leave all of kubeadm's add-ons out.
fn if_it_brings_some(wanted: &Wanted) -> Vec<Place> {
    let left_out = |addon| leaves_out(wanted.spec, addon);
    if left_out("addon/kube-proxy") && left_out("addon/coredns") { Vec::new() } else { master(wanted) }
}

fn leaves_out(spec: &ClusterSpec, addon: &str) -> bool {
    spec.skip_phases.iter().any(|phase| phase == addon || phase == "addon")
}

fn if_test_is_removed(wanted: &Wanted) -> Vec<Place> {
    if test_is_removed(wanted) { master(wanted) } else { Vec::new() }
}

fn test_is_removed(wanted: &Wanted) -> bool {
    wanted.spec.smoke_test.as_ref().is_some_and(|test| !test.keep)
}

// What.

fn hostname(_: &Wanted, place: &Place) -> Kind {
    Kind::Hostname(agent::Hostname { name: place.node.to_string() })
}

fn hosts(wanted: &Wanted) -> Kind {
    let entry = |(name, address): (&&NodeName, &String)| agent::HostsEntry {
        address: address.clone(),
        name: name.to_string(),
    };
    Kind::Hosts(agent::Hosts { entries: wanted.addresses.iter().map(entry).collect() })
}

fn swap(_: &Wanted) -> Kind {
    Kind::Swap(agent::Swap {})
}

fn firewall(wanted: &Wanted) -> Kind {
    Kind::Firewall(agent::Firewall { disable_ufw: wanted.spec.disable_firewall })
}

fn kernel(_: &Wanted) -> Kind {
    let sysctl = |key: &str| agent::Sysctl { key: key.to_owned(), value: ON.to_owned() };
    Kind::Kernel(agent::Kernel {
        modules: MODULES.map(str::to_owned).to_vec(),
        sysctls: SYSCTLS.map(sysctl).to_vec(),
    })
}

fn packages(wanted: &Wanted) -> Kind {
    Kind::Packages(agent::Packages { kubernetes_version: wanted.spec.kubernetes_version.to_string() })
}

fn kubelet(_: &Wanted) -> Kind {
    Kind::Kubelet(agent::Kubelet {})
}

fn runtime(wanted: &Wanted) -> Kind {
    let spec = wanted.spec;
    Kind::Runtime(agent::Runtime {
        cgroup_driver: cgroup_driver(spec),
        name: spec.runtime().word().to_owned(),
        kubernetes_version: spec.kubernetes_version.to_string(),
        image_repository: spec.image_repository.clone().unwrap_or_default(),
    })
}

fn images(wanted: &Wanted, place: &Place) -> Kind {
    let spec = wanted.spec;
    Kind::Images(agent::Images {
        kubernetes_version: spec.kubernetes_version.to_string(),
        image_repository: spec.image_repository.clone().unwrap_or_default(),
        extra: spec.smoke_test.iter().map(|test| test.image.to_string()).collect(),
        skip_phases: spec.skip_phases.clone(),
        control_plane: place.node == spec.control_plane,
        runtime: spec.runtime().word().to_owned(),
    })
}

fn kubeadm_init(wanted: &Wanted, place: &Place) -> Kind {
    let spec = wanted.spec;
    Kind::KubeadmInit(agent::KubeadmInit {
        node: place.node.to_string(),
        kubernetes_version: spec.kubernetes_version.to_string(),
        advertise_address: wanted.addresses[&place.node].clone(),
        bind_port: spec.bind_port.into(),
        pod_subnet: spec.pod_subnet.to_string(),
        service_subnet: spec.service_subnet.to_string(),
        image_repository: spec.image_repository.clone().unwrap_or_default(),
        skip_phases: spec.skip_phases.clone(),
        cgroup_driver: cgroup_driver(spec),
        redo_half_done: spec.redo_half_done_init,
        cgroup_v1: spec.allows_cgroup_v1,
        runtime: spec.runtime().word().to_owned(),
    })
}

fn kubeconfig(wanted: &Wanted, place: &Place) -> Kind {
    let user = wanted.spec.kubectl_users[place.index].to_string();
    Kind::Kubeconfig(agent::Kubeconfig { user, completion: true })
}

fn pod_network(wanted: &Wanted) -> Kind {
    let (manifest, pod_subnet) = (wanted.spec.network_manifest.clone(), wanted.spec.pod_subnet.to_string());
    Kind::PodNetwork(agent::PodNetwork { manifest, pod_subnet })
}

fn untaint(_: &Wanted, place: &Place) -> Kind {
    Kind::Untaint(agent::Untaint { node: place.node.to_string() })
}

fn join_ticket(wanted: &Wanted) -> Kind {
    let nodes = wanted.spec.workers.iter().map(ToString::to_string).collect();
    Kind::JoinTicket(agent::JoinTicket { nodes })
}

fn kubeadm_join(wanted: &Wanted, place: &Place) -> Kind {
    Kind::KubeadmJoin(agent::KubeadmJoin {
        node: place.node.to_string(),
        kubernetes_version: wanted.spec.kubernetes_version.to_string(),
        address: wanted.addresses[&place.node].clone(),
        endpoint: wanted.endpoint.to_string(),
        runtime: wanted.spec.runtime().word().to_owned(),
        cgroup_v1: wanted.spec.allows_cgroup_v1,
    })
}

fn kubelet_identity(_: &Wanted) -> Kind {
    Kind::KubeletIdentity(agent::KubeletIdentity {})
}

fn node_network(wanted: &Wanted) -> Kind {
    Kind::NodeNetwork(agent::NodeNetwork {
        pod_subnet: wanted.spec.pod_subnet.to_string(),
        files: configuration_files(&wanted.spec.network_manifest).into_iter().collect(),
    })
}

fn nodes_ready(wanted: &Wanted) -> Kind {
    let node = |(name, address): (&&NodeName, &String)| agent::NodeAddress {
        name: name.to_string(),
        address: address.clone(),
    };
    Kind::NodesReady(agent::NodesReady { nodes: wanted.addresses.iter().map(node).collect() })
}

fn addons(wanted: &Wanted) -> Kind {
    let spec = wanted.spec;
    Kind::Addons(agent::Addons {
        kube_proxy: !leaves_out(spec, "addon/kube-proxy"),
        coredns: !leaves_out(spec, "addon/coredns"),
        nodes: spec.nodes().map(ToString::to_string).collect(),
        pod_subnet: spec.pod_subnet.to_string(),
    })
}

fn revoke_tickets(_: &Wanted) -> Kind {
    Kind::RevokeTickets(agent::RevokeTickets {})
}

fn smoke_test(wanted: &Wanted) -> Kind {
    let spec = wanted.spec;
    Kind::SmokeTest(agent::SmokeTest {
        image: spec.smoke_test.as_ref().map(|test| test.image.to_string()).unwrap_or_default(),
        nodes: nodes_with_pods(spec),
        pod_subnet: spec.pod_subnet.to_string(),
    })
}

fn smoke_look_up(wanted: &Wanted) -> Kind {
    let spec = wanted.spec;
    let (nodes, pod_subnet) = (nodes_with_pods(spec), spec.pod_subnet.to_string());
    Kind::SmokeAnswer(agent::SmokeAnswer { nodes, pod_subnet })
}

fn smoke_answer(_: &Wanted) -> Kind {
    Kind::SmokeAnswer(agent::SmokeAnswer::default())
}

fn nodes_with_pods(spec: &ClusterSpec) -> Vec<String> {
    let runs_pods = |node: &&NodeName| **node != spec.control_plane || spec.control_plane_runs_pods;
    spec.nodes().filter(runs_pods).map(ToString::to_string).collect()
}

fn smoke_cleanup(_: &Wanted) -> Kind {
    Kind::SmokeCleanup(agent::SmokeCleanup {})
}

/// As the agents are told it; empty when the file leaves it to what is there.
fn cgroup_driver(spec: &ClusterSpec) -> String {
    spec.driver().map(|driver| driver.word().to_owned()).unwrap_or_default()
}

/// The user in the name of a step, which has neither capitals nor signs. What is not the user's name as it is begins with the place in
/// the file, so that no two users get the same.
fn label_of(user: &UserName, place: usize) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    // A label has at most 63 letters; the place in the file comes before it.
    let plain: String = user.as_str().chars().take(40).map(letter).collect();
    let plain = plain.trim_matches('-');
    match plain {
        same if same == user.as_str() => same.to_owned(),
        "" => place.to_string(),
        other => format!("{place}-{other}"),
    }
}

#[cfg(test)]
mod tests;
