//! The container runtimes that Muster sets up.

use std::fmt;
use std::str::FromStr;

use crate::names::Malformed;

/// A container runtime, by the word that stands for it in cluster.yaml and in every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeName {
    Docker,
    Containerd,
}

impl RuntimeName {
    pub const ALL: [Self; 2] = [Self::Docker, Self::Containerd];

    pub fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
        }
    }
}

impl FromStr for RuntimeName {
    type Err = Malformed;
    fn from_str(word: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.into_iter().find(|runtime| runtime.word() == word);
        found.ok_or_else(|| Malformed::new(word, "a container runtime: docker or containerd"))
    }
}

/// As it is written in a sentence.
impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Containerd => "containerd",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_known_by_its_word_alone() {
        for runtime in RuntimeName::ALL {
            assert_eq!(runtime.word().parse(), Ok(runtime));
        }
        assert!("Docker".parse::<RuntimeName>().is_err() && "".parse::<RuntimeName>().is_err());
    }
}
