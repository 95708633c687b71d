//! What has to hold after every cell, whatever the fault was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cell::{Cell, Kind, Side};
use crate::machine::{Done, told};
use crate::pair::Pair;
use crate::snapshot::{self, Snapshot};
use crate::survey::{AGENT_JOURNAL, COORDINATOR_JOURNAL, events, is_legal};

/// Units that end and connections that close need a moment.
const SETTLED_WITHIN: Duration = Duration::from_secs(6);
/// An agent whose coordinator lost its power, and said no farewell, notices by its silence.
const SETTLED_AFTER_POWER_LOSS: Duration = Duration::from_secs(40);

/// What the stand-ins remember: by verb and node, in order, how each run went.
struct Memory {
    runs: BTreeMap<(String, String), Vec<String>>,
}

impl Memory {
    fn of(pair: &Pair) -> Done<Self> {
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

    /// What the scenario's programs did: each once, never two at once, never again after it was done, and nothing else.
    fn is_as_it_should(&self, cell: &Cell) -> Done<()> {
        let once = cell.scenario.once();
        for (verb, node) in once {
            self.exactly_once(cell, verb, node)?;
        }
        for ((verb, node), all) in &self.runs {
            let told = || format!("{verb} on {node}: {}", all.join(", "));
            if all.iter().any(|how| how == "overlap") {
                return Err(format!("two at once: {}", told()));
            }
            let counts = ["init", "join", "reset", "drain"].contains(&verb.as_str());
            let expected = once.contains(&(verb.as_str(), node.as_str()))
                || verb == "reset" && Self::allows_repeats(cell) && cell.scenario.makes();
            if counts && !expected {
                return Err(format!("nobody asked for it: {}", told()));
            }
        }
        Ok(())
    }

    /// Once, never again after it was done; with a reset between two, the second is the first of a new life of the node.
    fn exactly_once(&self, cell: &Cell, verb: &str, node: &str) -> Done<()> {
        let runs = |verb: &str| {
            self.runs.get(&(verb.to_owned(), node.to_owned())).map(Vec::as_slice).unwrap_or_default()
        };
        let count = |of: &[String], how: &str| of.iter().filter(|one| *one == how).count();
        let all = runs(verb);
        let worked = count(all, "done") + count(all, "worked-and-failed");
        let told = || format!("{verb} on {node}: {}", all.join(", "));
        let resets = if verb == "reset" { 0 } else { count(runs("reset"), "begin") };
        if count(all, "refused") > 0 {
            return Err(format!("it had to refuse: {}", told()));
        }
        if worked == 0 || worked > 1 + resets {
            return Err(format!("it worked {worked} times, with {resets} resets: {}", told()));
        }
        if count(all, "begin") != 1 && !Self::allows_repeats(cell) {
            return Err(format!("begun more than once: {}", told()));
        }
        let last = all.last().map(String::as_str).unwrap_or_default();
        if last != "done" && last != "worked-and-failed" {
            return Err(format!("the last one did not work: {}", told()));
        }
        Ok(())
    }

    /// Whether it may have been begun more than once: a begun one is cut off by a power loss or fails as the test wants.
    fn allows_repeats(cell: &Cell) -> bool {
        matches!(cell.kind, Kind::PowerLoss(_) | Kind::Program(_))
    }
}

/// `clean`: what a clean run left.
pub fn looks_clean(cell: &Cell, clean: &Snapshot, pair: &Pair) -> Done<()> {
    Memory::of(pair)?.is_as_it_should(cell)?;
    for (machine, journal, side) in [
        (&pair.master, AGENT_JOURNAL, Side::Agent),
        (&pair.worker, AGENT_JOURNAL, Side::Agent),
        (&pair.master, COORDINATOR_JOURNAL, Side::Coordinator),
    ] {
        let events = events(machine, journal)?;
        is_legal(&events)
            .map_err(|problem| format!("the journal of {} ({side:?}): {problem}", machine.name))?;
    }
    if boots_after_reset(cell) {
        // A boot starts what is enabled; `kubeadm reset` had stopped it, or will have.
        pair.machine(cell.step.node()).must(&["systemctl", "stop", "kubelet.service"])?;
    }
    let lost_power = matches!(cell.kind, Kind::PowerLoss(_));
    let patience = if lost_power { SETTLED_AFTER_POWER_LOSS } else { SETTLED_WITHIN };
    let deadline = Instant::now() + patience;
    loop {
        let found = snapshot::of(pair)?;
        let differences = snapshot::differences(clean, &found);
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

/// Whether the machine was switched on again after its kubelet was taken out of the cluster.
fn boots_after_reset(cell: &Cell) -> bool {
    matches!(cell.kind, Kind::PowerLoss(_)) && cell.scenario.once().contains(&("reset", cell.step.node()))
}

/// A disk that can be full is a mount more; the packet filter is empty after a boot.
fn expected(cell: &Cell, difference: &str) -> bool {
    match cell.kind {
        Kind::DiskFull(_) => difference.contains(": mounts:"),
        Kind::PowerLoss(_) => {
            boots_after_reset(cell)
                && difference.starts_with(&format!("{}: packet filter: \"\" instead of", cell.step.node()))
        }
        _ => false,
    }
}
