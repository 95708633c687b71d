//! What the cells share: the tools, the disks from which they begin, and for each scenario the clean run that tells what its
//! cells are and what the end has to look like. A scenario's is made when the first cell asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use muster_proto::event::EventKind;
use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;
use serde_json::json;

use crate::cell::Cell;
use crate::enumeration::{all_are_named, enumerate, unasked};
use crate::machine::{Done, sweep, told, wait_for};
use crate::pair::{MASTER, Pair, WORKER, copy};
use crate::runs::Runs;
use crate::scenario::{ALONE, Scenario, Template};
use crate::snapshot::{self, Snapshot};
use crate::survey::{AGENT_JOURNAL, COORDINATOR_JOURNAL, Survey, events, events_of};
use crate::tools::{STAND_IN, Tools};

/// The first step that needs a prepared host.
const INIT: &str = "m1/kubeadm-init";

/// What all cells share.
pub struct World {
    pub folder: PathBuf,
    pub tools: Tools,
    bootstrap: Clean,
    others: [OnceLock<Done<Clean>>; Scenario::ALL.len()],
    alone: OnceLock<Done<()>>,
    /// The steps that come before `kubeadm init`.
    early: BTreeSet<StepId>,
}

/// A clean run of a scenario.
pub struct Clean {
    pub survey: Survey,
    /// How often each program was begun.
    pub begun: BTreeMap<(String, String), usize>,
    pub end: Snapshot,
}

impl World {
    /// Enrols two machines, runs a clean bootstrap, and keeps the disks as they were before it, before `kubeadm init`, and after it.
    pub fn make(folder: &Path, programs: &Path) -> Done<Self> {
        sweep()?;
        std::fs::create_dir_all(folder).map_err(told)?;
        let tools = Tools::lay_out(&folder.join("tools"), programs)?;
        let mut pair = Pair::new(&folder.join("first"), &tools, None, false)?;
        pair.switch_on(&tools)?;
        pair.enrol().map_err(|problem| format!("{problem}\n{}", pair.logs()))?;
        no_way_to_the_swaps(&pair)?;
        keep(folder, &mut pair, Template::Enrolled)?;
        pair.switch_on(&tools)?;
        let early = prepare(folder, &mut pair)?;
        drop(pair);
        let begin = folder.join(Template::Enrolled.word());
        let mut pair = Pair::new(&folder.join("clean"), &tools, Some(&begin), false)?;
        pair.switch_on(&tools)?;
        let bootstrap = clean_run(Scenario::Bootstrap, &pair)?;
        all_are_named(Scenario::Bootstrap, &bootstrap.survey)?;
        keep(folder, &mut pair, Template::Whole)?;
        let folder = folder.to_owned();
        Ok(Self { folder, tools, bootstrap, others: Default::default(), alone: OnceLock::new(), early })
    }

    /// The clean run of a scenario; whoever asks first makes it.
    pub fn clean(&self, scenario: Scenario) -> Done<&Clean> {
        if scenario == Scenario::Bootstrap {
            return Ok(&self.bootstrap);
        }
        let made = self.others[scenario as usize].get_or_init(|| {
            let template = self.disks(scenario.template(false))?;
            let place = self.folder.join(scenario.word());
            let mut pair = Pair::new(&place, &self.tools, Some(&template), false)?;
            pair.switch_on(&self.tools)?;
            let clean = clean_run(scenario, &pair)?;
            pair.power_off()?;
            all_are_named(scenario, &clean.survey)?;
            std::fs::remove_dir_all(&place).map_err(told)?;
            Ok(clean)
        });
        made.as_ref().map_err(|problem| format!("{}: {problem}", scenario.word()))
    }

    /// All cells of a scenario.
    pub fn cells(&self, scenario: Scenario) -> Done<Vec<Cell>> {
        Ok(enumerate(scenario, &self.clean(scenario)?.survey))
    }

    /// The kinds of step that one of these scenarios has to ask for, and does not.
    pub fn unasked(&self, scenarios: &[Scenario]) -> Done<Vec<StepKind>> {
        let mut lacking = Vec::new();
        for scenario in scenarios {
            lacking.extend(unasked(*scenario, &self.clean(*scenario)?.survey.steps));
        }
        Ok(lacking)
    }

    /// The disks from which the cell begins.
    pub fn template_for(&self, cell: &Cell) -> Done<PathBuf> {
        self.disks(cell.scenario.template(self.early.contains(&cell.step)))
    }

    fn disks(&self, template: Template) -> Done<PathBuf> {
        if template == Template::Alone {
            self.alone
                .get_or_init(|| {
                    let begin = self.folder.join(Template::Enrolled.word());
                    let mut pair = Pair::new(&self.folder.join("one"), &self.tools, Some(&begin), false)?;
                    pair.switch_on(&self.tools)?;
                    let said = pair.give(&ALONE)?;
                    match said.code() {
                        Some(0) => keep(&self.folder, &mut pair, template),
                        _ => Err(format!("the master alone did not finish: {}\n{}", said.text, pair.logs())),
                    }
                })
                .clone()?;
        }
        Ok(self.folder.join(template.word()))
    }
}

/// The kernel's list of swaps is one for all machines: no path of a machine leads to the programs that change it.
fn no_way_to_the_swaps(pair: &Pair) -> Done<()> {
    for machine in [&pair.master, &pair.worker] {
        for folder in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
            for name in ["swapon", "swapoff"] {
                let path = format!("{folder}/{name}");
                let found = machine.run(&["readlink", "-e", &path])?;
                if found.status.success() && found.text.trim() != STAND_IN {
                    return Err(format!("{path} of {} is the testing machine's own", machine.name));
                }
            }
        }
    }
    Ok(())
}

/// Holds a bootstrap before `kubeadm init` and keeps the disks; the steps that were done by then.
fn prepare(folder: &Path, pair: &mut Pair) -> Done<BTreeSet<StepId>> {
    let faults = pair.master.folder.join("faults");
    let held = json!({"point": "before-intent", "step": INIT, "nth": 1, "action": "hold"});
    std::fs::write(faults.join("armed.json"), held.to_string()).map_err(told)?;
    pair.wait_for_coordinator()?;
    let mut command = pair.master.command(Scenario::Bootstrap.command());
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
    keep(folder, pair, Template::Prepared)?;
    let mut early = BTreeSet::new();
    for name in [MASTER, WORKER] {
        let disk = folder.join(Template::Prepared.word()).join(name).join("disk");
        let journal = disk.join(AGENT_JOURNAL.trim_start_matches('/'));
        let events = events_of(&journal, &folder.join("copies"))?;
        let done = events.into_iter().filter(|event| matches!(event.kind, EventKind::Done { .. }));
        early.extend(done.map(|event| event.step));
    }
    Ok(early)
}

/// Switches the machines off in good order and keeps their disks.
fn keep(folder: &Path, pair: &mut Pair, template: Template) -> Done<()> {
    pair.master.must(&["systemctl", "stop", "muster-coordinator.service", "muster-agent.service"])?;
    pair.worker.must(&["systemctl", "stop", "muster-agent.service"])?;
    pair.power_off()?;
    for machine in [MASTER, WORKER] {
        let place = folder.join(template.word()).join(machine);
        std::fs::create_dir_all(&place).map_err(told)?;
        copy(&pair.folder.join(machine).join("disk"), &place.join("disk"))?;
    }
    Ok(())
}

/// The scenario's command to its end, and once more.
fn clean_run(scenario: Scenario, pair: &Pair) -> Done<Clean> {
    pair.wait_for_coordinator()?;
    begin(scenario, pair)?;
    let before = events(&pair.master, COORDINATOR_JOURNAL)?.len();
    let said = pair.give(scenario.command())?;
    if !scenario.is_done(&said) {
        return Err(format!("the clean run did not finish: {}\n{}", said.text, pair.logs()));
    }
    let again = pair.give(scenario.command())?;
    if !scenario.is_nothing(&again) {
        return Err(format!("after a clean run the same command says: {}\n{}", again.text, pair.logs()));
    }
    let begun = Runs::of(pair)?.begun();
    Ok(Clean { survey: Survey::after(pair, before)?, begun, end: snapshot::settled(pair)? })
}

/// Waits until the machines are what the scenario begins with.
pub fn begin(scenario: Scenario, pair: &Pair) -> Done<()> {
    match scenario.template(false) {
        Template::Whole => pair.wait_for_members(&[MASTER, WORKER]),
        Template::Alone => pair.wait_for_members(&[MASTER]),
        Template::Enrolled | Template::Prepared => Ok(()),
    }
}
