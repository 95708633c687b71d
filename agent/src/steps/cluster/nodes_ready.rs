//! Afterwards: every named node has a Node object that is Ready and does not carry the taints of a node that is not.
//! Changes nothing: it waits, and says of each node what it waits for in the kubelet's own words.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::NodeName;
use serde_json::Value;

use crate::host::HostError;
use crate::host::query::{ObjectKind, Observe, is_ready, name_of};
use crate::steps::{BadStep, Finding, Input};

pub const NAME: &str = "nodes-ready";
/// The pod network's image may have to be fetched on every node first.
pub const SETTLE: Duration = Duration::from_secs(300);

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

#[derive(Debug, Clone)]
pub struct NodesReady {
    nodes: Vec<NodeName>,
}

impl NodesReady {
    pub fn parse(message: &agent::NodesReady) -> Result<Self, BadStep> {
        let nodes =
            message.nodes.iter().map(|name| name.parse().map_err(BadStep::field("nodes_ready.nodes")));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let nodes = host.objects(ObjectKind::Node, "", "").await?;
        let lacks = |name: &NodeName| match nodes.iter().find(|node| name_of(node) == name.as_str()) {
            None => Some(format!("node {name} has no Node object: it has not joined")),
            Some(node) => not_ready(node).map(|why| format!("node {name} is NotReady: {why}")),
        };
        let waits: Vec<String> = self.nodes.iter().filter_map(lacks).collect();
        if waits.is_empty() { Ok(Finding::DONE) } else { Ok(Finding::Wait(waits.join("; "))) }
    }
}

/// Why a node is not ready: the message of its Ready condition; none when it is.
fn not_ready(node: &Value) -> Option<String> {
    if is_ready(node) {
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let mut keys = taints.filter_map(|taint| taint["key"].as_str());
        return keys.find(|key| TAINTS.contains(key)).map(|key| format!("it still carries the taint {key}"));
    }
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    let text = |key: &str| ready.and_then(|ready| ready[key].as_str()).filter(|text| !text.is_empty());
    Some(text("message").or(text("reason")).unwrap_or("its kubelet has posted no status yet").to_owned())
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;
    use serde_json::json;

    use super::*;
    use crate::steps::rehearsal::{master_and_worker, ready_cluster, step, waits_for};

    #[test]
    fn a_node_says_itself_why_it_is_not_ready() {
        let node = |status: &str, message: &str, taint: &str| {
            json!({
                "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]},
                "status": {"conditions": [
                    {"type": "MemoryPressure", "status": "False", "message": "kubelet has sufficient memory available"},
                    {"type": "Ready", "status": status, "message": message, "reason": "KubeletNotReady"},
                ]},
            })
        };
        for (node, expected) in [
            (node("True", "kubelet is posting ready status", "dedicated"), None),
            (node("False", "container runtime is down", ""), Some("container runtime is down")),
            (
                node("Unknown", "Kubelet stopped posting node status.", TAINTS[1]),
                Some("Kubelet stopped posting node status."),
            ),
            (node("False", "", ""), Some("KubeletNotReady")),
            (node("True", "", TAINTS[0]), Some("it still carries the taint node.kubernetes.io/not-ready")),
            (json!({"spec": {}}), Some("its kubelet has posted no status yet")),
        ] {
            assert_eq!(not_ready(&node).as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn it_waits_for_every_node_by_name_and_is_done_when_all_are_ready() {
        let ready = |names: &[&str]| {
            let nodes = names.iter().map(|&name| name.to_owned()).collect();
            step(Kind::NodesReady(agent::NodesReady { nodes }))
        };
        let (host, _) = master_and_worker().await;
        let what = waits_for(ready(&["w1", "w2"]).check(&host, &Input::default()).await.unwrap());
        assert!(what.starts_with("node w1 is NotReady: runtime network not ready"), "{what}");
        assert!(what.ends_with("; node w2 has no Node object: it has not joined"), "{what}");
        let (host, _) = ready_cluster().await;
        let finding = ready(&["m1", "w1"]).check(&host, &Input::default()).await.unwrap();
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
    }
}
