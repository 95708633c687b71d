//! A real CA and what it signs, and kubeconfigs as kubeadm writes them.

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use super::{Said, said};

/// A certificate and its key, PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2090, 1, 1);
    parameters
}

pub(super) fn authority() -> Said<Pair> {
    let key = KeyPair::generate().map_err(said)?;
    let mut parameters = parameters("kubernetes");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = parameters.self_signed(&key).map_err(said)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Signed by the authority; a server's with these addresses, a client's without any.
pub(super) fn signed(authority: &Pair, name: &str, addresses: &[std::net::IpAddr]) -> Said<Pair> {
    let ca_key = KeyPair::from_pem(&authority.key).map_err(said)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, ca_key).map_err(said)?;
    let key = KeyPair::generate().map_err(said)?;
    let mut parameters = parameters(name);
    parameters.subject_alt_names = addresses.iter().map(|address| SanType::IpAddress(*address)).collect();
    parameters.extended_key_usages = vec![match addresses {
        [] => ExtendedKeyUsagePurpose::ClientAuth,
        _ => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    let certificate = parameters.signed_by(&key, &issuer).map_err(said)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A kubeconfig of one cluster and one user.
pub(super) fn kubeconfig(server: &str, ca: &str, user: &str, identity: &str) -> String {
    let ca = BASE64_STANDARD.encode(ca);
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: https://{server}\n  name: kubernetes\ncontexts:\n- context:\n    cluster: kubernetes\n    user: {user}\n  name: {user}@kubernetes\ncurrent-context: {user}@kubernetes\nkind: Config\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n{identity}"
    )
}

pub(super) fn with_certificate(pair: &Pair) -> String {
    format!(
        "    client-certificate-data: {}\n    client-key-data: {}\n",
        BASE64_STANDARD.encode(&pair.certificate),
        BASE64_STANDARD.encode(&pair.key)
    )
}

pub(super) fn with_token(token: &str) -> String {
    format!("    token: {token}\n")
}
