//! Everything that is read from a text, of all crates, against the one corpus. A type that is new and not held against it
//! is missed here.

#![allow(clippy::disallowed_methods, reason = "a test reads the sources")]

use std::path::Path;
use std::str::FromStr;

use muster_agent::connect::dial::Endpoint;
use muster_coordinator::preflight::Check;
use muster_proto::event::Event;
use muster_proto::hostile::{PIECES, is_inert, is_showable, short_values, values, yaml_bomb, yaml_depth};
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use muster_proto::names::{KubernetesVersion, TEXT_TYPES};
use muster_proto::step_kind::StepKind;
use muster_proto::token::{EnrolmentToken, TokenId};
use muster_proto::{pod_network, ufw};
use proptest::prelude::*;

/// What a text becomes, as a text again; or the refusal.
type Read = fn(&str) -> Result<String, String>;

fn shown<T: FromStr<Err: std::fmt::Display> + std::fmt::Display>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|value| value.to_string()).map_err(|error| error.to_string())
}

/// Every type with a parser of its own, besides those that names.rs makes and lists itself. The token's text is a secret
/// and is not given back.
const OTHERS: &[(&str, Read)] = &[
    ("KubernetesVersion", shown::<KubernetesVersion>),
    ("TokenId", shown::<TokenId>),
    ("EnrolmentToken", |text| {
        text.parse::<EnrolmentToken>().map(|token| token.id().to_string()).map_err(|error| error.to_string())
    }),
    ("Endpoint", shown::<Endpoint>),
    ("CgroupDriver", shown::<CgroupDriver>),
    ("StepKind", shown::<StepKind>),
    ("RuntimeName", |text| {
        text.parse::<RuntimeName>()
            .map(|runtime| runtime.word().to_owned())
            .map_err(|error| error.to_string())
    }),
    ("Check", |text| text.parse::<Check>().map(|check| check.word().to_owned())),
];

type Reader = Box<dyn Fn(&str) -> Result<String, String>>;

fn types() -> Vec<(&'static str, Reader)> {
    let mut all: Vec<(&str, Reader)> = Vec::new();
    for (name, parse) in TEXT_TYPES {
        all.push((name, Box::new(move |text| parse(text).map_err(|error| error.to_string()))));
    }
    for (name, read) in OTHERS {
        all.push((name, Box::new(read)));
    }
    all
}

#[test]
fn every_type_that_is_read_from_a_text_is_held_against_the_hostile_values() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let known: Vec<&str> = types().iter().map(|(name, _)| *name).collect();
    let mut found = 0;
    for folder in ["proto/src", "agent/src", "coordinator/src"] {
        visit(&root.join(folder), &mut |path, text| {
            for line in text.lines() {
                let Some((_, rest)) = line.split_once("FromStr for ").filter(|_| line.starts_with("impl"))
                else {
                    continue;
                };
                let name = rest.trim_end_matches([' ', '{']);
                found += 1;
                assert!(known.contains(&name), "{}: {name} stands in no list of this test", path.display());
            }
        });
    }
    assert!(found >= OTHERS.len(), "only {found} parsers were found: are they written in another way now?");
}

fn visit(folder: &Path, look: &mut dyn FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, look);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            look(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn no_type_takes_a_hostile_value_and_no_refusal_repeats_what_must_not_be_shown() {
    for value in values() {
        for (name, read) in types() {
            let short: String = value.chars().take(40).collect();
            let refusal = read(&value).err().unwrap_or_else(|| panic!("{name} took {short:?}"));
            assert!(is_showable(&refusal), "{name}: {short:?}");
        }
    }
}

#[test]
fn a_coordinators_address_with_a_hostile_piece_anywhere_in_it_is_refused() {
    for good in ["master.lab:8443", "10.88.0.11", "[fd00::1]:8443"] {
        assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        for piece in PIECES {
            for place in 0..=good.len() {
                let value = format!("{}{piece}{}", &good[..place], &good[place..]);
                assert!(value.parse::<Endpoint>().is_err(), "{value:?}");
            }
        }
    }
}

#[test]
fn a_hostile_manifest_is_refused_and_a_yaml_bomb_in_it_is_not_expanded() {
    for value in short_values().chain(values().last()) {
        let short: String = value.chars().take(40).collect();
        let refusal = pod_network::objects(&value).expect_err(&short).to_string();
        assert!(is_showable(&refusal), "{short:?}: {refusal:?}");
    }
    for hostile in [yaml_bomb(), yaml_depth()] {
        assert!(
            pod_network::objects(&format!("kind: ConfigMap\ndata:\n  {}", hostile.replace('\n', "\n  ")))
                .is_err()
        );
    }
}

#[test]
fn a_hostile_text_is_no_event() {
    let good =
        r#"{"sequence":1,"time":"2026-11-22T13:32:03Z","run":"r","step":"m1/swap","event":"dispatched"}"#;
    assert!(serde_json::from_str::<Event>(good).is_ok());
    for value in short_values().chain(values().last()) {
        let text = serde_json::to_string(&value).unwrap();
        assert!(serde_json::from_str::<Event>(&value).is_err());
        for (from, what) in
            [(r#""m1/swap""#, "step"), (r#""dispatched""#, "event"), (r#""2026-11-22T13:32:03Z""#, "time")]
        {
            let wrong = good.replacen(from, &text, 1);
            assert!(serde_json::from_str::<Event>(&wrong).is_err(), "{what}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn whatever_any_type_takes_is_inert_and_is_the_same_when_it_is_read_again(
        text in prop_oneof![any::<String>(), "[a-zA-Z0-9.:\\[\\]-]{1,30}", "muster-token\\.1\\.[0-9a-f]{16}\\.[A-Za-z0-9_-]{43}\\.[A-Za-z0-9_-]{43}"]
    ) {
        for (name, read) in types() {
            if let Ok(taken) = read(&text) {
                prop_assert!(is_inert(&taken), "{} took {:?} as {:?}", name, text, taken);
                if name != "EnrolmentToken" {
                    prop_assert_eq!(read(&taken), Ok(taken.clone()), "{}", name);
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_manifest_an_event_or_a_list_of_rules_or_is_refused_without_harm(text in any::<String>()) {
        if let Err(error) = pod_network::objects(&text) {
            prop_assert!(is_showable(&error.to_string()), "{:?}", error);
        }
        let _ = serde_json::from_str::<Event>(&text);
        let rule = ufw::Rule { address: [10, 88, 0, 11].into(), port: 7443 };
        let line = format!("### tuple ### {text}");
        prop_assert!(!rule.is_among(&line) || text.contains("7443"));
    }
}
