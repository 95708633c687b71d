//! What Muster itself changed on this host and what stood there before: folded from this agent's journal, from the last
//! finished restore on; a rule of ufw that it left is older. kubeadm's files are not in it, they are kubeadm's to remove;
//! nor is what a reset did.

use std::collections::BTreeSet;

use muster_proto::event::{Event, EventKind};
use muster_proto::kubernetes::files::{FOLDER, KUBELET_FOLDER};
use muster_proto::step_kind::StepKind;
use muster_proto::ufw::Rule;
use serde_json::Value;

use crate::cluster::ticket::DISCOVERY_FILE;
use crate::host::change::{Change, ProgramName, UnitAction};

mod place;
mod progress;
mod reset_ended;
mod secret_file;
mod target;
#[cfg(test)]
mod tests;
mod writes;

pub use place::Place;
pub use progress::{Etcd, Progress};
pub use reset_ended::ResetEnded;
pub use secret_file::SecretFile;
pub use target::Target;
pub use writes::Writes;

/// The account of one host.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The targets of our changes, the newest target first.
    pub entries: Vec<Entry>,
    /// How far `kubeadm join` came here since the last reset.
    pub join: Progress,
    /// How far `kubeadm init` came here since the last reset.
    pub init: Progress,
    /// etcd's data here is what Muster's own init made, where a reset has left it.
    pub etcd: Etcd,
    /// `kubeadm reset` was begun here, and its step has not ended well since.
    pub reset_begun: bool,
    /// How `kubeadm reset` ended in the newest attempt at its step; none before.
    pub reset: Option<ResetEnded>,
    /// The files that stood in the folder of CNI configurations when Muster first began init or join here; none where the
    /// journal does not tell.
    pub networks: Option<Vec<String>>,
    /// What a restored file needs to be taken up and did not get yet, because the agent died in between.
    pub pending: Vec<Change>,
}

/// One thing that we changed.
#[derive(Debug, Clone)]
pub struct Entry {
    pub target: Target,
    /// Made again once the target is put back: a restart of the program that reads it.
    pub follow_up: Vec<Change>,
}

impl Ledger {
    /// Whether Muster's own kubeadm brought here what a cluster brings, or began to take it away.
    pub fn began_cluster(&self) -> bool {
        self.reset_begun || [self.init, self.join].iter().any(|progress| *progress != Progress::Never)
    }

    /// Folds a whole journal, oldest event first.
    pub fn of(events: &[Event]) -> Self {
        let restored = |event: &Event| {
            event.step.kind() == Some(StepKind::Restore) && matches!(event.kind, EventKind::Done { .. })
        };
        let begin = events.iter().rposition(restored).map_or(0, |last| last + 1);
        let mut ledger = Self::default();
        // Entries with the step that made them, oldest first.
        let mut entries: Vec<(String, Entry)> = standing_rules(&events[..begin]);
        // One changing step at a time: the change of a reset that was intended last.
        let mut under_way: Option<&Change> = None;
        for event in &events[begin..] {
            let kind = event.step.kind();
            if let EventKind::Done { .. } = event.kind {
                match kind {
                    Some(StepKind::KubeadmJoin) => ledger.join.end(),
                    Some(StepKind::KubeadmInit) => ledger.init.end(),
                    Some(StepKind::KubeadmReset) => {
                        (ledger.join, ledger.init) = (Progress::Never, Progress::Never);
                        ledger.etcd = Etcd::Foreign;
                        (ledger.reset_begun, ledger.reset) = (false, None);
                    }
                    _ => {}
                }
            }
            if kind == Some(StepKind::KubeadmReset) {
                match &event.kind {
                    EventKind::Started { .. } => ledger.reset = None,
                    EventKind::Made { outcome, .. } if under_way.is_some_and(Change::resets) => {
                        ledger.reset = Some(ResetEnded::of(event.time, &outcome.output));
                    }
                    _ => {}
                }
            }
            if let (EventKind::Made { .. }, Some(made)) = (&event.kind, under_way) {
                ledger.made(made);
            }
            let EventKind::Intended { change, before, .. } = &event.kind else { continue };
            let change: &Change = change;
            ledger.reset_begun |= change.resets() && kind == Some(StepKind::KubeadmReset);
            match change.kubeadm_verb() {
                Some("init") => {
                    ledger.init.begin();
                    if before.as_ref().is_some_and(|before| before["etcd"] == false) {
                        ledger.etcd = Etcd::Ours;
                    }
                }
                Some("reset") if ledger.etcd == Etcd::Ours => ledger.etcd = Etcd::OursReset,
                Some("join") => ledger.join.begin(),
                _ => {}
            }
            if let Some(before) = before.as_ref().filter(|before| before["cni"].is_array()) {
                ledger.networks =
                    ledger.networks.or_else(|| serde_json::from_value(before["cni"].clone()).ok());
            }
            if kind.is_some_and(StepKind::undoes) {
                ledger.take_undoing(change, &mut entries);
                under_way = Some(change);
            } else {
                note(&mut entries, event.step.step(), change, before.as_ref());
            }
        }
        ledger.entries = entries.into_iter().rev().map(|(_, entry)| entry).collect();
        ledger
    }

    /// What was made is pending no more.
    fn made(&mut self, change: &Change) {
        self.pending.retain(|pending| pending != change);
    }

    /// A restored file asks for its follow-up, which a later event may show as made.
    fn take_undoing(&mut self, change: &Change, entries: &mut [(String, Entry)]) {
        let (place, content) = match change {
            Change::WriteFile { path, content, .. } => (Place::Host(path.clone()), Some(content)),
            Change::RemoveFile { path } => (Place::Host(path.clone()), None),
            Change::WriteUserFile { user, path, content, .. } => {
                (Place::Home(user.clone(), path.clone()), Some(content))
            }
            Change::RemoveUserFile { user, path } => (Place::Home(user.clone(), path.clone()), None),
            Change::RemoveEtcdData
            | Change::SetHostname { .. }
            | Change::SwapOff { .. }
            | Change::SetSysctl { .. }
            | Change::Unit { .. }
            | Change::ReloadUnits
            | Change::RemoveTaints { .. }
            | Change::DeleteObject { .. }
            | Change::Run(_) => return,
        };
        for (_, entry) in entries {
            let Target::File { place: known, writes, .. } = &mut entry.target else { continue };
            if *known != place {
                continue;
            }
            content.iter().for_each(|content| writes.undo(content));
            for follow_up in &entry.follow_up {
                if !self.pending.contains(follow_up) {
                    self.pending.push(follow_up.clone());
                }
            }
        }
    }
}

/// The rules of ufw that no restore took away: one leaves them where nodes stay that dial in by them.
fn standing_rules(earlier: &[Event]) -> Vec<(String, Entry)> {
    let mut entries: Vec<(String, Entry)> = Vec::new();
    for event in earlier {
        let EventKind::Intended { change, .. } = &event.kind else { continue };
        let Change::Run(program) = &**change else { continue };
        if program.program != ProgramName::Ufw {
            continue;
        }
        if Rule::of(&program.arguments).is_some() {
            note(&mut entries, event.step.step(), change, None);
        } else if let Some(gone) = Rule::deleted(&program.arguments) {
            entries
                .retain(|(_, entry)| !matches!(entry.target, Target::FirewallRule { rule } if rule == gone));
        }
    }
    entries
}

/// Takes a change of ours into the account: the first before-image of a target is what stood there before us.
fn note(entries: &mut Vec<(String, Entry)>, step: &str, change: &Change, before: Option<&Value>) {
    let text = |key: &str| before.and_then(|before| before[key].as_str()).map(str::to_owned);
    let flag = |key: &str| before.is_some_and(|before| before[key] == true);
    let target = match change {
        Change::WriteFile { path, .. } | Change::RemoveFile { path } if is_kubeadms(path) => return,
        Change::WriteFile { path, content, secret: true, .. } => {
            Target::Secret(SecretFile::of(Place::Host(path.clone()), content, before))
        }
        Change::WriteFile { path, content, secret: false, .. } => {
            file(Place::Host(path.clone()), text("content"), before, Some(content))
        }
        Change::RemoveFile { path } => file(Place::Host(path.clone()), text("content"), before, None),
        Change::WriteUserFile { user, path, content, secret: true, .. } => {
            Target::Secret(SecretFile::of(Place::Home(user.clone(), path.clone()), content, before))
        }
        Change::WriteUserFile { user, path, content, secret: false, .. } => {
            file(Place::Home(user.clone(), path.clone()), text("content"), before, Some(content))
        }
        Change::SetHostname { name } => Target::Hostname {
            kernel: text("kernel").unwrap_or_default(),
            file: text("file"),
            ours: name.to_string(),
        },
        Change::SetSysctl { key, value } => match text("value") {
            Some(before) => Target::Sysctl { key: key.clone(), before, ours: value.clone() },
            None => return,
        },
        Change::Unit { unit, action } => {
            if *action == UnitAction::Restart {
                add_follow_up(entries, step, change);
                // kubeadm starts and stops it, not we.
                if unit == crate::cluster::kubelet::UNIT {
                    return;
                }
            }
            let file_state = text("file_state").unwrap_or_default();
            let actions = BTreeSet::from([*action]);
            Target::Unit { unit: unit.clone(), active: flag("active"), file_state, actions }
        }
        Change::ReloadUnits => {
            add_follow_up(entries, step, change);
            return;
        }
        Change::SwapOff { device } if flag("active") => Target::Swap { device: device.clone() },
        // It was off already.
        Change::SwapOff { .. } => return,
        Change::Run(program) => match program.program {
            ProgramName::Ufw => match Rule::of(&program.arguments) {
                Some(rule) => Target::FirewallRule { rule },
                None => Target::Firewall,
            },
            // What kubeadm and kubectl made, `kubeadm reset` takes away; loaded modules stay until the next reboot.
            ProgramName::Kubeadm | ProgramName::Kubectl | ProgramName::Modprobe => return,
            // Only a reset runs them.
            ProgramName::Swapon
            | ProgramName::Ip
            | ProgramName::IptablesRestore
            | ProgramName::Ip6tablesRestore
            | ProgramName::Ipvsadm => return,
        },
        // Only a reset takes a user's file, or etcd's data, away.
        Change::RemoveUserFile { .. } | Change::RemoveEtcdData => return,
        // They are the cluster's, and go with it.
        Change::RemoveTaints { .. } | Change::DeleteObject { .. } => return,
    };
    if !entries.iter_mut().any(|(_, entry)| entry.target.absorb(&target)) {
        entries.push((step.to_owned(), Entry { target, follow_up: Vec::new() }));
    }
}

/// Files that a reset leaves to kubeadm, and the one below /run that is gone when kubeadm is.
fn is_kubeadms(path: &std::path::Path) -> bool {
    let folders = [FOLDER, KUBELET_FOLDER, DISCOVERY_FILE];
    folders.iter().any(|place| path.starts_with(place))
}

fn file(place: Place, found: Option<String>, before: Option<&Value>, left: Option<&String>) -> Target {
    let mode = before.and_then(|before| before["mode"].as_u64()).and_then(|mode| u32::try_from(mode).ok());
    Target::File { place, mode, writes: Writes::of(found, left.cloned()) }
}

fn add_follow_up(entries: &mut [(String, Entry)], step: &str, change: &Change) {
    for (_, entry) in entries.iter_mut().filter(|(of, entry)| of == step && entry.target.is_file()) {
        if !entry.follow_up.contains(change) {
            entry.follow_up.push(change.clone());
        }
    }
}
