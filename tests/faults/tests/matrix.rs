//! The part of the fault matrix that runs with all other tests; `make faults` runs all of it. Where the machine cannot make
//! machines of its own, the tests say so and are skipped.

#![allow(clippy::disallowed_methods, reason = "a test looks at the machine that it runs on")]

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_faults::matrix::{World, cells, run};
use muster_faults::tools::lacking;

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

#[test]
fn whatever_dies_the_same_command_ends_with_the_same_cluster() {
    if !possible() {
        return;
    }
    let folder = folder("matrix");
    let world = World::make(&folder, programs()).unwrap_or_else(|problem| panic!("{problem}"));
    let mut chosen = cells(&world);
    chosen.retain(|cell| cell.is_of_every_test_run(&world.survey));
    assert!(chosen.len() >= AT_LEAST, "only {} cells", chosen.len());
    let ended = run(&world, chosen, 4, |_| {});
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

#[test]
fn the_testing_machine_itself_is_not_touched() {
    if !possible() {
        return;
    }
    let before = of_this_machine();
    let folder = folder("untouched");
    let world = World::make(&folder, programs()).unwrap_or_else(|problem| panic!("{problem}"));
    // Changes of every kind were made by now, by two agents; one of them dies and comes back.
    let mut chosen = cells(&world);
    chosen.retain(|cell| cell.to_string() == "kill-agent:mid-effect:w1/hostname:1");
    assert_eq!(chosen.len(), 1);
    let ended = run(&world, chosen, 1, |_| {});
    assert_eq!(ended[0].problem, None);
    let _ = std::fs::remove_dir_all(folder);
    assert_eq!(of_this_machine(), before);
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
