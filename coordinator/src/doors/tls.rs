//! The two faces of the coordinator's one port: enrolment for strangers, and command for enrolled agents.

use std::sync::Arc;

use muster_proto::token::public_key_of;
use muster_proto::version::{ALPN_AGENT, ALPN_ENROL};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::doors::authority::Authority;
use crate::doors::store::Store;

/// The TLS settings cannot be made from the CA.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the coordinator's certificate cannot be used for TLS")]
    Server(#[from] rustls::Error),
    #[error("the coordinator's CA cannot be used to check agents")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// One set of TLS settings for each use of the port.
#[derive(Clone)]
pub struct Faces {
    pub enrolment: Arc<ServerConfig>,
    pub agent: Arc<ServerConfig>,
}

impl Faces {
    pub fn new(authority: &Authority, store: &Store) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let builder = || {
            ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let chain = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build()?;
        let allowed = Arc::new(AllowList { chain, store: store.clone() });

        let (certificates, key) = authority.server_identity();
        let mut agent = builder()?
            .with_client_cert_verifier(allowed)
            .with_single_cert(certificates.clone(), key.clone_key())?;
        let mut enrolment = builder()?.with_no_client_auth().with_single_cert(certificates, key)?;
        agent.alpn_protocols = vec![ALPN_AGENT.to_vec()];
        enrolment.alpn_protocols = vec![ALPN_ENROL.to_vec()];
        for face in [&mut agent, &mut enrolment] {
            // A resumed session would bring back a peer that was checked once, before it was revoked.
            face.session_storage = Arc::new(NoServerSessionStorage {});
            face.send_tls13_tickets = 0;
        }
        Ok(Self { enrolment: Arc::new(enrolment), agent: Arc::new(agent) })
    }

    /// The face that the peer asks for; none when it offers neither, or both.
    pub fn chosen<'a>(&self, offered: Option<impl Iterator<Item = &'a [u8]>>) -> Option<Face> {
        let (mut agent, mut enrolment) = (false, false);
        for name in offered? {
            agent |= name == ALPN_AGENT;
            enrolment |= name == ALPN_ENROL;
        }
        match (agent, enrolment) {
            (true, false) => Some(Face::Agent),
            (false, true) => Some(Face::Enrolment),
            _ => None,
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Enrolment,
    Agent,
}

/// A peer passes when our CA signed its certificate AND its public key is on the list of enrolled nodes.
#[derive(Debug)]
struct AllowList {
    chain: Arc<dyn ClientCertVerifier>,
    store: Store,
}

impl ClientCertVerifier for AllowList {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(certificate, intermediates, now)?;
        let key = public_key_of(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match self.store.node_of(&key) {
            Ok(Some(_)) => Ok(verified),
            Ok(None) => Err(rustls::Error::InvalidCertificate(CertificateError::Revoked)),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
