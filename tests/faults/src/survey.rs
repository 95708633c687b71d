//! What a clean run did, read from the journals: the plan's steps, and the changes of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_proto::change::Change;
use muster_proto::event::{Event, EventKind, StepState, transition};
use muster_proto::journal::Journal;
use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;

use crate::machine::{Done, Machine, told};
use crate::pair::{MASTER, Pair, WORKER};

pub const AGENT_JOURNAL: &str = "/var/lib/muster-agent/journal.db";
pub const COORDINATOR_JOURNAL: &str = "/var/lib/muster-coordinator/journal.db";

/// One change that a step made.
#[derive(Debug, Clone)]
pub struct Made {
    pub summary: String,
    /// Of a stand-in that can misbehave: its name, and the verb among its arguments.
    pub program: Option<(String, String)>,
}

/// Programs that can be told to go wrong.
const MISBEHAVE: [&str; 5] = ["kubeadm", "kubectl", "ufw", "swapon", "iptables-restore"];

#[derive(Debug, Default)]
pub struct Survey {
    pub steps: Vec<StepId>,
    /// Steps without changes are not in it.
    pub changes: BTreeMap<StepId, Vec<Made>>,
}

impl Survey {
    /// Whether a step of this kind changes something on every machine.
    pub fn is_on_both(&self, kind: Option<StepKind>) -> bool {
        [MASTER, WORKER]
            .iter()
            .all(|node| self.changes.keys().any(|id| id.node() == *node && id.kind() == kind))
    }

    /// What was done after so many events of the coordinator's journal.
    pub fn after(pair: &Pair, events_before: usize) -> Done<Self> {
        let mut survey = Self::default();
        for event in events(&pair.master, COORDINATOR_JOURNAL)?.into_iter().skip(events_before) {
            if !survey.steps.contains(&event.step) {
                survey.steps.push(event.step.clone());
            }
            if let EventKind::Intended { summary, change, .. } = event.kind {
                let made = Made { summary, program: program_of(&change) };
                survey.changes.entry(event.step).or_default().push(made);
            }
        }
        Ok(survey)
    }

    /// Which of the step's changes, from 1, a fault that strikes only one of them hurts most: its program, or else its last.
    pub fn weightiest(&self, step: &StepId) -> u32 {
        let last = self.changes.get(step).map_or(1, |changes| changes.len() as u32);
        self.program(step).map_or(last, |position| position as u32 + 1)
    }

    /// Which of the step's changes, from 1, is the first that writes a file below /etc: what comes before may free room there.
    pub fn writes_to_etc(&self, step: &StepId) -> Option<u32> {
        let is_one = |made: &Made| made.summary.starts_with("write /etc/");
        self.changes.get(step)?.iter().position(is_one).map(|position| position as u32 + 1)
    }

    /// Which of the step's changes is its first program that can misbehave.
    pub fn program(&self, step: &StepId) -> Option<usize> {
        self.changes.get(step)?.iter().position(|made| made.program.is_some())
    }
}

fn program_of(change: &Change) -> Option<(String, String)> {
    let Change::Run(program) = change else { return None };
    let name = Some(program.program.name()).filter(|name| MISBEHAVE.contains(name))?;
    let is_verb = |word: &&String| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    Some((name.to_owned(), program.arguments.iter().find(is_verb).cloned().unwrap_or_default()))
}

/// All events of a journal of a machine that is on, from a copy of the file.
pub fn events(machine: &Machine, journal: &str) -> Done<Vec<Event>> {
    let found = events_of(&machine.inside(journal), &machine.folder.join("copies"));
    found.map_err(|problem| format!("{}: {problem}", machine.name))
}

/// All events of a journal file, from a copy in a folder of its own.
pub fn events_of(journal: &Path, place: &Path) -> Done<Vec<Event>> {
    let _ = std::fs::remove_dir_all(place);
    std::fs::create_dir_all(place).map_err(told)?;
    for end in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{end}", journal.display()));
        if from.exists() {
            std::fs::copy(from, place.join(format!("journal.db{end}"))).map_err(told)?;
        }
    }
    read(&place.join("journal.db"))
}

fn read(path: &Path) -> Done<Vec<Event>> {
    Journal::open(path).map_err(told)?.after(0).map_err(told)
}

/// Whether the events are numbered without a gap, and each may follow the ones before it.
pub fn is_legal(events: &[Event]) -> Done<()> {
    let mut states: BTreeMap<(&str, &StepId), StepState> = BTreeMap::new();
    for (event, number) in events.iter().zip(1..) {
        if event.sequence != number {
            return Err(format!("the journal has a gap: {} stands in the place of {number}", event.sequence));
        }
        let state = states.entry((&event.run, &event.step)).or_default();
        *state =
            transition(*state, &event.kind).map_err(|error| format!("{} ({number}): {error}", event.step))?;
    }
    Ok(())
}
