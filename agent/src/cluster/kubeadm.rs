//! kubeadm's configuration in the dialect of the kubeadm that is installed: the API version follows kubeadm's own
//! version, not the cluster's. Documents are written as JSON, which every YAML reader reads and nothing can escape from.

use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use muster_proto::event::Complaint;
use muster_proto::names::{KubernetesVersion, NodeName};
use serde_json::{Value, json};

use crate::host::HostError;
use crate::host::query::{KubernetesProgram, Observe};

/// The description of every bootstrap token that Muster asks for: `revoke-tickets` knows them again by it.
pub const TICKET_DESCRIPTION: &str = "muster join ticket";
/// How long such a token lives.
pub const TICKET_LIFE: &str = "30m0s";
/// What kubeadm writes for a control-plane node; with it kubectl and kubeadm act as administrator.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";

/// The versions of `kubeadm.k8s.io` that this agent writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigApi {
    V1beta1,
    V1beta2,
    V1beta3,
    V1beta4,
}

impl ConfigApi {
    /// The newest that this kubeadm reads: v1beta1 from 1.13, v1beta2 from 1.15, v1beta3 from 1.22, v1beta4 from 1.31.
    pub fn of(kubeadm: KubernetesVersion) -> Option<Self> {
        match (kubeadm.major, kubeadm.minor) {
            (1, ..13) => None,
            (1, 13..15) => Some(Self::V1beta1),
            (1, 15..22) => Some(Self::V1beta2),
            (1, 22..31) => Some(Self::V1beta3),
            (1, _) => Some(Self::V1beta4),
            _ => None,
        }
    }

    /// For the kubeadm of this host; a complaint when there is none or it is too old.
    pub async fn on<H: Observe>(host: &H) -> Result<Result<Self, Complaint>, HostError> {
        let found = host.kubernetes_version(KubernetesProgram::Kubeadm).await?;
        Ok(found.and_then(Self::of).ok_or_else(|| match found {
            None => Complaint::new(
                "kubeadm is not installed",
                "",
                "install it: `sudo apt-get install kubeadm`, then run bootstrap again",
            ),
            Some(version) => Complaint::new(
                format!("kubeadm {version} is not supported"),
                "Muster writes configuration for kubeadm 1.13 and later",
                "install the kubeadm of the wanted Kubernetes version, then run bootstrap again",
            ),
        }))
    }

    /// A document of this API.
    pub fn document(self, kind: &str, mut fields: Value) -> Value {
        let version = match self {
            Self::V1beta1 => "v1beta1",
            Self::V1beta2 => "v1beta2",
            Self::V1beta3 => "v1beta3",
            Self::V1beta4 => "v1beta4",
        };
        fields["apiVersion"] = json!(format!("kubeadm.k8s.io/{version}"));
        fields["kind"] = json!(kind);
        fields
    }

    /// `nodeRegistration` of a node that must use this address and this socket of its runtime; extra arguments became a list
    /// with v1beta4. The socket stands there always: with two runtimes on a host kubeadm does not choose.
    pub fn node_registration(self, name: &NodeName, address: IpAddr, socket: &str) -> Value {
        let arguments = match self {
            Self::V1beta4 => json!([{"name": "node-ip", "value": address}]),
            _ => json!({"node-ip": address}),
        };
        json!({"name": name, "criSocket": socket, "kubeletExtraArgs": arguments})
    }
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

    #[test]
    fn the_configuration_version_follows_the_version_of_kubeadm() {
        for (kubeadm, expected) in [
            ("v1.12.10", None),
            ("v1.13.2", Some(ConfigApi::V1beta1)),
            ("v1.14.10", Some(ConfigApi::V1beta1)),
            ("v1.15.0", Some(ConfigApi::V1beta2)),
            ("v1.20.2", Some(ConfigApi::V1beta2)),
            ("v1.22.0", Some(ConfigApi::V1beta3)),
            ("v1.30.14", Some(ConfigApi::V1beta3)),
            ("v1.31.0", Some(ConfigApi::V1beta4)),
            ("v1.36.2", Some(ConfigApi::V1beta4)),
        ] {
            assert_eq!(ConfigApi::of(kubeadm.parse().unwrap()), expected, "{kubeadm}");
        }
    }

    #[test]
    fn documents_are_separated_as_kubeadm_splits_them() {
        let file = file_of(&[json!({"kind": "A"}), json!({"kind": "B"})]);
        assert_eq!(file, "{\n  \"kind\": \"A\"\n}\n---\n{\n  \"kind\": \"B\"\n}\n");
    }

    #[test]
    fn extra_arguments_are_a_list_from_v1beta4_on() {
        let (name, address) = ("m1".parse().unwrap(), "10.88.0.11".parse().unwrap());
        let of =
            |api: ConfigApi| api.node_registration(&name, address, "/x.sock")["kubeletExtraArgs"].clone();
        assert_eq!(of(ConfigApi::V1beta2), json!({"node-ip": "10.88.0.11"}));
        assert_eq!(of(ConfigApi::V1beta4), json!([{"name": "node-ip", "value": "10.88.0.11"}]));
    }
}
