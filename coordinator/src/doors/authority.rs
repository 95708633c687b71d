//! The private CA: it names the coordinator to its agents and the agents to the coordinator, and nobody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_proto::names::NodeName;
use muster_proto::private_file::{self, FileError};
use muster_proto::token::{KeyPin, UnreadableCertificate, public_key_of};
use muster_proto::version::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What can go wrong with the CA.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("a key or certificate could not be made or signed")]
    Making(#[from] rcgen::Error),
    #[error(
        "{path} holds no usable key or certificate: restore the folder from a backup, or remove it and enrol every node again"
    )]
    Damaged { path: PathBuf, source: rcgen::Error },
    #[error(
        "{path} is missing, while the certificate beside it exists: restore it from a backup, or remove the folder and enrol every node again"
    )]
    KeyLost { path: PathBuf },
    #[error(transparent)]
    Unreadable(#[from] UnreadableCertificate),
}

/// A request for a certificate that is refused before any certificate is made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the certificate request cannot be read, or its signature is wrong")]
    Malformed(#[source] rcgen::Error),
    #[error("the certificate request holds a key of another kind than P-256")]
    OtherKind,
}

/// The CA and the server certificate of this process.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    certificate: CertificateDer<'static>,
    pin: KeyPin,
    server: Arc<KeyPair>,
    server_certificate: CertificateDer<'static>,
}

/// A public key whose holder signed the request; nothing else of the request was kept.
#[derive(Debug)]
pub struct RequestedKey(rcgen::PublicKey);

impl Authority {
    /// Opens the CA in this folder, making it when there is none. The server's key is made anew in memory at every
    /// start: agents know the CA, never that key.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        private_file::make_folder(folder)?;
        let (key_path, certificate_path) = (folder.join("ca.key.der"), folder.join("ca.crt.der"));
        let key = match (private_file::read(&key_path)?, private_file::read(&certificate_path)?.is_some()) {
            (Some(der), _) => KeyPair::from_der_and_sign_algo(
                &PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
                &PKCS_ECDSA_P256_SHA256,
            )
            .map_err(|source| AuthorityError::Damaged { path: key_path.clone(), source })?,
            (None, true) => return Err(AuthorityError::KeyLost { path: key_path }),
            (None, false) => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                private_file::write(&key_path, key.serialized_der(), 0o600)?;
                key
            }
        };
        // After the key and before the certificate a crash leaves a key alone: it gets its certificate now.
        let certificate = match private_file::read(&certificate_path)? {
            Some(der) => CertificateDer::from(der),
            None => {
                let made = authority_parameters().self_signed(&key)?.der().clone();
                private_file::write(&certificate_path, &made, 0o644)?;
                made
            }
        };
        let pin = KeyPin::of(&public_key_of(&certificate)?);
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|source| AuthorityError::Damaged { path: certificate_path, source })?;
        let server = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let server_certificate = server_parameters()?.signed_by(&server, &issuer)?.der().clone();
        Ok(Self { issuer: Arc::new(issuer), certificate, pin, server: Arc::new(server), server_certificate })
    }

    /// Reads a request for a certificate. Only its public key is taken: name and use come from the token's row.
    pub fn read_request(&self, request: &[u8]) -> Result<RequestedKey, RequestError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(RequestError::Malformed)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::OtherKind);
        }
        Ok(RequestedKey(request.public_key))
    }

    /// A certificate that lets the holder of the key act as this node.
    pub fn certify(
        &self,
        node: &NodeName,
        key: &RequestedKey,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut parameters = parameters(node.as_str());
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(parameters.signed_by(&key.0, &self.issuer)?.der().clone())
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What an agent must know to trust this coordinator.
    pub fn pin(&self) -> KeyPin {
        self.pin
    }

    /// The public key that peers see in the handshake (SubjectPublicKeyInfo, DER).
    pub fn server_public_key(&self) -> Vec<u8> {
        self.server.subject_public_key_info()
    }

    /// The chain of this server and its key, for the TLS listener.
    pub fn server_identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.server.serialize_der());
        (vec![self.server_certificate.clone(), self.certificate.clone()], PrivateKeyDer::Pkcs8(key))
    }
}

impl RequestedKey {
    /// SubjectPublicKeyInfo, DER: what the allow-list of nodes holds.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// Valid from 1970 to the year 9999: who may connect is decided by the list of enrolled keys, and a machine whose
/// clock is wrong must be able to connect and be told so.
fn parameters(common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = date_time_ymd(1970, 1, 1);
    parameters.not_after = date_time_ymd(9999, 12, 31);
    parameters
}

fn authority_parameters() -> CertificateParams {
    let mut parameters = parameters("Muster coordinator CA");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

fn server_parameters() -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = parameters(SERVER_NAME);
    parameters.subject_alt_names = vec![rcgen::SanType::DnsName(SERVER_NAME.try_into()?)];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(parameters)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn request(common_name: &str) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut parameters = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let request = parameters.serialize_request(&key).unwrap().der().to_vec();
        (key, request)
    }

    #[test]
    fn nothing_of_a_request_but_its_key_is_in_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let (key, request) = request("node-666");
        let requested = authority.read_request(&request).unwrap();
        let certificate = authority.certify(&"node-1".parse().unwrap(), &requested).unwrap();
        assert_eq!(public_key_of(&certificate).unwrap(), key.subject_public_key_info());
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=node-1");
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        assert!(!parsed.is_ca());
        assert_eq!(parsed.validity().not_before.timestamp(), 0, "a clock at 1970 must not matter");
    }

    #[test]
    fn the_authority_is_the_same_after_a_restart_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let again = Authority::open(folder.path()).unwrap();
        assert_eq!(first.pin(), again.pin());
        let mode = std::fs::metadata(folder.path().join("ca.key.der")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_crash_between_key_and_certificate_is_mended_and_a_lost_key_is_not_replaced_silently() {
        let folder = tempfile::tempdir().unwrap();
        let pin = Authority::open(folder.path()).unwrap().pin();
        std::fs::remove_file(folder.path().join("ca.crt.der")).unwrap();
        assert_eq!(Authority::open(folder.path()).unwrap().pin(), pin);
        std::fs::remove_file(folder.path().join("ca.key.der")).unwrap();
        assert!(matches!(Authority::open(folder.path()), Err(AuthorityError::KeyLost { .. })));
    }

    #[test]
    fn a_request_that_is_garbage_or_signed_by_another_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let (_, mut request) = request("node-1");
        assert!(authority.read_request(b"garbage").is_err());
        *request.last_mut().unwrap() ^= 1;
        assert!(authority.read_request(&request).is_err());
    }
}
