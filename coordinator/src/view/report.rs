//! `coordinator report`: all that was done, out of the record of runs and the journal. HTML, Markdown and JSON are made of these
//! values alone. No text in them holds a secret or steers a terminal: `crate::report` makes them, and cleans each.

use schemars::JsonSchema;
use serde::Serialize;

use super::status::{Kind, NodeState, Phase, StepState};
use super::{Failure, words};

words! {
    /// How a change ended.
    ChangeEnd: "end of a change" {
        Made = "made",
        NotMade = "not-made",
        /// The agent was ended in the middle of it.
        Unknown = "end-unknown",
        /// Nothing tells yet: it was under way when the journal was read.
        Open = "open",
    }
}

words! {
    /// What a look that ended well proves.
    Sight: "sight" {
        /// Every nginx of the smoke test answered this node over HTTP, with its own pod's name as the page.
        PagesAnswered = "pages-answered",
        /// Every node was Ready.
        NodesReady = "nodes-ready",
        /// kube-proxy and CoreDNS run.
        AddonsRun = "addons-run",
    }
}

/// What was done, run by run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was made; RFC 3339.
    pub made: String,
    /// Of the coordinator that made it.
    pub coordinator_version: String,
    /// What is wrong with the journal: then something of what follows is missing. Null: it is whole.
    pub damage: Option<String>,
    /// Oldest first.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub id: String,
    pub kind: Kind,
    pub phase: Phase,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339; empty: it did not end.
    pub finished: String,
    /// To its end, or to the last that is known of it.
    pub duration_ms: u64,
    pub cluster: Cluster,
    /// As it was given; null: not recorded, or there was none.
    pub cluster_file: Option<ClusterFile>,
    /// As they were when the run began; empty: not recorded.
    pub hosts: Vec<Host>,
    /// In the plan's order.
    pub steps: Vec<Step>,
    /// The first one first.
    pub troubles: Vec<Trouble>,
    /// The nodes at the run's end.
    pub nodes: Vec<Node>,
    /// What looking found at the end: which page each node got from each.
    pub seen: Vec<Seen>,
}

/// The cluster that the run made or undid; what is empty was not recorded.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    pub kubernetes_version: String,
    pub pod_subnet: String,
    pub service_subnet: String,
    pub endpoint: String,
    pub control_planes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ClusterFile {
    pub path: String,
    pub text: String,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub node: String,
    pub address: String,
    pub hostname: String,
    pub operating_system: String,
    pub kernel: String,
    pub processors: u32,
    pub memory_bytes: u64,
    /// Empty: kubeadm was not installed.
    pub kubeadm_version: String,
}

/// One step on one node.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// NODE/STEP.
    pub id: String,
    pub node: String,
    /// The word of its kind, for instance `swap`.
    pub kind: String,
    pub state: StepState,
    /// RFC 3339; empty: it did not begin.
    pub started: String,
    pub finished: String,
    /// Since the run began; null: it did not begin.
    pub began_ms: Option<u64>,
    pub duration_ms: u64,
    /// The steps that had to be done first; empty also where that was not recorded.
    pub after: Vec<String>,
    pub attempts: u32,
    pub waits: Vec<Wait>,
    /// What kept a program from its end while it ran.
    pub noticed: Vec<String>,
    pub changes: Vec<Change>,
    /// What it left as it is, with the reason.
    pub left: Vec<String>,
}

impl Step {
    /// Nothing is to be told of it but that it holds.
    pub fn changed_nothing(&self) -> bool {
        self.state == StepState::Done && self.changes.is_empty() && self.left.is_empty()
    }
}

/// Nothing to change, and not there yet.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    pub for_what: String,
    /// Since the run began.
    pub began_ms: u64,
    pub duration_ms: u64,
}

/// One primitive act on a host.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub summary: String,
    /// Since the run began.
    pub began_ms: u64,
    pub duration_ms: u64,
    pub end: ChangeEnd,
    /// Of a program that ended by itself.
    pub exit_code: Option<i32>,
    /// Head and tail of what it said.
    pub output: String,
    /// Bytes that are left out of the output's middle.
    pub output_cut: u64,
    /// Why it failed where no program says so.
    pub error: Option<String>,
    /// Of a change that writes a file.
    pub written: Option<Written>,
}

/// What a change wrote into a file.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    pub path: String,
    /// The lines that differ, as a unified difference; null: its content is not told, since not every user of that machine may read the
    /// file, or it is a user's own. The node's own journal holds it.
    pub difference: Option<String>,
    /// Of the content, `sha256:HEX`; may be empty.
    pub digest: String,
    /// Of what stood there before; empty: nothing did, or it is not known.
    pub digest_before: String,
}

/// A failure, and what mended it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// RFC 3339.
    pub time: String,
    #[serde(flatten)]
    pub failure: Failure,
    /// Null: its step was not done since, as far as this journal tells.
    pub mended: Option<Mended>,
}

/// The step of a failure, done later.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mended {
    /// RFC 3339.
    pub time: String,
    /// The run in which it was done.
    pub run: String,
    /// What Muster changed for it then; empty: it held by then, by what somebody or something else did.
    pub changes: Vec<String>,
}

/// A node as the run left it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub state: NodeState,
    pub steps_done: u32,
    pub steps: u32,
    pub changes: u32,
}

/// What a node saw at the end.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub node: String,
    /// RFC 3339.
    pub time: String,
    pub what: Sight,
}
