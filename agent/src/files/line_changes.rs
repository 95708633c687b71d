//! Line by line: which lines a change added to a text, and undoing a change in a text that was changed again since.

use std::ops::Range;

use similar::{DiffOp, TextDiff};

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

/// `now`, which began as `left`, with the change undone that made `left` of `found`: lines that it added are gone, lines
/// that it changed or took away are back in their places, and every other byte stays. None where somebody has changed
/// the very lines that it changed, so that nobody can tell.
pub fn undone(found: &str, left: &str, now: &str) -> Option<String> {
    let lines: Vec<&str> = left.split_inclusive('\n').collect();
    let (mut ours, theirs) = (by_lines(hunks(left, found)), hunks(left, now));
    ours.retain(|our| !theirs.iter().any(|their| our.is_done_by(their)));
    if ours.iter().any(|our| theirs.iter().any(|their| our.is_at_odds_with(their))) {
        return None;
    }
    let mut text = String::with_capacity(now.len());
    let mut put = |line: &str| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
    };
    for at in 0..=lines.len() {
        let hunks = || ours.iter().chain(&theirs);
        // What comes between lines, then what stands in the place of this one.
        for between in [true, false] {
            let here = |hunk: &&Hunk<'_>| hunk.place.start == at && hunk.place.is_empty() == between;
            hunks().filter(here).flat_map(|hunk| &hunk.lines).for_each(|line| put(line));
        }
        if let Some(line) = lines.get(at).filter(|_| !hunks().any(|hunk| hunk.place.contains(&at))) {
            put(line);
        }
    }
    Some(text)
}

/// `now`, which somebody wrote anew, with every line as it was that the change made of another one and that stands in it
/// once, wherever.
pub fn turned_back(found: &str, left: &str, now: &str) -> String {
    let lines: Vec<&str> = left.split_inclusive('\n').collect();
    let bare = |line: &str| line.trim_end_matches(['\n', '\r']).to_owned();
    let one_line = |hunk: Hunk<'_>| match hunk.lines[..] {
        [before] if hunk.place.len() == 1 => Some((bare(lines[hunk.place.start]), bare(before))),
        _ => None,
    };
    let changed: Vec<(String, String)> =
        by_lines(hunks(left, found)).into_iter().filter_map(one_line).collect();
    let once = |line: &str| now.lines().filter(|other| *other == line).count() == 1;
    let back = |line: &str| match changed.iter().find(|(ours, _)| *ours == bare(line) && once(ours)) {
        Some((ours, before)) => format!("{before}{}", &line[ours.len()..]),
        None => line.to_owned(),
    };
    now.split_inclusive('\n').map(back).collect()
}

/// These lines of a text become others; an empty place: others come before the line there.
struct Hunk<'a> {
    place: Range<usize>,
    lines: Vec<&'a str>,
}

impl Hunk<'_> {
    /// Somebody has put back already what was taken away, wherever in the text.
    fn is_done_by(&self, other: &Self) -> bool {
        let holds = || other.lines.windows(self.lines.len()).any(|lines| lines == self.lines);
        self.place.is_empty() && !self.lines.is_empty() && holds()
    }

    fn is_at_odds_with(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.place, &other.place);
        if ours.is_empty() || theirs.is_empty() {
            // Something comes between lines: beside what the other one changes it is in nobody's way, and neither is it
            // between lines that only go.
            let inside = |point: usize, place: &Range<usize>| place.start < point && point < place.end;
            return (inside(ours.start, theirs) && ours.is_empty())
                || (inside(theirs.start, ours) && theirs.is_empty() && !self.lines.is_empty());
        }
        let both_take_away = self.lines.is_empty() && other.lines.is_empty();
        ours.start < theirs.end && theirs.start < ours.end && !both_take_away
    }
}

fn hunks<'a>(from: &'a str, to: &'a str) -> Vec<Hunk<'a>> {
    // Not `from_lines`, for which a lone carriage return ends a line too.
    let [old, lines] = [from, to].map(|text| text.split_inclusive('\n').collect::<Vec<&str>>());
    let difference = TextDiff::from_slices(&old, &lines);
    let changes = difference.ops().iter().filter(|op| !matches!(op, DiffOp::Equal { .. }));
    changes.map(|op| Hunk { place: op.old_range(), lines: lines[op.new_range()].to_vec() }).collect()
}

/// Lines that became as many others each stand for themselves.
fn by_lines(hunks: Vec<Hunk<'_>>) -> Vec<Hunk<'_>> {
    let mut all = Vec::new();
    for hunk in hunks {
        if hunk.place.len() == hunk.lines.len() {
            let lines = hunk.place.zip(hunk.lines);
            all.extend(lines.map(|(at, line)| Hunk { place: at..at + 1, lines: vec![line] }));
        } else {
            all.push(hunk);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_lines_are_found() {
        assert_eq!(added("a\nb\n", "a\nx\nb\nb\n"), ["x", "b"]);
    }

    #[test]
    fn a_change_is_undone_beside_what_somebody_else_wrote_since() {
        for (found, left, now, after) in [
            ("a\n", "a\nours\n", "a\nours\nmine\n", "a\nmine\n"),
            ("a\n", "a\n1\n2\n", "a\n1\nmine\n2\n", "a\nmine\n"),
            ("a\n", "a\n1\n2\n", "a\n2\n", "a\n"),
            ("x swap\n", "# x swap\n", "# x swap\nmine\n", "x swap\nmine\n"),
            ("x\ny\n", "# x\n# y\n", "# x\nmine\n# y\n", "x\nmine\ny\n"),
            ("a\nb\nc\n", "a\nc\n", "a\nc\nmine\n", "a\nb\nc\nmine\n"),
            ("a", "a\nours\n", "a\nours\nmine\n", "a\nmine\n"),
            ("a\n", "a\n1\n", "a\n1\n1\n", "a\n1\n"),
            ("a\nb\n", "a\n", "a\nb\nmine\n", "a\nb\nmine\n"),
            ("a\nb\nc\n", "a\nc\nours\n", "b\na\nc\n", "b\na\nc\n"),
        ] {
            assert_eq!(undone(found, left, now).as_deref(), Some(after), "{found:?} {left:?} {now:?}");
        }
    }

    #[test]
    fn a_changed_line_is_turned_back_wherever_it_stands_if_it_stands_there_once() {
        let (found, left) = ("a\nx swap\nb\n", "a\n# x swap\nb\nnew\n");
        assert_eq!(turned_back(found, left, "b\r\n# x swap\r\nmine\n"), "b\r\nx swap\r\nmine\n");
        assert_eq!(turned_back(found, left, "mine\n# x swap"), "mine\nx swap");
        assert_eq!(turned_back(found, left, "# x swap\n# x swap\nnew\n"), "# x swap\n# x swap\nnew\n");
    }

    #[test]
    fn where_somebody_changed_the_very_lines_nobody_can_tell() {
        for (found, left, now) in [
            ("x swap\n", "# x swap\n", "# y swap\n"),
            ("a\n", "a\n1\n2\n", "a\n1\n3\n"),
            ("{}\n", "{\n1\n}\n", "{\n2,\n1\n}\n"),
        ] {
            assert_eq!(undone(found, left, now), None, "{left:?} {now:?}");
        }
    }
}
