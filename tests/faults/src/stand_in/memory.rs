//! What the stand-ins remember, in a folder outside of the machines: every beginning and end of kubeadm, whether two ran at
//! once, and how the next run shall misbehave. It survives whatever is done to a machine.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::said;
use crate::pair::{MASTER, WORKER, machine_letter};

/// The folder as a machine sees it.
pub const FOLDER: &str = "/memory";

/// How a run of a program goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Ends with 1 before it did anything.
    Fails,
    /// Does all of it and ends with 1.
    FailsThoughItWorked,
    /// Never ends and says nothing.
    HangsSilent,
    /// Never ends and goes on talking.
    HangsChatty,
}

/// The one misbehaviour that is wanted: of this program, verb and node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Misbehaviour {
    pub program: String,
    pub verb: String,
    /// The first letter of the machine's id.
    pub machine: String,
    pub how: How,
}

/// One program at work on one node; its end is written when it says so.
pub struct Work {
    verb: String,
    node: String,
    /// It does its work and fails all the same.
    fails: bool,
    _lock: File,
}

/// Appends one line; lines of all machines stand in the order in which they were written.
pub fn note(line: &str) {
    let file = OpenOptions::new().create(true).append(true).open(Path::new(FOLDER).join("runs.log"));
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

impl Work {
    /// Begins; a second one at the same time on the same node is remembered as an overlap.
    pub fn begin(verb: &str, node: &str) -> Result<Self, String> {
        let path = Path::new(FOLDER).join(format!("{node}.lock"));
        let lock = OpenOptions::new().create(true).append(true).open(path).map_err(said)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            note(&format!("overlap {verb} {node}"));
        }
        note(&format!("begin {verb} {node}"));
        Ok(Self { verb: verb.to_owned(), node: node.to_owned(), fails: false, _lock: lock })
    }

    /// Misbehaves if this run is the one that shall: it fails here, hangs here, or fails at its end.
    pub fn misbehave(mut self, program: &str, verb: &str) -> Result<Self, String> {
        match misbehave(program, verb) {
            Ok(fails) => {
                self.fails = fails;
                Ok(self)
            }
            Err(message) => {
                self.end("failed");
                Err(message)
            }
        }
    }

    /// The work is done; these words, if it shall fail all the same.
    pub fn done(self, words: &str) -> Result<(), String> {
        let fails = self.fails;
        self.end(if fails { "worked-and-failed" } else { "done" });
        if fails { Err(words.to_owned()) } else { Ok(()) }
    }

    pub fn end(self, how: &str) {
        note(&format!("{how} {} {}", self.verb, self.node));
    }
}

pub fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").unwrap_or_default()
}

/// The name by which this machine is known to the test, whatever its host name is just now.
pub fn own_node() -> &'static str {
    if machine_id().starts_with(machine_letter(MASTER)) { MASTER } else { WORKER }
}

/// Misbehaves if this run is the one that shall. True: do the work and fail all the same.
fn misbehave(program: &str, verb: &str) -> Result<bool, String> {
    let path = Path::new(FOLDER).join("misbehave.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(false) };
    let Ok(wanted) = serde_json::from_str::<Misbehaviour>(&text) else { return Ok(false) };
    if wanted.program != program || wanted.verb != verb || !machine_id().starts_with(&wanted.machine) {
        return Ok(false);
    }
    if std::fs::rename(&path, Path::new(FOLDER).join("misbehaved.json")).is_err() {
        return Ok(false);
    }
    match wanted.how {
        How::Fails => Err(format!("{program} {verb}: it fails, as the test wants")),
        How::FailsThoughItWorked => Ok(true),
        How::HangsSilent => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        How::HangsChatty => loop {
            println!("{program} {verb} waits for the condition, and waits, and waits");
            std::thread::sleep(Duration::from_millis(2));
        },
    }
}

/// How long kubeadm's work takes, so that a fault can strike in its middle.
pub fn moment() -> Duration {
    let text = std::fs::read_to_string(PathBuf::from(FOLDER).join("moment-ms")).unwrap_or_default();
    Duration::from_millis(text.trim().parse().unwrap_or(120))
}

/// Whose words the stand-in speaks: those recorded of kubeadm 1.20.2, or of 1.36.2.
pub fn speaks_as_1_36() -> bool {
    Path::new(FOLDER).join("speaks-as-1.36.2").exists()
}
