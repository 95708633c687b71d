//! The Enrolment service: a token's proof in exchange for a certificate. It is all that a stranger can reach.

use jiff::Timestamp;
use muster_proto::cause::chain;
use muster_proto::enrolment::enrolment_server::Enrolment;
use muster_proto::enrolment::{EnrolReply, EnrolRequest};
use muster_proto::event::EventKind;
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, StepId};
use muster_proto::redaction::printable;
use muster_proto::token::{ProofKey, TokenId};
use muster_proto::version::{Mismatch, PROTOCOL, VERSION};
use tonic::{Request, Response, Status};

use crate::doors::admission::{Incident, Refusal};
use crate::doors::authority::Authority;
use crate::doors::store::Store;

/// The largest request that is read: a certificate request for a P-256 key is a few hundred bytes.
pub const REQUEST_LIMIT: usize = 16 * 1024;

/// Under which name, as run and as step, the journal holds the attempts that were refused.
const STEP: &str = "enrolment";

/// An attempt that the journal does not hold; the log does.
#[derive(Debug, thiserror::Error)]
enum Unrecorded {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Name(#[from] Malformed),
}

/// Serves enrolment on one connection.
#[derive(Clone)]
pub struct EnrolmentService {
    authority: Authority,
    store: Store,
    /// Takes the attempts that the owner of the cluster has to know of.
    journal: Journal,
    /// Who asks, for log and journal.
    source: String,
}

impl EnrolmentService {
    pub fn new(authority: Authority, store: Store, journal: Journal, source: String) -> Self {
        Self { authority, store, journal, source }
    }

    /// Makes a refused attempt an event, which is on the disk before the attempt is answered.
    fn journalled(&self, incident: &Incident) -> Result<(), Unrecorded> {
        if incident.is_recorded() {
            let step: StepId = format!("{}/{STEP}", incident.node).parse()?;
            let refused = EventKind::Refused { why: incident.to_string(), source: self.source.clone() };
            self.journal.append(STEP, &step, refused)?;
        }
        Ok(())
    }

    fn answer(&self, request: &EnrolRequest) -> Result<EnrolReply, Status> {
        if request.protocol != PROTOCOL {
            let mismatch = Mismatch {
                node: self.source.clone(),
                coordinator: PROTOCOL,
                coordinator_version: VERSION.to_owned(),
                agent: request.protocol,
                agent_version: printable(&request.agent_version.chars().take(40).collect::<String>()),
            };
            return Err(Status::failed_precondition(mismatch.to_string()));
        }
        let id: TokenId = request.token_id.parse().map_err(|_| refused(&Refusal::UnknownOrWrong))?;
        let key = self.authority.read_request(&request.certificate_request).map_err(|error| {
            tracing::warn!(source = self.source, "enrolment refused: {}", chain(&error));
            Status::invalid_argument(error.to_string())
        })?;
        let server_key = self.authority.server_public_key();
        let mut proof_key = None;
        let proves = |stored: &ProofKey| {
            proof_key = Some(stored.clone());
            stored.verify_request(request, &server_key)
        };
        let note = |incident: &Incident| {
            if let Err(error) = self.journalled(incident) {
                tracing::error!("a refused enrolment could not be journalled: {}", chain(&error));
            }
        };
        let decision = self
            .store
            .enrol(&id, &key.public_key(), Timestamp::now(), proves, note)
            .map_err(|error| internal(&error))?;
        let node = decision.map_err(|refusal| {
            tracing::warn!(source = self.source, token = %id, "enrolment refused: {refusal}");
            refused(&refusal)
        })?;
        let certificate = self.authority.certify(&node, &key).map_err(|error| internal(&error))?;
        let reply = EnrolReply {
            node: node.to_string(),
            certificate: certificate.to_vec(),
            ca_certificate: self.authority.certificate().to_vec(),
            proof: Vec::new(),
        };
        let Some(proof_key) = proof_key else { return Err(refused(&Refusal::UnknownOrWrong)) };
        tracing::info!(source = self.source, token = %id, "{node} is enrolled");
        Ok(EnrolReply { proof: proof_key.prove_reply(&reply, request), ..reply })
    }
}

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        self.answer(request.get_ref()).map(Response::new)
    }
}

fn refused(refusal: &Refusal) -> Status {
    Status::permission_denied(refusal.to_string())
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!("enrolment failed: {}", chain(error));
    Status::internal(
        "the coordinator could not enrol this node: its own log says why (journalctl -u muster-coordinator)",
    )
}
