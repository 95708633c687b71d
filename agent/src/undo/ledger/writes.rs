//! The writes of ours to one file, one upon the other, with what each of them found.

/// One write: what stood there, and what it left. None: no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub found: Option<String>,
    pub left: Option<String>,
}

/// In their order. Where a write did not find what the one before it left, somebody else wrote in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    all: Vec<Write>,
    /// What a reset made of the file: with this in it nothing of ours is left.
    put_back: Option<String>,
}

impl Writes {
    pub fn of(found: Option<String>, left: Option<String>) -> Self {
        Self { all: vec![Write { found, left }], put_back: None }
    }

    /// What stood there before the first of them.
    pub fn before(&self) -> Option<&str> {
        self.all.first().and_then(|write| write.found.as_deref())
    }

    /// What each of them left, where that was a file.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter_map(|write| write.left.as_deref())
    }

    /// Those that are in this content of the file, the oldest first: not one that never took effect, nor any that somebody
    /// undid as a whole.
    pub fn in_effect(&self, now: &str) -> &[Write] {
        if self.put_back.as_deref() == Some(now) {
            return &[];
        }
        let is_now = |text: &Option<String>| text.as_deref() == Some(now);
        let undone = self.all.iter().position(|write| is_now(&write.found));
        let end = undone.or_else(|| self.all.iter().rposition(|write| is_now(&write.left)).map(|at| at + 1));
        &self.all[..end.unwrap_or(self.all.len())]
    }

    /// A reset is about to write this.
    pub fn undo(&mut self, content: &str) {
        self.put_back = Some(content.to_owned());
    }

    /// Takes in later writes.
    pub fn absorb(&mut self, later: Self) {
        for write in later.all {
            match &write.found {
                Some(found) => {
                    let length = self.in_effect(found).len();
                    self.all.truncate(length);
                }
                // Somebody removed the file, or our own first write never took effect: what stands there since is ours alone.
                None => self.all.clear(),
            }
            self.put_back = None;
            self.all.push(write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(all: &[(&str, &str)]) -> Writes {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut all = all.iter().map(|(found, left)| Writes::of(text(found), text(left)));
        let mut writes = all.next().unwrap();
        all.for_each(|later| writes.absorb(later));
        writes
    }

    #[test]
    fn a_write_that_never_took_effect_or_was_undone_as_a_whole_does_not_count() {
        for (made, counted) in [
            (&[("a", "b"), ("a", "b")][..], &[("a", "b")][..]),
            (&[("a", "b"), ("a", "c")], &[("a", "c")]),
            (&[("a", "b"), ("b", "c"), ("b", "d")], &[("a", "b"), ("b", "d")]),
            (&[("a", "b"), ("b", "c"), ("x", "y")], &[("a", "b"), ("b", "c"), ("x", "y")]),
            (&[("a", "b"), ("", "c")], &[("", "c")]),
            (&[("", "b"), ("", "b")], &[("", "b")]),
        ] {
            let made = writes(made);
            let expected: Vec<Write> = counted.iter().flat_map(|one| writes(&[*one]).all).collect();
            assert_eq!(made.all, expected);
        }
    }

    #[test]
    fn what_a_reset_put_back_holds_nothing_of_ours_and_is_what_a_later_write_begins_with() {
        let mut writes = writes(&[("a", "b"), ("x", "y")]);
        assert_eq!(
            [writes.in_effect("z").len(), writes.in_effect("y").len(), writes.in_effect("b").len()],
            [2, 2, 1]
        );
        writes.undo("z");
        assert_eq!(writes.in_effect("z").len(), 0);
        writes.absorb(Writes::of(Some("z".into()), Some("w".into())));
        assert_eq!((writes.before(), writes.in_effect("w").len()), (Some("z"), 1));
    }
}
