//! `agent enroll`: a token in exchange for an identity. The token's secret never travels.

use std::sync::Arc;

use muster_proto::enrolment::enrolment_client::EnrolmentClient;
use muster_proto::enrolment::{EnrolReply, EnrolRequest};
use muster_proto::names::NodeName;
use muster_proto::private_file;
use muster_proto::redaction::printable;
use muster_proto::settings_file::{SettingsError, SettingsFile};
use muster_proto::token::{EnrolmentToken, KeyPin, UnreadableCertificate, public_key_of};
use muster_proto::transport::{channel_over, connection_ended};
use muster_proto::version::{ALPN_ENROL, PROTOCOL, VERSION};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;

use crate::connect::dial::{DIAL_TIMEOUT, DialError, Endpoint, dial};
use crate::connect::identity::{Identity, IdentityError, MachineKey};
use crate::connect::settings::{Paths, Settings};

/// Why a machine could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    #[error(
        "this machine is enrolled with another coordinator ({known}): to leave that one, run `sudo systemctl stop muster-agent`, \
         remove {folder}, and enrol again"
    )]
    OtherCoordinator { known: String, folder: String },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection to the coordinator cannot be used for enrolment")]
    Transport(#[from] tonic::transport::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Refused(String),
    #[error(
        "the connection to the coordinator was lost ({0}): run the same command again, the token stays good for this machine"
    )]
    Lost(String),
    #[error(
        "the coordinator did not answer within {DIAL_TIMEOUT:?}: run the same command again, the token stays good for this machine"
    )]
    NoAnswer,
    #[error(
        "the answer does not come from the coordinator that made the token, or was changed on its way: nothing was kept"
    )]
    Forged,
    #[error(transparent)]
    Unreadable(#[from] UnreadableCertificate),
}

impl From<tonic::Status> for EnrollError {
    fn from(status: tonic::Status) -> Self {
        let said = printable(status.message());
        if connection_ended(&status) { Self::Lost(said) } else { Self::Refused(said) }
    }
}

/// Enrols this machine and keeps its identity and its settings. The same token may be used again from this machine
/// while it lives: the key stays the same.
pub async fn enroll(
    paths: &Paths,
    endpoint: &Endpoint,
    token: &EnrolmentToken,
) -> Result<NodeName, EnrollError> {
    let folder = paths.identity();
    let known = Settings::read(&paths.configuration)?;
    if Identity::trusts(&folder, token.pin())? == Some(false) {
        return Err(EnrollError::OtherCoordinator {
            known: known.map_or_else(|| "unknown".to_owned(), |known| known.coordinator.to_string()),
            folder: folder.display().to_string(),
        });
    }
    let key = MachineKey::open(&folder)?;
    let request = key.request()?;
    let (reply, request) = ask(endpoint, token, request).await?;
    let (node, certificate, authority) = accept(token, &key, &reply, &request)?;
    Identity::store(&folder, &certificate, &authority)?;
    let settings = Settings {
        coordinator: endpoint.clone(),
        node: node.clone(),
        allow_steps: known.as_ref().and_then(|known| known.allow_steps.clone()),
        allow_reset: known.is_none_or(|known| known.allow_reset),
    };
    if let Some(folder) = paths.configuration.parent() {
        private_file::make_public_folder(folder).map_err(SettingsError::from)?;
    }
    settings.write(&paths.configuration)?;
    Ok(node)
}

async fn ask(
    endpoint: &Endpoint,
    token: &EnrolmentToken,
    certificate_request: Vec<u8>,
) -> Result<(EnrolReply, EnrolRequest), EnrollError> {
    let stream = dial(endpoint, pinned_tls(token.pin())?, ALPN_ENROL).await?;
    let server = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).ok_or(EnrollError::Forged)?;
    let server_key = public_key_of(server)?;
    let mut request = EnrolRequest {
        token_id: token.id().to_string(),
        certificate_request,
        proof: Vec::new(),
        agent_version: VERSION.to_owned(),
        protocol: PROTOCOL,
    };
    request.proof = token.proof_key().prove_request(&request, &server_key);
    let mut client = EnrolmentClient::new(channel_over(stream).await?);
    let reply = timeout(DIAL_TIMEOUT, client.enrol(request.clone()))
        .await
        .map_err(|_| EnrollError::NoAnswer)?
        .map_err(EnrollError::from)?;
    Ok((reply.into_inner(), request))
}

type Accepted = (NodeName, CertificateDer<'static>, CertificateDer<'static>);

/// Nothing of a reply is used before its proof, its CA and its key were found right.
fn accept(
    token: &EnrolmentToken,
    key: &MachineKey,
    reply: &EnrolReply,
    request: &EnrolRequest,
) -> Result<Accepted, EnrollError> {
    let certificate = CertificateDer::from(reply.certificate.clone());
    let authority = CertificateDer::from(reply.ca_certificate.clone());
    let genuine = token.proof_key().verify_reply(reply, request)
        && token.pin().matches(&authority)
        && public_key_of(&certificate)? == key.public_key();
    let node = reply.node.parse().map_err(|_| EnrollError::Forged)?;
    if genuine { Ok((node, certificate, authority)) } else { Err(EnrollError::Forged) }
}

fn pinned_tls(pin: KeyPin) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(PinnedAuthority { pin, provider: provider.clone() });
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    settings.resumption = Resumption::disabled();
    Ok(settings)
}

/// Trusts a server whose certificate was signed, for the coordinator's name, by the CA whose key the token names.
#[derive(Debug)]
struct PinnedAuthority {
    pin: KeyPin,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the server there is not the coordinator that made this token (its CA has another key): check the address, and who stands in between"
)]
struct OtherAuthority;

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let other = |()| rustls::Error::Other(OtherError(Arc::new(OtherAuthority)));
        let authority = intermediates
            .iter()
            .find(|certificate| self.pin.matches(certificate))
            .ok_or(())
            .map_err(other)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
