//! That the fault really struck, told by what it struck and not by the test that meant to: the logs of the daemons, systemd,
//! the journals. A fault that only was to strike proves nothing of the promises.

use jiff::{SignedDuration, Timestamp};
use muster_proto::event::EventKind;
use muster_proto::failpoint::Point;

use crate::cell::{Cell, Kind, Since};
use crate::machine::{Done, Machine, wait_for};
use crate::pair::Pair;
use crate::strike::is_long;
use crate::survey::{AGENT_JOURNAL, events};

/// Of the agent whose own end of a live socket was closed.
const CUT: &str = "the connection was closed on this side";
/// Of the coordinator that followed a step over the connection that went.
const LOST: &str = "the connection to the agent was lost; the step goes on there";
/// Of an agent whose coordinator is gone.
const ENDED: &str = "the connection to 10.88.0.11:7443 ended";
/// No clock of the matrix is wrong by less, and none that is right by more.
const WRONG: SignedDuration = SignedDuration::from_hours(1);

/// After the first command came to its end.
pub fn struck(cell: &Cell, pair: &Pair) -> Done<()> {
    let machine = pair.machine(cell.armed_on());
    match cell.kind {
        Kind::Kill(point) if Point::OF_THE_COORDINATOR.contains(&point) => {
            was_started_again(machine, "muster-coordinator.service")
        }
        Kind::Kill(_) | Kind::KillLater(_) => was_started_again(machine, "muster-agent.service"),
        Kind::Cut(_) => says(machine, &[CUT]).and_then(|()| says(&pair.master, &[LOST, cell.step.as_str()])),
        Kind::Stop(point) if is_long(cell) && Point::OF_THE_COORDINATOR.contains(&point) => {
            says(&pair.worker, &[ENDED])
        }
        Kind::Stop(_) if is_long(cell) => says(&pair.master, &[LOST, cell.step.as_str()]),
        Kind::Replay => began_once(cell, pair),
        Kind::Clock(_, Since::MidEffect) => jumped(cell, machine),
        // Their proof is how the first command ended: the full disk, the program's own words and the wrong clock stand in its
        // failure. The refusal of a journal is waited for while it strikes; a power loss and a Ctrl-C are the test's own deed.
        _ => Ok(()),
    }
}

/// Waits until one line of the machine's log holds all of these.
pub fn says(machine: &Machine, words: &[&str]) -> Done<()> {
    let path = machine.folder.join("faults/log");
    let told = || std::fs::read_to_string(&path).unwrap_or_default();
    let holds = |line: &str| words.iter().all(|word| line.contains(word));
    wait_for(&format!("the log of {} to say {:?}", machine.name, words.join(" … ")), || {
        told().lines().any(holds).then_some(())
    })
    .map_err(|problem| format!("the fault did not strike: {problem}"))
}

/// systemd's own word that the process died and was started again.
fn was_started_again(machine: &Machine, unit: &str) -> Done<()> {
    wait_for(&format!("systemd to have {unit} of {} back", machine.name), || {
        let count = machine.must(&["systemctl", "show", "-p", "NRestarts", "--value", unit]).ok()?;
        (count.trim() != "0").then_some(())
    })
    .map_err(|problem| format!("the fault did not strike: {problem}"))
}

/// The agent was asked twice, and began once.
fn began_once(cell: &Cell, pair: &Pair) -> Done<()> {
    let all = events(pair.machine(cell.step.node()), AGENT_JOURNAL)?;
    let run = all.iter().rev().find(|event| event.step == cell.step).map(|event| &event.run);
    let begun = all.iter().filter(|event| {
        Some(&event.run) == run && event.step == cell.step && matches!(event.kind, EventKind::Started { .. })
    });
    match begun.count() {
        1 => Ok(()),
        count => Err(format!("the request that was sent twice was begun {count} times")),
    }
}

/// Something was journalled by the wrong clock.
fn jumped(cell: &Cell, machine: &Machine) -> Done<()> {
    let now = Timestamp::now();
    let all = events(machine, AGENT_JOURNAL)?;
    match all.iter().any(|event| event.time.duration_since(now).abs() > WRONG) {
        true => Ok(()),
        false => Err(format!("the fault did not strike: no event of {} has a wrong time", cell.step.node())),
    }
}
