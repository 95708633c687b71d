//! One cell: two machines, one fault, the same command again until it is done; then everything is looked at.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_proto::failpoint::Point;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cell::{Cell, Harm, Kind, Place, Side, Since};
use crate::judgement::{Memory, looks_clean};
use crate::machine::{Done, Said, told, wait_for};
use crate::matrix::World;
use crate::pair::{BOOTSTRAP, MASTER, Pair, machine_letter};
use crate::stand_in::memory::{How, Misbehaviour};
use crate::survey::{AGENT_JOURNAL, COORDINATOR_JOURNAL};
use crate::watcher::Watcher;

/// How often the same command may be needed: once more for every process that the fault ends, and once to be sure.
const MOST_RUNS: u32 = 4;
/// For the time limit of a program that hangs, and for an agent that does not come back.
const SHORT_MS: u32 = 3_000;
const STOPPED: Duration = Duration::from_millis(1_500);

/// Strikes and judges; an error tells what does not hold.
pub fn strike(cell: &Cell, world: &World, folder: &Path) -> Done<()> {
    let images = matches!(cell.kind, Kind::PowerLoss(_));
    let mut pair = Pair::new(folder, &world.tools, Some(&world.template_for(&cell.step)), images)?;
    prepare(cell, &pair)?;
    pair.switch_on(&world.tools)?;
    pair.wait_for_coordinator()?;
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
    let mut first = pair.master.command(&BOOTSTRAP);
    let said = folder.join("first");
    let output = std::fs::File::create(&said).map_err(told)?;
    first.stdout(output.try_clone().map_err(told)?).stderr(output);
    let mut first = first.stdin(Stdio::null()).spawn().map_err(told)?;
    let struck = during(cell, world, pair, folder, &mut first);
    if struck.is_err() {
        let _ = first.kill();
    }
    struck.map_err(|problem| {
        format!("{problem}; the first bootstrap said: {}", std::fs::read_to_string(&said).unwrap_or_default())
    })?;
    let status = wait_for("the end of the first bootstrap", || first.try_wait().ok().flatten()).map_err(
        |problem| format!("{problem}; it said: {}", std::fs::read_to_string(&said).unwrap_or_default()),
    )?;
    let text = std::fs::read_to_string(&said).unwrap_or_default();
    let said = Said { status, text };
    named(cell, &said)?;
    mend(cell, pair)?;
    converge(cell, pair, &said)?;
    looks_clean(cell, world, pair)
}

/// What has to stand there before the machines are switched on, or the command is run.
fn prepare(cell: &Cell, pair: &Pair) -> Done<()> {
    let put = |path: &Path, text: &str| std::fs::write(path, text).map_err(told);
    if cell.speaks_as_1_36 {
        put(&pair.memory.join("speaks-as-1.36.2"), "")?;
    }
    let machine = pair.machine(cell.armed_on());
    let faults = machine.folder.join("faults");
    match cell.kind {
        Kind::Program(how) => {
            let (program, verb) = program_of(cell);
            let wanted = Misbehaviour {
                program: program.to_owned(),
                verb: verb.to_owned(),
                machine: machine_letter(cell.step.node()).to_owned(),
                how,
            };
            put(&pair.memory.join("misbehave.json"), &serde_json::to_string(&wanted).map_err(told)?)?;
            if matches!(how, How::HangsChatty | How::HangsSilent) {
                put(&faults.join("limit-ms"), &SHORT_MS.to_string())?;
            }
            return Ok(());
        }
        Kind::DiskFull(place) => {
            let (file, size) = match place {
                Place::AgentState => ("tiny-state", "2m"),
                // Room for the journal of whole runs, and for what SQLite keeps beside it, once the filler is gone.
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

/// The stand-in's program and verb of the step.
fn program_of(cell: &Cell) -> (&'static str, &'static str) {
    match cell.step.step() {
        "kubeadm-init" => ("kubeadm", "init"),
        "kubeadm-join" => ("kubeadm", "join"),
        "firewall" => ("ufw", "disable"),
        _ => ("kubectl", "apply"),
    }
}

/// The fault, while the first bootstrap runs.
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
            pair.machine_mut(&node).power_off()?;
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
            fill(&machine.inside(filler(place)))?;
            std::fs::write(release, "").map_err(told)?;
        }
        Kind::Clock(seconds, Since::MidEffect) => {
            std::fs::write(machine.folder.join("faults/clock"), seconds.to_string()).map_err(told)?;
            std::fs::write(release, "").map_err(told)?;
        }
        Kind::Detach => {
            let cli = pair.master.processes_named("coordinator", "bootstrap");
            for process in outside_children(first.id()).into_iter().chain(cli) {
                let _ = kill(Pid::from_raw(process), Signal::SIGINT);
            }
            let ended = wait_for("the detached command to end", || first.try_wait().ok().flatten())?;
            if ended.code() != Some(0) {
                return Err(format!("Ctrl-C ended the command with {ended}"));
            }
            let mut second = pair.master.command(&BOOTSTRAP);
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

fn journal(side: Side) -> &'static str {
    match side {
        Side::Agent => AGENT_JOURNAL,
        Side::Coordinator => COORDINATOR_JOURNAL,
    }
}

fn filler(place: Place) -> &'static str {
    match place {
        Place::AgentState => "/var/lib/muster-agent/filler",
        Place::CoordinatorState => "/var/lib/muster-coordinator/filler",
        Place::Target => "/etc/filler",
    }
}

/// Writes until nothing more fits.
fn fill(path: &Path) -> Done<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path).map_err(told)?;
    for size in [4096, 1] {
        while file.write(&vec![b'x'; size]).is_ok() {}
    }
    Ok(())
}

fn harm_journal(path: &Path, harm: Harm) -> Done<()> {
    let ends = |end: &str| std::path::PathBuf::from(format!("{}{end}", path.display()));
    match harm {
        Harm::Corrupt => {
            let size = std::fs::metadata(path).map_err(told)?.len().max(4096) as usize;
            std::fs::write(path, vec![0x5a; size]).map_err(told)?;
        }
        Harm::Truncated => {
            let file = std::fs::OpenOptions::new().write(true).open(path).map_err(told)?;
            file.set_len(1000).map_err(told)?;
        }
        Harm::Newer => {
            // user_version stands at byte 60 of the first page.
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new().write(true).open(path).map_err(told)?;
            file.write_all_at(&9_i32.to_be_bytes(), 60).map_err(told)?;
        }
    }
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(ends(end));
    }
    Ok(())
}

/// What the first command may say: a failure has to name something that a person can act on.
fn named(cell: &Cell, said: &Said) -> Done<()> {
    let wanted = match cell.kind {
        Kind::DiskFull(_) => "No space left|is the disk full|database or disk is full",
        Kind::Program(How::Fails | How::FailsThoughItWorked) => "as the test wants",
        Kind::Program(_) => "time limit",
        Kind::Clock(_, Since::TheBeginning) => {
            // The check before a bootstrap refuses it; otherwise the clock was not wrong at all.
            let wanted = ["the clock of", "s ahead of the coordinator's", "s behind the coordinator's"];
            let told =
                said.text.contains(wanted[0]) && wanted[1..].iter().any(|words| said.text.contains(words));
            return match told && said.code() == Some(3) {
                true => Ok(()),
                false => Err(format!("the wrong clock is not told: {}", said.text)),
            };
        }
        _ => return Ok(()),
    };
    let fails = said.code() != Some(0);
    match fails && !wanted.split('|').any(|word| said.text.contains(word)) {
        true => Err(format!("the failure does not name its cause ({wanted}): {}", said.text)),
        false => Ok(()),
    }
}

/// What a person does about the cause; nothing for a crash.
fn mend(cell: &Cell, pair: &Pair) -> Done<()> {
    for machine in [&pair.master, &pair.worker] {
        let _ = std::fs::remove_file(machine.folder.join("faults/limit-ms"));
    }
    let machine = pair.machine(cell.armed_on());
    match cell.kind {
        Kind::Clock(..) => std::fs::write(machine.folder.join("faults/clock"), "0").map_err(told),
        Kind::DiskFull(place) => std::fs::remove_file(machine.inside(filler(place))).map_err(told),
        Kind::Journal(_, side) => {
            // "move the file away"
            let unit =
                if side == Side::Agent { "muster-agent.service" } else { "muster-coordinator.service" };
            machine.must(&["systemctl", "stop", unit])?;
            let path = machine.inside(journal(side));
            for end in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", path.display()));
            }
            machine.must(&["systemctl", "start", unit]).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// The same command until it is done, and then once more: nothing is left to do. A reset only where the design names it:
/// a `kubeadm init` that lost its power half-way.
fn converge(cell: &Cell, pair: &Pair, first: &Said) -> Done<()> {
    let (mut resets, mut said, mut runs) = (0, first.clone(), 1);
    while said.code() != Some(0) || !said.text.contains("done: ") {
        if runs == MOST_RUNS {
            return Err(format!("run {runs} of the same command still says: {}", said.text));
        }
        runs += 1;
        said = pair.bootstrap()?;
        if said.text.contains("nothing to do") {
            break;
        }
        let remedy = format!("coordinator reset --node {MASTER}");
        if said.text.contains(&remedy) && resets == 0 && may_reset(cell) {
            resets += 1;
            pair.master.must(&["coordinator", "reset", "--node", MASTER, "--confirm", "faults"])?;
        }
    }
    let again = pair.bootstrap()?;
    match again.code() == Some(0) && again.text.contains("nothing to do") {
        true => Ok(()),
        false => Err(format!("over a finished cluster the same command says: {}", again.text)),
    }
}

fn may_reset(cell: &Cell) -> bool {
    matches!(cell.kind, Kind::PowerLoss(_)) && cell.step.step() == "kubeadm-init"
}

impl Memory {
    /// How often init may have been begun: a begun one is cut off by a power loss or fails as the test wants.
    pub fn allows_repeats(cell: &Cell) -> bool {
        matches!(cell.kind, Kind::PowerLoss(_) | Kind::Program(_))
    }
}
