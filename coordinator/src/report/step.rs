//! A step of the report: the fold of its events.

use jiff::Timestamp;
use muster_proto::event::{Event, EventKind, Outcome, StepState as State, transition};
use muster_proto::names::StepId;

use super::change::written;
use super::{clean, milliseconds, precise};
use crate::view::report::{Change, ChangeEnd, Step, Wait};
use crate::view::status::StepState;

/// The step of a run that began then, out of its own events, oldest first; `last` is the last moment that is known of the run.
pub(super) fn fold<'a>(
    id: &StepId,
    after: Vec<String>,
    run: (Timestamp, Timestamp),
    events: impl Iterator<Item = &'a Event>,
) -> Step {
    let kind = id.step().split('.').next().unwrap_or_default();
    let step = Step {
        id: clean(id.as_str()),
        node: clean(id.node()),
        kind: clean(kind),
        state: StepState::Pending,
        started: String::new(),
        finished: String::new(),
        began_ms: None,
        duration_ms: 0,
        after,
        attempts: 0,
        waits: Vec::new(),
        noticed: Vec::new(),
        changes: Vec::new(),
        left: Vec::new(),
    };
    let mut fold = Fold { step, state: State::Pending, began: run.0, waits: false, changing: None };
    events.for_each(|event| fold.take(event));
    if !fold.state.is_final() {
        fold.over_at(run.1);
    }
    fold.step
}

struct Fold {
    step: Step,
    state: State,
    /// Of the run.
    began: Timestamp,
    /// The last wait goes on.
    waits: bool,
    /// The index of the change that is under way; it is the last one.
    changing: Option<u32>,
}

impl Fold {
    fn take(&mut self, event: &Event) {
        let Ok(state) = transition(self.state, &event.kind) else { return };
        self.state = state;
        self.step.state = state.word().parse().expect("every state of a step has its word");
        let at = milliseconds(self.began, event.time);
        self.wait_is_over(at);
        match &event.kind {
            EventKind::Dispatched => self.begins(event),
            EventKind::Started { attempt, .. } => {
                self.begins(event);
                self.step.attempts = *attempt;
            }
            EventKind::Intended { index, change, summary, before } => {
                self.changing = Some(*index);
                self.step.changes.push(Change {
                    summary: clean(summary),
                    began_ms: at,
                    duration_ms: 0,
                    end: ChangeEnd::Open,
                    exit_code: None,
                    output: String::new(),
                    output_cut: 0,
                    error: None,
                    written: written(change, before.as_ref()),
                });
            }
            EventKind::Made { outcome, .. } => self.ended(at, ChangeEnd::Made, outcome),
            EventKind::NotMade { outcome, .. } => self.ended(at, ChangeEnd::NotMade, outcome),
            EventKind::EndUnknown { .. } => self.ended(at, ChangeEnd::Unknown, &Outcome::default()),
            EventKind::Waiting { for_what } => {
                self.step.waits.push(Wait { for_what: clean(for_what), began_ms: at, duration_ms: 0 });
                self.waits = true;
            }
            EventKind::Noticed { what, .. } => once(&mut self.step.noticed, clean(what)),
            // An agent that died in between says it again.
            EventKind::Left { what } => once(&mut self.step.left, clean(what)),
            EventKind::Done { .. } | EventKind::Blocked { .. } | EventKind::Failed { .. } => {
                self.step.finished = precise(event.time);
                self.over_at(event.time);
            }
            EventKind::Refused { .. } => {}
        }
    }

    fn begins(&mut self, event: &Event) {
        if self.step.began_ms.is_none() {
            self.step.started = precise(event.time);
            self.step.began_ms = Some(milliseconds(self.began, event.time));
        }
    }

    fn over_at(&mut self, time: Timestamp) {
        let at = milliseconds(self.began, time);
        self.wait_is_over(at);
        if let Some(began) = self.step.began_ms {
            self.step.duration_ms = at.saturating_sub(began);
        }
        if let (Some(_), Some(open)) = (self.changing, self.step.changes.last_mut()) {
            open.duration_ms = at.saturating_sub(open.began_ms);
        }
    }

    fn wait_is_over(&mut self, at: u64) {
        if let (true, Some(wait)) = (self.waits, self.step.waits.last_mut()) {
            wait.duration_ms = at.saturating_sub(wait.began_ms);
        }
        self.waits = false;
    }

    fn ended(&mut self, at: u64, end: ChangeEnd, outcome: &Outcome) {
        self.changing = None;
        let Some(change) = self.step.changes.last_mut() else { return };
        change.end = end;
        change.exit_code = outcome.exit_code;
        change.output = clean(&outcome.output);
        change.output_cut = outcome.output_cut;
        change.error = outcome.error.as_deref().map(clean);
        // A program may have run longer than the agent that began it.
        change.duration_ms = outcome.duration_ms.max(at.saturating_sub(change.began_ms));
    }
}

fn once(list: &mut Vec<String>, what: String) {
    if !list.contains(&what) {
        list.push(what);
    }
}
