//! The table of threats in docs/security.md names real tests: one that is renamed or removed is missed here.

#![allow(clippy::disallowed_methods, reason = "a test reads the sources")]

use std::collections::BTreeSet;
use std::path::Path;

/// Every `name` in the last column of the table, with what stands behind it: ` (e2e)` for a scenario.
fn named(document: &str) -> Vec<(String, bool)> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    last.flat_map(|cell| cell.split(", "))
        .filter_map(|entry| {
            let (name, rest) = entry.trim().strip_prefix('`')?.split_once('`')?;
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            plain.then(|| (name.to_owned(), rest.trim() == "(e2e)"))
        })
        .collect()
}

fn collect(folder: &Path, ending: &str, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, ending, text);
        } else if path.extension().is_some_and(|found| found == ending) {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
            text.push('\n');
        }
    }
}

/// The names of all functions that follow a `#[test]` or `#[tokio::test]`.
fn tests_of(sources: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in sources.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            let name = rest.split('(').next().unwrap_or_default().to_owned();
            if std::mem::take(&mut is_test) {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn every_test_that_the_security_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (mut rust, mut scenarios) = (String::new(), String::new());
    for folder in ["proto", "agent", "coordinator", "tests"] {
        collect(&root.join(folder), "rs", &mut rust);
    }
    collect(&root.join("tests/e2e/scenarios"), "py", &mut scenarios);
    let tests = tests_of(&rust);
    let named = named(&document);
    assert!(named.len() > 50, "only {} names were found: was the table's form changed?", named.len());
    let missing: Vec<&String> = named
        .iter()
        .filter(|(name, scenario)| match scenario {
            true => !scenarios.contains(&format!("\ndef {name}(report)")),
            false => !tests.contains(name),
        })
        .map(|(name, _)| name)
        .collect();
    assert!(missing.is_empty(), "docs/security.md names tests that are not there: {missing:#?}");
}

#[test]
fn every_row_of_the_table_has_a_control_and_a_test() {
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md")).unwrap();
    let table = document.split("## Threat, control, test").nth(1).unwrap().split("\n## ").next().unwrap();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        if cells[0].starts_with("**") {
            continue;
        }
        assert!(cells.len() == 3 && cells[2].starts_with('`'), "{row}");
    }
}

/// What `systemd-analyze security` weighs and a service does not have by itself.
const DIRECTIVES: [&str; 34] = [
    "CapabilityBoundingSet",
    "DevicePolicy",
    "IPAddressDeny",
    "KeyringMode",
    "LimitCORE",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RootDirectory",
    "RootImage",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "UMask",
    "User",
];

#[test]
fn every_directive_that_hardens_a_unit_is_set_or_a_comment_says_why_not() {
    for unit in ["muster-agent.service", "muster-coordinator.service"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(unit);
        let text = std::fs::read_to_string(path).unwrap();
        for directive in DIRECTIVES {
            let set = |line: &str| line.split_once('=').is_some_and(|(name, _)| name == directive);
            let explained = |line: &str| {
                let words = |c: char| !c.is_ascii_alphanumeric();
                line.starts_with('#')
                    && line.contains("Not ")
                    && line.split(words).any(|word| word == directive)
            };
            assert!(text.lines().any(|line| set(line) || explained(line)), "{unit}: {directive}");
        }
    }
}
