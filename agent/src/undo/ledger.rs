//! What Muster itself changed on this host and what stood there before: folded from this agent's journal, from the last
//! finished restore on; a rule of ufw that it left is older. kubeadm's files are not in it, they are kubeadm's to remove;
//! nor is what a reset did.

use std::collections::BTreeSet;

use muster_proto::event::{Event, EventKind};
use muster_proto::kubernetes::files::{FOLDER, KUBELET_FOLDER};
use muster_proto::ufw::Rule;
use serde_json::Value;

use crate::host::change::{Change, ProgramName, UnitAction};

mod progress;
mod secret_file;
mod target;
mod writes;

pub use progress::{Etcd, Progress};
pub use secret_file::SecretFile;
pub use target::{Place, Target};
pub use writes::Writes;

/// The steps of a reset.
pub const RESET_STEPS: [&str; 3] = [
    crate::steps::leave::kubeadm_reset::NAME,
    crate::steps::leave::network_leftovers::NAME,
    crate::steps::leave::restore::NAME,
];

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
    /// Folds a whole journal, oldest event first.
    pub fn of(events: &[Event]) -> Self {
        let restored = |event: &Event| {
            event.step.step() == crate::steps::leave::restore::NAME
                && matches!(event.kind, EventKind::Done { .. })
        };
        let begin = events.iter().rposition(restored).map_or(0, |last| last + 1);
        let mut ledger = Self::default();
        // Entries with the step that made them, oldest first.
        let mut entries: Vec<(String, Entry)> = standing_rules(&events[..begin]);
        // One changing step at a time: the change of a reset that was intended last.
        let mut under_way: Option<Change> = None;
        for event in &events[begin..] {
            let step = event.step.step();
            if let EventKind::Done { .. } = event.kind {
                match step {
                    crate::steps::cluster::kubeadm_join::NAME => ledger.join.end(),
                    crate::steps::cluster::kubeadm_init::NAME => ledger.init.end(),
                    crate::steps::leave::kubeadm_reset::NAME => {
                        (ledger.join, ledger.init) = (Progress::Never, Progress::Never);
                        ledger.etcd = Etcd::Foreign;
                    }
                    _ => {}
                }
            }
            if let (EventKind::Made { .. }, Some(made)) = (&event.kind, &under_way) {
                ledger.pending.retain(|pending| pending.to_string() != made.to_string());
            }
            let EventKind::Intended { change, before, .. } = &event.kind else { continue };
            let Ok(change) = serde_json::from_value::<Change>(change.clone()) else { continue };
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
            if RESET_STEPS.contains(&step) {
                ledger.take_undoing(&change, &mut entries);
                under_way = Some(change);
            } else {
                note(&mut entries, step, &change, before.as_ref());
            }
        }
        ledger.entries = entries.into_iter().rev().map(|(_, entry)| entry).collect();
        ledger
    }

    /// A restored file asks for its follow-up, which a later event may show as made.
    fn take_undoing(&mut self, change: &Change, entries: &mut [(String, Entry)]) {
        let (place, content) = match change {
            Change::WriteFile { path, content, .. } => (Place::Host(path.clone()), Some(content)),
            Change::RemoveFile { path } => (Place::Host(path.clone()), None),
            Change::WriteUserFile { user, path, content, secret: false, .. } => {
                (Place::Home(user.clone(), path.clone()), Some(content))
            }
            _ => return,
        };
        for (_, entry) in entries {
            let Target::File { place: known, writes, .. } = &mut entry.target else { continue };
            if *known != place {
                continue;
            }
            content.iter().for_each(|content| writes.undo(content));
            for follow_up in &entry.follow_up {
                if !self.pending.iter().any(|known| known.to_string() == follow_up.to_string()) {
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
        let Ok(Change::Run(program)) = serde_json::from_value(change.clone()) else { continue };
        if program.program != ProgramName::Ufw {
            continue;
        }
        if Rule::of(&program.arguments).is_some() {
            note(&mut entries, event.step.step(), &Change::Run(program), None);
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
        Change::WriteFile { path, content, .. } => {
            file(Place::Host(path.clone()), text("content"), before, Some(content))
        }
        Change::RemoveFile { path } => file(Place::Host(path.clone()), text("content"), before, None),
        Change::WriteUserFile { user, path, content, secret: true, .. } => {
            Target::Secret(SecretFile::of(user, path, content, before))
        }
        Change::WriteUserFile { user, path, content, .. } => {
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
        Change::Run(program) if program.program == ProgramName::Ufw => match Rule::of(&program.arguments) {
            Some(rule) => Target::FirewallRule { rule },
            None => Target::Firewall,
        },
        _ => return,
    };
    if !entries.iter_mut().any(|(_, entry)| entry.target.absorb(&target)) {
        entries.push((step.to_owned(), Entry { target, follow_up: Vec::new() }));
    }
}

/// Files that a reset leaves to kubeadm, and the one below /run that is gone when kubeadm is.
fn is_kubeadms(path: &std::path::Path) -> bool {
    let folders = [FOLDER, KUBELET_FOLDER, crate::steps::cluster::kubeadm_join::DISCOVERY_FILE];
    folders.iter().any(|place| path.starts_with(place))
}

fn file(place: Place, found: Option<String>, before: Option<&Value>, left: Option<&String>) -> Target {
    let mode = before.and_then(|before| before["mode"].as_u64()).and_then(|mode| u32::try_from(mode).ok());
    Target::File { place, mode, writes: Writes::of(found, left.cloned()) }
}

fn add_follow_up(entries: &mut [(String, Entry)], step: &str, change: &Change) {
    for (_, entry) in entries.iter_mut().filter(|(of, entry)| of == step && entry.target.is_file()) {
        if !entry.follow_up.iter().any(|known| known.to_string() == change.to_string()) {
            entry.follow_up.push(change.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::change::{FileMode, Program};

    fn intended(sequence: u64, step: &str, change: &Change, before: Option<Value>) -> Event {
        let (change, summary) = (change.record(), change.to_string());
        event(sequence, step, EventKind::Intended { index: 0, change, summary, before })
    }
    fn event(sequence: u64, step: &str, kind: EventKind) -> Event {
        Event {
            sequence,
            time: jiff::Timestamp::UNIX_EPOCH,
            run: "r".into(),
            step: format!("m1/{step}").parse().unwrap(),
            kind,
        }
    }
    fn write(path: &str, content: &str) -> Change {
        Change::WriteFile { path: path.into(), content: content.into(), mode: FileMode::IfNew(0o644) }
    }
    fn stood(content: &str) -> Option<Value> {
        Some(json!({ "content": content, "mode": 0o600 }))
    }

    #[test]
    fn the_first_before_image_counts_and_a_foreign_hand_in_between_is_noticed() {
        let events = [
            intended(1, "hosts", &write("/etc/hosts", "b"), stood("a")),
            intended(2, "hosts", &write("/etc/hosts", "b"), stood("a")),
            intended(3, "swap", &write("/etc/fstab", "y"), stood("x")),
            intended(4, "swap", &write("/etc/fstab", "z!"), stood("z")),
        ];
        let ledger = Ledger::of(&events);
        let Target::File { writes, mode, .. } = &ledger.entries[1].target else { panic!() };
        assert_eq!((writes.before(), *mode, writes.in_effect("b").len()), (Some("a"), Some(0o600), 1));
        let Target::File { writes, .. } = &ledger.entries[0].target else { panic!() };
        assert_eq!((writes.before(), writes.in_effect("z!").len()), (Some("x"), 2), "newest first: fstab");
    }

    #[test]
    fn a_finished_restore_closes_the_account_and_the_steps_of_a_reset_are_no_part_of_it() {
        let mut events = vec![
            intended(1, "hosts", &write("/etc/hosts", "b"), stood("a")),
            intended(2, "restore", &write("/etc/hosts", "a"), stood("b")),
        ];
        assert_eq!(Ledger::of(&events).entries.len(), 1);
        events.push(event(3, "restore", EventKind::Done { changes: 1 }));
        assert!(Ledger::of(&events).entries.is_empty());
    }

    #[test]
    fn how_far_init_and_join_came_is_known_and_a_reset_forgets_it() {
        for (step, verb) in [("kubeadm-init", "init"), ("kubeadm-join", "join")] {
            let done = |sequence, step| event(sequence, step, EventKind::Done { changes: 1 });
            let run = |verb: &str| {
                Change::Run(Program::new(ProgramName::Kubeadm, [verb], std::time::Duration::from_secs(1)))
            };
            let of = |events: &[Event]| {
                let ledger = Ledger::of(events);
                let (own, other) =
                    if verb == "init" { (ledger.init, ledger.join) } else { (ledger.join, ledger.init) };
                assert_eq!(other, Progress::Never);
                own
            };
            let mut events = vec![
                event(1, step, EventKind::Started { content: String::new(), attempt: 1 }),
                intended(2, step, &write("/run/muster-agent/configuration", "a"), None),
                intended(3, step, &run("reset"), None),
                done(4, step),
            ];
            assert_eq!(of(&events), Progress::Never, "somebody else's, which the step found done");
            events.push(intended(5, step, &run(verb), None));
            assert_eq!(of(&events), Progress::Begun);
            events.push(done(6, step));
            assert_eq!(of(&events), Progress::Done);
            events.push(done(7, "kubeadm-reset"));
            assert_eq!(of(&events), Progress::Never, "although nothing was restored yet");
        }
    }

    #[test]
    fn etcds_data_is_ours_if_none_stood_there_before_our_init_and_removable_once_a_reset_began() {
        let run = |sequence, step: &str, verb: &str, before| {
            let program = Program::new(ProgramName::Kubeadm, [verb], std::time::Duration::from_secs(1));
            intended(sequence, step, &Change::Run(program), before)
        };
        for (stood, [after_init, after_reset]) in [
            (None, [Etcd::Foreign; 2]),
            (Some(json!({ "etcd": true })), [Etcd::Foreign; 2]),
            (Some(json!({ "etcd": false })), [Etcd::Ours, Etcd::OursReset]),
        ] {
            let mut events = vec![run(1, "kubeadm-init", "init", stood)];
            assert_eq!(Ledger::of(&events).etcd, after_init);
            events.push(run(2, "kubeadm-reset", "reset", None));
            assert_eq!(Ledger::of(&events).etcd, after_reset);
            events.push(event(3, "kubeadm-reset", EventKind::Done { changes: 1 }));
            assert_eq!(Ledger::of(&events).etcd, Etcd::Foreign);
        }
    }

    #[test]
    fn the_networks_that_stood_here_are_those_of_the_first_init_or_join_until_all_is_put_back() {
        let join = |sequence, stood: Value| {
            let program = Program::new(ProgramName::Kubeadm, ["join"], std::time::Duration::from_secs(1));
            intended(sequence, "kubeadm-join", &Change::Run(program), Some(stood))
        };
        let mut events =
            vec![join(1, json!({ "cni": ["mine.conf"] })), join(2, json!({ "cni": ["ours.conf"] }))];
        assert_eq!(Ledger::of(&events).networks, Some(vec!["mine.conf".to_owned()]));
        events.push(event(3, "kubeadm-reset", EventKind::Done { changes: 1 }));
        assert!(Ledger::of(&events).networks.is_some(), "the step after it asks");
        events.push(event(4, "restore", EventKind::Done { changes: 0 }));
        assert_eq!(Ledger::of(&events).networks, None);
    }

    #[test]
    fn a_restart_that_a_restored_file_needs_is_pending_until_it_is_made() {
        let restart = Change::Unit { unit: "docker.service".into(), action: UnitAction::Restart };
        let removal = Change::RemoveFile { path: "/etc/docker/daemon.json".into() };
        let mut events = vec![
            intended(1, "runtime", &write("/etc/docker/daemon.json", "b"), None),
            intended(2, "runtime", &restart, Some(json!({ "active": true, "file_state": "enabled" }))),
            intended(3, "restore", &removal, stood("b")),
        ];
        assert_eq!(Ledger::of(&events).pending.len(), 1);
        events.push(intended(4, "restore", &restart, None));
        assert_eq!(Ledger::of(&events).pending.len(), 1, "it is not known to be made");
        events.push(event(5, "restore", EventKind::Made { index: 0, outcome: Default::default() }));
        assert!(Ledger::of(&events).pending.is_empty());
    }

    #[test]
    fn of_a_unit_that_was_restarted_and_then_started_counts_whether_it_ran_before_the_first_of_both() {
        let change = |unit: &str, action| Change::Unit { unit: unit.into(), action };
        let ran = |active: bool| Some(json!({ "active": active, "file_state": "enabled" }));
        let ledger = Ledger::of(&[
            intended(1, "runtime", &change("docker.service", UnitAction::Restart), ran(true)),
            intended(2, "runtime", &change("docker.service", UnitAction::Start), ran(false)),
            intended(3, "kubelet", &change("kubelet.service", UnitAction::Restart), ran(true)),
        ]);
        let [Entry { target: Target::Unit { unit, active: true, actions, .. }, .. }] = &ledger.entries[..]
        else {
            panic!("{:?}", ledger.entries)
        };
        assert_eq!((unit.as_str(), actions.len()), ("docker.service", 2), "kubeadm starts and stops its own");
    }

    #[test]
    fn of_a_secret_file_the_journal_holds_the_digest_alone() {
        let change = Change::WriteUserFile {
            user: "student".parse().unwrap(),
            path: ".kube/config".into(),
            content: "a key".into(),
            mode: FileMode::exactly(0o600),
            secret: true,
        };
        assert!(!change.record().to_string().contains("a key"));
        let ledger = Ledger::of(&[intended(1, "kubeconfig.student", &change, None)]);
        let Target::Secret(file) = &ledger.entries[0].target else { panic!() };
        assert_eq!(file.whole, [crate::host::change::digest_of("a key")]);
    }
}
