//! No text of a message is believed: every text field of every step, replaced by something hostile, is refused.

use muster_proto::agent;
use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{decode_varint, encode_varint};

use super::samples::plan;
use crate::steps::{BadStep, Step};

const HOSTILE: [&str; 8] =
    ["$(id)", "m1\nw1", "m1\0", "--help", "../../etc/shadow", "\u{202e}abc", "a;reboot", "%n{{x}}"];

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
    let long = "a".repeat(1_000_000);
    let mut tried = 0;
    for (_, sample) in plan() {
        if matches!(Step::parse(&sample), Err(BadStep::Unknown)) {
            continue;
        }
        for hostile in HOSTILE.into_iter().chain([long.as_str()]) {
            for variant in variants(&sample.encode_to_vec(), hostile) {
                let message = agent::Step::decode(variant.as_slice()).unwrap();
                let shown: String = format!("{message:?}").chars().take(400).collect();
                assert!(Step::parse(&message).is_err(), "accepted: {shown}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "only {tried} messages were tried");
}

#[test]
fn a_message_without_a_step_is_refused() {
    assert!(matches!(Step::parse(&agent::Step { kind: None }), Err(BadStep::Unknown)));
}
