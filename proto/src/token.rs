//! The one-time enrolment token, and the proofs made with its secret. The secret itself never travels.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::enrolment::{EnrolReply, EnrolRequest};

const PREFIX: &str = "muster-token.1.";

/// A text that is no enrolment token. It does not repeat the text: that may hold most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment token: copy the whole line that `coordinator token create` printed, it begins with {PREFIX}"
)]
pub struct NotAToken;

/// A certificate that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the certificate cannot be read")]
pub struct UnreadableCertificate(#[source] rustls::Error);

/// No random numbers can be had from the system.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers, so that no secret can be made: restart the machine")]
pub struct NoRandomness;

/// The public name of a token: 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenId(String);

impl TokenId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = NotATokenId;
    fn from_str(value: &str) -> Result<Self, NotATokenId> {
        let valid =
            value.len() == 16 && value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid { Ok(Self(value.to_owned())) } else { Err(NotATokenId) }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no token id. The text is not repeated: somebody may have pasted the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a token's id, 16 hexadecimal digits: `coordinator token list` shows the ids")]
pub struct NotATokenId;

/// SHA-256 of a public key (SubjectPublicKeyInfo, DER): what an agent trusts before it knows any certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPin([u8; 32]);

impl KeyPin {
    /// The pin of a public key.
    pub fn of(public_key: &[u8]) -> Self {
        Self(sha256(public_key))
    }

    /// Whether the certificate holds the pinned key; one that cannot be read does not.
    pub fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        public_key_of(certificate).is_ok_and(|key| Self::of(&key) == *self)
    }
}

/// An enrolment token. Shown only by `reveal`; neither Debug nor Display gives the secret away.
pub struct EnrolmentToken {
    id: TokenId,
    secret: Zeroizing<[u8; 32]>,
    pin: KeyPin,
}

impl EnrolmentToken {
    /// A new token with 256 random bits, for agents that shall trust the CA with this pin.
    pub fn generate(pin: KeyPin) -> Result<Self, NoRandomness> {
        let (mut id, mut secret) = ([0u8; 8], Zeroizing::new([0u8; 32]));
        rand::fill(&mut id).map_err(|_| NoRandomness)?;
        rand::fill(&mut *secret).map_err(|_| NoRandomness)?;
        let id = TokenId(id.iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(Self { id, secret, pin })
    }

    /// The public name, under which the coordinator knows it.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The pin of the coordinator's CA.
    pub fn pin(&self) -> KeyPin {
        self.pin
    }

    /// The key of the proofs; all that the coordinator keeps.
    pub fn proof_key(&self) -> ProofKey {
        ProofKey(Zeroizing::new(sha256(&*self.secret)))
    }

    /// The text that a person carries to the node. SECRET: for a terminal or a pipe, nothing else.
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(BASE64.encode(*self.secret));
        Zeroizing::new(format!("{PREFIX}{}.{}.{}", self.id, *secret, BASE64.encode(self.pin.0)))
    }
}

impl FromStr for EnrolmentToken {
    type Err = NotAToken;
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let rest = text.strip_prefix(PREFIX).ok_or(NotAToken)?;
        let [id, secret, pin] = rest.split('.').collect::<Vec<_>>()[..] else { return Err(NotAToken) };
        let decode = |text: &str| -> Result<[u8; 32], NotAToken> {
            let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| NotAToken)?);
            bytes.as_slice().try_into().map_err(|_| NotAToken)
        };
        Ok(Self {
            id: id.parse().map_err(|_| NotAToken)?,
            secret: Zeroizing::new(decode(secret)?),
            pin: KeyPin(decode(pin)?),
        })
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentToken({})", self.id)
    }
}

/// SHA-256 of a token's secret: the HMAC key of both proofs.
#[derive(Clone)]
pub struct ProofKey(Zeroizing<[u8; 32]>);

impl ProofKey {
    /// The key as the coordinator stored it.
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// What the coordinator stores.
    pub fn to_stored(&self) -> &[u8] {
        &*self.0
    }

    /// The agent's proof over its request and the key of the server that it sees.
    pub fn prove_request(&self, request: &EnrolRequest, server_key: &[u8]) -> Vec<u8> {
        self.sign(request_message(request, server_key))
    }

    /// Whether the request comes from a holder of the secret who sees this server's key; constant time.
    pub fn verify_request(&self, request: &EnrolRequest, server_key: &[u8]) -> bool {
        self.verify(request_message(request, server_key), &request.proof)
    }

    /// The coordinator's proof over its reply to that request.
    pub fn prove_reply(&self, reply: &EnrolReply, request: &EnrolRequest) -> Vec<u8> {
        self.sign(reply_message(reply, request))
    }

    /// Whether the reply to this request comes from a holder of the secret; constant time.
    pub fn verify_reply(&self, reply: &EnrolReply, request: &EnrolRequest) -> bool {
        self.verify(reply_message(reply, request), &reply.proof)
    }

    fn sign(&self, message: Vec<u8>) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0), &message).as_ref().to_vec()
    }

    fn verify(&self, message: Vec<u8>, proof: &[u8]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0), &message, proof).is_ok()
    }
}

fn request_message(request: &EnrolRequest, server_key: &[u8]) -> Vec<u8> {
    framed(&[
        b"muster enrolment request 1",
        request.token_id.as_bytes(),
        &request.certificate_request,
        request.agent_version.as_bytes(),
        &request.protocol.to_be_bytes(),
        server_key,
    ])
}

fn reply_message(reply: &EnrolReply, request: &EnrolRequest) -> Vec<u8> {
    framed(&[
        b"muster enrolment reply 1",
        &request.proof,
        reply.node.as_bytes(),
        &reply.certificate,
        &reply.ca_certificate,
    ])
}

/// Every part with its length before it, so that no two lists of parts give the same bytes.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in parts {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}

/// The certificate's public key (SubjectPublicKeyInfo, DER).
pub fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, UnreadableCertificate> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).map_err(UnreadableCertificate)?;
    Ok(parsed.subject_public_key_info().as_ref().to_vec())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EnrolRequest {
        EnrolRequest {
            token_id: "0011223344556677".into(),
            certificate_request: vec![1, 2, 3],
            proof: Vec::new(),
            agent_version: "0.1.0".into(),
            protocol: 1,
        }
    }

    #[test]
    fn a_token_survives_its_text_and_redaction_takes_that_text_out() {
        let token = EnrolmentToken::generate(KeyPin::of(b"key")).unwrap();
        let again: EnrolmentToken = token.reveal().parse().unwrap();
        assert_eq!((again.id(), again.pin()), (token.id(), token.pin()));
        assert_eq!(again.proof_key().to_stored(), token.proof_key().to_stored());
        let line = format!("pasted {} here", *token.reveal());
        assert_eq!(crate::redaction::redact(&line), "pasted <redacted> here");
    }

    #[test]
    fn a_broken_token_is_refused_without_being_repeated() {
        let whole = EnrolmentToken::generate(KeyPin::of(b"key")).unwrap().reveal();
        let doubled = format!("{}.{}", *whole, *whole);
        for text in [&whole[..whole.len() - 1], &whole[1..], "", "muster-token.1...", &doubled] {
            let error = text.parse::<EnrolmentToken>().unwrap_err().to_string();
            assert!(text.len() < 20 || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_proof_fails_when_anything_it_covers_is_changed() {
        let key = EnrolmentToken::generate(KeyPin::of(b"key")).unwrap().proof_key();
        let mut good = request();
        good.proof = key.prove_request(&good, b"server");
        assert!(key.verify_request(&good, b"server"));
        assert!(!key.verify_request(&good, b"another server"), "a relay shows another key");
        for changed in [
            EnrolRequest { certificate_request: vec![1, 2, 4], ..good.clone() },
            EnrolRequest { token_id: "x".into(), ..good.clone() },
            EnrolRequest { protocol: 2, ..good.clone() },
            EnrolRequest { proof: Vec::new(), ..good.clone() },
        ] {
            assert!(!key.verify_request(&changed, b"server"));
        }
        let reply = EnrolReply {
            node: "node-1".into(),
            certificate: vec![1],
            ca_certificate: vec![2],
            proof: Vec::new(),
        };
        let reply = EnrolReply { proof: key.prove_reply(&reply, &good), ..reply };
        assert!(key.verify_reply(&reply, &good));
        assert!(!key.verify_reply(&EnrolReply { node: "node-2".into(), ..reply.clone() }, &good));
        assert!(!key.verify_reply(&reply, &request()), "a reply belongs to one request");
    }
}
