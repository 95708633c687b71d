//! `reset`: undoes what bootstrap did, on some nodes or on all. Workers beside each other, then the control planes.

use std::collections::BTreeSet;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName};
use muster_proto::step_kind::StepKind as K;

use super::Plan;
use super::builder::After::{All, Same};
use super::builder::{Line, Place, build, each, shared};
use super::kind::RunKind;
use super::observed::Observed;

#[rustfmt::skip]
pub(super) fn order<'a>() -> Vec<Line<Leaving<'a>>> {
    vec![
        shared(K::KubeadmReset,      leaving_workers,        kubeadm_reset,     &[Same(K::DrainNode)]),
        // By a control plane that stays; on a worker that is not enrolled any more nothing can be undone: it is only forgotten.
        each  (K::ForgetNode,        for_every_worker,       forget_node,       &[Same(K::KubeadmReset)]),
        shared(K::NetworkLeftovers,  leaving_workers,        network_leftovers, &[Same(K::KubeadmReset)]),
        shared(K::Restore,           leaving_workers,        restore,           &[Same(K::NetworkLeftovers)]),
        shared(K::KubeadmReset,      leaving_control_planes, kubeadm_reset,     &[All(K::Restore)]),
        shared(K::NetworkLeftovers,  leaving_control_planes, network_leftovers, &[Same(K::KubeadmReset)]),
        shared(K::Restore,           leaving_control_planes, restore,           &[Same(K::NetworkLeftovers)]),
    ]
}

/// The steps that undo these nodes of the cluster.
pub fn plan(
    observed: &Observed,
    nodes: &[NodeName],
    enrolled: &BTreeSet<NodeName>,
) -> Result<Plan, Malformed> {
    leave(RunKind::Reset, &order(), observed, nodes, enrolled)
}

/// The steps of an order in which these nodes leave the cluster.
pub(super) fn leave<'a>(
    kind: RunKind,
    order: &[Line<Leaving<'a>>],
    observed: &'a Observed,
    nodes: &'a [NodeName],
    enrolled: &'a BTreeSet<NodeName>,
) -> Result<Plan, Malformed> {
    let steps = build(order, &Leaving::of(observed, nodes, enrolled))?;
    Ok(Plan { kind, cluster: observed.cluster.clone(), steps })
}

/// The nodes that leave, and who can do something for them.
pub(super) struct Leaving<'a> {
    observed: &'a Observed,
    workers: Vec<&'a NodeName>,
    control_planes: Vec<&'a NodeName>,
    enrolled: &'a BTreeSet<NodeName>,
    /// A control plane that stays forgets who goes.
    staying: Option<&'a NodeName>,
    /// A node of the cluster is not reset, and goes on dialling this coordinator.
    nodes_stay: bool,
}

impl<'a> Leaving<'a> {
    pub(super) fn of(
        observed: &'a Observed,
        nodes: &'a [NodeName],
        enrolled: &'a BTreeSet<NodeName>,
    ) -> Self {
        let made_of: BTreeSet<&NodeName> = observed.control_planes().collect();
        let leaves: BTreeSet<&NodeName> = nodes.iter().collect();
        let (control_planes, workers) = nodes.iter().partition(|node| made_of.contains(node));
        Self {
            observed,
            workers,
            control_planes,
            enrolled,
            staying: observed.control_planes().find(|node| !leaves.contains(node)),
            nodes_stay: observed.nodes().any(|node| enrolled.contains(node) && !leaves.contains(node)),
        }
    }

    fn is_enrolled(&self, node: &NodeName) -> bool {
        self.enrolled.contains(node)
    }
}

// Where.

fn leaving_workers(leaving: &Leaving) -> Vec<Place> {
    leaving.workers.iter().filter(|node| leaving.is_enrolled(node)).map(|node| Place::on(node)).collect()
}

fn leaving_control_planes(leaving: &Leaving) -> Vec<Place> {
    leaving
        .control_planes
        .iter()
        .filter(|node| leaving.is_enrolled(node))
        .map(|node| Place::on(node))
        .collect()
}

/// On a control plane that stays, where there is one.
pub(super) fn for_every_worker(leaving: &Leaving) -> Vec<Place> {
    let Some(staying) = leaving.staying else { return Vec::new() };
    leaving.workers.iter().map(|worker| Place::on_for(staying, worker)).collect()
}

pub(super) fn for_every_enrolled_worker(leaving: &Leaving) -> Vec<Place> {
    let mut places = for_every_worker(leaving);
    places.retain(|place| leaving.is_enrolled(&place.of));
    places
}

// What.

fn kubeadm_reset(_: &Leaving) -> Kind {
    Kind::KubeadmReset(agent::KubeadmReset {})
}

fn forget_node(_: &Leaving, place: &Place) -> Kind {
    Kind::ForgetNode(agent::ForgetNode { node: place.of.to_string() })
}

fn network_leftovers(leaving: &Leaving) -> Kind {
    let pod_subnet = leaving.observed.cluster.pod_subnet_text();
    Kind::NetworkLeftovers(agent::NetworkLeftovers { pod_subnet })
}

fn restore(leaving: &Leaving) -> Kind {
    Kind::Restore(agent::Restore { nodes_stay: leaving.nodes_stay })
}

#[cfg(test)]
mod tests;
