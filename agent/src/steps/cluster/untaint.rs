//! Afterwards: the node carries no taint that keeps ordinary pods off a control plane, under neither of its two names
//! (the old one, the new one, or both, by the version that made the node). Other taints stay.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::release::TAINTS;
use muster_proto::names::NodeName;
use serde_json::Value;

use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::{ObjectKind, Observe};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Untaint {
    node: NodeName,
}

impl Untaint {
    pub fn parse(message: &agent::Untaint) -> Result<Self, BadStep> {
        Ok(Self { node: message.node.parse().map_err(BadStep::field("untaint.node"))? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let Some(node) = host.object(ObjectKind::Node, "", self.node.as_str()).await? else {
            return Ok(Finding::Wait(format!("node {} has no Node object yet", self.node)));
        };
        let keys = present(&node);
        if keys.is_empty() {
            return Ok(Finding::DONE);
        }
        Ok(Finding::Todo(vec![Change::RemoveTaints { node: self.node.clone(), keys }]))
    }
}

/// Which of the two taints the node carries.
fn present(node: &Value) -> Vec<String> {
    let taints = node["spec"]["taints"].as_array();
    let carries = |key: &str| taints.is_some_and(|all| all.iter().any(|taint| taint["key"] == key));
    TAINTS.into_iter().filter(|key| carries(key)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;
    use serde_json::json;

    use super::*;
    use crate::steps::rehearsal::{carry_out, master, step, waits_for};

    #[test]
    fn of_all_taints_only_the_two_of_a_control_plane_are_taken() {
        let node = |keys: &[&str]| {
            let taints: Vec<Value> =
                keys.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
            json!({"spec": {"taints": taints}})
        };
        let (master, control_plane) = (TAINTS[0], TAINTS[1]);
        for (keys, expected) in [
            (vec![master, "node.kubernetes.io/not-ready"], vec![master]),
            (vec![control_plane, master], vec![master, control_plane]),
            (vec!["dedicated"], vec![]),
        ] {
            assert_eq!(present(&node(&keys)), expected);
        }
        assert!(present(&json!({"spec": {}})).is_empty());
    }

    #[tokio::test]
    async fn the_taint_is_removed_once_and_other_taints_stay() {
        let (host, mut input) = master().await;
        let untaint = step(Kind::Untaint(agent::Untaint { node: "m1".into() }));
        let finding = carry_out(&host, &untaint, &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let left =
            host.cluster.with(|cluster| cluster.get("Node", "", "m1").unwrap()["spec"]["taints"].clone());
        assert_eq!(left[0]["key"], "node.kubernetes.io/not-ready");
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_yet_is_waited_for() {
        let (host, input) = master().await;
        let untaint = step(Kind::Untaint(agent::Untaint { node: "m2".into() }));
        assert_eq!(waits_for(untaint.check(&host, &input).await.unwrap()), "node m2 has no Node object yet");
    }
}
