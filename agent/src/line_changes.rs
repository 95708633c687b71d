//! Which lines a change added to a text, and taking them out again.

/// The lines of `after` that `before` does not have, in their order.
pub fn added(before: &str, after: &str) -> Vec<String> {
    let mut known: Vec<&str> = before.lines().collect();
    let mut added = Vec::new();
    for line in after.lines() {
        match known.iter().position(|other| *other == line) {
            Some(at) => {
                known.remove(at);
            }
            None => added.push(line.to_owned()),
        }
    }
    added
}

/// The text without one of each of these lines, the others byte for byte; none when one of them is not in it.
pub fn without(text: &str, lines: &[String]) -> Option<String> {
    let mut left: Vec<&str> = text.split_inclusive('\n').collect();
    for line in lines {
        let at = left.iter().rposition(|other| other.trim_end_matches('\n') == line)?;
        left.remove(at);
    }
    Some(left.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_lines_are_found_and_taken_out_again() {
        let (before, after) = ("a\nb\n", "a\nx\nb\nb\n");
        let lines = added(before, after);
        assert_eq!(lines, ["x", "b"]);
        assert_eq!(without(after, &lines).as_deref(), Some(before));
        assert_eq!(without("a\n", &lines), None);
    }
}
