//! What a journal folds into.

use serde_json::json;

use super::*;
use crate::host::change::{FileMode, Program};
use muster_proto::event::Outcome;

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
    Change::write(path, content)
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
fn what_kubeadm_reset_could_not_do_is_known_until_the_step_begins_anew_and_nothing_once_it_is_done() {
    let program = Program::new(ProgramName::Kubeadm, ["reset"], std::time::Duration::from_secs(1));
    let output = "[reset] Stopping the kubelet service\nW1130 10:00:00.000000    99 cleanupnode.go:81] [reset] Failed to remove containers: exit status 1\n";
    let outcome = Outcome { output: output.into(), ..Outcome::default() };
    let started = |sequence| {
        event(sequence, "kubeadm-reset", EventKind::Started { content: String::new(), attempt: 1 })
    };
    let mut events = vec![
        started(1),
        intended(2, "kubeadm-reset", &Change::Run(program), None),
        event(3, "kubeadm-reset", EventKind::Made { index: 0, outcome }),
    ];
    let ended = Ledger::of(&events).reset.unwrap();
    assert_eq!(ended.warnings, ["[reset] Failed to remove containers: exit status 1"]);
    events.push(started(4));
    let ledger = Ledger::of(&events);
    assert!(ledger.reset.is_none() && ledger.began_cluster(), "it is run once more");
    events.push(event(5, "kubeadm-reset", EventKind::Done { changes: 1 }));
    assert!(!Ledger::of(&events).began_cluster());
}

#[test]
fn the_networks_that_stood_here_are_those_of_the_first_init_or_join_until_all_is_put_back() {
    let join = |sequence, stood: Value| {
        let program = Program::new(ProgramName::Kubeadm, ["join"], std::time::Duration::from_secs(1));
        intended(sequence, "kubeadm-join", &Change::Run(program), Some(stood))
    };
    let mut events = vec![join(1, json!({ "cni": ["mine.conf"] })), join(2, json!({ "cni": ["ours.conf"] }))];
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
    let [Entry { target: Target::Unit { unit, active: true, actions, .. }, .. }] = &ledger.entries[..] else {
        panic!("{:?}", ledger.entries)
    };
    assert_eq!((unit.as_str(), actions.len()), ("docker.service", 2), "kubeadm starts and stops its own");
}

#[test]
fn of_a_secret_file_the_journal_holds_the_digest_alone() {
    let (content, mode) = ("a key".to_owned(), FileMode::exactly(0o600));
    let of_a_user = Change::WriteUserFile {
        user: "student".parse().unwrap(),
        path: ".kube/config".into(),
        content: content.clone(),
        mode,
        secret: true,
    };
    let of_the_host = Change::WriteFile { path: "/etc/key".into(), content, mode, secret: true };
    for change in [of_a_user, of_the_host] {
        assert!(!serde_json::to_string(&change.record()).unwrap().contains("a key"));
        let ledger = Ledger::of(&[intended(1, "kubeconfig.student", &change, None)]);
        let Target::Secret(file) = &ledger.entries[0].target else { panic!() };
        assert_eq!(file.whole, [crate::host::change::digest_of("a key")]);
    }
}

#[test]
fn a_follow_up_is_pending_by_what_it_is_and_not_by_how_it_reads() {
    // Two writes of one file read alike; only the one with this content is the one that was made.
    let write = |content: &str| write("/etc/hosts", content);
    assert_eq!(write("a").to_string(), write("b").to_string());
    let mut ledger = Ledger { pending: vec![write("a"), write("b")], ..Ledger::default() };
    ledger.made(&write("b"));
    assert_eq!(ledger.pending, [write("a")]);
}
