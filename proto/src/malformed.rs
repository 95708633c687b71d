//! What every parser of a single value says of one that it does not take.

/// A value that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct Malformed {
    /// The value, cut to what a screen can hold.
    value: String,
    /// The form that was expected, for instance "a node name: ...".
    expected: &'static str,
}

impl Malformed {
    pub fn new(value: &str, expected: &'static str) -> Self {
        Self { value: value.chars().take(80).collect(), expected }
    }
}
