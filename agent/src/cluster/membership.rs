//! Which cluster a node belongs to: what its kubelet.conf says, and the pins of a cluster's CA.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_STANDARD, Engine};
use muster_proto::names::KeyHash;
use muster_proto::token::public_key_of;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

/// The cluster that a kubeconfig leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// `https://HOST:PORT`
    pub server: String,
    /// Pins of the CA certificates that stand in the file itself; empty when it only names a file.
    pub ca_hashes: Vec<KeyHash>,
    /// The file with the kubelet's certificate, where the kubeconfig names one. The kubelet writes its kubeconfig before it
    /// has asked for that certificate (client-go v1.20, certificate/bootstrap: `LoadClientConfig`).
    pub client_certificate: Option<PathBuf>,
}

impl Membership {
    /// Reads a kubeconfig as kubeadm and the kubelet write it; none when it names no server.
    pub fn read(kubeconfig: &str) -> Option<Self> {
        let file: Value = serde_saphyr::from_str(kubeconfig).ok()?;
        let cluster = file.pointer("/clusters/0/cluster")?;
        let server = cluster["server"].as_str()?.trim_end_matches('/').to_owned();
        let embedded = cluster["certificate-authority-data"].as_str().and_then(|data| {
            let pem = BASE64_STANDARD.decode(data.trim()).ok()?;
            ca_hashes(&String::from_utf8(pem).ok()?)
        });
        let client_certificate = file.pointer("/users/0/user/client-certificate").and_then(Value::as_str);
        Some(Self {
            server,
            ca_hashes: embedded.unwrap_or_default(),
            client_certificate: client_certificate.map(PathBuf::from),
        })
    }
}

/// kubeadm's pin of every certificate in a PEM file: SHA-256 of the DER SubjectPublicKeyInfo. None when the file holds
/// no certificate or one that cannot be read.
pub fn ca_hashes(pem: &str) -> Option<Vec<KeyHash>> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    let hashes: Option<Vec<KeyHash>> = certificates
        .iter()
        .map(|certificate| {
            let hash = digest(&SHA256, &public_key_of(certificate).ok()?);
            let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}").parse().ok()
        })
        .collect();
    hashes.filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{CA_CERTIFICATE, CA_HASH};

    #[test]
    fn the_pin_is_the_one_of_the_public_key_for_every_certificate_of_the_file() {
        let pin: KeyHash = CA_HASH.parse().unwrap();
        assert_eq!(ca_hashes(CA_CERTIFICATE), Some(vec![pin.clone()]));
        let two = format!("# old\n{CA_CERTIFICATE}\n{CA_CERTIFICATE}");
        assert_eq!(ca_hashes(&two).unwrap(), [pin.clone(), pin]);
    }

    #[test]
    fn a_file_without_a_readable_certificate_has_no_pin() {
        for pem in ["", "ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(ca_hashes(pem), None, "{pem:?}");
        }
    }

    #[test]
    fn a_kubelet_conf_tells_the_server_and_the_ca() {
        let data = BASE64_STANDARD.encode(CA_CERTIFICATE);
        let file = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {data}\n    server: https://10.88.0.11:6443\n  name: default-cluster\nkind: Config\n"
        );
        let membership = Membership::read(&file).unwrap();
        assert_eq!(membership.server, "https://10.88.0.11:6443");
        assert_eq!(membership.ca_hashes, [CA_HASH.parse().unwrap()]);
        assert_eq!(membership.client_certificate, None);
        let pem = "/var/lib/kubelet/pki/kubelet-client-current.pem";
        let of_a_worker =
            format!("{file}users:\n- name: default-auth\n  user:\n    client-certificate: {pem}\n");
        assert_eq!(Membership::read(&of_a_worker).unwrap().client_certificate, Some(pem.into()));
        assert_eq!(Membership::read("kind: Config\nclusters: []\n"), None);
    }
}
