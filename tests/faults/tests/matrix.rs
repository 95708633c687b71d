//! The part of the fault matrix that runs with all other tests; `make faults` runs all of it. Where the machine cannot make
//! machines of its own, the tests say so and are skipped.

#![allow(clippy::disallowed_methods, reason = "a test looks at the machine that it runs on")]

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_faults::cell::Cell;
use muster_faults::matrix::{Verdicts, failure, run};
use muster_faults::scenario::Scenario;
use muster_faults::survey::Survey;
use muster_faults::this_machine::{State, changes, left_behind, state};
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

/// Whether this machine can make machines; otherwise why not, said so that nobody takes it for a pass.
fn possible() -> bool {
    let reason = lacking();
    if let Some(reason) = &reason {
        assert!(
            std::env::var_os("CI").is_none(),
            "the fault matrix may not be skipped here; it needs {reason}"
        );
        let line = "!".repeat(100);
        println!(
            "{line}\n!! SKIPPED, NOT PASSED: not one cell of the fault matrix was run; it needs {reason}\n{line}"
        );
    }
    reason.is_none()
}

/// Cells that change everything that an agent can change by mistake on the machine that tests, and one whose machine has its
/// disk in a file.
const HERE: [&str; 3] = [
    "kill-agent:mid-effect:w1/hostname:1",
    "power-loss:mid-effect:m1/kubeadm-init:2",
    "reset-all:kill-agent:mid-effect:m1/restore:1",
];

#[test]
fn whatever_dies_the_same_command_ends_the_same_and_the_testing_machine_is_not_touched() {
    if !possible() {
        return;
    }
    let before = state();
    let folder = folder("matrix");
    let world = World::make(&folder, programs())
        .unwrap_or_else(|problem| panic!("{}", failure(Scenario::Bootstrap.word(), &problem)));
    let run = |scenarios: &[Scenario], first: bool| -> Verdicts {
        let chosen = |cell: &Cell, survey: &Survey| {
            let is_first = HERE.contains(&cell.to_string().as_str());
            is_first == first && (first || cell.is_of_every_test_run(survey))
        };
        run(&world, scenarios, chosen, 4, |_| {})
    };
    // Changes of every kind are made by now, by two agents, and taken back by a reset; one dies at it and comes back.
    let mut verdicts = run(&[Scenario::Bootstrap, Scenario::Reset], true);
    let mut failures = untouched(&before, &folder);
    assert_eq!(verdicts.ended.len(), HERE.len(), "a cell of HERE is no cell any more");
    verdicts.extend(run(&Scenario::OF_EVERY_TEST_RUN, false));
    failures.extend(verdicts.failures());
    failures.extend(untouched(&before, &folder));
    if verdicts.unclean.is_empty() {
        let unasked =
            world.unasked(&Scenario::OF_EVERY_TEST_RUN).unwrap_or_else(|problem| panic!("{problem}"));
        failures.extend(unasked.iter().map(|step| format!("no scenario asks for the agent's step {step}")));
    }
    let count = verdicts.ended.len();
    println!("{count} cells, {} failures", failures.len());
    let _ = std::fs::remove_dir_all(folder);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= AT_LEAST, "only {count} cells");
}

/// What is not as it was on the machine that tests, and what the machines that are off by now left there.
fn untouched(before: &State, folder: &Path) -> Vec<String> {
    let touched =
        changes(before, &state()).into_iter().map(|what| format!("the testing machine was touched: {what}"));
    touched.chain(left_behind(folder).into_iter().map(|what| format!("left behind: {what}"))).collect()
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
