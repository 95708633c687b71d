//! Line by line: which lines a change added to a text, and undoing a change in a text that was changed again since.

use std::collections::HashMap;
use std::ops::Range;

use similar::{DiffOp, TextDiff};

/// The lines of `after` that `before` does not have, in their order.
pub fn added(before: &str, after: &str) -> Vec<String> {
    let mut known = counted(before);
    let mut added = Vec::new();
    for line in after.lines() {
        match known.get_mut(line).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
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
    let mut here: HashMap<(usize, bool), Vec<&Hunk<'_>>> = HashMap::new();
    // What comes behind the last line has a place too, and replaces none.
    let mut replaced = vec![false; lines.len() + 1];
    for hunk in ours.iter().chain(&theirs) {
        here.entry((hunk.place.start, hunk.place.is_empty())).or_default().push(hunk);
        replaced[hunk.place.clone()].fill(true);
    }
    for (at, replaced) in replaced.into_iter().enumerate() {
        // What comes between lines, then what stands in the place of this one.
        for between in [true, false] {
            let hunks = here.get(&(at, between)).into_iter().flatten();
            hunks.flat_map(|hunk| &hunk.lines).for_each(|line| put(line));
        }
        if let Some(line) = lines.get(at).filter(|_| !replaced) {
            put(line);
        }
    }
    Some(text)
}

/// How often each line stands there.
fn counted(text: &str) -> HashMap<&str, usize> {
    let mut counted = HashMap::new();
    text.lines().for_each(|line| *counted.entry(line).or_default() += 1);
    counted
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
    let mut changed: HashMap<String, String> = HashMap::new();
    for (ours, before) in by_lines(hunks(left, found)).into_iter().filter_map(one_line) {
        // Of two that became the same the first one counts.
        changed.entry(ours).or_insert(before);
    }
    let stands = counted(now);
    let back = |line: &str| match changed.get_key_value(&bare(line)) {
        Some((ours, before)) if stands.get(ours.as_str()) == Some(&1) => {
            format!("{before}{}", &line[ours.len()..])
        }
        _ => line.to_owned(),
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

    /// A text of so many lines, no two of them the same, each with this before it.
    fn text(lines: usize, before: &str) -> String {
        (0..lines).map(|number| format!("{before}line {number}\n")).collect()
    }

    #[test]
    fn finding_what_a_change_added_takes_time_that_grows_with_the_lines_and_not_with_their_square() {
        let quickest = |lines: usize| {
            let (before, after) = (text(lines, ""), text(lines, "# "));
            let once = |_| {
                let began = std::time::Instant::now();
                assert_eq!(added(&before, &after).len(), lines);
                began.elapsed()
            };
            (0..3).map(once).min().unwrap().as_secs_f64()
        };
        let growth = quickest(32_000) / quickest(4_000);
        assert!(growth < 24.0, "eight times the lines take {growth:.1} times as long");
    }

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
