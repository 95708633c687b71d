//! The pods of the smoke test as the API server shows them now: one Ready on every node, each with an address of the pod
//! network that nobody else has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use muster_proto::agent;
use muster_proto::event::Complaint;
use muster_proto::names::NodeName;
use serde_json::Value;

use crate::cluster::cni;
use crate::cluster::pods::{
    address_of, called, has_its_nodes_address, lives, made_at, node_of, outside, why_not_ready,
};
use crate::host::HostError;
use crate::host::query::{ObjectKind, Observe, is_ready, name_of};
use crate::steps::BadStep;

/// Name and label of the Deployment in the namespace `default`.
pub(crate) const DEPLOYMENT: &str = "muster-smoke-test";
/// Selects its pods.
pub(crate) const SELECTOR: &str = "app=muster-smoke-test";

/// Where pods of the smoke test have to be.
#[derive(Debug, Clone)]
pub(crate) struct SmokePods {
    pub(crate) nodes: Vec<NodeName>,
    pub(crate) subnet: IpNet,
}

/// How they stand.
#[derive(Debug)]
pub(crate) enum Standing {
    /// One of every node, in the order of the nodes.
    Ready(Vec<agent::PodAddress>),
    /// What is waited for.
    Lacking(String),
    /// Addresses that no pod of this network can have; they stay as long as the pods do.
    Misplaced { complaint: Complaint, made: Option<Timestamp> },
}

impl SmokePods {
    pub(crate) fn parse(
        (field, nodes): (&'static str, &[String]),
        (subnet_field, subnet): (&'static str, &str),
    ) -> Result<Self, BadStep> {
        let nodes = nodes.iter().map(|name| name.parse().map_err(BadStep::field(field)));
        let nodes: Vec<NodeName> = nodes.collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            let problem = "no node: nothing would be proved".to_owned();
            return Err(BadStep::Value { field, problem });
        }
        Ok(Self { nodes, subnet: BadStep::parsed(subnet_field, subnet, "a subnet")? })
    }

    /// Looks at them through admin.conf.
    pub(crate) async fn look<H: Observe>(&self, host: &H) -> Result<Standing, HostError> {
        let mut pods = host.objects(ObjectKind::Pod, "default", SELECTOR).await?;
        pods.retain(lives);
        let (mut ready, mut lacking) = (Vec::new(), Vec::new());
        for node in &self.nodes {
            match pods.iter().find(|pod| node_of(pod) == node.as_str() && is_up_at_an_address(pod)) {
                Some(pod) => ready.push(pod),
                None => lacking.push(format!("a Ready pod on {node} ({})", why_none(&pods, node))),
            }
        }
        let wrong = self.misplaced(host, &ready).await?;
        if !wrong.is_empty() {
            let made = ready.iter().filter_map(|pod| made_at(pod));
            return Ok(Standing::Misplaced { complaint: complaint(host, &wrong).await?, made: made.min() });
        }
        if !lacking.is_empty() {
            return Ok(Standing::Lacking(lacking.join("; ")));
        }
        Ok(Standing::Ready(ready.into_iter().map(message).collect()))
    }

    /// One sentence for each address that is not in the pod subnet, or that somebody else has as well.
    async fn misplaced<H: Observe>(&self, host: &H, ready: &[&Value]) -> Result<Vec<String>, HostError> {
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        let mut wrong: Vec<String> = ready.iter().filter_map(|pod| outside(pod, &self.subnet)).collect();
        let mut owners: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for pod in host.objects(ObjectKind::Pod, "", "").await?.iter() {
            if let Some(address) = address_of(pod).filter(|_| lives(pod) && !has_its_nodes_address(pod)) {
                owners.entry(address).or_default().push(called(pod));
            }
        }
        for node in host.objects(ObjectKind::Node, "", "").await?.iter() {
            let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
            for address in addresses.filter_map(|one| one["address"].as_str()?.parse().ok()) {
                let owner = format!("node {}", name_of(node));
                let owners = owners.entry(address).or_default();
                if !owners.contains(&owner) {
                    owners.push(owner);
                }
            }
        }
        let mut shared: Vec<IpAddr> = ready.iter().filter_map(|pod| address_of(pod)).collect();
        shared.sort_unstable();
        shared.dedup();
        for address in shared {
            let owners = owners.get(&address).map(Vec::as_slice).unwrap_or_default();
            if owners.len() > 1 {
                wrong.push(format!("{} have the same address {address}", owners.join(" and ")));
            }
        }
        Ok(wrong)
    }
}

fn is_up_at_an_address(pod: &Value) -> bool {
    is_ready(pod) && address_of(pod).is_some()
}

/// What keeps the node without a Ready pod: that of its own pod, or of one that no node was found for.
fn why_none(pods: &[Value], node: &NodeName) -> String {
    let on_node = pods.iter().find(|pod| node_of(pod) == node.as_str());
    match on_node.or_else(|| pods.iter().find(|pod| node_of(pod).is_empty())) {
        None => "no pod was made for it yet".to_owned(),
        Some(pod) => why_not_ready(pod),
    }
}

async fn complaint<H: Observe>(host: &H, wrong: &[String]) -> Result<Complaint, HostError> {
    let taken = cni::taken(host).await?.map(|taken| {
        format!("on this node the kubelet takes {}/{}, the first there by name", cni::FOLDER, taken.file)
    });
    let evidence: Vec<String> = wrong[1..].iter().cloned().chain(taken).collect();
    Ok(Complaint::new(
        wrong[0].clone(),
        evidence.join("\n"),
        format!(
            "something else than the pod network gives the pods their addresses: look into {0} on the nodes named above, move the file \
             away that sorts first and is not the pod network's (`sudo mv {0}/FILE /root/`), then run the same command again: it makes \
             these pods anew",
            cni::FOLDER
        ),
    ))
}

fn message(pod: &Value) -> agent::PodAddress {
    agent::PodAddress {
        pod: name_of(pod).to_owned(),
        node: node_of(pod).to_owned(),
        address: address_of(pod).map(|address| address.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_without_a_ready_pod_says_why() {
        let node: NodeName = "w1".parse().unwrap();
        let pod = |node: Value| json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}, "status": {"phase": "Pending"}});
        assert_eq!(why_none(&[], &node), "no pod was made for it yet");
        assert_eq!(why_none(&[pod(json!("m1"))], &node), "no pod was made for it yet");
        assert_eq!(why_none(&[pod(json!("w1"))], &node), "pod p is Pending");
        assert_eq!(why_none(&[pod(Value::Null)], &node), "pod p is Pending");
    }
}
