//! One cell: two machines, one fault, the same command again until it is done; then everything is looked at.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_proto::failpoint::Point;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::arm::{disk, fill, harm_journal, journal, prepare};
use crate::cell::{Cell, Kind, Side, Since};
use crate::converge::{converge, mend, named};
use crate::judgement::looks_clean;
use crate::machine::{Done, Said, told, wait_for};
use crate::pair::Pair;
use crate::watcher::Watcher;
use crate::world::{World, begin};

const STOPPED: Duration = Duration::from_millis(1_500);

/// Strikes and judges; an error tells what does not hold.
pub fn strike(cell: &Cell, world: &World, folder: &Path) -> Done<()> {
    let clean = world.clean(cell.scenario)?;
    let images = matches!(cell.kind, Kind::PowerLoss(_));
    let mut pair = Pair::new(folder, &world.tools, Some(&world.template_for(cell)?), images)?;
    prepare(cell, &pair, &clean.survey)?;
    pair.switch_on(&world.tools)?;
    pair.wait_for_coordinator()?;
    begin(cell.scenario, &pair)?;
    let leader = pair.master.leader();
    let socket = folder.join("status-leader");
    std::fs::write(&socket, leader.to_string()).map_err(told)?;
    let watcher = Watcher::start(move || {
        let leader = std::fs::read_to_string(&socket).unwrap_or_default();
        format!("/proc/{leader}/root/run/muster-coordinator/status.sock").into()
    });
    let outcome = through(cell, world, &mut pair, folder);
    let seen = watcher.stop();
    let outcome = outcome.and_then(|()| match (seen.looks, seen.backwards.first()) {
        (0, _) => Err("the status was never seen".to_owned()),
        // Whose journal was moved away has nothing to tell any more.
        (_, Some(_)) if matches!(cell.kind, Kind::Journal(_, Side::Coordinator)) => Ok(()),
        (_, Some(backwards)) => Err(format!("the status went backwards: {backwards}")),
        _ => Ok(()),
    });
    let outcome = outcome.map_err(|problem| format!("{problem}\n{}", pair.logs()));
    if let (Err(problem), Some(seconds)) =
        (&outcome, std::env::var("HOLD").ok().and_then(|text| text.parse().ok()))
    {
        eprintln!(
            "held for {seconds} s, PID 1 is {} and {}: {problem}",
            pair.master.leader(),
            pair.worker.leader()
        );
        std::thread::sleep(Duration::from_secs(seconds));
    }
    pair.power_off()?;
    outcome
}

/// Arms the fault, runs the command while it strikes, repeats it until it is done, and looks.
fn through(cell: &Cell, world: &World, pair: &mut Pair, folder: &Path) -> Done<()> {
    let mut first = pair.master.command(cell.scenario.command());
    let said = folder.join("first");
    let output = std::fs::File::create(&said).map_err(told)?;
    first.stdout(output.try_clone().map_err(told)?).stderr(output);
    let mut first = first.stdin(Stdio::null()).spawn().map_err(told)?;
    let struck = during(cell, world, pair, folder, &mut first);
    if struck.is_err() {
        let _ = first.kill();
    }
    struck.map_err(|problem| {
        format!("{problem}; the first command said: {}", std::fs::read_to_string(&said).unwrap_or_default())
    })?;
    let status =
        wait_for("the end of the first command", || first.try_wait().ok().flatten()).map_err(|problem| {
            format!("{problem}; it said: {}", std::fs::read_to_string(&said).unwrap_or_default())
        })?;
    let text = std::fs::read_to_string(&said).unwrap_or_default();
    let said = Said { status, text };
    named(cell, &said)?;
    mend(cell, pair)?;
    let clean = world.clean(cell.scenario)?;
    converge(cell, &clean.survey, pair, &said)?;
    looks_clean(cell, clean, pair)
}

/// The fault, while the first command runs.
fn during(cell: &Cell, world: &World, pair: &mut Pair, folder: &Path, first: &mut Child) -> Done<()> {
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
    let unit = match cell.kind {
        Kind::Stop(point) if Point::OF_THE_COORDINATOR.contains(&point) => "muster-coordinator.service",
        Kind::Journal(_, Side::Coordinator) => "muster-coordinator.service",
        _ => "muster-agent.service",
    };
    match cell.kind {
        Kind::PowerLoss(_) => {
            // What happens after the copy would otherwise be seen, and then be lost.
            machine.freeze();
            let disk = machine.folder.join("disk.img");
            let copied = machine.folder.join("disk.copy");
            let ended =
                Command::new("cp").arg("--sparse=always").args([&disk, &copied]).status().map_err(told)?;
            if !ended.success() {
                return Err(format!("cp: {ended}"));
            }
            pair.cut_power(&node)?;
            std::fs::rename(copied, disk).map_err(told)?;
            pair.switch_on_again(&node, &world.tools)?;
            std::fs::write(folder.join("status-leader"), pair.master.leader().to_string()).map_err(told)?;
        }
        Kind::Stop(_) => {
            let process = Pid::from_raw(machine.main_process(unit)?);
            std::thread::sleep(STOPPED);
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
        Kind::Detach => {
            let cli = pair.master.processes_named("coordinator", cell.scenario.command()[1]);
            for process in outside_children(first.id()).into_iter().chain(cli) {
                let _ = kill(Pid::from_raw(process), Signal::SIGINT);
            }
            let ended = wait_for("the detached command to end", || first.try_wait().ok().flatten())?;
            if ended.code() != Some(0) {
                return Err(format!("Ctrl-C ended the command with {ended}"));
            }
            let mut second = pair.master.command(cell.scenario.command());
            let mut second = second.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(told)?;
            std::thread::sleep(Duration::from_millis(200));
            std::fs::write(release, "").map_err(told)?;
            let ended = wait_for("the end of the second command", || second.try_wait().ok().flatten())?;
            if ended.code() != Some(0) {
                return Err(format!("the command that attached ended with {ended}"));
            }
        }
        Kind::Journal(harm, side) => {
            let process = machine.main_process(unit)?;
            harm_journal(&machine.inside(journal(side)), harm)?;
            kill(Pid::from_raw(process), Signal::SIGKILL).map_err(told)?;
        }
        _ => {}
    }
    Ok(())
}

fn outside_children(pid: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|text| text.parse().ok()).collect()
}
