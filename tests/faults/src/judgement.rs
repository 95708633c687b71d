//! What has to hold after every cell, whatever the fault was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cell::{Cell, Kind, Side};
use crate::machine::{Done, told};
use crate::matrix::World;
use crate::pair::Pair;
use crate::snapshot;
use crate::survey::{AGENT_JOURNAL, COORDINATOR_JOURNAL, events, is_legal};

/// Units that end and connections that close need a moment.
const SETTLED_WITHIN: Duration = Duration::from_secs(6);

/// What the stand-ins remember of kubeadm: by verb and node, in order, how each run went.
pub struct Memory {
    runs: BTreeMap<(String, String), Vec<String>>,
}

impl Memory {
    pub fn of(pair: &Pair) -> Done<Self> {
        let text = std::fs::read_to_string(pair.memory.join("runs.log")).map_err(told)?;
        let mut runs: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            if let (Some(how), Some(verb), Some(node)) = (words.next(), words.next(), words.next()) {
                runs.entry((verb, node)).or_default().push(how);
            }
        }
        Ok(Self { runs })
    }

    /// Once, never two at once, never again after it was done.
    fn exactly_once(&self, cell: &Cell, verb: &str, node: &str) -> Done<()> {
        let key = (verb.to_owned(), node.to_owned());
        let all = self.runs.get(&key).cloned().unwrap_or_default();
        let count = |how: &str| all.iter().filter(|one| *one == how).count();
        let worked = count("done") + count("worked-and-failed");
        let told = || format!("kubeadm {verb} on {node}: {}", all.join(", "));
        // With a reset between two, of which the second is the first of a new life of the node.
        let resets = self.runs.get(&("reset".to_owned(), node.to_owned())).map_or(0, Vec::len);
        if count("overlap") > 0 {
            return Err(format!("two at once: {}", told()));
        }
        if count("refused") > 0 {
            return Err(format!("kubeadm had to refuse: {}", told()));
        }
        if worked != 1 && resets == 0 {
            return Err(format!("it worked {worked} times: {}", told()));
        }
        if count("begin") != 1 && !Self::allows_repeats(cell) {
            return Err(format!("begun more than once: {}", told()));
        }
        let last = all.last().map(String::as_str).unwrap_or_default();
        if last != "done" && last != "worked-and-failed" {
            return Err(format!("the last one did not work: {}", told()));
        }
        Ok(())
    }
}

pub fn looks_clean(cell: &Cell, world: &World, pair: &Pair) -> Done<()> {
    let memory = Memory::of(pair)?;
    memory.exactly_once(cell, "init", "m1")?;
    memory.exactly_once(cell, "join", "w1")?;
    for (machine, journal, side) in [
        (&pair.master, AGENT_JOURNAL, Side::Agent),
        (&pair.worker, AGENT_JOURNAL, Side::Agent),
        (&pair.master, COORDINATOR_JOURNAL, Side::Coordinator),
    ] {
        let events = events(machine, journal)?;
        is_legal(&events)
            .map_err(|problem| format!("the journal of {} ({side:?}): {problem}", machine.name))?;
    }
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let found = snapshot::of(pair)?;
        let differences = snapshot::differences(&world.clean, &found);
        let differences: Vec<String> = differences.into_iter().filter(|line| !expected(cell, line)).collect();
        if differences.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not as after a clean run:\n  {}", differences.join("\n  ")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A disk that can be full is a mount more.
fn expected(cell: &Cell, difference: &str) -> bool {
    matches!(cell.kind, Kind::DiskFull(_)) && difference.contains(": mounts:")
}
