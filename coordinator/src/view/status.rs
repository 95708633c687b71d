//! `coordinator status`: where a run stands.

use muster_proto::coordinator as proto;
use muster_proto::redaction::printable;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, UnknownWord, line, words};

words! {
    /// How the run stands.
    Phase: "phase" {
        /// There was no run.
        None = "none",
        Running = "running",
        Done = "done",
        Failed = "failed",
        /// The coordinator stopped in its middle; the same command goes on.
        Interrupted = "interrupted",
    }
}

words! {
    /// What the run is for.
    Kind: "kind of run" {
        /// There was no run.
        None = "",
        /// Makes a cluster.
        Bootstrap = "bootstrap",
        /// Undoes one, in whole or in part.
        Reset = "reset",
        /// Takes nodes out of one, and off the list.
        Remove = "remove",
    }
}

words! {
    /// How a node stands in the run.
    NodeState: "state of a node" {
        Pending = "pending",
        Running = "running",
        Done = "done",
        Failed = "failed",
        /// The run ended before the node's steps did.
        Stopped = "stopped",
    }
}

words! {
    /// How a step stands.
    StepState: "state of a step" {
        Pending = "pending",
        Running = "running",
        Changing = "changing",
        Waiting = "waiting",
        Done = "done",
        Blocked = "blocked",
        Failed = "failed",
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The cluster's name; empty: no cluster was ever asked for.
    pub cluster: String,
    pub kind: Kind,
    pub phase: Phase,
    pub run_id: String,
    /// RFC 3339; empty: it did not begin.
    pub started: String,
    /// RFC 3339; empty: it did not end.
    pub finished: String,
    pub nodes: Vec<Node>,
    pub steps: Vec<Step>,
    /// The first cause first.
    pub failures: Vec<Failure>,
    pub coordinator_version: String,
    /// Of the last event that this is folded from; never goes backwards.
    pub sequence: u64,
}

/// A node in the run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub state: NodeState,
    /// Its agent is connected now.
    pub connected: bool,
    pub address: String,
    pub steps_done: u32,
    pub steps: u32,
    /// The step that runs or waits now.
    pub current: String,
}

/// A step of the run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// NODE/STEP.
    pub id: String,
    pub node: String,
    pub state: StepState,
    pub detail: String,
    pub started: String,
    pub finished: String,
    pub changes: u32,
}

impl TryFrom<proto::ClusterStatus> for Status {
    type Error = UnknownWord;

    fn try_from(status: proto::ClusterStatus) -> Result<Self, UnknownWord> {
        Ok(Self {
            cluster: printable(&status.cluster),
            kind: status.kind.parse()?,
            phase: status.phase.parse()?,
            run_id: printable(&status.run_id),
            started: printable(&status.started),
            finished: printable(&status.finished),
            nodes: status.nodes.into_iter().map(Node::try_from).collect::<Result<_, _>>()?,
            steps: status.steps.into_iter().map(Step::try_from).collect::<Result<_, _>>()?,
            failures: status.failures.into_iter().map(Failure::from).collect(),
            coordinator_version: printable(&status.coordinator_version),
            sequence: status.sequence,
        })
    }
}

impl TryFrom<proto::NodeStatus> for Node {
    type Error = UnknownWord;

    fn try_from(node: proto::NodeStatus) -> Result<Self, UnknownWord> {
        Ok(Self {
            name: line(&node.name),
            state: node.state.parse()?,
            connected: node.connected,
            address: line(&node.address),
            steps_done: node.steps_done,
            steps: node.steps,
            current: line(&node.current),
        })
    }
}

impl TryFrom<proto::StepStatus> for Step {
    type Error = UnknownWord;

    fn try_from(step: proto::StepStatus) -> Result<Self, UnknownWord> {
        Ok(Self {
            id: line(&step.id),
            node: line(&step.node),
            state: step.state.parse()?,
            detail: line(&step.detail),
            started: line(&step.started),
            finished: line(&step.finished),
            changes: step.changes,
        })
    }
}
