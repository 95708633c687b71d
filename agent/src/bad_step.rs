//! Why a message is no step: said by whoever parses it, refused by the engine.

use std::str::FromStr;

use muster_proto::names::Malformed;

/// A message that is not a step this agent knows, or one with a field that it refuses.
#[derive(Debug, thiserror::Error)]
pub enum BadStep {
    #[error("the message holds no step that this version of the agent knows")]
    Unknown,
    #[error("{field}: {source}")]
    Field { field: &'static str, source: Malformed },
    #[error("{field}: {problem}")]
    Value { field: &'static str, problem: String },
}

impl BadStep {
    /// For `map_err`: the field that was malformed.
    pub fn field(field: &'static str) -> impl Fn(Malformed) -> Self {
        move |source| Self::Field { field, source }
    }

    /// A value whose own type does not say what is expected: an address, a range, a port.
    pub fn parsed<T: FromStr>(field: &'static str, text: &str, expected: &'static str) -> Result<T, Self> {
        text.parse().map_err(|_| Self::field(field)(Malformed::new(text, expected)))
    }
}
