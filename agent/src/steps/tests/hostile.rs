//! No text of a message is believed: every text field of every step, replaced by something hostile, is refused.

use muster_proto::agent;
use muster_proto::hostile::{ENORMOUS, is_inert, is_showable, short_values, values};
use muster_proto::names::{ApiEndpoint, is_bootstrap_token};
use muster_proto::step_kind::StepKind;
use proptest::prelude::*;
use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{decode_varint, encode_varint};
use secrecy::ExposeSecret;

use super::samples::plan;
use crate::cluster::ticket::{PinnedCa, Ticket};
use crate::host::fake::{CA_CERTIFICATE, CA_HASH};
use crate::steps::{BadStep, Step};

/// What a field may hold though it is in the corpus: left out altogether, or a sysctl's value, which is written into a file
/// and is two numbers or a negative one.
const TAKEN: [&str; 3] = ["", "a b", "-a"];

/// Every encoding with one text replaced. A text of the samples never begins with a control character, a message
/// always does (the tag of its first field).
fn variants(message: &[u8], hostile: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = message;
    while rest.has_remaining() {
        let begin = message.len() - rest.len();
        let tag = decode_varint(&mut rest).unwrap();
        let length = decode_varint(&mut rest).unwrap() as usize;
        if tag & 7 == 0 {
            continue; // a number; its value was just read
        }
        assert_eq!(tag & 7, 2, "neither a number nor bytes");
        let payload = &rest[..length];
        rest.advance(length);
        let inner = match payload.first() {
            Some(first) if *first >= 0x20 => vec![hostile.as_bytes().to_vec()],
            _ => variants(payload, hostile),
        };
        for inner in inner {
            let mut variant = message[..begin].to_vec();
            encode_varint(tag, &mut variant);
            encode_varint(inner.len() as u64, &mut variant);
            variant.extend(inner);
            variant.extend(rest);
            all.push(variant);
        }
    }
    all
}

#[test]
fn every_text_of_every_step_is_refused_when_it_is_hostile() {
    // Of the enormous ones one that is made of good letters: the others are refused at their first.
    let enormous = "a".repeat(ENORMOUS);
    let mut tried = 0;
    for value in short_values().chain([enormous]) {
        for (_, sample) in plan() {
            let name = Step::parse(&sample).unwrap().kind();
            if value.is_empty() || (name == StepKind::Kernel && TAKEN.contains(&value.as_str())) {
                continue;
            }
            for variant in variants(&sample.encode_to_vec(), &value) {
                let message = agent::Step::decode(variant.as_slice()).unwrap();
                let shown = || format!("{name}: {:?}", value.chars().take(40).collect::<String>());
                let refusal = Step::parse(&message).expect_err(&shown());
                assert!(is_showable(&muster_proto::cause::chain(&refusal)), "{}", shown());
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "only {tried} messages were tried");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_step_with_any_text_in_it_is_refused_or_its_changes_hold_no_line_of_anothers(
        value in prop_oneof![any::<String>(), "[a-z0-9./:-]{0,40}", "[ -~\\n\u{202e}]{0,40}"]
    ) {
        for (_, sample) in plan() {
            for variant in variants(&sample.encode_to_vec(), &value) {
                let message = agent::Step::decode(variant.as_slice()).unwrap();
                if let Ok(step) = Step::parse(&message) {
                    let plain = value.chars().all(|c| c.is_ascii() && !c.is_ascii_control());
                    // A manifest is a text of many lines; its objects are read, and kubectl reads it on standard input.
                    prop_assert!(plain || step.kind() == StepKind::PodNetwork, "{} took {:?}", step.kind(), value);
                }
            }
        }
    }

    #[test]
    fn a_ticket_is_read_from_any_output_without_harm_and_what_it_holds_is_inert(
        before in any::<String>(), endpoint in "[a-z0-9.:$(\\[\\];-]{1,30}", token in "[a-z0-9.$]{20,25}", after in any::<String>()
    ) {
        let output = format!("{before}\nkubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {CA_HASH}\n{after}");
        if let Ok(mut ticket) = Ticket::parse(&output) {
            ticket.ca = PinnedCa::of(CA_CERTIFICATE, &ticket.ca_hashes);
            prop_assert!(is_inert(ticket.endpoint.as_str()), "{:?}", ticket.endpoint);
            prop_assert!(is_bootstrap_token(ticket.token.expose_secret()));
            prop_assert!(Ticket::from_message(&ticket.to_message()).is_ok());
        }
    }
}

#[test]
fn a_hostile_endpoint_token_or_hash_makes_no_ticket_of_a_message_or_of_an_output() {
    let good = agent::Ticket {
        endpoint: "10.88.0.11:6443".into(),
        token: "s41abx.qkb1j0cxvu3rp1j0".into(),
        ca_hashes: vec![CA_HASH.to_owned()],
        ca_certificate_hash: CA_HASH.to_owned(),
        ca_certificate: CA_CERTIFICATE.to_owned(),
    };
    assert!(Ticket::from_message(&good).is_ok());
    for value in values() {
        let shown: String = value.chars().take(40).collect();
        for endpoint in [value.clone(), format!("{value}:6443")] {
            assert!(endpoint.parse::<ApiEndpoint>().is_err(), "{shown:?}");
        }
        for wrong in [
            agent::Ticket { endpoint: value.clone(), ..good.clone() },
            agent::Ticket { token: value.clone(), ..good.clone() },
            agent::Ticket { ca_hashes: vec![value.clone()], ..good.clone() },
            agent::Ticket { ca_certificate: value.clone(), ..good.clone() },
        ] {
            assert!(Ticket::from_message(&wrong).is_err(), "{shown:?}");
        }
    }
}

#[test]
fn a_message_without_a_step_is_refused() {
    assert!(matches!(Step::parse(&agent::Step { kind: None }), Err(BadStep::Unknown)));
}
