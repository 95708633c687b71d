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

/// kubeadm's words for what it could not do: `W1130 12:00:00.000000 99 cleanupnode.go:81] [reset] Failed to ...`; cut. It says one
/// for every mount; of each kind, the words before the first path, the first stands for all.
fn warnings(said: &str) -> Vec<String> {
    let marks = ["Failed to", "failed to", "could not"];
    let is_one = |line: &&str| marks.iter().any(|mark| line.contains(mark));
    let plain = |line: &str| {
        let from = line.find("[reset]").unwrap_or_default();
        line[from..].trim().chars().take(LONGEST_WARNING).collect::<String>()
    };
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for line in said.lines().filter(is_one).map(plain) {
        match kinds.iter().position(|(first, _)| kind(first) == kind(&line)) {
            Some(known) => kinds[known].1 += 1,
            None if kinds.len() < MOST_WARNINGS => kinds.push((line, 0)),
            None => {}
        }
    }
    let told = |(line, more)| if more == 0 { line } else { format!("{line} (and {more} more of the kind)") };
    kinds.into_iter().map(told).collect()
}

fn kind(line: &str) -> &str {
    line.split(['/', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_mounts_do_not_hide_what_else_kubeadm_could_not_do() {
        let mount = |name: &str| {
            format!(
                "[reset] Failed to unmount mounted directory in /var/lib/kubelet/: /var/lib/kubelet/pods/{name}\n"
            )
        };
        let mounts: String = ["a", "b", "c", "d", "e", "f"].map(mount).concat();
        let said = format!(
            "[reset] Stopping the kubelet service\n{mounts}W1130 12:00:00.000000 99 cleanupnode.go:81] [reset] Failed to remove containers: exit status 1\n"
        );
        assert_eq!(
            warnings(&said),
            [
                format!("{} (and 5 more of the kind)", mount("a").trim()),
                "[reset] Failed to remove containers: exit status 1".to_owned(),
            ]
        );
    }
}
