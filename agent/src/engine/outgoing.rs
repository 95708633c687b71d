//! What of an event leaves this node. A reset needs the files as they stood before, and reads them in this agent's own
//! journal; the coordinator never does, and what people keep in their files is not to gather in one place.

use muster_proto::event::{Event, EventKind};
use serde_json::{Value, json};

use crate::host::change::{Change, digest_of};

/// The event as the coordinator gets it: of a file's content its size and digest.
pub(super) fn outgoing(mut event: Event) -> Event {
    if let EventKind::Intended { change, before, .. } = &mut event.kind {
        *change = change.clone().without_contents();
        if let Some(before) = before {
            conceal(change, before);
        }
    }
    event
}

/// What stood there before. A new kind of change does not compile until it is said here what of it may go.
fn conceal(made: &Change, before: &mut Value) {
    match made {
        Change::WriteFile { .. }
        | Change::WriteUserFile { .. }
        | Change::RemoveFile { .. }
        | Change::RemoveUserFile { .. } => conceal_image(before),
        Change::SetHostname { .. } => conceal_text(&mut before["file"]),
        // The files of ufw, by their paths.
        Change::Run(_) => {
            before.as_object_mut().into_iter().flat_map(|files| files.values_mut()).for_each(conceal_text);
        }
        Change::RemoveEtcdData
        | Change::SwapOff { .. }
        | Change::SetSysctl { .. }
        | Change::Unit { .. }
        | Change::ReloadUnits
        | Change::RemoveTaints { .. }
        | Change::DeleteObject { .. } => {}
    }
}

/// The before-image of one file.
fn conceal_image(before: &mut Value) {
    let Some(image) = before.as_object_mut() else { return };
    if let Some(Value::String(content)) = image.remove("content") {
        image.insert("bytes".to_owned(), content.len().into());
        image.insert("digest".to_owned(), digest_of(&content).into());
    }
}

fn conceal_text(value: &mut Value) {
    if let Value::String(content) = value {
        *value = json!({ "bytes": content.len(), "digest": digest_of(content) });
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::event::Outcome;

    use super::*;
    use crate::host::change::{FileMode, Program, ProgramName, Recorded};

    const CANARY: &str = "export TOKEN=canary\n";

    fn sent(change: &Change, before: Option<Value>) -> (Recorded, Option<Value>, String) {
        let (change, summary) = (change.record(), change.to_string());
        let event = Event {
            sequence: 1,
            time: jiff::Timestamp::UNIX_EPOCH,
            run: "r".into(),
            step: "m1/kubeconfig.student".parse().unwrap(),
            kind: EventKind::Intended { index: 0, change, summary, before },
        };
        let event = outgoing(event);
        let text = serde_json::to_string(&event).unwrap();
        let EventKind::Intended { change, before, .. } = event.kind else { panic!("{text}") };
        (change, before, text)
    }

    #[test]
    fn of_every_file_its_size_mode_and_digest_leave_the_node_and_never_its_content() {
        let user = || "student".parse().unwrap();
        let write = |secret| Change::WriteUserFile {
            user: user(),
            path: ".bashrc".into(),
            content: format!("{CANARY}ours\n"),
            mode: FileMode::IfNew(0o644),
            secret,
        };
        let write_host = |secret| Change::WriteFile {
            path: "/etc/fstab".into(),
            content: format!("{CANARY}ours\n"),
            mode: FileMode::IfNew(0o644),
            secret,
        };
        for change in [
            write_host(false),
            write_host(true),
            write(false),
            write(true),
            Change::RemoveFile { path: "/etc/fstab".into() },
            Change::RemoveUserFile { user: user(), path: ".bashrc".into() },
        ] {
            let (told, before, text) = sent(&change, Some(json!({ "content": CANARY, "mode": 0o600 })));
            assert!(!text.contains("canary"), "{text}");
            let expected = json!({ "bytes": CANARY.len(), "digest": digest_of(CANARY), "mode": 0o600 });
            assert_eq!(before, Some(expected), "{change}");
            let told = serde_json::to_value(&told).unwrap();
            let digest = told.get("content").map(|content| content == &digest_of(&format!("{CANARY}ours\n")));
            assert_ne!(digest, Some(false), "{told}");
        }
        let files = Some(json!({ "/etc/ufw/ufw.conf": CANARY, "/etc/ufw/user.rules": null }));
        let ufw = Change::Run(Program::new(ProgramName::Ufw, ["disable"], std::time::Duration::from_secs(1)));
        let (_, before, text) = sent(&ufw, files);
        assert!(!text.contains("canary"), "{text}");
        let before = before.unwrap();
        assert_eq!(before["/etc/ufw/ufw.conf"]["bytes"], CANARY.len());
        assert!(before["/etc/ufw/user.rules"].is_null());
        let name = Change::SetHostname { name: "m1".parse().unwrap() };
        let (_, _, text) = sent(&name, Some(json!({ "kernel": "m1", "file": CANARY })));
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn an_event_that_is_no_change_of_a_file_leaves_as_it_is() {
        let stood = json!({ "active": true });
        let swap = Change::SwapOff { device: "/dev/sda5".into() };
        assert_eq!(sent(&swap, Some(stood.clone())).1, Some(stood));
        assert_eq!(sent(&Change::ReloadUnits, None).1, None);
        let made = Event {
            sequence: 1,
            time: jiff::Timestamp::UNIX_EPOCH,
            run: "r".into(),
            step: "m1/swap".parse().unwrap(),
            kind: EventKind::Made { index: 0, outcome: Outcome::default() },
        };
        assert_eq!(outgoing(made.clone()), made);
    }
}
