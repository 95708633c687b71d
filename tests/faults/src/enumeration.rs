//! The cells, enumerated from what a clean run did: every step with an effect, every change of it, every point. A new step
//! joins by itself; one without an effect has to be named here, and a point that is reached nowhere fails its cells.

use muster_proto::failpoint::Point;

use crate::cell::{Cell, Harm, Kind, Place, Side, Since};
use crate::pair::{MASTER, WORKER};
use crate::scenario::Scenario;
use crate::stand_in::memory::How;
use crate::survey::Survey;

/// Steps that only look: there is nothing of theirs that a crash could leave half done.
pub const ONLY_LOOK: [&str; 5] = ["images", "join-ticket", "node-network", "nodes-ready", "smoke-answer"];

/// Every cell of a scenario, given what its clean run did.
pub fn enumerate(scenario: Scenario, survey: &Survey) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (step, changes) in survey.changes.iter().filter(|(step, _)| scenario.contributes(step)) {
        for nth in 1..=changes.len() as u32 {
            cells.extend(Point::OF_THE_AGENT.map(|point| Cell::new(Kind::Kill(point), step, nth)));
            for point in [Point::AfterIntent, Point::MidEffect, Point::EffectDone, Point::ResultRecorded] {
                cells.push(Cell::new(Kind::PowerLoss(point), step, nth));
            }
        }
        for point in [Point::BeforeIntent, Point::MidEffect, Point::ResultRecorded] {
            cells.push(Cell::new(Kind::Cut(point), step, changes.len() as u32));
        }
        cells.push(Cell::new(Kind::Stop(Point::MidEffect), step, changes.len() as u32));
        if let Some(position) = survey.program(step) {
            let nth = position as u32 + 1;
            for ms in [60, 160] {
                cells.push(Cell::new(Kind::KillLater(ms), step, nth));
            }
            for how in [How::Fails, How::FailsThoughItWorked, How::HangsSilent, How::HangsChatty] {
                cells.push(Cell::new(Kind::Program(how), step, nth));
            }
        }
    }
    for step in survey.steps.iter().filter(|step| scenario.contributes(step)) {
        cells.extend(Point::OF_THE_COORDINATOR.map(|point| Cell::new(Kind::Kill(point), step, 1)));
        cells.push(Cell::new(Kind::Replay, step, 1));
    }
    match scenario {
        Scenario::Bootstrap => cells.extend(of_a_bootstrap(survey)),
        Scenario::Reset => cells.extend(of_a_reset(survey)),
        _ => {}
    }
    cells.iter_mut().for_each(|cell| cell.scenario = scenario);
    cells
}

/// Faults that are no step's own, struck where they hurt most.
fn of_a_bootstrap(survey: &Survey) -> Vec<Cell> {
    let mut cells = Vec::new();
    let step = |node: &str, name: &str| survey.steps.iter().find(|id| id.node() == node && id.step() == name);
    let (init, join) = (step(MASTER, "kubeadm-init"), step(WORKER, "kubeadm-join"));
    for id in [init, join].into_iter().flatten() {
        let nth = survey.changes.get(id).map_or(1, |changes| changes.len() as u32);
        for point in Point::OF_THE_AGENT {
            cells.push(Cell { speaks_as_1_36: true, ..Cell::new(Kind::Kill(point), id, nth) });
        }
        cells.push(Cell::new(Kind::Stop(Point::Sent), id, 1));
        cells.push(Cell::new(Kind::Detach, id, nth));
        for seconds in [7200, -7200] {
            for since in [Since::TheBeginning, Since::MidEffect] {
                cells.push(Cell::new(Kind::Clock(seconds, since), id, nth));
            }
        }
    }
    for id in [step(MASTER, "hosts"), step(WORKER, "hosts"), step(MASTER, "kernel"), step(WORKER, "kernel")]
        .into_iter()
        .flatten()
    {
        for place in [Place::AgentState, Place::CoordinatorState, Place::Target] {
            cells.push(Cell::new(Kind::DiskFull(place), id, 1));
        }
    }
    for id in [init, step(WORKER, "hosts")].into_iter().flatten() {
        for side in [Side::Agent, Side::Coordinator] {
            for harm in [Harm::Corrupt, Harm::Truncated, Harm::Newer] {
                cells.push(Cell::new(Kind::Journal(harm, side), id, 1));
            }
        }
    }
    cells
}

/// A journal of an agent that is lost takes the before-images along: what a reset does then is not what a clean one does.
fn of_a_reset(survey: &Survey) -> Vec<Cell> {
    let mut cells = Vec::new();
    let of = |name: &'static str| survey.steps.iter().filter(move |id| id.step() == name);
    for id in of("kubeadm-reset") {
        cells.push(Cell::new(Kind::Stop(Point::Sent), id, 1));
        cells.push(Cell::new(Kind::Detach, id, 1));
        for harm in [Harm::Corrupt, Harm::Truncated, Harm::Newer] {
            cells.push(Cell::new(Kind::Journal(harm, Side::Coordinator), id, 1));
        }
    }
    for id in of("restore") {
        for place in [Place::AgentState, Place::CoordinatorState, Place::Target] {
            cells.push(Cell::new(Kind::DiskFull(place), id, 1));
        }
    }
    cells
}
