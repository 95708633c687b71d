//! `nodes remove`: takes nodes out of the cluster: drained first, then reset. They leave the list once all is done.

use std::collections::BTreeSet;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName};
use muster_proto::step_kind::StepKind as K;

use super::Plan;
use super::builder::{Line, Place, each};
use super::kind::RunKind;
use super::observed::Observed;
use super::reset::{self, Leaving, for_every_enrolled_worker};

fn order<'a>() -> Vec<Line<Leaving<'a>>> {
    let mut order = vec![each(K::DrainNode, for_every_enrolled_worker, drain_node, &[])];
    order.extend(reset::order());
    order
}

/// The steps that take these nodes out of the cluster.
pub fn plan(
    observed: &Observed,
    nodes: &[NodeName],
    enrolled: &BTreeSet<NodeName>,
) -> Result<Plan, Malformed> {
    reset::leave(RunKind::Remove, &order(), observed, nodes, enrolled)
}

fn drain_node(_: &Leaving, place: &Place) -> Kind {
    Kind::DrainNode(agent::DrainNode { node: place.of.to_string() })
}
