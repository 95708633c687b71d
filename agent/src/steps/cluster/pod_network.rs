//! Afterwards: the pod network's manifest is applied, exactly this text of it, and its range is the cluster's pod subnet
//! (checked before anything is applied). A ConfigMap of ours holds the manifest's digest; it is written after the manifest,
//! so that a crash in the middle only means applying again.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use ipnet::IpNet;
use muster_proto::agent;
use muster_proto::pod_network::{self, Range};
use serde_json::{Value, json};

use crate::cluster::kubectl::apply;
use crate::host::HostError;
use crate::host::query::{ObjectKind, Observe, name_of};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(60);

/// The ConfigMap in kube-system that tells which manifest was applied.
const RECORD: &str = "muster-pod-network";

#[derive(Debug, Clone)]
pub struct PodNetwork {
    manifest: String,
    objects: Vec<Value>,
    pod_subnet: IpNet,
}

impl PodNetwork {
    pub fn parse(message: &agent::PodNetwork) -> Result<Self, BadStep> {
        let objects = pod_network::objects(&message.manifest)
            .map_err(|error| BadStep::Value { field: "pod_network.manifest", problem: error.to_string() })?;
        let pod_subnet = BadStep::parsed("pod_network.pod_subnet", &message.pod_subnet, "a subnet")?;
        Ok(Self { manifest: message.manifest.clone(), objects, pod_subnet })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        if let Some(Range { place, range }) = pod_network::other_range(&self.objects, &self.pod_subnet) {
            return Ok(Finding::blocked(
                format!(
                    "the pod network's range {range} is not the cluster's pod subnet {}",
                    self.pod_subnet
                ),
                format!("{place} says {range}; kubeadm gives the nodes parts of {}", self.pod_subnet),
                format!("write {} there, or {range} as the pod subnet in the cluster file", self.pod_subnet),
            ));
        }
        let digest = self.digest();
        let record = host.object(ObjectKind::ConfigMap, "kube-system", RECORD).await?;
        let mut applied = record.is_some_and(|record| record["data"]["digest"] == digest);
        for set in self.objects.iter().filter(|object| object["kind"] == "DaemonSet") {
            let namespace = set["metadata"]["namespace"].as_str().unwrap_or("default");
            applied &= host.object(ObjectKind::DaemonSet, namespace, name_of(set)).await?.is_some();
        }
        if applied {
            return Ok(Finding::DONE);
        }
        let record = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": RECORD, "namespace": "kube-system"}, "data": {"digest": digest},
        });
        // Two calls: kubectl goes on after an object that it could not apply, and the record must come last.
        Ok(Finding::Todo(vec![apply(self.manifest.clone()), apply(record.to_string())]))
    }

    fn digest(&self) -> String {
        let digest = digest(&SHA256, self.manifest.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::change::ProgramName;
    use crate::steps::rehearsal::{carry_out, cause_of, master, network, step};

    const CALICO: &str = "kind: DaemonSet\nmetadata: {name: calico-node, namespace: kube-system}\nspec:\n  template:\n    spec:\n      containers:\n        - name: calico-node\n          env:\n            - {name: CALICO_IPV4POOL_IPIP, value: Always}\n            - {name: CALICO_IPV4POOL_CIDR, value: \"192.168.0.0/16\"}\n";

    #[test]
    fn a_text_that_is_no_manifest_is_refused() {
        for manifest in ["", "---\n", "a: b: c", "hello", "metadata: {name: x}\n"] {
            let message = agent::PodNetwork { manifest: manifest.into(), pod_subnet: "10.244.0.0/16".into() };
            assert!(PodNetwork::parse(&message).is_err(), "{manifest:?}");
        }
    }

    #[tokio::test]
    async fn it_is_applied_once_and_again_when_the_text_changes() {
        let (host, mut input) = master().await;
        let mut message = network("10.244.0.0/16");
        let finding = carry_out(&host, &step(Kind::PodNetwork(message.clone())), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert_eq!(host.runs(ProgramName::Kubectl), 2);
        message.manifest.push_str("# changed\n");
        let finding = step(Kind::PodNetwork(message)).check(&host, &input).await.unwrap();
        assert!(matches!(finding, Finding::Todo(_)), "{finding:?}");
    }

    #[tokio::test]
    async fn another_range_than_the_pod_subnet_is_blocked_before_anything_is_applied() {
        let (host, input) = master().await;
        for manifest in [network("10.5.0.0/16").manifest, CALICO.to_owned()] {
            let message = agent::PodNetwork { manifest, pod_subnet: "10.244.0.0/16".into() };
            let cause = cause_of(step(Kind::PodNetwork(message)).check(&host, &input).await.unwrap());
            assert!(cause.starts_with("the pod network's range"), "{cause}");
        }
        assert_eq!(host.runs(ProgramName::Kubectl), 0);
    }
}
