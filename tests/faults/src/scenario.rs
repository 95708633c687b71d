//! What is under way when the fault strikes: the command that a person gives and repeats, the machines that it begins with,
//! and what says that it came to its end.

use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;

use crate::machine::Said;
use crate::pair::{MASTER, WORKER};

/// The command, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Two fresh machines become a cluster.
    Bootstrap,
    /// The whole cluster is undone.
    Reset,
    /// The worker leaves the cluster.
    Remove,
    /// A bootstrap whose smoke test takes itself away.
    SmokeOnce,
    /// A cluster of the master alone is given a worker.
    AddWorker,
    /// ufw's rule for the coordinator's port.
    OpenPort,
}

/// The disks that a cell begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// Both agents are enrolled, nothing else was done.
    Enrolled,
    /// Both hosts are prepared for kubeadm.
    Prepared,
    /// A finished cluster.
    Whole,
    /// A finished cluster of the master alone; the worker's agent is enrolled.
    Alone,
}

impl Template {
    /// The name of its folder.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Prepared => "prepared",
            Self::Whole => "whole",
            Self::Alone => "alone",
        }
    }
}

/// A bootstrap of the master alone.
pub const ALONE: [&str; 4] = ["coordinator", "bootstrap", "-f", "/root/alone.yaml"];

impl Scenario {
    pub const ALL: [Self; 6] =
        [Self::Bootstrap, Self::Reset, Self::Remove, Self::SmokeOnce, Self::AddWorker, Self::OpenPort];

    /// Those that have cells among all other tests: each of the others would cost half a minute for a cell or two.
    pub const OF_EVERY_TEST_RUN: [Self; 3] = [Self::Bootstrap, Self::Reset, Self::Remove];

    /// The first word of its cells' names; a bootstrap's have none.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Reset => "reset-all",
            Self::Remove => "remove-w1",
            Self::SmokeOnce => "smoke-once",
            Self::AddWorker => "add-w1",
            Self::OpenPort => "open-port",
        }
    }

    /// What a person types, and types again. It does not wait for a coordinator that went away: what each of the two commands does is
    /// looked at by itself.
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Self::Bootstrap | Self::AddWorker => {
                &["coordinator", "bootstrap", "-f", "/root/cluster.yaml", "--reattach", "0s"]
            }
            Self::Reset => &["coordinator", "reset", "--all", "--confirm", "faults", "--reattach", "0s"],
            Self::Remove => {
                &["coordinator", "nodes", "remove", "w1", "--confirm", "faults", "--reattach", "0s"]
            }
            Self::SmokeOnce => &["coordinator", "bootstrap", "-f", "/root/once.yaml", "--reattach", "0s"],
            Self::OpenPort => {
                &["coordinator", "init", "--address", "10.88.0.11", "--node", "m1", "--allow-firewall"]
            }
        }
    }

    /// What the machines are when the command is given; `early`: the step comes before `kubeadm init`.
    pub fn template(self, early: bool) -> Template {
        match self {
            Self::Bootstrap if !early => Template::Prepared,
            Self::Bootstrap | Self::OpenPort => Template::Enrolled,
            Self::SmokeOnce => Template::Prepared,
            Self::Reset | Self::Remove => Template::Whole,
            Self::AddWorker => Template::Alone,
        }
    }

    /// The one step for whose sake there is the scenario; none when it has cells for all of its steps.
    pub fn only_step(self) -> Option<StepKind> {
        match self {
            Self::Bootstrap | Self::Reset | Self::Remove => None,
            Self::SmokeOnce => Some(StepKind::SmokeCleanup),
            Self::AddWorker => Some(StepKind::JoinTicket),
            Self::OpenPort => Some(StepKind::CoordinatorPort),
        }
    }

    /// Whether the step's cells are this scenario's: of a bootstrap's steps those that no other bootstrap takes.
    pub fn contributes(self, step: &StepId) -> bool {
        self.only_step().is_none_or(|only| Some(only) == step.kind())
    }

    /// Whether the command says that all is done.
    pub fn is_done(self, said: &Said) -> bool {
        let words = match self {
            Self::Bootstrap | Self::Reset | Self::SmokeOnce | Self::AddWorker => "done: ",
            Self::Remove => "w1 is removed",
            Self::OpenPort => "Next:",
        };
        said.code() == Some(0) && said.text.contains(words)
    }

    /// Whether the command says that nothing was left to do.
    pub fn is_nothing(self, said: &Said) -> bool {
        let says = match self {
            Self::OpenPort => !said.text.contains("ufw guards this machine"),
            _ => said.text.contains("nothing to do"),
        };
        said.code() == Some(0) && says
    }

    /// Whether it makes members: a half-done join is reset then, and a half-done init by a person.
    pub fn makes(self) -> bool {
        matches!(self, Self::Bootstrap | Self::SmokeOnce | Self::AddWorker)
    }

    /// What a program of the stand-ins has to have done once, by verb and node, and no other node.
    pub fn once(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bootstrap | Self::SmokeOnce => &[("init", MASTER), ("join", WORKER)],
            Self::Reset => &[("reset", WORKER), ("reset", MASTER)],
            Self::Remove => &[("drain", WORKER), ("reset", WORKER)],
            Self::AddWorker => &[("join", WORKER)],
            Self::OpenPort => &[("ufw-allow", MASTER)],
        }
    }
}
