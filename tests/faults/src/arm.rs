//! Arming a fault before the machines are switched on, and what it does to files.

use std::path::Path;

use muster_proto::failpoint::Point;
use serde_json::json;

use crate::cell::{Cell, Harm, Kind, Place, Side, Since};
use crate::machine::{Done, Machine, told};
use crate::pair::{Pair, machine_letter};
use crate::stand_in::memory::{How, Misbehaviour};
use crate::survey::{AGENT_JOURNAL, COORDINATOR_JOURNAL, Survey, events_of};

/// For the time limit of a program that hangs, and for an agent that does not come back.
const SHORT_MS: u32 = 3_000;

/// What has to stand there before the machines are switched on, or the command is run.
pub fn prepare(cell: &Cell, pair: &Pair, survey: &Survey) -> Done<()> {
    let put = |path: &Path, text: &str| std::fs::write(path, text).map_err(told);
    if cell.speaks_as_1_36 {
        put(&pair.memory.join("speaks-as-1.36.2"), "")?;
    }
    let machine = pair.machine(cell.armed_on());
    let faults = machine.folder.join("faults");
    match cell.kind {
        Kind::Program(how) => {
            let changes = survey.changes.get(&cell.step).map(Vec::as_slice).unwrap_or_default();
            let made = changes.get(cell.nth as usize - 1).and_then(|made| made.program.clone());
            let (program, verb) = made.ok_or("the change is no program that can misbehave")?;
            let wanted =
                Misbehaviour { program, verb, machine: machine_letter(cell.step.node()).to_owned(), how };
            put(&pair.memory.join("misbehave.json"), &serde_json::to_string(&wanted).map_err(told)?)?;
            if matches!(how, How::HangsChatty | How::HangsSilent) {
                put(&faults.join("limit-ms"), &SHORT_MS.to_string())?;
            }
            return Ok(());
        }
        Kind::DiskFull(place) => {
            let (file, size) = match place {
                // Room for the journal of whole runs, and for what SQLite keeps beside it, once the filler is gone.
                Place::AgentState => ("tiny-state", "8m"),
                Place::CoordinatorState => ("tiny-coordinator", "16m"),
                Place::Target => ("tiny-etc", "2m"),
            };
            put(&machine.folder.join(file), size)?;
        }
        Kind::Clock(seconds, since) => {
            let seconds = if since == Since::TheBeginning { seconds } else { 0 };
            put(&faults.join("clock"), &seconds.to_string())?;
            if since == Since::TheBeginning {
                return put(&faults.join("fired.json"), "the clock is wrong from the beginning");
            }
        }
        // Whoever waits for an agent that does not come back shall not wait for two minutes.
        Kind::Journal(_, Side::Agent) => {
            put(&pair.master.folder.join("faults/limit-ms"), &SHORT_MS.to_string())?
        }
        _ => {}
    }
    let (point, action, delay) = match cell.kind {
        Kind::Kill(point) => (point, "kill", 0),
        Kind::KillLater(ms) => (Point::MidEffect, "kill", ms),
        Kind::PowerLoss(point) => (point, "hold", 0),
        Kind::Cut(point) => (point, "cut", 0),
        Kind::Replay => (Point::Sent, "replay", 0),
        Kind::Stop(point) => (point, "stop", 0),
        Kind::DiskFull(Place::CoordinatorState) | Kind::Journal(_, Side::Coordinator) => {
            (Point::Dispatched, "hold", 0)
        }
        Kind::DiskFull(_) => (Point::AfterIntent, "hold", 0),
        Kind::Detach | Kind::Clock(..) => (Point::MidEffect, "hold", 0),
        Kind::Journal(_, Side::Agent) => (Point::AfterIntent, "hold", 0),
        Kind::Program(_) => return Ok(()),
    };
    let armed = json!({
        "point": point.word(), "step": cell.step.as_str(), "nth": cell.nth, "action": action, "delay_ms": delay,
    });
    put(&faults.join("armed.json"), &armed.to_string())
}

/// The file.
pub fn journal(side: Side) -> &'static str {
    match side {
        Side::Agent => AGENT_JOURNAL,
        Side::Coordinator => COORDINATOR_JOURNAL,
    }
}

/// Where the disk that can be full is mounted, and what fills it.
pub fn disk(place: Place) -> (&'static str, &'static str) {
    match place {
        Place::AgentState => ("/var/lib/muster-agent", "/var/lib/muster-agent/filler"),
        Place::CoordinatorState => ("/var/lib/muster-coordinator", "/var/lib/muster-coordinator/filler"),
        Place::Target => ("/etc", "/etc/filler"),
    }
}

/// Writes until nothing more fits.
pub fn fill(path: &Path) -> Done<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path).map_err(told)?;
    for size in [4096, 1] {
        while file.write(&vec![b'x'; size]).is_ok() {}
    }
    Ok(())
}

/// Where a file says which version of its tables it holds: user_version, in the first page.
const VERSION_AT: std::ops::Range<usize> = 60..64;

/// Nobody may have it open any more, or go on with it.
pub fn harm_journal(machine: &Machine, side: Side, harm: Harm) -> Done<()> {
    let path = machine.inside(journal(side));
    let whole = folded(&path, &machine.folder.join("whole"))?;
    let harmed = match harm {
        Harm::Corrupt => vec![0x5a; whole.len()],
        Harm::Truncated => whole[..1000].to_vec(),
        Harm::Newer => {
            let mut newer = whole.clone();
            newer[VERSION_AT].copy_from_slice(&9_i32.to_be_bytes());
            newer
        }
    };
    std::fs::write(&path, &harmed).map_err(told)?;
    remove(&path, &["-wal", "-shm"]);
    std::fs::write(machine.folder.join("harmed.db"), harmed).map_err(told)
}

/// All of a journal in one file, without the log beside it.
fn folded(path: &Path, place: &Path) -> Done<Vec<u8>> {
    events_of(path, place)?;
    if place.join("journal.db-wal").exists() {
        return Err("the copy of the journal still has a log beside it".to_owned());
    }
    std::fs::read(place.join("journal.db")).map_err(told)
}

/// What the daemon's refusal says to do: a damaged one is moved away; for a newer one that version is installed again, which
/// knows the file as it is. It must lie there as it did: whoever refuses it does not touch it.
pub fn mend_journal(machine: &Machine, side: Side, harm: Harm) -> Done<()> {
    let path = machine.inside(journal(side));
    let harmed = std::fs::read(machine.folder.join("harmed.db")).map_err(told)?;
    if std::fs::read(&path).map_err(told)? != harmed {
        return Err(format!("the refused journal {} was written to", journal(side)));
    }
    if harm != Harm::Newer {
        remove(&path, &["", "-wal", "-shm"]);
        return Ok(());
    }
    let whole = std::fs::read(machine.folder.join("whole/journal.db")).map_err(told)?;
    std::fs::write(&path, whole).map_err(told)
}

fn remove(path: &Path, ends: &[&str]) {
    for end in ends {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}
