//! The cells, enumerated from what a clean run did: every step with an effect, every change of it, every point. A new step
//! joins by itself; one without an effect has to be named here, and a point that is reached nowhere fails its cells.

use std::collections::BTreeSet;

use muster_proto::failpoint::Point;
use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;

use crate::cell::{Cell, Harm, Kind, Place, Side, Since};
use crate::machine::Done;
use crate::pair::{MASTER, WORKER};
use crate::scenario::Scenario;
use crate::stand_in::memory::How;
use crate::survey::Survey;

/// Steps that changed nothing in the clean run of a scenario, each by its node: there is nothing of theirs that a crash could
/// leave half done. The same step on another node, or in another scenario, has to have an effect there.
pub const ONLY_LOOK: [(Scenario, &str, &str); 8] = [
    (Scenario::Bootstrap, "m1/images", "Muster pulls none"),
    (Scenario::Bootstrap, "w1/images", "Muster pulls none"),
    (Scenario::Bootstrap, "m1/join-ticket", "kubeadm init has just printed one; `add-w1` mints one"),
    (Scenario::Bootstrap, "m1/node-network", "waits; the master's kubelet is never started anew"),
    (Scenario::Bootstrap, "m1/nodes-ready", "waits"),
    (Scenario::Bootstrap, "m1/addons", "waits for what kubeadm itself applied"),
    (Scenario::Bootstrap, "m1/smoke-answer", "asks the pods"),
    (Scenario::Bootstrap, "w1/smoke-answer", "asks the pods"),
];

/// The kinds of step that this scenario has to ask for, and whose steps are not among these of its clean run: their cells
/// would be missing in silence.
pub fn unasked<'a>(scenario: Scenario, steps: impl IntoIterator<Item = &'a StepId>) -> Vec<StepKind> {
    let seen: BTreeSet<StepKind> = steps.into_iter().filter_map(StepId::kind).collect();
    let lacks = |kind: &StepKind| scenario_of(*kind) == scenario && !seen.contains(kind);
    StepKind::ALL.iter().copied().filter(lacks).collect()
}

/// The scenario in whose clean run a kind shows its effect. A new kind does not compile until it is said here which one asks
/// for it, and the matrix fails until that scenario does.
pub fn scenario_of(kind: StepKind) -> Scenario {
    use StepKind as K;
    match kind {
        K::Hostname | K::Hosts | K::Swap | K::Firewall | K::Kernel | K::Packages | K::Runtime => {
            Scenario::Bootstrap
        }
        K::Images | K::Kubelet | K::KubeadmInit | K::Kubeconfig | K::PodNetwork | K::Untaint => {
            Scenario::Bootstrap
        }
        K::KubeadmJoin | K::KubeletIdentity | K::NodeNetwork | K::NodesReady => Scenario::Bootstrap,
        K::RevokeTickets | K::Addons | K::SmokeTest | K::SmokeAnswer => Scenario::Bootstrap,
        K::JoinTicket => Scenario::AddWorker,
        K::SmokeCleanup => Scenario::SmokeOnce,
        K::KubeadmReset | K::NetworkLeftovers | K::Restore => Scenario::Reset,
        K::DrainNode | K::ForgetNode => Scenario::Remove,
        K::CoordinatorPort => Scenario::OpenPort,
    }
}

/// Every step without an effect has to be one that only looks: otherwise its cells would be missing in silence. And who is
/// excused from having an effect has to be there, and to have none.
pub fn all_are_named(scenario: Scenario, survey: &Survey) -> Done<()> {
    let excused = |id: &StepId| ONLY_LOOK.iter().any(|(of, step, _)| *of == scenario && *step == id.as_str());
    let steps = survey.steps.iter().filter(|step| scenario.contributes(step));
    let silent: Vec<&StepId> = steps.filter(|step| !survey.changes.contains_key(*step)).collect();
    let unknown: Vec<&str> = silent.iter().filter(|id| !excused(id)).map(|id| id.as_str()).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "steps that changed nothing in a clean run, and are not among those that only look: {}",
            unknown.join(", ")
        ));
    }
    let is_silent = |step: &str| silent.iter().any(|id| id.as_str() == step);
    let wrong: Vec<&str> = ONLY_LOOK
        .iter()
        .filter(|(of, step, _)| *of == scenario && !is_silent(step))
        .map(|(_, step, _)| *step)
        .collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "steps that are said to only look, and do not or are not there: {}",
            wrong.join(", ")
        )),
    }
}

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
            cells.push(Cell::new(Kind::Cut(point), step, survey.weightiest(step)));
        }
        let nth = survey.weightiest(step);
        cells.push(Cell::new(Kind::Stop(Point::MidEffect), step, nth));
        if survey.program(step).is_some() {
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
    let step = |node: &str, kind| survey.steps.iter().find(|id| id.node() == node && id.kind() == Some(kind));
    let (init, join) = (step(MASTER, StepKind::KubeadmInit), step(WORKER, StepKind::KubeadmJoin));
    for id in [init, join].into_iter().flatten() {
        let nth = survey.weightiest(id);
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
    for id in [StepKind::Hosts, StepKind::Kernel]
        .into_iter()
        .flat_map(|kind| [MASTER, WORKER].map(|node| step(node, kind)))
        .flatten()
    {
        cells.extend(full_disks(id, survey));
    }
    for id in [init, step(WORKER, StepKind::Hosts)].into_iter().flatten() {
        for side in [Side::Agent, Side::Coordinator] {
            for harm in [Harm::Corrupt, Harm::Truncated, Harm::Newer] {
                cells.push(Cell::new(Kind::Journal(harm, side), id, 1));
            }
        }
    }
    cells
}

/// Each disk full at the step's first change; the one that the change writes to, at the first that does.
fn full_disks(step: &StepId, survey: &Survey) -> Vec<Cell> {
    let of = |place, nth| Cell::new(Kind::DiskFull(place), step, nth);
    let target = survey.writes_to_etc(step).map(|nth| of(Place::Target, nth));
    [of(Place::AgentState, 1), of(Place::CoordinatorState, 1)].into_iter().chain(target).collect()
}

/// A journal of an agent that is lost takes the before-images along: what a reset does then is not what a clean one does.
fn of_a_reset(survey: &Survey) -> Vec<Cell> {
    let mut cells = Vec::new();
    let of = |kind| survey.steps.iter().filter(move |id| id.kind() == Some(kind));
    for id in of(StepKind::KubeadmReset) {
        cells.push(Cell::new(Kind::Stop(Point::Sent), id, 1));
        cells.push(Cell::new(Kind::Detach, id, 1));
        for harm in [Harm::Corrupt, Harm::Truncated, Harm::Newer] {
            cells.push(Cell::new(Kind::Journal(harm, Side::Coordinator), id, 1));
        }
    }
    for id in of(StepKind::Restore) {
        cells.extend(full_disks(id, survey));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::Made;

    fn survey(silent: &[&str]) -> Survey {
        let made = Made { summary: String::new(), program: None };
        let id = |step: &str| -> StepId { step.parse().unwrap() };
        let looks = ONLY_LOOK.iter().map(|(_, step, _)| id(step));
        let mut survey =
            Survey { steps: looks.chain(silent.iter().map(|step| id(step))).collect(), ..Survey::default() };
        survey.steps.push(id("m1/swap"));
        survey.changes.insert(id("m1/swap"), vec![made]);
        survey
    }

    #[test]
    fn a_step_that_has_no_effect_any_more_is_not_lost_in_silence() {
        assert_eq!(all_are_named(Scenario::Bootstrap, &survey(&[])), Ok(()));
        let error = all_are_named(Scenario::Bootstrap, &survey(&["w1/node-network"])).unwrap_err();
        assert!(error.ends_with(": w1/node-network"), "{error}");
        assert!(all_are_named(Scenario::Reset, &survey(&[])).is_err());
        assert!(all_are_named(Scenario::Bootstrap, &Survey::default()).unwrap_err().contains("m1/images"));
    }

    #[test]
    fn a_kind_of_step_that_no_scenario_asks_for_is_named() {
        let step = |id: &str| -> StepId { id.parse().unwrap() };
        let all = ["m1/drain-node.w1", "m1/forget-node.w1", "w1/kubeadm-reset"].map(step);
        assert_eq!(unasked(Scenario::Remove, &all), []);
        assert_eq!(unasked(Scenario::Remove, &all[1..]), [StepKind::DrainNode]);
        for scenario in Scenario::ALL {
            let of = StepKind::ALL.iter().copied().filter(|kind| scenario_of(*kind) == scenario);
            match scenario.only_step() {
                Some(only) => assert!(of.eq([only]), "{scenario:?}"),
                None => assert!(of.count() > 1, "{scenario:?}"),
            }
        }
    }
}
