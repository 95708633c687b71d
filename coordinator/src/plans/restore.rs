//! `reset` before there ever was a cluster: only what Muster itself changed goes.

use std::collections::BTreeSet;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName};
use muster_proto::step_kind::StepKind as K;

use super::Plan;
use super::builder::{Line, Place, build, shared};
use super::cluster::ClusterFacts;
use super::kind::RunKind;

fn order<'a>() -> Vec<Line<Restored<'a>>> {
    vec![shared(K::Restore, every_node, restore, &[])]
}

struct Restored<'a> {
    nodes: &'a [NodeName],
    /// Others go on dialling this coordinator.
    nodes_stay: bool,
}

/// The steps for these of the enrolled nodes.
pub fn plan(nodes: &[NodeName], enrolled: &BTreeSet<NodeName>) -> Result<Plan, Malformed> {
    let nodes_stay = enrolled.iter().any(|node| !nodes.contains(node));
    let steps = build(&order(), &Restored { nodes, nodes_stay })?;
    Ok(Plan { kind: RunKind::Reset, cluster: ClusterFacts::none(), steps })
}

fn every_node(restored: &Restored) -> Vec<Place> {
    restored.nodes.iter().map(Place::on).collect()
}

fn restore(restored: &Restored) -> Kind {
    Kind::Restore(agent::Restore { nodes_stay: restored.nodes_stay })
}
