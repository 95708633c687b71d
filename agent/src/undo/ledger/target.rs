//! What Muster changed, target by target, and how two changes of one target become one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use muster_proto::ufw::Rule;

use super::place::Place;
use super::secret_file::SecretFile;
use super::writes::Writes;
use crate::host::change::UnitAction;

/// What a change of ours was made to, with what stood there before us.
#[derive(Debug, Clone)]
pub enum Target {
    File {
        place: Place,
        /// None where a before-image of an earlier release does not tell.
        mode: Option<u32>,
        writes: Writes,
    },
    /// A file whose content the journal does not hold.
    Secret(SecretFile),
    Hostname {
        kernel: String,
        file: Option<String>,
        ours: String,
    },
    Sysctl {
        key: String,
        before: String,
        ours: String,
    },
    Unit {
        unit: String,
        active: bool,
        file_state: String,
        actions: BTreeSet<UnitAction>,
    },
    Swap {
        device: PathBuf,
    },
    /// ufw was on.
    Firewall,
    /// ufw did not have this rule.
    FirewallRule {
        rule: Rule,
    },
}

impl Target {
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Whether the later change was of the same target, and is now part of this one.
    pub(super) fn absorb(&mut self, later: &Self) -> bool {
        match (self, later) {
            (Self::File { place, writes, .. }, Self::File { place: same, writes: new, .. })
                if place == same =>
            {
                writes.absorb(new.clone());
                true
            }
            (Self::Secret(file), Self::Secret(later)) => file.absorb(later),
            (Self::Hostname { ours, .. }, Self::Hostname { ours: new, .. }) => {
                ours.clone_from(new);
                true
            }
            (Self::Sysctl { key, ours, .. }, Self::Sysctl { key: same, ours: new, .. }) if key == same => {
                ours.clone_from(new);
                true
            }
            (Self::Unit { unit, actions, .. }, Self::Unit { unit: same, actions: new, .. })
                if unit == same =>
            {
                actions.extend(new);
                true
            }
            (Self::Swap { device }, Self::Swap { device: same }) => device == same,
            (Self::Firewall, Self::Firewall) => true,
            (Self::FirewallRule { rule }, Self::FirewallRule { rule: same }) => rule == same,
            _ => false,
        }
    }
}
