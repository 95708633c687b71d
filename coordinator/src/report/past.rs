//! All events of a journal, found by run and step: which runs there were, what failed, and what mended it.

use std::collections::BTreeMap;

use muster_proto::event::{Event, EventKind, StepState, transition};
use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;

use super::{clean, cleaned, precise};
use crate::account::Account;
use crate::plans::cluster::ClusterFacts;
use crate::plans::kind::RunKind;
use crate::progress::failure;
use crate::record::{Run, RunPhase};
use crate::view::report::{Mended, Seen, Sight, Trouble};
use crate::view::{self};

/// The events, oldest first.
pub(super) struct Past<'a> {
    by_step: BTreeMap<(&'a str, &'a StepId), Vec<&'a Event>>,
    by_run: BTreeMap<&'a str, Vec<&'a Event>>,
    /// Where each step, in whatever run, ended well.
    done: BTreeMap<&'a StepId, Vec<&'a Event>>,
}

impl<'a> Past<'a> {
    pub(super) fn of(events: &'a [Event]) -> Self {
        let mut past = Self { by_step: BTreeMap::new(), by_run: BTreeMap::new(), done: BTreeMap::new() };
        for event in events {
            past.by_step.entry((&event.run, &event.step)).or_default().push(event);
            past.by_run.entry(&event.run).or_default().push(event);
            if matches!(event.kind, EventKind::Done { .. }) {
                past.done.entry(&event.step).or_default().push(event);
            }
        }
        past
    }

    pub(super) fn of_run(&self, run: &str) -> Vec<&'a Event> {
        self.by_run.get(run).cloned().unwrap_or_default()
    }

    pub(super) fn of_step<'b>(&'b self, run: &'b str, step: &'b StepId) -> &'b [&'a Event] {
        self.by_step.get(&(run, step)).map(Vec::as_slice).unwrap_or_default()
    }

    /// What failed in this run, with the first time that its step was done after it.
    pub(super) fn troubles(&self, run: &Run, events: &[&Event]) -> Vec<Trouble> {
        let mut attempts: BTreeMap<&StepId, u32> = BTreeMap::new();
        let mut troubles = Vec::new();
        for event in events {
            let (complaint, blocked) = match &event.kind {
                EventKind::Started { attempt, .. } => {
                    attempts.insert(&event.step, *attempt);
                    continue;
                }
                EventKind::Blocked { complaint } => (complaint, true),
                EventKind::Failed { complaint } => (complaint, false),
                _ => continue,
            };
            let attempt = attempts.get(&event.step).copied().unwrap_or_default();
            let told = view::Failure::from(failure(&event.step, complaint, &run.cluster.name));
            troubles.push(Trouble {
                time: precise(event.time),
                failure: view::Failure { attempt, blocked, ..cleaned(told) },
                mended: self.mended(event),
            });
        }
        troubles
    }

    fn mended(&self, failed: &Event) -> Option<Mended> {
        let done = self.done.get(&failed.step)?.iter().find(|event| event.sequence > failed.sequence)?;
        let then = self.by_step.get(&(&*done.run, &done.step)).map(Vec::as_slice).unwrap_or_default();
        let mut changes: Vec<(u32, String)> = Vec::new();
        for event in then {
            match &event.kind {
                EventKind::Intended { index, summary, .. } => changes.push((*index, clean(summary))),
                EventKind::NotMade { index, .. } => changes.retain(|(made, _)| made != index),
                _ => {}
            }
        }
        let changes = changes.into_iter().map(|(_, summary)| summary).collect();
        Some(Mended { time: precise(done.time), run: clean(&done.run), changes })
    }
}

/// What the looks of a run that ended well prove; each of these steps is done only when it holds.
pub(super) fn seen(events: &[&Event]) -> Vec<Seen> {
    let sight = |event: &&Event| {
        let what = match event.step.kind()? {
            StepKind::SmokeAnswer => Sight::PagesAnswered,
            StepKind::NodesReady => Sight::NodesReady,
            StepKind::Addons => Sight::AddonsRun,
            _ => return None,
        };
        let done = matches!(event.kind, EventKind::Done { .. });
        done.then(|| Seen { node: clean(event.step.node()), time: precise(event.time), what })
    };
    events.iter().filter_map(sight).collect()
}

/// The runs of a journal that was copied without its record: their steps in the order in which they began.
pub(super) fn runs_of(events: &[Event]) -> Vec<(Run, Account)> {
    let mut runs: Vec<(Run, Vec<StepState>)> = Vec::new();
    // Of no run: who was refused at the door, and the rule that lets the nodes dial in.
    let begun = |event: &&Event| {
        !matches!(event.kind, EventKind::Refused { .. })
            && event.step.kind() != Some(StepKind::CoordinatorPort)
    };
    for event in events.iter().filter(begun) {
        let index = runs.iter().position(|(run, _)| run.id == event.run).unwrap_or_else(|| {
            runs.push((begun_with(event), Vec::new()));
            runs.len() - 1
        });
        let (run, states) = &mut runs[index];
        let step = run.steps.iter().position(|step| *step == event.step).unwrap_or_else(|| {
            run.steps.push(event.step.clone());
            states.push(StepState::Pending);
            states.len() - 1
        });
        states[step] = transition(states[step], &event.kind).unwrap_or(states[step]);
        run.finished = Some(event.time);
    }
    let told = |(run, states): (Run, Vec<StepState>)| {
        let any = |wanted: &[StepState]| states.iter().any(|state| wanted.contains(state));
        let phase = match () {
            () if any(&[StepState::Failed, StepState::Blocked]) => RunPhase::Failed,
            () if states.iter().all(|state| *state == StepState::Done) => RunPhase::Done,
            () => RunPhase::Interrupted,
        };
        (Run { phase, kind: kind(&run.steps), ..run }, Account::default())
    };
    runs.into_iter().map(told).collect()
}

fn begun_with(event: &Event) -> Run {
    Run {
        id: event.run.clone(),
        kind: RunKind::Bootstrap,
        cluster: ClusterFacts::none(),
        plan_digest: String::new(),
        steps: Vec::new(),
        started: event.time,
        finished: None,
        phase: RunPhase::Interrupted,
    }
}

fn kind(steps: &[StepId]) -> RunKind {
    let any = |wanted: fn(StepKind) -> bool| steps.iter().any(|id| id.kind().is_some_and(wanted));
    match () {
        () if any(StepKind::undoes) => RunKind::Reset,
        () if any(|kind| matches!(kind, StepKind::DrainNode | StepKind::ForgetNode)) => RunKind::Remove,
        () => RunKind::Bootstrap,
    }
}
