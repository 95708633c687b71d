//! After the fault: what a person mends, and the same command until it is done.

use crate::arm::{disk, mend_journal};
use crate::cell::{Cell, Kind, Side};
use crate::machine::{Done, Said, told};
use crate::pair::{MASTER, Pair};
use crate::runs::undone;
use crate::survey::Survey;

/// How often the same command may be needed: once more for every process that the fault ends, and once to be sure.
const MOST_RUNS: u32 = 4;

/// What a person does about the cause; nothing for a crash.
pub fn mend(cell: &Cell, pair: &Pair) -> Done<()> {
    for machine in [&pair.master, &pair.worker] {
        let _ = std::fs::remove_file(machine.folder.join("faults/limit-ms"));
    }
    let machine = pair.machine(cell.armed_on());
    match cell.kind {
        Kind::Clock(..) => std::fs::write(machine.folder.join("faults/clock"), "0").map_err(told),
        Kind::DiskFull(place) => std::fs::remove_file(machine.inside(disk(place).1)).map_err(told),
        Kind::Journal(harm, side) => {
            let unit =
                if side == Side::Agent { "muster-agent.service" } else { "muster-coordinator.service" };
            machine.must(&["systemctl", "stop", unit])?;
            mend_journal(machine, side, harm)?;
            machine.must(&["systemctl", "start", unit]).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// The same command until it is done, and then once more: nothing is left to do. A reset only where the design names it:
/// a `kubeadm init` that lost its power half-way.
pub fn converge(cell: &Cell, survey: &Survey, pair: &Pair, first: &Said) -> Done<()> {
    let (scenario, command) = (cell.scenario, cell.scenario.command());
    let (mut resets, mut said, mut runs) = (0, first.clone(), 1);
    while !scenario.is_done(&said) {
        if runs == MOST_RUNS {
            return Err(format!("run {runs} of the same command still says: {}", said.text));
        }
        runs += 1;
        said = pair.give(command)?;
        if scenario.is_nothing(&said) {
            break;
        }
        let remedy = format!("coordinator reset --node {MASTER}");
        if said.text.contains(&remedy)
            && resets == 0
            && undone(cell, survey).is_some_and(|node| node == MASTER)
        {
            resets += 1;
            pair.master.must(&["coordinator", "reset", "--node", MASTER, "--confirm", "faults"])?;
        }
    }
    let again = pair.give(command)?;
    match scenario.is_nothing(&again) {
        true => Ok(()),
        false => Err(format!("when all is done the same command says: {}", again.text)),
    }
}
