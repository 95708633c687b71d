//! An error with all its causes in one line, none of them twice.

use std::error::Error;

/// The error's sentence and those of its sources, outermost first; a source that is repeated is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let sentence = cause.to_string();
        if !text.contains(&sentence) {
            text.push_str("; because: ");
            text.push_str(&sentence);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Level(&'static str, #[source] Option<Box<Level>>);

    #[test]
    fn every_cause_is_said_once() {
        let error = Level("outer", Some(Box::new(Level("outer", Some(Box::new(Level("disk full", None)))))));
        assert_eq!(chain(&error), "outer; because: disk full");
    }
}
