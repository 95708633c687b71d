//! kubeadm's configuration in the dialect of the kubeadm that is installed: the API version follows kubeadm's own
//! version, not the cluster's. Documents are written as JSON, which every YAML reader reads and nothing can escape from.

use std::net::IpAddr;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use muster_proto::event::Complaint;
use muster_proto::kubernetes::release::{CgroupV1, Release};
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::{KubernetesVersion, NodeName};
use serde_json::{Value, json};

use crate::host::HostError;
use crate::host::query::{KubernetesProgram, Observe, ObserveSystem};

/// The description of every bootstrap token that Muster asks for: `revoke-tickets` knows them again by it.
pub const TICKET_DESCRIPTION: &str = "muster join ticket";
/// How long such a token lives.
pub const TICKET_LIFE: &str = "30m0s";
/// What every node says of itself to kubeadm.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    pub name: &'a NodeName,
    /// The one that the cluster knows the node by.
    pub address: IpAddr,
    pub runtime: RuntimeName,
    /// The machine has cgroups v1, and the person wants it all the same.
    pub cgroup_v1: bool,
}

/// How the kubeadm of this host wants to be spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Dialect(&'static Release);

impl Dialect {
    pub fn of(kubeadm: KubernetesVersion) -> Option<Self> {
        Release::of(kubeadm).map(Self)
    }

    /// For the kubeadm of this host; a complaint when there is none or Muster does not know it.
    pub async fn on<H: Observe>(host: &H) -> Result<Result<Self, Complaint>, HostError> {
        let found = host.kubernetes_version(KubernetesProgram::Kubeadm).await?;
        Ok(found.and_then(Self::of).ok_or_else(|| match found {
            None => Complaint::new(
                "kubeadm is not installed",
                "",
                "install it: `sudo apt-get install kubeadm`, then run bootstrap again",
            ),
            Some(version) => {
                let (first, last) = Release::known();
                Complaint::new(
                    format!("kubeadm {version} is not supported"),
                    format!("Muster writes configuration for kubeadm {first} to {last}"),
                    "install the kubeadm of the wanted Kubernetes version, then run bootstrap again",
                )
            }
        }))
    }

    /// What is known of this kubeadm.
    pub fn release(self) -> &'static Release {
        self.0
    }

    /// A document of the newest configuration API that this kubeadm reads.
    pub fn document(self, kind: &str, mut fields: Value) -> Value {
        fields["apiVersion"] = json!(self.0.config_api.word());
        fields["kind"] = json!(kind);
        fields
    }

    /// Extra arguments of a program: a list of name and value, or a map.
    fn arguments(self, arguments: &[(&str, String)]) -> Value {
        if self.0.config_api.lists_arguments() {
            let list = arguments.iter().map(|(name, value)| json!({"name": name, "value": value}));
            return list.collect();
        }
        arguments.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }

    /// `nodeRegistration`. The kubelet is told its node's name, which it takes from the host name otherwise: who changes that
    /// (a cloud's agent at boot, an administrator) would leave the Node object without its kubelet. Every kubelet from 1.13 on
    /// has both flags.
    pub fn node_registration(self, node: &Registration<'_>) -> Value {
        let arguments = [("hostname-override", node.name.to_string()), ("node-ip", node.address.to_string())];
        let mut registration = json!({
            "name": node.name,
            "criSocket": self.0.cri_socket(node.runtime),
            "kubeletExtraArgs": self.arguments(&arguments),
        });
        if node.cgroup_v1 && self.0.cgroup_v1 == CgroupV1::Refused && self.0.config_api.ignores_checks() {
            registration["ignorePreflightErrors"] = json!([CGROUP_CHECK]);
        }
        registration
    }
}

/// kubeadm's check that fails on cgroups v1 (k8s.io/system-validators); it looks at nothing else that Muster does not look at.
const CGROUP_CHECK: &str = "SystemVerification";
/// The file that only cgroups v2 have, at their root.
const CGROUP_V2: &str = "/sys/fs/cgroup/cgroup.controllers";

/// Whether this host has cgroups v1.
pub async fn has_cgroup_v1<H: ObserveSystem>(host: &H) -> Result<bool, HostError> {
    Ok(host.read_file(Path::new(CGROUP_V2)).await?.is_none_or(|controllers| controllers.is_empty()))
}

/// The documents as one file.
pub fn file_of(documents: &[Value]) -> String {
    let texts: Vec<String> = documents.iter().map(|document| format!("{document:#}\n")).collect();
    texts.join("---\n")
}

/// A value of a Secret object, out of its base64.
pub fn secret_value(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret["data"][key].as_str()?;
    String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(kubeadm: &str) -> Dialect {
        Dialect::of(kubeadm.parse().unwrap()).unwrap()
    }

    fn registration(kubeadm: &str, runtime: RuntimeName, cgroup_v1: bool) -> Value {
        let name = "m1".parse().unwrap();
        let address = "10.88.0.11".parse().unwrap();
        dialect(kubeadm).node_registration(&Registration { name: &name, address, runtime, cgroup_v1 })
    }

    #[test]
    fn the_configuration_version_follows_the_version_of_kubeadm() {
        for (kubeadm, expected) in [
            ("v1.13.2", "v1beta1"),
            ("v1.14.10", "v1beta1"),
            ("v1.15.0", "v1beta2"),
            ("v1.20.2", "v1beta2"),
            ("v1.22.0", "v1beta3"),
            ("v1.30.14", "v1beta3"),
            ("v1.31.0", "v1beta4"),
            ("v1.36.2", "v1beta4"),
        ] {
            let document = dialect(kubeadm).document("InitConfiguration", json!({}));
            assert_eq!(document["apiVersion"], format!("kubeadm.k8s.io/{expected}"), "{kubeadm}");
        }
        assert!(Dialect::of("v1.12.10".parse().unwrap()).is_none());
    }

    #[test]
    fn documents_are_separated_as_kubeadm_splits_them() {
        let file = file_of(&[json!({"kind": "A"}), json!({"kind": "B"})]);
        assert_eq!(file, "{\n  \"kind\": \"A\"\n}\n---\n{\n  \"kind\": \"B\"\n}\n");
    }

    #[test]
    fn extra_arguments_are_a_list_from_v1beta4_on() {
        let of = |kubeadm| registration(kubeadm, RuntimeName::Docker, false)["kubeletExtraArgs"].clone();
        assert_eq!(of("v1.20.2"), json!({"hostname-override": "m1", "node-ip": "10.88.0.11"}));
        let list = json!([
            {"name": "hostname-override", "value": "m1"},
            {"name": "node-ip", "value": "10.88.0.11"},
        ]);
        assert_eq!(of("v1.36.2"), list);
    }

    #[test]
    fn every_node_says_which_runtime_is_its_own() {
        for (kubeadm, runtime, socket) in [
            ("v1.20.2", RuntimeName::Docker, "/var/run/dockershim.sock"),
            ("v1.20.2", RuntimeName::Containerd, "/run/containerd/containerd.sock"),
            ("v1.36.2", RuntimeName::Containerd, "unix:///run/containerd/containerd.sock"),
            ("v1.36.2", RuntimeName::Docker, "unix:///var/run/cri-dockerd.sock"),
        ] {
            assert_eq!(registration(kubeadm, runtime, false)["criSocket"], socket, "{kubeadm} {runtime}");
        }
    }

    #[test]
    fn the_check_of_cgroups_is_passed_over_only_where_v1_is_refused_and_wanted() {
        let ignored = |kubeadm, v1| {
            let found = registration(kubeadm, RuntimeName::Containerd, v1);
            found.get("ignorePreflightErrors").cloned()
        };
        assert_eq!(ignored("v1.36.2", true), Some(json!(["SystemVerification"])));
        assert_eq!(ignored("v1.36.2", false), None);
        assert_eq!(ignored("v1.34.2", true), None);
    }
}
