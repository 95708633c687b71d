//! A journal as a person reads it and as a script does; the same of both sides.

use std::io::{self, Write};

use serde_json::Value;

use crate::event::{Complaint, Event, EventKind, Outcome};
use crate::journal::{Journal, JournalError};
use crate::redaction::printable;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal cannot be shown")]
    Output(#[from] io::Error),
}

/// Writes all events, oldest first; then says whether the journal is whole.
pub fn list(journal: &Journal, form: Form, out: &mut impl Write) -> Result<(), ListingError> {
    let events = journal.after(0)?;
    let mut run = "";
    if events.is_empty() && form == Form::Text {
        writeln!(out, "nothing was done yet")?;
    }
    for event in &events {
        let text = match form {
            Form::Json => serde_json::to_string(event).map_err(io::Error::from)? + "\n",
            Form::Text => {
                let heading = if event.run == run { String::new() } else { format!("run {}\n", event.run) };
                run = &event.run;
                heading + &in_words(event)
            }
        };
        // What programs said must not steer the terminal.
        match out.write_all(printable(&text).as_bytes()) {
            // Whoever read has read enough, as with `| head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    out.flush().or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })?;
    journal.whole()?;
    Ok(())
}

fn in_words(event: &Event) -> String {
    let time = event.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let (said, more) = match &event.kind {
        EventKind::Dispatched => ("sent to the agent".to_owned(), String::new()),
        EventKind::Started { attempt, .. } => (format!("attempt {attempt} begins"), String::new()),
        EventKind::Intended { index, summary, before, .. } => {
            (format!("change {index}: {summary}"), before.as_ref().map(before_in_words).unwrap_or_default())
        }
        EventKind::Made { index, outcome } => {
            (format!("change {index} made{}", ended(outcome)), outcome.output.clone())
        }
        EventKind::NotMade { index, outcome } => {
            (format!("change {index} NOT made{}", ended(outcome)), outcome.output.clone())
        }
        EventKind::EndUnknown { index } => (
            format!(
                "change {index}: the agent was ended in the middle of it; the next look tells what became of it"
            ),
            String::new(),
        ),
        EventKind::Waiting { for_what } => (format!("waits: {for_what}"), String::new()),
        EventKind::Noticed { index, what } => {
            (format!("noticed while change {index} runs: {what}"), String::new())
        }
        EventKind::Left { what } => (format!("left as it is: {what}"), String::new()),
        EventKind::Done { changes } => (format!("done, {changes} changes"), String::new()),
        EventKind::Blocked { complaint } => complained("BLOCKED", complaint),
        EventKind::Failed { complaint } => complained("FAILED", complaint),
        EventKind::Refused { why, source } => (format!("REFUSED, from {source}: {why}"), String::new()),
    };
    let mut text =
        format!("{:>6}  {time}  {:<32}  {}\n", event.sequence, event.step.as_str(), said.replace('\n', " "));
    for line in more.lines() {
        text.push_str("        | ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn complained(word: &str, complaint: &Complaint) -> (String, String) {
    let mut more = String::new();
    for (label, text) in [("seen", &complaint.evidence), ("to do", &complaint.remedy)] {
        if !text.is_empty() {
            more.push_str(&format!("{label}: {text}\n"));
        }
    }
    (format!("{word}: {}", complaint.cause), more)
}

fn ended(outcome: &Outcome) -> String {
    let mut said = outcome.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    said.push_str(&format!(", {}.{:03} s", outcome.duration_ms / 1000, outcome.duration_ms % 1000));
    if outcome.output_cut > 0 {
        said.push_str(&format!(", {} bytes of its output left out", outcome.output_cut));
    }
    if let Some(error) = &outcome.error {
        said.push_str(": ");
        said.push_str(error);
    }
    said
}

/// What stood there before: a file line by line, or its size, mode and digest; anything else as it stands in the journal.
fn before_in_words(before: &Value) -> String {
    match (before["content"].as_str(), before["digest"].as_str()) {
        (Some(content), _) => format!("before:\n{content}"),
        // What an agent tells its coordinator of a file.
        (None, Some(digest)) => {
            let mode = before["mode"].as_u64().map(|mode| format!("mode {mode:04o}, ")).unwrap_or_default();
            format!("before: {} bytes, {mode}{digest}", before["bytes"])
        }
        (None, None) => format!("before: {before}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use crate::names::StepId;

    fn journal(folder: &std::path::Path) -> Journal {
        let journal = Journal::open(&folder.join("journal.db")).unwrap();
        let step: StepId = "m1/kubeadm-init".parse().unwrap();
        let outcome = Outcome {
            exit_code: Some(1),
            output: "[init] begins\n\u{1b}[31mit ends\n".into(),
            output_cut: 7,
            duration_ms: 1250,
            error: None,
        };
        for kind in [
            EventKind::Started { content: "c".into(), attempt: 2 },
            EventKind::Intended {
                index: 0,
                change: Change::ReloadUnits.record(),
                summary: "run kubeadm init".into(),
                before: Some(serde_json::json!({ "content": "old line\n", "mode": 420 })),
            },
            EventKind::NotMade { index: 0, outcome },
            EventKind::Failed { complaint: Complaint::new("it failed", "a line", "mend it") },
        ] {
            journal.append("r1", &step, kind).unwrap();
        }
        journal
    }

    fn listed(journal: &Journal, form: Form) -> String {
        let mut out = Vec::new();
        list(journal, form, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_person_reads_attempt_change_before_image_exit_code_duration_and_output() {
        let folder = tempfile::tempdir().unwrap();
        let text = listed(&journal(folder.path()), Form::Text);
        let without_times: Vec<String> = text
            .lines()
            .map(|line| match line.split_once("Z  ") {
                Some((head, rest)) => {
                    format!("{} {rest}", head.split_whitespace().next().unwrap_or_default())
                }
                None => line.to_owned(),
            })
            .collect();
        let step = format!("{:<32}", "m1/kubeadm-init");
        assert_eq!(
            without_times,
            [
                "run r1".to_owned(),
                format!("1 {step}  attempt 2 begins"),
                format!("2 {step}  change 0: run kubeadm init"),
                "        | before:".to_owned(),
                "        | old line".to_owned(),
                format!("3 {step}  change 0 NOT made, exit code 1, 1.250 s, 7 bytes of its output left out"),
                "        | [init] begins".to_owned(),
                "        | it ends".to_owned(),
                format!("4 {step}  FAILED: it failed"),
                "        | seen: a line".to_owned(),
                "        | to do: mend it".to_owned(),
            ]
        );
    }

    #[test]
    fn a_script_reads_one_event_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = listed(&journal(folder.path()), Form::Json);
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn of_a_journal_with_a_gap_everything_is_shown_and_the_gap_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let path = folder.path().join("journal.db");
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute("DELETE FROM event WHERE sequence = 2", []).unwrap();
        let mut out = Vec::new();
        let error = list(&journal, Form::Json, &mut out).unwrap_err().to_string();
        assert!(error.contains("event 2 is missing"), "{error}");
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
    }
}
