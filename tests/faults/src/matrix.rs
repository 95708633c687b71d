//! All of it: the tools, the templates from which every cell begins, the clean run that tells what the cells are and what
//! the end has to look like, and the cells, several at once since most of their time is waiting.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster_proto::event::EventKind;
use muster_proto::names::StepId;
use serde_json::json;

use crate::cell::{Cell, ONLY_LOOK, enumerate};
use crate::machine::{Done, sweep, told, wait_for};
use crate::pair::{MASTER, Pair, WORKER, copy};
use crate::snapshot::{self, Snapshot};
use crate::strike::strike;
use crate::survey::{AGENT_JOURNAL, Survey, events, events_of};
use crate::tools::Tools;

/// The first step that needs a prepared host.
const INIT: &str = "m1/kubeadm-init";

/// What all cells share.
pub struct World {
    pub folder: PathBuf,
    pub tools: Tools,
    pub survey: Survey,
    pub clean: Snapshot,
    /// The steps that come before `kubeadm init`.
    early: BTreeSet<StepId>,
}

/// How a cell ended.
pub struct Ended {
    pub cell: Cell,
    pub problem: Option<String>,
    pub took: Duration,
}

impl World {
    /// Enrols two machines, runs a clean bootstrap, and keeps the disks as they were before it and before `kubeadm init`.
    pub fn make(folder: &Path, programs: &Path) -> Done<Self> {
        sweep()?;
        std::fs::create_dir_all(folder).map_err(told)?;
        let tools = Tools::lay_out(&folder.join("tools"), programs)?;
        let mut pair = Pair::new(&folder.join("first"), &tools, None, false)?;
        pair.switch_on(&tools)?;
        pair.enrol().map_err(|problem| format!("{problem}\n{}", pair.logs()))?;
        let stop = |pair: &mut Pair, name: &str| -> Done<()> {
            pair.master.must(&["systemctl", "stop", "muster-coordinator.service", "muster-agent.service"])?;
            pair.worker.must(&["systemctl", "stop", "muster-agent.service"])?;
            pair.power_off()?;
            for machine in [MASTER, WORKER] {
                let place = folder.join(name).join(machine);
                std::fs::create_dir_all(&place).map_err(told)?;
                copy(&pair.folder.join(machine).join("disk"), &place.join("disk"))?;
            }
            Ok(())
        };
        stop(&mut pair, "enrolled")?;
        pair.switch_on(&tools)?;
        let faults = pair.master.folder.join("faults");
        let held = json!({"point": "before-intent", "step": INIT, "nth": 1, "action": "hold"});
        std::fs::write(faults.join("armed.json"), held.to_string()).map_err(told)?;
        pair.wait_for_coordinator()?;
        let mut command = pair.master.command(&crate::pair::BOOTSTRAP);
        let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(told)?;
        // The worker, too, does what comes before its join; what it has done by now is what counts.
        let fired = wait_for("the hosts to be prepared", || faults.join("fired.json").exists().then_some(()));
        let (mut last, mut quiet) = (0, 0);
        let prepared = fired.and_then(|()| {
            wait_for("the worker to be prepared", || {
                std::thread::sleep(Duration::from_millis(300));
                let now = events(&pair.worker, AGENT_JOURNAL).map_or(0, |events| events.len());
                quiet = if now == last && now > 0 { quiet + 1 } else { 0 };
                last = now;
                (quiet == 4).then_some(())
            })
        });
        let _ = command.kill();
        let _ = command.wait();
        prepared.map_err(|problem| format!("{problem}\n{}", pair.logs()))?;
        stop(&mut pair, "prepared")?;
        let mut early = BTreeSet::new();
        for name in [MASTER, WORKER] {
            let disk = folder.join("prepared").join(name).join("disk");
            let journal = disk.join(AGENT_JOURNAL.trim_start_matches('/'));
            let events = events_of(&journal, &folder.join("copies"))?;
            let done = events.into_iter().filter(|event| matches!(event.kind, EventKind::Done { .. }));
            early.extend(done.map(|event| event.step));
        }
        drop(pair);
        let mut pair = Pair::new(&folder.join("clean"), &tools, Some(&folder.join("enrolled")), false)?;
        pair.switch_on(&tools)?;
        let said = pair.bootstrap()?;
        if said.code() != Some(0) {
            return Err(format!("the clean run did not finish: {}\n{}", said.text, pair.logs()));
        }
        pair.bootstrap()?;
        let survey = Survey::of(&pair)?;
        let clean = snapshot::of(&pair)?;
        pair.power_off()?;
        named(&survey)?;
        Ok(Self { folder: folder.to_owned(), tools, survey, clean, early })
    }

    /// Steps before `kubeadm init` begin with fresh machines, those after it with prepared ones.
    pub fn template_for(&self, step: &StepId) -> PathBuf {
        self.folder.join(if self.early.contains(step) { "enrolled" } else { "prepared" })
    }
}

/// Every step without an effect has to be one that only looks: otherwise its cells would be missing in silence.
fn named(survey: &Survey) -> Done<()> {
    let silent = survey.steps.iter().filter(|step| !survey.changes.contains_key(*step));
    let unknown: Vec<&str> =
        silent.filter(|step| !ONLY_LOOK.contains(&step.step())).map(StepId::as_str).collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "steps that changed nothing in a clean run, and are not among those that only look: {}",
            unknown.join(", ")
        )),
    }
}

/// All cells of this world.
pub fn cells(world: &World) -> Vec<Cell> {
    enumerate(&world.survey)
}

/// Runs the cells, so many at once, and tells of each that fails how to repeat it.
pub fn run(world: &World, cells: Vec<Cell>, at_once: usize, tell: impl Fn(&Ended) + Sync) -> Vec<Ended> {
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(number) else { return };
                    let folder = world.folder.join(format!("cell-{number}"));
                    let began = Instant::now();
                    let problem = strike(cell, world, &folder).err();
                    if std::env::var_os("KEEP").is_none() {
                        let _ = std::fs::remove_dir_all(&folder);
                    }
                    let one = Ended { cell: cell.clone(), problem, took: began.elapsed() };
                    tell(&one);
                    if let Ok(mut ended) = ended.lock() {
                        ended.push(one);
                    }
                }
            });
        }
    });
    ended.into_inner().unwrap_or_default()
}
