//! What has to hold after every cell, whatever the fault was.

use std::time::{Duration, Instant};

use crate::arm::disk;
use crate::cell::{Cell, Kind, Side};
use crate::machine::Done;
use crate::pair::Pair;
use crate::runs::Runs;
use crate::snapshot::live::mount_at;
use crate::snapshot::{self, Difference, listed};
use crate::survey::{AGENT_JOURNAL, COORDINATOR_JOURNAL, events, is_legal};
use crate::world::Clean;

/// Units that end and connections that close need a moment.
const SETTLED_WITHIN: Duration = Duration::from_secs(6);
/// An agent whose coordinator lost its power, and said no farewell, notices by its silence.
const SETTLED_AFTER_POWER_LOSS: Duration = Duration::from_secs(40);

pub fn looks_clean(cell: &Cell, clean: &Clean, pair: &Pair) -> Done<()> {
    Runs::of(pair)?.are_as_they_should_be(cell, clean)?;
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
        let differences = snapshot::differences(&clean.end, &found);
        let differences: Vec<Difference> =
            differences.into_iter().filter(|one| !expected(cell, one)).collect();
        if differences.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not as after a clean run:{}", listed(&differences)));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether the machine was switched on again after its kubelet was taken out of the cluster.
fn boots_after_reset(cell: &Cell) -> bool {
    matches!(cell.kind, Kind::PowerLoss(_)) && cell.scenario.once().contains(&("reset", cell.step.node()))
}

/// A disk that can be full is one mount more. After a boot /run is empty: of the agent's folder there, which it makes for its
/// first program, and of the packet filter, which nobody fills again once the node is no member any more.
fn expected(cell: &Cell, difference: &Difference) -> bool {
    let node = cell.armed_on();
    match cell.kind {
        Kind::DiskFull(place) => {
            let clean: u32 = difference.clean.as_ref().map_or(Some(0), |text| text.parse().ok()).unwrap_or(0);
            difference.name == mount_at(node, disk(place).0)
                && difference.found == Some((clean + 1).to_string())
        }
        Kind::PowerLoss(_) if difference.name == format!("{node}:/run/muster-agent/output") => {
            difference.found.is_none()
        }
        Kind::PowerLoss(_) => {
            boots_after_reset(cell)
                && difference.name == format!("{node}: packet filter")
                && difference.found.as_deref() == Some("")
        }
        _ => false,
    }
}
