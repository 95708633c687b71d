//! Who this machine is to its coordinator: a key that never leaves it, a certificate, and the CA that it trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_proto::private_file::{self, FileError};
use muster_proto::token::{KeyPin, UnreadableCertificate, public_key_of};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// An identity that cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the key of this machine cannot be made or read")]
    Key(#[from] rcgen::Error),
    #[error(
        "this machine is not enrolled ({folder} holds no certificate): on the master run `coordinator token create --node NAME`"
    )]
    NotEnrolled { folder: PathBuf },
    #[error("the identity of this machine cannot be used for TLS: remove its folder and enrol again")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Unreadable(#[from] UnreadableCertificate),
}

/// The machine's key pair.
pub struct MachineKey(KeyPair);

impl MachineKey {
    /// The key in this folder, made when there is none. It is on the disk before any request goes out, so that a
    /// retry after a crash comes with the same key.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        private_file::make_folder(folder)?;
        let path = folder.join("key.der");
        if let Some(known) = Self::read(&path)? {
            return Ok(known);
        }
        // Another enrolment may do the same just now: the key that stands there first is the one of both.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        private_file::write_new(&path, key.serialized_der(), 0o600)?;
        Ok(Self::read(&path)?.unwrap_or(Self(key)))
    }

    fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(der) = private_file::read(path)? else { return Ok(None) };
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
        Ok(Some(Self(KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?)))
    }

    /// A certificate request. It names nobody: the coordinator takes the name from the token.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        Ok(parameters.serialize_request(&self.0)?.der().to_vec())
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// The identity of an enrolled machine.
pub struct Identity {
    key: MachineKey,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
}

impl Identity {
    /// Reads the identity in this folder.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        let not_enrolled = || IdentityError::NotEnrolled { folder: folder.to_owned() };
        let read = |name| private_file::read(&folder.join(name));
        let certificate = read("certificate.der")?.ok_or_else(not_enrolled)?;
        let authority = read("authority.der")?.ok_or_else(not_enrolled)?;
        let key = MachineKey::open(folder)?;
        let certificate = CertificateDer::from(certificate);
        if public_key_of(&certificate)? != key.public_key() {
            return Err(not_enrolled());
        }
        Ok(Self { key, certificate, authority: authority.into() })
    }

    /// Keeps what the coordinator gave. The certificate comes last: it is there only when the rest is.
    pub fn store(
        folder: &Path,
        certificate: &CertificateDer<'_>,
        authority: &CertificateDer<'_>,
    ) -> Result<(), IdentityError> {
        private_file::write(&folder.join("authority.der"), authority, 0o600)?;
        Ok(private_file::write(&folder.join("certificate.der"), certificate, 0o600)?)
    }

    /// The CA that the machine in this folder trusts already, if any.
    pub fn trusts(folder: &Path, pin: KeyPin) -> Result<Option<bool>, IdentityError> {
        let authority = private_file::read(&folder.join("authority.der"))?;
        Ok(authority.map(|der| pin.matches(&CertificateDer::from(der))))
    }

    /// TLS settings: our certificate, our CA alone, TLS 1.3 alone.
    pub fn tls(&self) -> Result<ClientConfig, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.0.serialize_der()));
        let mut settings = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], key)?;
        settings.resumption = Resumption::disabled();
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("identity");
        let first = MachineKey::open(&folder).unwrap().public_key();
        assert_eq!(MachineKey::open(&folder).unwrap().public_key(), first);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("key.der"))), (0o700, 0o600));
    }

    #[test]
    fn a_machine_with_only_a_key_is_not_enrolled() {
        let folder = tempfile::tempdir().unwrap();
        MachineKey::open(folder.path()).unwrap();
        assert!(matches!(Identity::open(folder.path()), Err(IdentityError::NotEnrolled { .. })));
        assert_eq!(Identity::trusts(folder.path(), KeyPin::of(b"")).unwrap(), None);
    }
}
