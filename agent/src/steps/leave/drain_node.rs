//! Afterwards: no ordinary pod runs on the node any more, and none is put there. Without an API server, or without the
//! Node object, there is nothing to drain.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::ADMIN_CONF;
use muster_proto::kubernetes::release::{RELEASES, Release};
use muster_proto::names::{KubernetesVersion, NodeName};
use serde_json::Value;

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::{KubernetesProgram, ObjectKind, Observe};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(30);

const LIMIT: Duration = Duration::from_secs(180);
/// kubectl's own limit, within ours.
const TIMEOUT: &str = "--timeout=150s";

#[derive(Debug, Clone)]
pub struct DrainNode {
    node: NodeName,
}

impl DrainNode {
    pub fn parse(message: &agent::DrainNode) -> Result<Self, BadStep> {
        Ok(Self { node: message.node.parse().map_err(BadStep::field("drain_node.node"))? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        if host.read_file(std::path::Path::new(ADMIN_CONF)).await?.is_none() {
            return Ok(Finding::DONE);
        }
        let Some(node) = host.object(ObjectKind::Node, "", self.node.as_str()).await? else {
            return Ok(Finding::DONE);
        };
        let pods = host.objects(ObjectKind::Pod, "", "").await?;
        if node["spec"]["unschedulable"] == true && !pods.iter().any(|pod| self.must_go(pod)) {
            return Ok(Finding::DONE);
        }
        let version = host.kubernetes_version(KubernetesProgram::Kubectl).await?;
        let arguments =
            ["--kubeconfig", ADMIN_CONF, "drain", self.node.as_str(), "--ignore-daemonsets", "--force"];
        let arguments = arguments.into_iter().chain([local_data(version), TIMEOUT]);
        Ok(Finding::Todo(vec![Change::Run(Program::new(ProgramName::Kubectl, arguments, LIMIT))]))
    }

    /// A pod of this node that draining removes: not one of a DaemonSet and no static one.
    fn must_go(&self, pod: &Value) -> bool {
        let daemon = pod["metadata"]["ownerReferences"].as_array().is_some_and(|owners| {
            owners.iter().any(|owner| owner["kind"] == "DaemonSet" || owner["kind"] == "Node")
        });
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        pod["spec"]["nodeName"] == self.node.as_str() && !daemon && !ended
    }
}

/// The flag that lets pods with emptyDir go; of a kubectl that Muster does not know, that of the newest.
fn local_data(kubectl: Option<KubernetesVersion>) -> &'static str {
    let newest = &RELEASES[RELEASES.len() - 1];
    kubectl.and_then(Release::of).unwrap_or(newest).drain_gives_up
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::steps::rehearsal::{carry_out, ready_cluster, step};

    #[test]
    fn the_flag_follows_the_version() {
        assert_eq!(local_data("v1.19.16".parse().ok()), "--delete-local-data");
        for other in [Some("v1.20.2"), Some("v1.36.3"), Some("v1.99.0"), None] {
            let found = local_data(other.and_then(|version| version.parse().ok()));
            assert_eq!(found, "--delete-emptydir-data", "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_node_is_drained_once_and_one_that_is_not_there_needs_no_draining() {
        let (host, _) = ready_cluster().await;
        let drain = |node: &str| step(Kind::DrainNode(agent::DrainNode { node: node.into() }));
        let finding = carry_out(&host, &drain("w1"), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert!(matches!(drain("w9").check(&host, &Input::default()).await, Ok(Finding::Done(_))));
    }
}
