//! What a run is for. Recorded with it.

/// The kinds of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Makes a cluster.
    Bootstrap,
    /// Undoes one, in whole or in part.
    Reset,
    /// Takes nodes out of one, and off the list of enrolled nodes.
    Remove,
    /// Of no cluster: lets the nodes dial in through the firewall of the coordinator's own machine. Not recorded.
    LetNodesIn,
}

impl RunKind {
    pub const ALL: [Self; 4] = [Self::Bootstrap, Self::Reset, Self::Remove, Self::LetNodesIn];

    /// As it is recorded, and as scripts get it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Reset => "reset",
            Self::Remove => "remove",
            Self::LetNodesIn => "let-nodes-in",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}
