//! A file before and after, as a person reads it.

use similar::{ChangeTag, TextDiff};

use crate::redaction::redact;

/// The permission bit by which every user of a host may read a file: what it holds is no secret there.
const READ_BY_ALL: u32 = 0o004;

const FILE_SYSTEMS: &str = "/etc/fstab";

/// A unified difference, two unchanged lines around every change; empty when nothing differs.
pub fn unified(path: &str, before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after).unified_diff().context_radius(2).header(path, path).to_string()
}

/// What a change of a file put into it, for whoever reads of it elsewhere: the lines that Muster adds, without their neighbours and
/// without what looks like a secret. None where a line of the owner's would be told: of a file that not every user of its host may
/// read, before and after, and of one that loses lines. But of the table of file systems the lines of swap are told, which
/// Muster comments out.
pub fn of_own_lines(
    path: &str,
    (before, mode_before): (&str, Option<u32>),
    (after, mode_after): (&str, u32),
) -> Option<String> {
    let public = |mode: u32| mode & READ_BY_ALL != 0;
    if !public(mode_after) || !mode_before.is_none_or(public) {
        return None;
    }
    let (before, after) = (redact(before), redact(after));
    let difference = TextDiff::from_lines(&before, &after);
    if path != FILE_SYSTEMS && difference.iter_all_changes().any(|line| line.tag() == ChangeTag::Delete) {
        return None;
    }
    Some(difference.unified_diff().context_radius(0).header(path, path).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, before: (&str, Option<u32>), after: (&str, u32)) -> Option<String> {
        of_own_lines(path, before, after)
    }

    #[test]
    fn of_a_file_that_all_may_read_the_lines_that_are_added_are_told_and_nothing_of_the_owners() {
        let hosts =
            told("/etc/hosts", ("mine # canary\n", Some(0o644)), ("mine # canary\n10.0.0.1 m1\n", 0o644))
                .unwrap();
        assert!(hosts.ends_with("\n+10.0.0.1 m1\n") && !hosts.contains("canary"), "{hosts}");
        let settings = "{\"proxy\": \"canary\"}\n";
        let rewritten = "{\n  \"a\": 1,\n  \"proxy\": \"canary\"\n}\n";
        assert_eq!(told("/etc/docker/daemon.json", (settings, Some(0o644)), (rewritten, 0o644)), None);
        assert!(
            told("/etc/docker/daemon.json", ("", None), ("{\"a\": 1}\n", 0o644)).is_some(),
            "all of it is ours"
        );
        let (before, after) = ("mine=canary\n/swap.img none swap\n", "mine=canary\n# /swap.img none swap\n");
        let table = told("/etc/fstab", (before, Some(0o644)), (after, 0o644)).unwrap();
        assert!(table.contains("\n-/swap.img none swap\n+# /swap.img none swap\n"), "{table}");
        assert!(!table.contains("canary"), "{table}");
    }

    #[test]
    fn of_a_file_that_not_all_may_read_before_and_after_nothing_is_told() {
        for (before, after) in [(Some(0o600), 0o644), (Some(0o644), 0o640), (None, 0o600)] {
            assert_eq!(told("/etc/x", ("a\n", before), ("a\nb\n", after)), None);
        }
        assert!(told("/etc/x", ("", None), ("b\n", 0o644)).is_some());
    }

    #[test]
    fn a_secret_in_a_line_that_is_added_is_taken_out() {
        let after = "proxy=http://me:hunter2hunter2@proxy:3128\ntoken: abcdef.0123456789abcdef\n";
        let told = told("/etc/x", ("", None), (after, 0o644)).unwrap();
        assert!(!told.contains("hunter2") && !told.contains("0123456789abcdef"), "{told}");
    }
}
