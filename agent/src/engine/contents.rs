//! What is large and comes more than once (the names of all nodes, the pod network's manifest) is kept for a while, so that the
//! coordinator need only say which it means.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use muster_proto::agent;
use muster_proto::transport::SENT_ONCE;
use prost::Message;

use super::Refused;

/// More than a run has of them on a node.
const KEPT: usize = 8;

/// The large steps that were given last, the newest first, by their digests.
#[derive(Default)]
pub(super) struct Contents(Mutex<VecDeque<(String, agent::Step)>>);

impl Contents {
    /// The step that a request means, with its digest; none where it names neither.
    pub(super) fn meant(
        &self,
        step: Option<agent::Step>,
        content: &str,
    ) -> Result<(Option<agent::Step>, String), Refused> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let step = match step {
            Some(step) => step,
            None if content.is_empty() => return Ok((None, String::new())),
            None => match kept.iter().find(|(digest, _)| digest == content) {
                Some((_, step)) => step.clone(),
                None => return Err(Refused::NotKept),
            },
        };
        let encoded = step.encode_to_vec();
        let digest = digest_of(&encoded);
        if encoded.len() >= SENT_ONCE {
            kept.retain(|(known, _)| *known != digest);
            kept.push_front((digest.clone(), step.clone()));
            kept.truncate(KEPT);
        }
        Ok((Some(step), digest))
    }
}

/// The identity of what is asked: a digest of the step's part of the spec, without the inputs of an attempt.
fn digest_of(encoded: &[u8]) -> String {
    digest::digest(&digest::SHA256, encoded).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;

    fn hosts(nodes: u32) -> agent::Step {
        let entry = |n| agent::HostsEntry { address: format!("10.88.0.{n}"), name: format!("w{n}") };
        agent::Step { kind: Some(Kind::Hosts(agent::Hosts { entries: (0..nodes).map(entry).collect() })) }
    }

    #[test]
    fn a_large_step_is_known_by_its_digest_and_a_small_one_is_not() {
        let contents = Contents::default();
        for (nodes, is_kept) in [(200, true), (2, false)] {
            let step = hosts(nodes);
            let (given, digest) = contents.meant(Some(step.clone()), "").unwrap();
            assert_eq!(given.as_ref(), Some(&step));
            match contents.meant(None, &digest) {
                Ok(meant) => assert!(is_kept && meant == (Some(step), digest)),
                Err(refused) => assert!(!is_kept && matches!(refused, Refused::NotKept)),
            }
        }
    }

    #[test]
    fn what_was_given_long_ago_is_asked_for_again_and_the_memory_stays_bounded() {
        let contents = Contents::default();
        let given = |nodes| contents.meant(Some(hosts(nodes)), "").unwrap().1;
        let digests: Vec<String> = (200..=200 + KEPT as u32).map(given).collect();
        assert!(matches!(contents.meant(None, &digests[0]), Err(Refused::NotKept)));
        assert!(digests[1..].iter().all(|digest| contents.meant(None, digest).is_ok()));
        assert_eq!(contents.0.lock().unwrap().len(), KEPT);
        assert!(matches!(contents.meant(None, "no digest at all"), Err(Refused::NotKept)));
    }
}
