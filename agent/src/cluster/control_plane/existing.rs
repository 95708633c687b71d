//! What a cluster that is there was made with, held against what is wanted. kubeadm keeps it in the ConfigMap
//! `kubeadm-config` of kube-system, as the YAML text of a ClusterConfiguration, in all versions; the endpoint of the API
//! server stands in the kubeconfigs only, since kubeadm 1.22 stopped to write a ClusterStatus.

use ipnet::IpNet;
use muster_proto::event::{Complaint, reset_everything_command};
use muster_proto::kubernetes::release::REGISTRIES;
use muster_proto::names::KubernetesVersion;
use serde_json::Value;

use super::ControlPlane;

/// kubeadm's own default (1.13 to 1.36, apis/kubeadm: DefaultServicesSubnet).
const SERVICE_SUBNET: &str = "10.96.0.0/12";

impl ControlPlane {
    /// What to say of this node's own cluster when it is not the wanted one: `server` is where its kubeconfigs find the API
    /// server, if that is elsewhere, and `existing` its ClusterConfiguration.
    pub fn other_than(&self, server: Option<&str>, existing: &str) -> Option<Complaint> {
        let endpoint = server.map(|server| {
            format!("API server: the cluster says {server}, the file says https://{}", self.endpoint)
        });
        let lines: Vec<String> = endpoint.into_iter().chain(self.differences(existing)).collect();
        (!lines.is_empty()).then(|| {
            Complaint::new(
                format!("the cluster that runs on {} was made with other values than the file has", self.node),
                lines.join("\n"),
                format!(
                    "put the cluster's values back into the file: no bootstrap changes them in a cluster that is there; or undo \
                     the cluster with `{}` on the master, then the same bootstrap again",
                    reset_everything_command()
                ),
            )
        })
    }

    /// A line for everything in which the cluster that has this ClusterConfiguration is not the one that is wanted; none for
    /// a text that cannot be read.
    fn differences(&self, existing: &str) -> Vec<String> {
        let Ok(existing) = serde_saphyr::from_str::<Value>(existing) else { return Vec::new() };
        if existing["kind"] != "ClusterConfiguration" {
            return Vec::new();
        }
        let networking = &existing["networking"];
        let versions = existing["kubernetesVersion"].as_str().and_then(|text| {
            // A word such as `stable-1` says nothing that could be compared.
            let version: KubernetesVersion = text.parse().ok()?;
            (version != self.version).then(|| (text.to_owned(), self.version.to_string()))
        });
        [
            line("spec.kubernetesVersion", versions),
            line("spec.networking.podSubnet", other_range(&networking["podSubnet"], "none", self.pod_subnet)),
            line(
                "spec.networking.serviceSubnet",
                other_range(&networking["serviceSubnet"], SERVICE_SUBNET, self.service_subnet),
            ),
            line("spec.controlPlane.imageRepository", self.other_repository(&existing["imageRepository"])),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn other_repository(&self, existing: &Value) -> Option<(String, String)> {
        let is_default = |text: &str| text.is_empty() || REGISTRIES.contains(&text);
        let existing = existing.as_str().unwrap_or_default();
        let wanted = self.image_repository.as_ref().map(ToString::to_string).unwrap_or_default();
        let same = existing == wanted || (is_default(existing) && is_default(&wanted));
        let named = |text: &str| if text.is_empty() { "kubeadm's own".to_owned() } else { text.to_owned() };
        (!same).then(|| (named(existing), named(&wanted)))
    }
}

/// Both ranges as text, when they are not the same.
fn other_range(existing: &Value, default: &str, wanted: IpNet) -> Option<(String, String)> {
    let existing = existing.as_str().filter(|text| !text.is_empty()).unwrap_or(default);
    let same = existing.parse::<IpNet>().is_ok_and(|existing| existing.trunc() == wanted.trunc());
    (!same).then(|| (existing.to_owned(), wanted.to_string()))
}

fn line(field: &str, values: Option<(String, String)>) -> Option<String> {
    values.map(|(existing, wanted)| format!("{field}: the cluster says {existing}, the file says {wanted}"))
}

#[cfg(test)]
mod tests {
    use muster_proto::agent;

    use super::super::tests::message;
    use super::*;

    /// As kubeadm 1.20.2 wrote it on a real machine.
    const OF_1_20: &str = "apiServer:\n  extraArgs:\n    authorization-mode: Node,RBAC\n  timeoutForControlPlane: 4m0s\napiVersion: kubeadm.k8s.io/v1beta2\ncertificatesDir: /etc/kubernetes/pki\nclusterName: kubernetes\ncontrollerManager: {}\ndns:\n  type: CoreDNS\netcd:\n  local:\n    dataDir: /var/lib/etcd\nimageRepository: k8s.gcr.io\nkind: ClusterConfiguration\nkubernetesVersion: v1.20.2\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16\n  serviceSubnet: 10.96.0.0/12\nscheduler: {}\n";
    /// As kubeadm 1.36.2 wrote it on a real machine.
    const OF_1_36: &str = "apiServer: {}\napiVersion: kubeadm.k8s.io/v1beta4\ncaCertificateValidityPeriod: 87600h0m0s\ncertificateValidityPeriod: 8760h0m0s\ncertificatesDir: /etc/kubernetes/pki\nclusterName: kubernetes\ncontrollerManager: {}\ndns: {}\nencryptionAlgorithm: RSA-2048\netcd:\n  local:\n    dataDir: /var/lib/etcd\nimageRepository: registry.k8s.io\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.2\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16\n  serviceSubnet: 10.96.0.0/12\nproxy: {}\nscheduler: {}\n";

    fn wanted(version: &str) -> ControlPlane {
        let message = agent::KubeadmInit { kubernetes_version: version.into(), ..message() };
        ControlPlane::parse(&message).unwrap()
    }

    #[test]
    fn what_kubeadm_wrote_is_no_difference_to_what_it_was_given() {
        assert_eq!(wanted("v1.20.2").differences(OF_1_20), [""; 0]);
        assert_eq!(wanted("v1.36.2").differences(OF_1_36), [""; 0]);
    }

    #[test]
    fn every_value_that_was_changed_has_its_line() {
        let changed = agent::KubeadmInit {
            kubernetes_version: "v1.21.0".into(),
            pod_subnet: "10.200.0.0/16".into(),
            service_subnet: "10.97.0.0/16".into(),
            image_repository: "registry.example/k8s".into(),
            ..message()
        };
        assert_eq!(
            ControlPlane::parse(&changed).unwrap().differences(OF_1_20),
            [
                "spec.kubernetesVersion: the cluster says v1.20.2, the file says v1.21.0",
                "spec.networking.podSubnet: the cluster says 10.244.0.0/16, the file says 10.200.0.0/16",
                "spec.networking.serviceSubnet: the cluster says 10.96.0.0/12, the file says 10.97.0.0/16",
                "spec.controlPlane.imageRepository: the cluster says k8s.gcr.io, the file says registry.example/k8s",
            ]
        );
    }

    #[test]
    fn a_field_that_is_not_there_has_the_default_of_kubeadm() {
        let existing = "kind: ClusterConfiguration\nkubernetesVersion: stable-1\nnetworking: {podSubnet: 10.244.0.0/16}\n";
        assert_eq!(wanted("v1.20.2").differences(existing), [""; 0]);
        assert_eq!(
            wanted("v1.20.2").differences("kind: ClusterConfiguration\n"),
            ["spec.networking.podSubnet: the cluster says none, the file says 10.244.0.0/16"]
        );
    }

    #[test]
    fn a_text_that_cannot_be_read_is_no_difference() {
        for text in ["", "- [", "kind: Other\n", "a text", "kind: [ClusterConfiguration]\n"] {
            assert_eq!(wanted("v1.20.2").differences(text), [""; 0], "{text:?}");
        }
    }
}
