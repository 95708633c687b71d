//! What a journal says again and again. The last lines of one that ends badly are mostly of what follows; what repeats is what
//! nothing helps against, so it is counted, and shown by its newest example.

use super::sign::short;

/// Different texts that are kept; a journal has some dozens.
const MOST: usize = 200;
/// Of one example.
const LONGEST: usize = 300;
/// So much of a text tells it from others.
const TELLING: usize = 120;

/// What every start of a cluster says on its way, and long after one that failed: it is what follows, never a cause.
const ON_THE_WAY: [&str; 9] = [
    "connection refused",
    "cni config uninitialized",
    "network plugin is not ready",
    "NetworkReady=false",
    "Unable to read config path",
    "failed to load Kubelet config file",
    "failed to load kubelet config file",
    "Failed to update Node Allocatable Limits",
    "no observation found for eviction signal",
];

/// Texts with their counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats(Vec<Repeat>);

#[derive(Debug, Clone)]
struct Repeat {
    key: String,
    count: u32,
    newest: String,
}

impl Repeats {
    /// Counts one line of klog's form.
    pub(super) fn count(&mut self, line: &str) {
        let key = key(line);
        let newest = short(line, LONGEST);
        if let Some(known) = self.0.iter_mut().find(|known| known.key == key) {
            (known.count, known.newest) = (known.count + 1, newest);
        } else if self.0.len() < MOST {
            self.0.push(Repeat { key, count: 1, newest });
        }
    }

    /// The most frequent first, as lines of evidence; what every start says, and that this node is not known yet, come last.
    pub(super) fn lines(&self, node: &str, most: usize) -> Vec<String> {
        let mut all: Vec<&Repeat> = self.0.iter().collect();
        all.sort_by_key(|repeat| (repeat.says_nothing(node), std::cmp::Reverse(repeat.count)));
        let line = |repeat: &Repeat| match repeat.count {
            1 => repeat.newest.clone(),
            count => format!("{count} times: {}", repeat.newest),
        };
        all.into_iter().take(most).map(line).collect()
    }

    /// The most frequent one that says something, without klog's head: how often, and what.
    pub(super) fn first(&self, node: &str) -> Option<(u32, &str)> {
        let telling = self.0.iter().filter(|repeat| !repeat.says_nothing(node));
        // Of equals the one that was said first.
        let first = telling.rev().max_by_key(|repeat| repeat.count)?;
        Some((first.count, text(&first.newest)))
    }
}

impl Repeat {
    fn says_nothing(&self, node: &str) -> bool {
        let has = |text: &str| self.newest.contains(text);
        let unknown_yet = has("not found")
            && [format!("node \"{node}\""), format!("node \\\"{node}\\\"")].iter().any(|own| has(own));
        unknown_yet || ON_THE_WAY.iter().any(|words| has(words))
    }
}

/// What stands behind klog's head, `E1125 10:36:40.602105     508 kubelet.go:2163] `.
fn text(line: &str) -> &str {
    let behind = line
        .split_once("] ")
        .filter(|(head, _)| head.starts_with(['E', 'F', 'W', 'I']) && !head.contains('"'));
    behind.map_or(line, |(_, text)| text)
}

/// The same for texts that differ by a number, an address or an identifier alone.
fn key(line: &str) -> String {
    let is_one = |word: &&str| word.bytes().any(|byte| byte.is_ascii_digit());
    let words = text(line).split([' ', '"', '\\', '(', ')', ',', '/']).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.map(|word| if is_one(&word) { "#" } else { word }).collect();
    short(&words.join(" "), TELLING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[(u32, &str)]) -> Repeats {
        let mut repeats = Repeats::default();
        lines.iter().for_each(|(count, line)| {
            (0..*count).for_each(|at| repeats.count(&line.replace('@', &at.to_string())))
        });
        repeats
    }

    #[test]
    fn what_repeats_is_counted_and_shown_by_its_newest_example_whatever_comes_last() {
        let repeats = counted(&[
            (
                5,
                "E1130 11:00:0@.1 508 pod_workers.go:191] Error syncing pod 7a@ (\"x-@_default\"): failed to set up sandbox",
            ),
            (
                9,
                "E1130 11:00:0@.2 508 kubelet.go:2163] Container runtime network not ready: NetworkReady=false",
            ),
            (50, "E1130 11:00:0@.3 508 kubelet.go:2243] node \"m1\" not found"),
            (1, "E1130 11:00:09.9 508 eviction_manager.go:260] something that was said once"),
        ]);
        assert_eq!(
            repeats.first("m1"),
            Some((5, "Error syncing pod 7a4 (\"x-4_default\"): failed to set up sandbox"))
        );
        let lines = repeats.lines("m1", 3);
        assert!(
            lines[0].starts_with("5 times: E1130 11:00:04.1") && lines[1].ends_with("said once"),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("50 times: "), "{lines:?}");
        // A name that is not this node's says much.
        assert_eq!(repeats.first("w1").unwrap().0, 50);
    }

    #[test]
    fn a_journal_that_says_only_what_every_start_says_has_no_first() {
        let repeats = counted(&[(
            3,
            "E1130 reflector.go:138] Failed to list *v1.Node: dial tcp 10.88.0.11:6443: connect: connection refused",
        )]);
        assert_eq!(repeats.first("m1"), None);
        assert_eq!(repeats.lines("m1", 6).len(), 1);
    }
}
