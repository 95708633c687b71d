//! A file whose content the journal holds: every write of ours is undone, the last one first, and what somebody else wrote
//! before, between and after them stays.

use super::Undoing;
use crate::files::line_changes::{added, turned_back, undone};
use crate::files::marked_block::{blocks, without_blocks};
use crate::host::HostError;
use crate::host::change::{Change, FileMode};
use crate::host::query::Observe;
use crate::undo::ledger::{Place, Writes};

/// `mode`: the one that it had before us.
pub(super) async fn put_back<H: Observe>(
    host: &H,
    place: &Place,
    mode: Option<u32>,
    writes: &Writes,
) -> Result<Undoing, HostError> {
    Ok(match content(read(host, place).await?.as_deref(), writes) {
        Content::Stays => Undoing::default(),
        Content::Becomes(content) => {
            // One that somebody else changed too keeps the mode that it has now.
            let mode = mode.filter(|_| content.as_deref() == writes.before());
            Undoing::change(put(place, content, mode))
        }
        Content::Kept(lines) => Undoing::kept(format!("{}: {}", shown(place), lines.join(" | "))),
    })
}

pub(super) async fn read<H: Observe>(host: &H, place: &Place) -> Result<Option<String>, HostError> {
    match place {
        Place::Host(path) => host.read_file(path).await,
        Place::Home(user, path) => host.user_file(user, path).await,
    }
}

/// What becomes of a file.
#[derive(Debug, PartialEq)]
enum Content {
    Stays,
    /// None: it is removed.
    Becomes(Option<String>),
    /// Somebody changed it after us, and nobody can tell what would be left; these lines of ours are still in it.
    Kept(Vec<String>),
}

fn content(now: Option<&str>, writes: &Writes) -> Content {
    let Some(now) = now else { return Content::Stays };
    let mut text = now.to_owned();
    for write in writes.in_effect(now).iter().rev() {
        match (&write.found, &write.left) {
            (found, Some(left)) if *left == text => match found {
                Some(found) => text.clone_from(found),
                None => return Content::Becomes(None),
            },
            // Of a file that we made, nobody can tell what a part of it is worth.
            (Some(found), Some(left)) if !found.is_empty() => {
                match undone(found, left, &text).or_else(|| without_ours(found, left, &text, writes)) {
                    Some(rest) => text = rest,
                    None => return kept(now, writes),
                }
            }
            _ => return kept(now, writes),
        }
    }
    if text == now { Content::Stays } else { Content::Becomes(Some(text)) }
}

/// Where somebody wrote the file anew, nothing of a write of ours may be left in it, or what is ours stands at another place:
/// a marked block as any of our writes left it, a line that we made of another one. None where more of the write is left.
fn without_ours(found: &str, left: &str, text: &str, writes: &Writes) -> Option<String> {
    let ours: Vec<Vec<&str>> = writes.left().flat_map(blocks).collect();
    // Without its block on both sides: a changed line beside it would count as one change with it.
    let rest = turned_back(found, &without_blocks(left, &ours), &without_blocks(text, &ours));
    let is_left = |line: &String| rest.lines().any(|other| other == *line);
    (!added(found, left).iter().any(is_left)).then_some(rest)
}

/// The lines of any write of ours that are still in the file.
fn kept(now: &str, writes: &Writes) -> Content {
    let mut lines: Vec<String> = Vec::new();
    for write in writes.in_effect(now) {
        let [found, left] = [&write.found, &write.left].map(|text| text.as_deref().unwrap_or_default());
        let still = |line: &String| now.lines().any(|other| other == *line);
        lines.extend(added(found, left).into_iter().filter(still));
    }
    if lines.is_empty() { Content::Stays } else { Content::Kept(lines) }
}

/// Without a mode a file keeps its own.
pub(super) fn put(place: &Place, content: Option<String>, mode: Option<u32>) -> Change {
    let mode = mode.map_or(FileMode::IfNew(0o644), FileMode::exactly);
    match (place.clone(), content) {
        (Place::Host(path), Some(content)) => Change::WriteFile { path, content, mode, secret: false },
        (Place::Host(path), None) => Change::RemoveFile { path },
        (Place::Home(user, path), Some(content)) => {
            Change::WriteUserFile { user, path, content, mode, secret: false }
        }
        (Place::Home(user, path), None) => Change::RemoveUserFile { user, path },
    }
}

fn shown(place: &Place) -> String {
    match place {
        Place::Host(path) => path.display().to_string(),
        Place::Home(user, path) => format!("~{user}/{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent;
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost, File};
    use crate::steps::Input;
    use crate::steps::rehearsal::{carry_out, step};
    use crate::undo::ledger::{Entry, Target};

    fn of(now: Option<&str>, before: Option<&str>, ours: &str) -> Content {
        content(now, &Writes::of(before.map(str::to_owned), Some(ours.to_owned())))
    }

    #[test]
    fn a_file_of_ours_becomes_what_it_was_and_one_that_we_made_goes() {
        assert_eq!(of(Some("b\n"), Some("a\n"), "b\n"), Content::Becomes(Some("a\n".into())));
        assert_eq!(of(Some("b\n"), None, "b\n"), Content::Becomes(None));
        assert_eq!(of(Some("a\n"), Some("a\n"), "b\n"), Content::Stays);
        assert_eq!(of(None, Some("a\n"), "b\n"), Content::Stays, "somebody removed it");
    }

    #[test]
    fn what_somebody_wrote_after_us_is_kept_and_our_lines_are_named() {
        let kept = of(Some("{\n1,\n2\n}\n"), Some("{}\n"), "{\n1\n}\n");
        assert_eq!(kept, Content::Kept(vec!["{".into(), "}".into()]));
        assert_eq!(of(Some("mine\n"), Some("x\n"), "# x\n"), Content::Stays, "nothing of ours is left in it");
        assert_eq!(of(Some("b\nmine\n"), None, "b\n"), Content::Kept(vec!["b".into()]));
    }

    #[test]
    fn lines_that_we_added_or_changed_are_undone_in_a_file_that_somebody_changed_since() {
        let becomes = |text: &str| Content::Becomes(Some(text.into()));
        assert_eq!(of(Some("a\nours\nmine\n"), Some("a\n"), "a\nours\n"), becomes("a\nmine\n"));
        assert_eq!(of(Some("# x swap\nmine\n"), Some("x swap\n"), "# x swap\n"), becomes("x swap\nmine\n"));
    }

    #[tokio::test]
    async fn a_file_gets_the_mode_that_it_had_unless_that_is_not_known_or_somebody_changed_the_file_too() {
        let fstab = || std::path::PathBuf::from("/etc/fstab");
        for (mode, now, after) in [
            (Some(0o600), "a\nours\n", ("a\n", 0o600)),
            (None, "a\nours\n", ("a\n", 0o640)),
            (Some(0o600), "a\nours\nmine\n", ("a\nmine\n", 0o640)),
        ] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.with(|state| state.files.insert(fstab(), File { content: now.into(), mode: 0o640 }));
            let writes = Writes::of(Some("a\n".into()), Some("a\nours\n".into()));
            let target = Target::File { place: Place::Host(fstab()), mode, writes };
            let mut input = Input::default();
            input.ledger.entries.push(Entry { target, follow_up: Vec::new() });
            carry_out(&host, &step(Kind::Restore(agent::Restore::default())), &mut input).await;
            let stands = host.with(|state| state.files[&fstab()].clone());
            assert_eq!((stands.content.as_str(), stands.mode), after, "{mode:?} {now:?}");
        }
    }

    #[test]
    fn a_file_that_somebody_wrote_anew_between_our_writes_is_left_as_he_wrote_it_without_our_block() {
        const BLOCK: &str = "# BEGIN muster hosts\n10.88.0.11 m1\n# END muster hosts\n";
        const OLDER: &str = "# BEGIN muster hosts\n10.88.0.10 m1\n# END muster hosts\n";
        let before = "127.0.0.1 localhost\n127.0.1.1 m1.lab m1\n::1 localhost\n";
        let ours = |file: &str, block: &str| file.replace(" m1.lab m1", " m1.lab") + block;
        let template = "# managed\n::1 localhost6\n127.0.0.1 localhost\n127.0.1.1 m1.lab m1\n";
        let moved = |block: &str| format!("# managed\n{block}127.0.0.1 localhost4\n127.0.1.1 m1.lab\n");
        let free = moved("").replace(" m1.lab", " m1.lab m1");
        let mut writes = Writes::of(Some(before.into()), Some(ours(before, OLDER)));
        writes.absorb(Writes::of(Some(ours(before, OLDER)), Some(ours(before, BLOCK))));
        let once = writes.clone();
        writes.absorb(Writes::of(Some(template.into()), Some(ours(template, BLOCK))));
        let becomes = |text: &str| Content::Becomes(Some(text.into()));
        for (writes, now, after) in [
            (&writes, ours(template, BLOCK), becomes(template)),
            (&writes, ours(template, BLOCK) + "mine\n", becomes(&(template.to_owned() + "mine\n"))),
            (&writes, template.to_owned(), Content::Stays),
            (&once, moved(BLOCK), becomes(&free)),
            (&once, moved(OLDER), becomes(&free)),
            (&once, moved(""), becomes(&free)),
            (&writes, moved(BLOCK), becomes(&free)),
            (&writes, free.clone(), Content::Stays),
        ] {
            assert_eq!(content(Some(&now), writes), after, "{now}");
        }
        let changed = moved(&BLOCK.replace("10.88.0.11", "192.0.2.1"));
        assert!(matches!(content(Some(&changed), &once), Content::Kept(_)), "a block that somebody changed");
    }

    #[test]
    fn what_somebody_wrote_between_two_of_our_writes_stays_and_both_of_ours_are_undone() {
        let mut writes = Writes::of(Some("a\nx swap\n".into()), Some("a\n# x swap\nBEGIN\nEND\n".into()));
        let found = "a\n# x swap\nBEGIN\nEND\ny swap\n".to_owned();
        let left = "a\n# x swap\nBEGIN\nw2\nEND\n# y swap\n".to_owned();
        writes.absorb(Writes::of(Some(found), Some(left.clone())));
        for (more, after) in [("", "a\nx swap\ny swap\n"), ("mine\n", "a\nx swap\ny swap\nmine\n")] {
            let now = left.clone() + more;
            assert_eq!(content(Some(&now), &writes), Content::Becomes(Some(after.into())), "{now}");
        }
    }
}
