//! What a run is for, read off the run's steps: the record of an older coordinator has those as well.

use muster_proto::names::StepId;

/// The kinds of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Makes a cluster.
    Bootstrap,
    /// Undoes one, in whole or in part; a removal of nodes too.
    Reset,
}

impl RunKind {
    /// The kind of a run of these steps.
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a StepId>) -> Self {
        // Every bootstrap has this step. What a reset has differs, down to nothing at all.
        match steps.into_iter().any(|id| id.step() == "kubeadm-init") {
            true => Self::Bootstrap,
            false => Self::Reset,
        }
    }

    /// As scripts get it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Reset => "reset",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_a_control_plane_is_a_bootstrap() {
        let of = |steps: &[&str]| {
            let steps: Vec<StepId> = steps.iter().map(|id| id.parse().unwrap()).collect();
            RunKind::of(&steps)
        };
        assert_eq!(of(&["m1/swap", "m1/kubeadm-init", "w1/kubeadm-join"]), RunKind::Bootstrap);
        assert_eq!(of(&["w1/kubeadm-reset", "w1/restore"]), RunKind::Reset);
        assert_eq!(of(&["m1/forget-node.w1"]), RunKind::Reset, "the removal of a node that is gone");
        assert_eq!(of(&[]), RunKind::Reset, "a reset that found nobody");
    }
}
