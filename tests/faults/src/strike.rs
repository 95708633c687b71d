//! One cell: two machines, one fault, the same command again until it is done; then everything is looked at.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use muster_proto::step_kind::StepKind;
use muster_proto::transport::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};

use crate::arm::prepare;
use crate::cell::{Cell, Harm, Kind, Side};
use crate::converge::{converge, mend};
use crate::during::during;
use crate::first::ends_as_promised;
use crate::judgement::looks_clean;
use crate::machine::{Done, Said, told, wait_for};
use crate::pair::Pair;
use crate::proof::struck;
use crate::scenario::Scenario;
use crate::watcher::Watcher;
use crate::world::{World, begin};

/// Shorter than a connection lives without a sign of life.
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
        (_, Some(_)) if loses_the_record(cell) => Ok(()),
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

fn loses_the_record(cell: &Cell) -> bool {
    matches!(cell.kind, Kind::Journal(Harm::Corrupt | Harm::Truncated, Side::Coordinator))
}

/// Arms the fault, runs the command while it strikes, repeats it until it is done, and looks.
fn through(cell: &Cell, world: &World, pair: &mut Pair, folder: &Path) -> Done<()> {
    let mut first = pair.master.command(cell.scenario.command());
    let said = folder.join("first");
    let output = std::fs::File::create(&said).map_err(told)?;
    first.stdout(output.try_clone().map_err(told)?).stderr(output);
    let mut first = first.stdin(Stdio::null()).spawn().map_err(told)?;
    let striking = during(cell, world, pair, folder, &mut first);
    if striking.is_err() {
        let _ = first.kill();
    }
    striking.map_err(|problem| {
        format!("{problem}; the first command said: {}", std::fs::read_to_string(&said).unwrap_or_default())
    })?;
    let status =
        wait_for("the end of the first command", || first.try_wait().ok().flatten()).map_err(|problem| {
            format!("{problem}; it said: {}", std::fs::read_to_string(&said).unwrap_or_default())
        })?;
    let text = std::fs::read_to_string(&said).unwrap_or_default();
    let said = Said { status, text };
    ends_as_promised(cell, &said)?;
    struck(cell, pair)?;
    mend(cell, pair)?;
    let clean = world.clean(cell.scenario)?;
    converge(cell, &clean.survey, pair, &said)?;
    looks_clean(cell, clean, pair)
}

/// Whether a process is stopped for longer than a connection lives without a sign of life: where it costs most, and on each
/// side. Elsewhere the connection survives.
pub fn is_long(cell: &Cell) -> bool {
    let central = matches!(cell.step.kind(), Some(StepKind::KubeadmInit | StepKind::KubeadmJoin));
    matches!(cell.kind, Kind::Stop(_)) && cell.scenario == Scenario::Bootstrap && central
}

pub fn stopped_for(cell: &Cell) -> Duration {
    if is_long(cell) { KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + STOPPED } else { STOPPED }
}
