//! What Muster's own kubeadm made of a host since the last reset.

/// How far Muster's own `kubeadm init` or `kubeadm join` came on a host; somebody else's counts for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Progress {
    #[default]
    Never,
    /// The program was begun. Its step never ended well: nobody was given a ticket, and nobody counts on this node.
    Begun,
    Done,
}

/// Whose etcd's data on a host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Etcd {
    /// As far as the journal tells, not Muster's.
    #[default]
    Foreign,
    /// None stood there when Muster began `kubeadm init`.
    Ours,
    /// And `kubeadm reset` was begun since.
    OursReset,
}

impl Progress {
    pub(super) fn begin(&mut self) {
        if *self == Self::Never {
            *self = Self::Begun;
        }
    }

    /// Of what Muster never began, a step that finds it done says nothing.
    pub(super) fn end(&mut self) {
        if *self == Self::Begun {
            *self = Self::Done;
        }
    }
}
