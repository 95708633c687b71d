//! The kinds of steps, the one list that coordinator and agent share: the word of each, and what is true of it. A new kind
//! begins here. Nothing compiles then until the agent parses it and a scenario of the fault matrix asks for it, and no test
//! passes until a plan holds it and what it changes is undone by what this says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::agent::step::Kind;
use crate::malformed::Malformed;

/// What takes a step's effect away when its node, or the whole cluster, is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoneBy {
    /// `restore`: the agent's own account of its changes holds what stood there before.
    Restore,
    /// `kubeadm-reset`: it is kubeadm's to remove.
    KubeadmReset,
    /// The cluster's end: it is an object of the cluster, and goes with etcd's data.
    EndOfCluster,
    /// Nothing: it changes nothing, or nothing that stays.
    NothingStays,
    /// Nothing: it undoes itself.
    Undoes,
}

/// What is true of a kind.
#[derive(Debug, Clone, Copy)]
struct Facts {
    word: &'static str,
    undone_by: UndoneBy,
    of_membership: bool,
    reads_ledger: bool,
    may_be_repeated: bool,
    looks_only: bool,
    final_from_the_start: bool,
}

/// A kind of which nothing else is true.
const fn changes(word: &'static str, undone_by: UndoneBy) -> Facts {
    Facts {
        word,
        undone_by,
        of_membership: false,
        reads_ledger: false,
        may_be_repeated: false,
        looks_only: false,
        final_from_the_start: false,
    }
}

/// A kind that makes a machine ready, and finds out before anything is done what it cannot mend.
const fn prepares(word: &'static str) -> Facts {
    Facts { final_from_the_start: true, ..changes(word, UndoneBy::Restore) }
}

const fn looks(word: &'static str) -> Facts {
    Facts { looks_only: true, ..changes(word, UndoneBy::NothingStays) }
}

/// A kind that makes its node a member of a cluster, or takes it out. Each looks at what earlier ones did.
const fn membership(word: &'static str, undone_by: UndoneBy) -> Facts {
    Facts { of_membership: true, reads_ledger: true, final_from_the_start: true, ..changes(word, undone_by) }
}

const fn undoes(word: &'static str) -> Facts {
    Facts { reads_ledger: true, ..changes(word, UndoneBy::Undoes) }
}

macro_rules! kinds {
    ($($kind:ident: $facts:expr,)*) => {
        /// What a step is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum StepKind { $($kind),* }

        impl StepKind {
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The kind of a message. A message of the protocol without a kind of this name does not compile.
            pub fn of(message: &Kind) -> Self {
                match message { $(Kind::$kind(_) => Self::$kind),* }
            }

            const fn facts(self) -> Facts {
                match self { $(Self::$kind => $facts),* }
            }
        }
    };
}

kinds! {
    Hostname: prepares("hostname"),
    Hosts: prepares("hosts"),
    Swap: prepares("swap"),
    Firewall: prepares("firewall"),
    Kernel: prepares("kernel"),
    Packages: Facts { final_from_the_start: true, ..looks("packages") },
    Runtime: prepares("runtime"),
    Images: Facts { final_from_the_start: true, ..looks("images") },
    KubeadmInit: membership("kubeadm-init", UndoneBy::KubeadmReset),
    // What it yields dies with the agent.
    JoinTicket: Facts { may_be_repeated: true, ..changes("join-ticket", UndoneBy::EndOfCluster) },
    Kubeconfig: prepares("kubeconfig"),
    PodNetwork: changes("pod-network", UndoneBy::EndOfCluster),
    Untaint: changes("untaint", UndoneBy::EndOfCluster),
    KubeadmJoin: membership("kubeadm-join", UndoneBy::KubeadmReset),
    NodesReady: looks("nodes-ready"),
    RevokeTickets: changes("revoke-tickets", UndoneBy::EndOfCluster),
    SmokeTest: changes("smoke-test", UndoneBy::EndOfCluster),
    SmokeAnswer: looks("smoke-answer"),
    SmokeCleanup: changes("smoke-cleanup", UndoneBy::EndOfCluster),
    KubeadmReset: Facts { of_membership: true, ..undoes("kubeadm-reset") },
    NetworkLeftovers: undoes("network-leftovers"),
    Restore: undoes("restore"),
    DrainNode: changes("drain-node", UndoneBy::EndOfCluster),
    ForgetNode: changes("forget-node", UndoneBy::EndOfCluster),
    CoordinatorPort: changes("coordinator-port", UndoneBy::Restore),
    Kubelet: prepares("kubelet"),
    // A kubelet that is started anew.
    KubeletIdentity: changes("kubelet-identity", UndoneBy::NothingStays),
    NodeNetwork: Facts { reads_ledger: true, ..changes("node-network", UndoneBy::NothingStays) },
    // A pod that it makes anew is the same pod of the same Deployment.
    Addons: changes("addons", UndoneBy::NothingStays),
}

impl StepKind {
    /// The word in ids, files and on the screen.
    pub const fn word(self) -> &'static str {
        self.facts().word
    }

    pub const fn undone_by(self) -> UndoneBy {
        self.facts().undone_by
    }

    /// Whether it is a part of a reset; these the owner of a node can forbid all together (`allow_reset`).
    pub const fn undoes(self) -> bool {
        matches!(self.undone_by(), UndoneBy::Undoes)
    }

    /// Whether it makes its node a member of a cluster or takes it out: no two of these are ever under way at once, whatever
    /// run each is of.
    pub const fn is_of_membership(self) -> bool {
        self.facts().of_membership
    }

    /// Those of membership.
    pub fn all_of_membership() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kind| kind.is_of_membership())
    }

    /// Whether its look at the host wants the account of what this agent did.
    pub const fn reads_ledger(self) -> bool {
        self.facts().reads_ledger
    }

    /// Whether one that is done may be done once more in the same run, for what it yields.
    pub const fn may_be_repeated(self) -> bool {
        self.facts().may_be_repeated
    }

    /// Whether it never changes anything.
    pub const fn looks_only(self) -> bool {
        self.facts().looks_only
    }

    /// Whether a `Blocked` of it holds whatever the steps before it will do: what those bring, it waits for.
    pub const fn is_final_from_the_start(self) -> bool {
        self.facts().final_from_the_start
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl From<StepKind> for &'static str {
    fn from(kind: StepKind) -> Self {
        kind.word()
    }
}

impl FromStr for StepKind {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.iter().copied().find(|kind| kind.word() == word);
        found.ok_or_else(|| {
            Malformed::new(word, "a kind of step that this version knows, such as kubeadm-join")
        })
    }
}

impl TryFrom<String> for StepKind {
    type Error = Malformed;

    fn try_from(word: String) -> Result<Self, Malformed> {
        word.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own_and_is_known_by_it() {
        let words: BTreeSet<&str> = StepKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), StepKind::ALL.len());
        for kind in StepKind::ALL {
            assert_eq!(kind.word().parse(), Ok(*kind));
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("kubeadm".parse::<StepKind>().is_err() && "Swap".parse::<StepKind>().is_err());
    }

    #[test]
    fn what_undoes_or_is_of_membership_looks_at_what_was_done_here_and_who_only_looks_leaves_nothing() {
        for kind in StepKind::ALL {
            assert!(kind.reads_ledger() || !(kind.undoes() || kind.is_of_membership()), "{kind}");
            assert!(!kind.looks_only() || kind.undone_by() == UndoneBy::NothingStays, "{kind}");
        }
    }
}
