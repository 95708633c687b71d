//! `nodes remove`: takes nodes out of the cluster: drained first, then reset. They leave the list once all is done.

use std::collections::BTreeSet;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName};

use super::Plan;
use super::builder::{Line, Place, build, each};
use super::kind::RunKind;
use super::observed::Observed;
use super::reset::{self, Leaving, for_every_enrolled_worker};

fn order<'a>() -> Vec<Line<Leaving<'a>>> {
    let mut order = vec![each("drain-node", for_every_enrolled_worker, drain_node, &[])];
    order.extend(reset::order());
    order
}

/// The steps that take these nodes out of the cluster.
pub fn plan(
    observed: &Observed,
    nodes: &[NodeName],
    enrolled: &BTreeSet<NodeName>,
) -> Result<Plan, Malformed> {
    let steps = build(&order(), &Leaving::of(observed, nodes, enrolled))?;
    Ok(Plan { kind: RunKind::Remove, cluster: observed.cluster.clone(), steps })
}

fn drain_node(_: &Leaving, place: &Place) -> Kind {
    Kind::DrainNode(agent::DrainNode { node: place.of.to_string() })
}
