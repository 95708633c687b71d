//! A unit that does not start: what its program said last is the cause, and systemd's words about it are not.

use jiff::Timestamp;
use muster_proto::cause::chain;
use muster_proto::event::Complaint;

use super::sign::short;
use crate::host::HostError;
use crate::host::change::{Change, UnitAction};
use crate::host::query::{JournalLine, Observe};

/// Of a program's own lines.
const SHOWN: usize = 4;

/// systemd's own lines about a unit begin so, after the unit's name or by themselves.
const OF_SYSTEMD: [&str; 8] = [
    "Starting ",
    "Started ",
    "Stopping ",
    "Stopped ",
    "Failed to start ",
    "Triggering ",
    "Dependency failed ",
    "Closed ",
];

/// What to say of a start or restart that failed with this error; none for any other change, and where the program was silent.
pub(crate) async fn complaint<H: Observe>(
    host: &H,
    change: &Change,
    error: &HostError,
    since: Timestamp,
) -> Option<Complaint> {
    let Change::Unit { unit, action: UnitAction::Start | UnitAction::Restart } = change else { return None };
    let lines = host.unit_journal(unit, since).await.ok()?;
    let said = of_program(&lines, unit);
    let last = said.last()?;
    let shown = said.len().saturating_sub(SHOWN);
    let mut evidence: Vec<String> =
        said[shown..].iter().map(|line| format!("{unit}: {}", short(line, 400))).collect();
    evidence.push(chain(error));
    Some(Complaint::new(
        format!("{unit} does not start: {}", short(last, 300)),
        evidence.join("\n"),
        format!(
            "on this node: put right what it says (`sudo journalctl -u {unit}` has all of it), then run the same command again"
        ),
    ))
}

/// The lines of the program itself, each once, the newest last.
fn of_program<'a>(lines: &'a [JournalLine], unit: &str) -> Vec<&'a str> {
    let mut said: Vec<&str> = Vec::new();
    for line in lines.iter().map(|line| line.message.as_str()) {
        let of_systemd =
            line.starts_with(&format!("{unit}: ")) || OF_SYSTEMD.iter().any(|words| line.starts_with(words));
        if !of_systemd && !line.trim().is_empty() {
            said.retain(|earlier| *earlier != line);
            said.push(line);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    #[tokio::test]
    async fn the_program_s_own_last_words_are_the_cause() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        let own = "failed to start daemon: unable to configure the Docker daemon with file /etc/docker/daemon.json: the following directives are specified both as a flag and in the configuration file: hosts";
        let lines = [
            "Starting Docker Application Container Engine...",
            own,
            "docker.service: Main process exited, code=exited, status=1/FAILURE",
            "Failed to start Docker Application Container Engine.",
        ];
        host.with(|state| {
            let line = |text: &&str| JournalLine { time: Timestamp::now(), message: (*text).to_owned() };
            state.unit_journals.insert("docker.service".into(), lines.iter().map(line).collect());
        });
        let error = HostError::Systemd {
            what: "to start docker.service".into(),
            message: "the job ended with `failed`".into(),
        };
        let start = Change::Unit { unit: "docker.service".into(), action: UnitAction::Start };
        let told = complaint(&host, &start, &error, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(told.cause, format!("docker.service does not start: {own}"));
        assert!(told.evidence.ends_with("the job ended with `failed`"), "{told}");
        let stop = Change::Unit { unit: "docker.service".into(), action: UnitAction::Stop };
        assert_eq!(complaint(&host, &stop, &error, Timestamp::UNIX_EPOCH).await, None);
    }
}
