//! The steps, one file each: what holds afterwards, and the one function that looks and decides.

pub mod cluster;
pub mod leave;
pub mod prepare;
#[cfg(test)]
mod rehearsal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use muster_proto::agent;
use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::step_kind::StepKind;

pub use crate::bad_step::BadStep;
use crate::cluster::ticket::Ticket;
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::Observe;
use crate::undo::ledger::Ledger;

/// What looking at the host says about a step.
#[derive(Debug)]
pub enum Finding {
    /// It holds already; what the step yields to later steps.
    Done(Yield),
    /// These changes would make it hold.
    Todo(Vec<Change>),
    /// Nothing to change, but it may come to hold by itself within `settle()`; a sentence: what is waited for.
    Wait(String),
    /// It cannot be made to hold without a person.
    Blocked(Complaint),
}

impl Finding {
    /// It holds and yields nothing.
    pub const DONE: Self = Self::Done(Yield::Nothing);

    /// `DONE` when there is nothing to change, the changes otherwise. For steps that never wait.
    pub fn from_changes(changes: Vec<Change>) -> Self {
        if changes.is_empty() { Self::DONE } else { Self::Todo(changes) }
    }

    pub fn blocked(cause: impl Into<String>, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Blocked(Complaint::new(cause, evidence, remedy))
    }
}

/// What a step hands on to later steps, on this node or another; never journalled.
#[derive(Debug, Default)]
pub enum Yield {
    #[default]
    Nothing,
    Ticket(Ticket),
    Pods(Vec<agent::PodAddress>),
    /// For no later step, but for a person: what stays as it is although the step would have changed it, and why.
    Left(Vec<String>),
}

/// What an attempt is given besides the step's own content; never journalled, no part of its identity.
#[derive(Debug, Default)]
pub struct Input {
    /// kubeadm-join: the ticket that the coordinator sent. join-ticket: the one captured from kubeadm's output here.
    pub ticket: Option<Ticket>,
    pub pods: Vec<agent::PodAddress>,
    /// When this attempt began, by this host's clock; none where nothing is attempted and one only looks.
    pub began: Option<Timestamp>,
    /// What this agent did here before, for the steps that ask for it.
    pub ledger: Ledger,
}

macro_rules! steps {
    ($($variant:ident => $room:ident::$module:ident),* $(,)?) => {
        /// A step, every field parsed. The compiler insists that a new one is checked.
        #[derive(Debug, Clone)]
        pub enum Step { $($variant($room::$module::$variant)),* }

        impl Step {
            /// Parses the message at the edge; nothing of it is believed.
            pub fn parse(message: &agent::Step) -> Result<Self, BadStep> {
                match message.kind.as_ref().ok_or(BadStep::Unknown)? {
                    $(agent::step::Kind::$variant(fields) => $room::$module::$variant::parse(fields).map(Self::$variant),)*
                }
            }

            /// Looks at the host and decides. Changes nothing: `host` cannot.
            pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
                match self { $(Self::$variant(step) => step.check(host, input).await),* }
            }

            /// How long the step may wait for its state after its changes, or for what `Wait` names.
            pub fn settle(&self) -> Duration {
                match self { $(Self::$variant(_) => $room::$module::SETTLE),* }
            }

            pub fn kind(&self) -> StepKind {
                match self { $(Self::$variant(_) => StepKind::$variant),* }
            }
        }
    };
}

impl Step {
    /// The runtime of the node that the step's program makes a member.
    pub fn runtime(&self) -> Option<RuntimeName> {
        match self {
            Self::KubeadmInit(init) => Some(init.runtime()),
            Self::KubeadmJoin(join) => Some(join.runtime()),
            _ => None,
        }
    }

    /// The API server that the step's program must reach, where there is one already.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::KubeadmJoin(join) => Some(join.endpoint()),
            _ => None,
        }
    }
}

steps! {
    Hostname => prepare::hostname,
    Hosts => prepare::hosts,
    Swap => prepare::swap,
    Firewall => prepare::firewall,
    Kernel => prepare::kernel,
    Packages => prepare::packages,
    Runtime => prepare::runtime,
    Images => prepare::images,
    KubeadmInit => cluster::kubeadm_init,
    JoinTicket => cluster::join_ticket,
    Kubeconfig => cluster::kubeconfig,
    PodNetwork => cluster::pod_network,
    Untaint => cluster::untaint,
    KubeadmJoin => cluster::kubeadm_join,
    NodesReady => cluster::nodes_ready,
    RevokeTickets => cluster::revoke_tickets,
    SmokeTest => cluster::smoke_test,
    SmokeAnswer => cluster::smoke_answer,
    SmokeCleanup => cluster::smoke_cleanup,
    KubeadmReset => leave::kubeadm_reset,
    NetworkLeftovers => leave::network_leftovers,
    Restore => leave::restore,
    DrainNode => leave::drain_node,
    ForgetNode => leave::forget_node,
    CoordinatorPort => prepare::coordinator_port,
    Kubelet => prepare::kubelet,
    KubeletIdentity => cluster::kubelet_identity,
    NodeNetwork => cluster::node_network,
    Addons => cluster::addons,
}
