//! A plan out of a verb's order: every line of it becomes a step on each of its nodes, in the order of the lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName, StepId};
use muster_proto::step_kind::StepKind;

use super::PlannedStep;
use super::content::Content;

/// One line of an order: what is done, where, what is sent there, and after which lines above it.
pub(super) struct Line<C> {
    kind: StepKind,
    places: fn(&C) -> Vec<Place>,
    message: Message<C>,
    after: &'static [After],
    once: fn(&C) -> bool,
}

/// What a line comes after. A line that has no step there, because nothing is to be done, is not waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum After {
    /// The step of this kind for the same node.
    Same(StepKind),
    /// The steps of these kinds for the same node.
    SameOf(&'static [StepKind]),
    /// All steps of this kind.
    All(StepKind),
    /// All steps of this kind, whose outputs it is given.
    Output(StepKind),
}

/// What is sent to the node.
enum Message<C> {
    Each(fn(&C, &Place) -> Kind),
    Shared(fn(&C) -> Kind),
}

/// Where a step runs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The node whose agent runs it.
    pub(super) node: NodeName,
    /// The node that it is for: another one, when a control plane does something for a worker.
    pub(super) of: NodeName,
    /// Tells it from other steps of its kind on the node; empty where there is only one.
    pub(super) label: String,
    /// For the how manyth of its kind it is: of the users, say.
    pub(super) index: usize,
}

impl Place {
    pub(super) fn on(node: &NodeName) -> Self {
        Self { node: node.clone(), of: node.clone(), label: String::new(), index: 0 }
    }

    /// On a node, for another one.
    pub(super) fn on_for(node: &NodeName, of: &NodeName) -> Self {
        Self { node: node.clone(), of: of.clone(), label: of.to_string(), index: 0 }
    }
}

/// A line whose message differs from node to node.
pub(super) fn each<C>(
    kind: StepKind,
    places: fn(&C) -> Vec<Place>,
    message: fn(&C, &Place) -> Kind,
    after: &'static [After],
) -> Line<C> {
    Line { kind, places, message: Message::Each(message), after, once: |_| false }
}

/// A line with the same message for all of its nodes.
pub(super) fn shared<C>(
    kind: StepKind,
    places: fn(&C) -> Vec<Place>,
    message: fn(&C) -> Kind,
    after: &'static [After],
) -> Line<C> {
    Line { kind, places, message: Message::Shared(message), after, once: |_| false }
}

impl<C> Line<C> {
    /// Where this holds, the steps are not repeated once a run of the very plan has done them.
    pub(super) fn once(self, once: fn(&C) -> bool) -> Self {
        Self { once, ..self }
    }
}

/// The steps of an order, in the order of its lines.
pub(super) fn build<C>(order: &[Line<C>], context: &C) -> Result<Vec<PlannedStep>, Malformed> {
    let mut steps = Vec::new();
    let mut planned = Planned::default();
    for line in order {
        let once = (line.once)(context);
        let mut same: Option<Arc<Content>> = None;
        let mut now = Vec::new();
        for place in (line.places)(context) {
            let step = match &line.message {
                Message::Each(message) => sent(message(context, &place)),
                Message::Shared(message) => same.get_or_insert_with(|| sent(message(context))).clone(),
            };
            let id = match place.label.as_str() {
                "" => StepId::of(&place.node, line.kind),
                label => StepId::labelled(&place.node, line.kind, label)?,
            };
            let (after, input_from) = planned.before(line.after, &place.of);
            now.push((place.of, id.clone()));
            steps.push(PlannedStep { id, node: place.node, step, after, input_from, once });
        }
        // Only now: of its own line no step waits for another.
        now.into_iter().for_each(|(of, id)| planned.add(line.kind, of, id));
    }
    Ok(steps)
}

fn sent(kind: Kind) -> Arc<Content> {
    Arc::new(Content::of(agent::Step { kind: Some(kind) }))
}

/// The steps of the lines above.
#[derive(Default)]
struct Planned {
    all: BTreeMap<StepKind, Vec<StepId>>,
    same: BTreeMap<(StepKind, NodeName), Vec<StepId>>,
}

impl Planned {
    fn add(&mut self, kind: StepKind, of: NodeName, id: StepId) {
        self.all.entry(kind).or_default().push(id.clone());
        self.same.entry((kind, of)).or_default().push(id);
    }

    /// What a step for this node comes after, and which of it yields what it is given.
    fn before(&self, after: &[After], of: &NodeName) -> (Vec<StepId>, Vec<StepId>) {
        let (mut before, mut outputs) = (Vec::new(), Vec::new());
        for line in after {
            let same = |kind: &StepKind| self.same.get(&(*kind, of.clone()));
            match line {
                After::Same(kind) => before.extend(same(kind).into_iter().flatten().cloned()),
                After::SameOf(kinds) => before.extend(kinds.iter().filter_map(same).flatten().cloned()),
                After::All(kind) => before.extend(self.all.get(kind).into_iter().flatten().cloned()),
                After::Output(kind) => {
                    let found = || self.all.get(kind).into_iter().flatten().cloned();
                    before.extend(found());
                    outputs.extend(found());
                }
            }
        }
        (before, outputs)
    }
}
