//! Which step runs on which node, after which others: one file for each verb, its order one list. Pure.

mod addresses;
pub mod bootstrap;
mod builder;
pub mod cluster;
pub mod content;
pub mod kind;
pub mod let_nodes_in;
pub mod observed;
pub mod remove;
pub mod reset;
pub mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use muster_proto::agent::HostFacts;
use muster_proto::names::{NodeName, StepId};

use self::cluster::ClusterFacts;
use self::content::Content;
use self::kind::RunKind;
use crate::doors::fleet::FleetError;

/// One step on one node.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    pub id: StepId,
    pub node: NodeName,
    /// Shared between the nodes that are told the same: what every node is told of every node grows with their square otherwise.
    pub step: Arc<Content>,
    /// Runs once all of these are done.
    pub after: Vec<StepId>,
    /// The steps whose outputs this one is given (a join ticket, the pods' addresses); they stand in `after` too.
    pub input_from: Vec<StepId>,
    /// Not repeated once a run of this very plan has done it: its effect does not stay.
    pub once: bool,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: RunKind,
    /// The cluster that is made, or undone.
    pub cluster: ClusterFacts,
    /// Each stands behind those that it comes after.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// Two plans with the same digest ask for the same: the cluster's name, and the steps with their contents.
    pub fn digest(&self) -> String {
        let kind = match self.kind {
            // It may take the very steps of a reset, and is another run: only its nodes leave the list.
            RunKind::Remove => " remove",
            RunKind::Bootstrap | RunKind::Reset | RunKind::LetNodesIn => "",
        };
        let mut parts: Vec<Vec<u8>> = vec![self.cluster.name.as_str().into()];
        for step in &self.steps {
            parts.extend([step.id.as_str().into(), step.step.digest().to_vec()]);
        }
        digest_of(parts.iter().map(Vec::as_slice)) + kind
    }
}

/// SHA-256 over all parts, each with its length, in hexadecimal.
pub(crate) fn digest_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What every host says of itself, or why its agent cannot be had.
pub type Hosts = BTreeMap<NodeName, Result<HostFacts, FleetError>>;

/// A plan of steps that do nothing, each with those before it; for tests of their order.
#[cfg(test)]
pub(crate) fn in_order(steps: &[(&str, &[&str])]) -> Plan {
    let step = |(id, after): &(&str, &[&str])| {
        let id: StepId = id.parse().unwrap();
        PlannedStep {
            node: id.node().parse().unwrap(),
            id,
            step: Arc::new(content::Content::of(muster_proto::agent::Step { kind: None })),
            after: after.iter().map(|id| id.parse().unwrap()).collect(),
            input_from: Vec::new(),
            once: false,
        }
    };
    let steps = steps.iter().map(step).collect();
    Plan { kind: kind::RunKind::Bootstrap, cluster: cluster::ClusterFacts::none(), steps }
}
