//! What a step asks for, encoded and digested once, however many nodes are told it.

use std::ops::Deref;

use aws_lc_rs::digest;
use muster_proto::agent;
use muster_proto::transport::SENT_ONCE;
use prost::Message;

/// A step's part of the spec.
#[derive(Debug, PartialEq)]
pub struct Content {
    step: agent::Step,
    digest: [u8; 32],
    bytes: usize,
}

impl Content {
    pub fn of(step: agent::Step) -> Self {
        let encoded = step.encode_to_vec();
        let digest = digest::digest(&digest::SHA256, &encoded);
        let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Self { step, digest, bytes: encoded.len() }
    }

    /// SHA-256 of the encoded step.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The digest as the messages have it: in hexadecimal.
    pub fn name(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it is worth being called by its digest where an agent has it.
    pub fn is_large(&self) -> bool {
        self.bytes >= SENT_ONCE
    }
}

impl Deref for Content {
    type Target = agent::Step;

    fn deref(&self) -> &agent::Step {
        &self.step
    }
}
