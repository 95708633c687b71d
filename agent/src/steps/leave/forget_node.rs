//! Afterwards: the cluster has no Node object of a node that was reset. Without a control plane on this host there is
//! nothing that could remember it.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::ADMIN_CONF;
use muster_proto::names::NodeName;

use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::{ObjectKind, Observe};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct ForgetNode {
    node: NodeName,
}

impl ForgetNode {
    pub fn parse(message: &agent::ForgetNode) -> Result<Self, BadStep> {
        Ok(Self { node: message.node.parse().map_err(BadStep::field("forget_node.node"))? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        if host.read_file(Path::new(ADMIN_CONF)).await?.is_none() {
            return Ok(Finding::DONE);
        }
        let there = host.object(ObjectKind::Node, "", self.node.as_str()).await?;
        let delete = there.map(|_| Change::DeleteObject {
            kind: ObjectKind::Node,
            namespace: String::new(),
            name: self.node.to_string(),
        });
        Ok(Finding::from_changes(delete.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, master_and_worker, step};

    #[tokio::test]
    async fn the_node_object_goes_and_without_a_control_plane_there_is_none() {
        let forget = step(Kind::ForgetNode(agent::ForgetNode { node: "w1".into() }));
        let (host, _) = master_and_worker().await;
        let finding = carry_out(&host, &forget, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let clean = FakeHost::debian("m1", FakeCluster::default());
        assert!(matches!(forget.check(&clean, &Input::default()).await, Ok(Finding::Done(_))));
    }
}
