//! What stands already: the cluster that was made, its members, their roles and versions.

use std::collections::BTreeSet;

use muster_proto::names::{KubernetesVersion, NodeName};

use super::cluster::ClusterFacts;

/// The cluster that a run finds, as the record and the journal tell.
#[derive(Debug, Clone)]
pub struct Observed {
    pub cluster: ClusterFacts,
    /// Its control plane was made, and not reset since.
    pub made: bool,
    /// The nodes of the newest bootstrap, and those of the ones before it that are still enrolled: a node that was only left
    /// out of the file is a node of the cluster all the same.
    pub members: Vec<Member>,
}

/// A node of the cluster, or one that a bootstrap began to make one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node: NodeName,
    pub role: Role,
    /// Of the newest bootstrap that had it; none when that was not recorded.
    pub kubernetes_version: Option<KubernetesVersion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    ControlPlane,
    Worker,
}

impl Observed {
    pub fn has(&self, node: &NodeName) -> bool {
        self.members.iter().any(|member| member.node == *node)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.members.iter().map(|member| &member.node)
    }

    pub fn control_planes(&self) -> impl Iterator<Item = &NodeName> {
        self.members.iter().filter(|member| member.role == Role::ControlPlane).map(|member| &member.node)
    }

    /// What is said of the nodes that are not enrolled any more; none when all are. An error: a name that nobody knows.
    pub fn strangers(
        &self,
        nodes: &[NodeName],
        enrolled: &BTreeSet<NodeName>,
    ) -> Result<Option<String>, String> {
        let mut gone: Vec<&str> = Vec::new();
        for node in nodes.iter().filter(|node| !enrolled.contains(*node)) {
            if !self.has(node) {
                return Err(format!(
                    "{node} is neither enrolled nor a node of the cluster {}: `sudo coordinator nodes list` shows who is",
                    self.cluster.name
                ));
            }
            gone.push(node.as_str());
        }
        let names = gone.join(", ");
        Ok((!gone.is_empty()).then(|| format!("not enrolled any more, so nothing is undone there: {names}")))
    }

    /// The sentence that refuses a reset that was not confirmed with the cluster's name; none when it was.
    pub fn refusal(&self, nodes: &[NodeName], confirm: &str) -> Option<String> {
        if confirm == self.cluster.name.as_str() {
            return None;
        }
        let names = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let all = self.control_planes().any(|control_plane| nodes.contains(control_plane));
        let lost = if all {
            format!(
                "this destroys the cluster {}: etcd's data with every Kubernetes object, and every pod on {names}",
                self.cluster.name
            )
        } else {
            format!(
                "this takes {names} out of the cluster {}: the pods there end, and what lies only there is lost",
                self.cluster.name
            )
        };
        let wrong = if confirm.is_empty() { "" } else { " (the name given is another one)" };
        Some(format!(
            "{lost}. What Muster changed on these machines is put back. To do it, run the same command with --confirm {}{wrong}",
            self.cluster.name
        ))
    }
}

/// In their order; a second time says nothing new.
pub(crate) fn each_once(named: impl IntoIterator<Item = NodeName>) -> Vec<NodeName> {
    let mut seen = BTreeSet::new();
    named.into_iter().filter(|node| seen.insert(node.clone())).collect()
}
