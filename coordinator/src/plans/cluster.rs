//! What a cluster is: recorded with every run of it, so that nothing has to be guessed from the run's steps.

use ipnet::IpNet;
use muster_proto::names::{ApiEndpoint, KubernetesVersion, NodeName};
use serde::{Deserialize, Serialize};

/// Stands for the cluster's name where there is none: in the run that undoes what was changed before there was one.
pub const NO_CLUSTER: &str = "no-cluster";

/// The cluster of a run. What is none was not recorded by the coordinator that ran it, or there is no cluster yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    pub name: NodeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<KubernetesVersion>,
    /// The pods' range of addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_subnet: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_subnet: Option<IpNet>,
    /// Where the nodes reach the API server. Not the address that a control plane advertises of itself, although the two are
    /// the same while there is one control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<ApiEndpoint>,
    /// The first one is made with `kubeadm init`.
    #[serde(default)]
    pub control_planes: Vec<NodeName>,
}

impl ClusterFacts {
    /// Of a cluster of which nothing but its name is told.
    pub fn named(name: NodeName) -> Self {
        let (kubernetes_version, pod_subnet, service_subnet, endpoint) = (None, None, None, None);
        Self { name, kubernetes_version, pod_subnet, service_subnet, endpoint, control_planes: Vec::new() }
    }

    /// Of none.
    pub fn none() -> Self {
        Self::named(NO_CLUSTER.parse().expect("it is a name"))
    }

    /// The pods' range as the agents are told it; empty when it was never recorded.
    pub fn pod_subnet_text(&self) -> String {
        self.pod_subnet.map(|subnet| subnet.to_string()).unwrap_or_default()
    }
}
