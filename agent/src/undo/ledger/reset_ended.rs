//! How `kubeadm reset` ended here.

use jiff::Timestamp;

const MOST_WARNINGS: usize = 5;
const LONGEST_WARNING: usize = 400;

/// A `kubeadm reset` that ended well by its own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetEnded {
    pub at: Timestamp,
    /// The lines in which it tells what it could not do.
    pub warnings: Vec<String>,
}

impl ResetEnded {
    pub(super) fn of(at: Timestamp, said: &str) -> Self {
        Self { at, warnings: warnings(said) }
    }
}

/// kubeadm's words for what it could not do: `W1130 12:00:00.000000 99 cleanupnode.go:81] [reset] Failed to ...`; cut.
fn warnings(said: &str) -> Vec<String> {
    let marks = ["Failed to", "failed to", "could not"];
    let is_one = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    let plain = |line: &str| {
        let from = line.find("[reset]").unwrap_or_default();
        line[from..].trim().chars().take(LONGEST_WARNING).collect::<String>()
    };
    said.lines().filter(is_one).map(plain).take(MOST_WARNINGS).collect()
}
