//! The part of the fault matrix that runs with all other tests; `make faults` runs all of it. Where the machine cannot make
//! machines of its own, the tests say so and are skipped.

#![allow(clippy::disallowed_methods, reason = "a test looks at the machine that it runs on")]

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_faults::cell::Cell;
use muster_faults::matrix::{Ended, run};
use muster_faults::scenario::Scenario;
use muster_faults::survey::Survey;
use muster_faults::tools::lacking;
use muster_faults::world::World;

/// Fewer would leave a step or a kind of fault untried.
const AT_LEAST: usize = 150;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/muster-faults-{name}-{}", std::process::id()))
}

fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_faults")).parent().expect("a program lies in a folder")
}

/// Whether this machine can make machines; otherwise why not, said aloud.
fn possible() -> bool {
    let reason = lacking();
    if let Some(reason) = &reason {
        assert!(
            std::env::var_os("CI").is_none(),
            "the fault matrix may not be skipped here; it needs {reason}"
        );
        println!("SKIPPED: the fault matrix needs {reason}");
    }
    reason.is_none()
}

/// Everything of this machine that an agent at work could change by mistake.
fn of_this_machine() -> Vec<String> {
    let read = |path: &str| format!("{path}: {}", std::fs::read_to_string(path).unwrap_or_default());
    let mut found: Vec<String> =
        ["/proc/sys/kernel/hostname", "/proc/swaps", "/proc/sys/net/ipv4/ip_forward", "/proc/self/mountinfo"]
            .map(read)
            .to_vec();
    let mut folders = vec![PathBuf::from("/etc")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            let changed = metadata.modified().ok();
            found.push(format!("{} {} {changed:?}", entry.path().display(), metadata.len()));
        }
    }
    for place in [
        "/var/lib/muster-agent",
        "/var/lib/muster-coordinator",
        "/run/muster-agent",
        "/etc/kubernetes",
        "/var/lib/kubelet",
    ] {
        found.push(format!("{place} is there: {}", Path::new(place).exists()));
    }
    found.sort();
    found
}

/// Cells that change everything that an agent can change by mistake on the machine that tests.
const HERE: [&str; 2] =
    ["kill-agent:mid-effect:w1/hostname:1", "reset-all:kill-agent:mid-effect:m1/restore:1"];

#[test]
fn whatever_dies_the_same_command_ends_the_same_and_the_testing_machine_is_not_touched() {
    if !possible() {
        return;
    }
    let before = of_this_machine();
    let folder = folder("matrix");
    let world = World::make(&folder, programs()).unwrap_or_else(|problem| panic!("{problem}"));
    let run = |scenarios: &[Scenario], first: bool| -> Vec<Ended> {
        let chosen = |cell: &Cell, survey: &Survey| {
            let is_first = HERE.contains(&cell.to_string().as_str());
            is_first == first && (first || cell.is_of_every_test_run(survey))
        };
        run(&world, scenarios, chosen, 4, |_| {}).unwrap_or_else(|problem| panic!("{problem}"))
    };
    // Changes of every kind are made by now, by two agents, and taken back by a reset; one dies at it and comes back.
    let mut ended = run(&[Scenario::Bootstrap, Scenario::Reset], true);
    assert_eq!(ended.len(), HERE.len());
    assert_eq!(of_this_machine(), before);
    ended.extend(run(&Scenario::OF_EVERY_TEST_RUN, false));
    assert!(ended.len() >= AT_LEAST, "only {} cells", ended.len());
    let failed: Vec<String> = ended
        .iter()
        .filter_map(|one| {
            let problem = one.problem.as_ref()?;
            Some(format!("{}: {problem}\n  repeat: make faults CELL='{}'", one.cell, one.cell))
        })
        .collect();
    println!("{} cells, {} failed", ended.len(), failed.len());
    let _ = std::fs::remove_dir_all(folder);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_package_can_hold_a_failpoint() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = std::fs::read_to_string(root.join("deploy/build-packages")).unwrap();
    assert!(script.contains("--release") && script.contains("-p muster-agent -p muster-coordinator"));
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "features,normal",
            "-p",
            "muster-agent",
            "-p",
            "muster-coordinator",
        ])
        .current_dir(&root)
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.contains("muster-proto"), "{tree}");
    assert!(!tree.contains("failpoints"), "{tree}");
    // And if one asked for them all the same, the compiler refuses.
    let source = std::fs::read_to_string(root.join("proto/src/failpoint.rs")).unwrap();
    assert!(source.contains("#[cfg(all(feature = \"failpoints\", not(debug_assertions)))]\ncompile_error!"));
}
