//! Failures, and what the checks before a run found, as a person reads them; nothing in them steers the terminal.

use crate::view::Failure;
use crate::view::findings::Findings;

pub(super) fn show_failures(failures: &[Failure]) {
    anstream::eprint!("{}", told(failures));
}

/// The notes first, so that what has to be done stands last.
pub(super) fn show_findings(found: &Findings) {
    for note in &found.notes {
        let evidence = note.evidence.trim_end().replace('\n', "; ");
        let seen = if evidence.is_empty() { String::new() } else { format!(" ({evidence})") };
        anstream::println!("note     {:<36} {}{seen}", format!("{}/{}", note.node, note.step), note.cause);
    }
    show_failures(&found.complaints);
}

/// The first cause on top.
pub fn told(failures: &[Failure]) -> String {
    let mut lines = Vec::new();
    for (index, failure) in failures.iter().enumerate() {
        let lead = match (index, failure.blocked) {
            (0, true) => "BLOCKED",
            (0, false) => "FAILED",
            _ => "also",
        };
        lines.push(format!("{lead}  {} / {}: {}", failure.node, failure.step, failure.cause));
        if failure.attempt > 0 {
            lines.push(format!("    attempt: {}", failure.attempt));
        }
        for (label, text) in [("seen", &failure.evidence), ("to do", &failure.remedy)] {
            if !text.is_empty() {
                let text = text.trim_end().replace('\n', "\n          ");
                lines.push(format!("    {label}: {text}"));
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
