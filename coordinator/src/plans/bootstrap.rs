//! The table of contents of the whole program: which step runs on which node, after which others. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_lc_rs::digest;
use muster_proto::agent::{self, HostFacts, step::Kind};
use muster_proto::names::{Malformed, NodeName, StepId, UserName};
use prost::Message;

use crate::doors::fleet::FleetError;
use crate::spec::{ClusterSpec, Problem};

/// One step on one node.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    pub id: StepId,
    pub node: NodeName,
    pub step: agent::Step,
    /// Runs once all of these are done.
    pub after: Vec<StepId>,
    /// The step whose output this one is given: a join ticket, or the pods' addresses.
    pub input_from: Option<StepId>,
    /// Not repeated once a run of this very plan has done it: its effect does not stay.
    pub once: bool,
}

impl PlannedStep {
    /// A step that takes nothing from another one and is done in every run.
    pub fn new(node: &NodeName, name: &str, kind: Kind, after: &[StepId]) -> Result<Self, Malformed> {
        let (id, step) = (StepId::new(node, name)?, agent::Step { kind: Some(kind) });
        let (node, after) = (node.clone(), after.to_vec());
        Ok(Self { id, node, step, after, input_from: None, once: false })
    }
}

/// What is to be done for a spec, given what the hosts are.
#[derive(Debug, Clone)]
pub struct Plan {
    pub cluster: NodeName,
    pub steps: Vec<PlannedStep>,
    /// The pods' range of addresses, which a reset wants to know.
    pub pod_subnet: String,
}

impl Plan {
    /// Two plans with the same digest ask for the same.
    pub fn digest(&self) -> String {
        let steps: Vec<Vec<u8>> = self.steps.iter().map(|step| step.step.encode_to_vec()).collect();
        let ids = self.steps.iter().map(|step| step.id.as_str().as_bytes());
        let parts = ids.zip(&steps).flat_map(|(id, step)| [id, step.as_slice()]);
        digest_of(std::iter::once(self.cluster.as_str().as_bytes()).chain(parts))
    }
}

/// SHA-256 over all parts, each with its length, in hexadecimal.
pub(crate) fn digest_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is known of every host, or why its agent cannot be had.
pub type Hosts = BTreeMap<NodeName, Result<HostFacts, FleetError>>;

/// The order of everything. What need not wait for each other does not.
pub fn plan(spec: &ClusterSpec, hosts: &Hosts) -> Result<Plan, Vec<Problem>> {
    let addresses = addresses(spec, hosts)?;
    let mut planner = Planner { spec, addresses, steps: Vec::new() };
    planner.everything().map_err(|error| vec![Problem::of_the_file(error.to_string())])?;
    Ok(Plan { cluster: spec.name.clone(), steps: planner.steps, pod_subnet: spec.pod_subnet.to_string() })
}

/// Every node's address: its agent's own end of the connection. Each node has one of its own, and no range of the
/// cluster's own addresses holds it.
fn addresses<'a>(
    spec: &'a ClusterSpec,
    hosts: &Hosts,
) -> Result<BTreeMap<&'a NodeName, String>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut owners: BTreeMap<String, &NodeName> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    let ranges =
        [(&spec.pod_subnet, &spec.places.pod_subnet), (&spec.service_subnet, &spec.places.service_subnet)];
    for node in spec.nodes() {
        let place = &spec.places.nodes[node];
        let address = match hosts.get(node) {
            Some(Ok(facts)) => facts.address.clone(),
            Some(Err(error)) => {
                problems.push(place.problem(error.to_string()));
                continue;
            }
            None => {
                problems.push(place.problem(format!("nothing is known of {node}")));
                continue;
            }
        };
        if let Some(other) = owners.insert(address.clone(), node) {
            problems.push(place.problem(format!(
                "{node} and {other} have the same address {address}, that of the network card over which each agent reaches the \
                 coordinator; let the agents dial an address that every machine reaches by a card of its own (coordinator init --address)"
            )));
        }
        for (range, place) in ranges {
            if address.parse::<IpAddr>().is_ok_and(|address| range.contains(&address)) {
                let what = format!(
                    "{range} holds the address {address} of {node}; write a range that no machine uses"
                );
                problems.push(place.problem(what));
            }
        }
        addresses.insert(node, address);
    }
    if problems.is_empty() { Ok(addresses) } else { Err(problems) }
}

struct Planner<'a> {
    spec: &'a ClusterSpec,
    addresses: BTreeMap<&'a NodeName, String>,
    steps: Vec<PlannedStep>,
}

impl Planner<'_> {
    fn everything(&mut self) -> Result<(), Malformed> {
        let spec = self.spec;
        let master = &spec.control_plane;

        let master_prepared = self.prepare(master, true)?;
        let mut workers_prepared = Vec::new();
        for worker in &spec.workers {
            workers_prepared.push((worker, self.prepare(worker, false)?));
        }

        let init = self.add(master, "kubeadm-init", self.kubeadm_init(), &master_prepared)?;
        let mut ready_after = Vec::new();
        for (place, user) in spec.kubectl_users.iter().enumerate() {
            let name = format!("kubeconfig.{}", label_of(user, place + 1));
            let kubeconfig = agent::Kubeconfig { user: user.to_string(), completion: true };
            self.add(master, &name, Kind::Kubeconfig(kubeconfig), std::slice::from_ref(&init))?;
        }
        let network = agent::PodNetwork {
            manifest: spec.network_manifest.clone(),
            pod_subnet: spec.pod_subnet.to_string(),
        };
        let network =
            self.add(master, "pod-network", Kind::PodNetwork(network), std::slice::from_ref(&init))?;
        ready_after.push(self.node_network(master, std::slice::from_ref(&network))?);
        if spec.control_plane_runs_pods {
            let untaint = Kind::Untaint(agent::Untaint { node: master.to_string() });
            ready_after.push(self.add(master, "untaint", untaint, std::slice::from_ref(&init))?);
        }
        if !spec.workers.is_empty() {
            let nodes = spec.workers.iter().map(ToString::to_string).collect();
            let ticket = Kind::JoinTicket(agent::JoinTicket { nodes });
            let ticket = self.add(master, "join-ticket", ticket, std::slice::from_ref(&init))?;
            for (worker, mut after) in workers_prepared {
                after.push(ticket.clone());
                let join = self.add(worker, "kubeadm-join", self.kubeadm_join(worker), &after)?;
                self.takes_from(&join, &ticket);
                let identity = Kind::KubeletIdentity(agent::KubeletIdentity {});
                let identity = self.add(worker, "kubelet-identity", identity, &[join])?;
                ready_after.push(self.node_network(worker, &[network.clone(), identity])?);
            }
        }
        let nodes = spec.nodes().map(ToString::to_string).collect();
        let ready =
            self.add(master, "nodes-ready", Kind::NodesReady(agent::NodesReady { nodes }), &ready_after)?;
        let revoke = Kind::RevokeTickets(agent::RevokeTickets {});
        self.add(master, "revoke-tickets", revoke, std::slice::from_ref(&ready))?;
        self.smoke_test(&ready)
    }

    /// What `kubeadm init` and `join` need of a host; the ids of its last steps.
    fn prepare(&mut self, node: &NodeName, control_plane: bool) -> Result<Vec<StepId>, Malformed> {
        let spec = self.spec;
        let driver = spec.driver().map(|driver| driver.word().to_owned()).unwrap_or_default();
        let entries = self
            .addresses
            .iter()
            .map(|(name, address)| agent::HostsEntry { address: address.clone(), name: name.to_string() });
        let hosts = agent::Hosts { entries: entries.collect() };
        let images = agent::Images {
            kubernetes_version: spec.kubernetes_version.to_string(),
            image_repository: spec.image_repository.clone().unwrap_or_default(),
            extra: spec.smoke_test.iter().map(|test| test.image.to_string()).collect(),
            skip_phases: spec.skip_phases.clone(),
            control_plane,
            runtime: spec.runtime().word().to_owned(),
        };
        let packages = agent::Packages { kubernetes_version: spec.kubernetes_version.to_string() };
        let hostname =
            self.add(node, "hostname", Kind::Hostname(agent::Hostname { name: node.to_string() }), &[])?;
        let hosts = self.add(node, "hosts", Kind::Hosts(hosts), &[])?;
        let swap = self.add(node, "swap", Kind::Swap(agent::Swap {}), &[])?;
        let firewall = agent::Firewall { disable_ufw: spec.disable_firewall };
        let firewall = self.add(node, "firewall", Kind::Firewall(firewall), &[])?;
        let kernel = self.add(node, "kernel", Kind::Kernel(kernel()), &[])?;
        let packages = self.add(node, "packages", Kind::Packages(packages), &[])?;
        let after = std::slice::from_ref(&packages);
        let kubelet = self.add(node, "kubelet", Kind::Kubelet(agent::Kubelet {}), after)?;
        let runtime = Kind::Runtime(agent::Runtime {
            cgroup_driver: driver,
            name: spec.runtime().word().to_owned(),
            kubernetes_version: spec.kubernetes_version.to_string(),
            image_repository: spec.image_repository.clone().unwrap_or_default(),
        });
        // The kernel's settings first: some runtimes set ip_forward themselves when they start, and would hide a missing one.
        let runtime = self.add(node, "runtime", runtime, &[packages, kernel, firewall])?;
        let images = self.add(node, "images", Kind::Images(images), &[runtime])?;
        Ok(vec![hostname, hosts, swap, kubelet, images])
    }

    /// Where the pod network was not applied, nobody waits for it.
    fn node_network(&mut self, node: &NodeName, after: &[StepId]) -> Result<StepId, Malformed> {
        self.add(node, "node-network", Kind::NodeNetwork(agent::NodeNetwork {}), after)
    }

    /// Pods on every node, each answered from every node.
    fn smoke_test(&mut self, ready: &StepId) -> Result<(), Malformed> {
        let spec = self.spec;
        let Some(test) = &spec.smoke_test else { return Ok(()) };
        let master = &spec.control_plane;
        let nodes = spec.nodes().filter(|node| *node != master || spec.control_plane_runs_pods);
        let deploy = agent::SmokeTest {
            image: test.image.to_string(),
            nodes: nodes.map(ToString::to_string).collect(),
        };
        let deployed =
            self.add(master, "smoke-test", Kind::SmokeTest(deploy), std::slice::from_ref(ready))?;
        let mut answered = Vec::new();
        for node in spec.nodes() {
            let id = self.add(
                node,
                "smoke-answer",
                Kind::SmokeAnswer(agent::SmokeAnswer {}),
                std::slice::from_ref(&deployed),
            )?;
            self.takes_from(&id, &deployed);
            answered.push(id);
        }
        if !test.keep {
            let first = self.steps.len() - answered.len() - 1;
            self.add(master, "smoke-cleanup", Kind::SmokeCleanup(agent::SmokeCleanup {}), &answered)?;
            self.steps[first..].iter_mut().for_each(|step| step.once = true);
        }
        Ok(())
    }

    fn kubeadm_init(&self) -> Kind {
        let spec = self.spec;
        Kind::KubeadmInit(agent::KubeadmInit {
            node: spec.control_plane.to_string(),
            kubernetes_version: spec.kubernetes_version.to_string(),
            advertise_address: self.addresses[&spec.control_plane].clone(),
            bind_port: spec.bind_port.into(),
            pod_subnet: spec.pod_subnet.to_string(),
            service_subnet: spec.service_subnet.to_string(),
            image_repository: spec.image_repository.clone().unwrap_or_default(),
            skip_phases: spec.skip_phases.clone(),
            cgroup_driver: spec.driver().map(|driver| driver.word().to_owned()).unwrap_or_default(),
            redo_half_done: spec.redo_half_done_init,
            runtime: spec.runtime().word().to_owned(),
        })
    }

    fn kubeadm_join(&self, worker: &NodeName) -> Kind {
        let address = &self.addresses[&self.spec.control_plane];
        let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        Kind::KubeadmJoin(agent::KubeadmJoin {
            node: worker.to_string(),
            kubernetes_version: self.spec.kubernetes_version.to_string(),
            address: self.addresses[worker].clone(),
            endpoint: format!("{host}:{}", self.spec.bind_port),
            runtime: self.spec.runtime().word().to_owned(),
        })
    }

    fn add(
        &mut self,
        node: &NodeName,
        name: &str,
        kind: Kind,
        after: &[StepId],
    ) -> Result<StepId, Malformed> {
        let step = PlannedStep::new(node, name, kind, after)?;
        let id = step.id.clone();
        self.steps.push(step);
        Ok(id)
    }

    fn takes_from(&mut self, id: &StepId, from: &StepId) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.id == *id) {
            step.input_from = Some(from.clone());
        }
    }
}

/// The user in the name of a step, which has no underscores. What is not the user's name as it is begins with the place in
/// the file, so that no two users get the same.
fn label_of(user: &UserName, place: usize) -> String {
    let plain = user.as_str().replace('_', "-");
    let plain = plain.trim_matches('-');
    match plain {
        same if same == user.as_str() => same.to_owned(),
        "" => place.to_string(),
        other => format!("{place}-{other}"),
    }
}

/// What every version of Kubernetes needs of the kernel: overlay for the images, bridged traffic seen by iptables,
/// forwarding (kubernetes.io, container runtimes).
fn kernel() -> agent::Kernel {
    let sysctls =
        ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables", "net.ipv4.ip_forward"];
    agent::Kernel {
        modules: ["overlay", "br_netfilter"].map(str::to_owned).to_vec(),
        sysctls: sysctls.map(|key| agent::Sysctl { key: key.to_owned(), value: "1".to_owned() }).to_vec(),
    }
}

#[cfg(test)]
mod tests;
