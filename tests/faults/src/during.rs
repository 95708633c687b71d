//! The fault itself, while the first command runs.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use muster_proto::failpoint::Point;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::arm::{disk, fill, harm_journal, journal};
use crate::cell::{Cell, Kind, Side, Since};
use crate::first::refusal;
use crate::machine::{Done, Said, finish, told, wait_for};
use crate::pair::Pair;
use crate::proof::says;
use crate::strike::stopped_for;
use crate::world::World;

/// Waits until the fault strikes and does what is the test's part of it.
pub fn during(cell: &Cell, world: &World, pair: &mut Pair, folder: &Path, first: &mut Child) -> Done<()> {
    let node = cell.armed_on().to_owned();
    let fired = match cell.kind {
        Kind::Program(_) => pair.memory.join("misbehaved.json"),
        _ => pair.machine(&node).folder.join("faults/fired.json"),
    };
    wait_for("the fault to strike", || {
        let mut over = || first.try_wait().ok().flatten().is_some();
        (fired.exists() || (over() && !fired.exists())).then_some(())
    })?;
    if !fired.exists() {
        return Err("the fault did not strike: the point was never reached".to_owned());
    }
    let machine = pair.machine(&node);
    let release = machine.folder.join("faults/release");
    match cell.kind {
        Kind::PowerLoss(_) => {
            lose_power(pair, &node, world)?;
            std::fs::write(folder.join("status-leader"), pair.master.leader().to_string()).map_err(told)?;
        }
        Kind::Stop(_) => {
            let process = Pid::from_raw(machine.main_process(unit(cell))?);
            std::thread::sleep(stopped_for(cell));
            kill(process, Signal::SIGCONT).map_err(told)?;
        }
        Kind::DiskFull(place) => {
            fill(&machine.inside(disk(place).1))?;
            std::fs::write(release, "").map_err(told)?;
        }
        Kind::Clock(seconds, Since::MidEffect) => {
            std::fs::write(machine.folder.join("faults/clock"), seconds.to_string()).map_err(told)?;
            std::fs::write(release, "").map_err(told)?;
        }
        Kind::Detach => detach(cell, pair, &release, first)?,
        Kind::Journal(harm, side) => {
            let process = Pid::from_raw(machine.main_process(unit(cell))?);
            // Nobody writes to it while it is harmed.
            kill(process, Signal::SIGSTOP).map_err(told)?;
            harm_journal(machine, side, harm)?;
            kill(process, Signal::SIGKILL).map_err(told)?;
            says(machine, &[journal(side), refusal(harm)])?;
        }
        _ => {}
    }
    Ok(())
}

/// The daemon that is struck.
fn unit(cell: &Cell) -> &'static str {
    match cell.kind {
        Kind::Stop(point) if Point::OF_THE_COORDINATOR.contains(&point) => "muster-coordinator.service",
        Kind::Journal(_, Side::Coordinator) => "muster-coordinator.service",
        _ => "muster-agent.service",
    }
}

fn lose_power(pair: &mut Pair, node: &str, world: &World) -> Done<()> {
    let machine = pair.machine(node);
    // What happens after the copy would otherwise be seen, and then be lost.
    machine.freeze();
    let disk = machine.folder.join("disk.img");
    let copied = machine.folder.join("disk.copy");
    let ended = Command::new("cp").arg("--sparse=always").args([&disk, &copied]).status().map_err(told)?;
    if !ended.success() {
        return Err(format!("cp: {ended}"));
    }
    pair.cut_power(node)?;
    std::fs::rename(copied, disk).map_err(told)?;
    pair.switch_on_again(node, &world.tools)
}

/// Ctrl-C, and the same command again.
fn detach(cell: &Cell, pair: &Pair, release: &Path, first: &mut Child) -> Done<()> {
    let cli = pair.master.processes_named("coordinator", cell.scenario.command()[1]);
    for process in outside_children(first.id()).into_iter().chain(cli) {
        let _ = kill(Pid::from_raw(process), Signal::SIGINT);
    }
    let ended = wait_for("the detached command to end", || first.try_wait().ok().flatten())?;
    if ended.code() != Some(0) {
        return Err(format!("Ctrl-C ended the command with {ended}"));
    }
    let released = release.to_owned();
    let command = pair.master.command(cell.scenario.command());
    let said = pair.folder.join("second");
    let second: Said = std::thread::scope(|scope| {
        let second = scope.spawn(|| finish(command, &said));
        // What it attaches to is held until it has.
        let attached = wait_for("the second command to attach", || {
            let told = std::fs::read_to_string(&said).unwrap_or_default();
            (told.contains("attached: this run began") || second.is_finished()).then_some(())
        });
        std::thread::sleep(Duration::from_millis(50));
        std::fs::write(released, "").map_err(told)?;
        let ended = second.join().map_err(|_| "the second command's thread panicked".to_owned())?;
        attached.and(ended)
    })?;
    match cell.scenario.is_done(&second) && second.text.contains("attached: this run began") {
        true => Ok(()),
        false => Err(format!("the second command did not attach and end well: {}", second.text)),
    }
}

fn outside_children(pid: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|text| text.parse().ok()).collect()
}
