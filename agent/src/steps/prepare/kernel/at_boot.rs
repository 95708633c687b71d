//! What systemd-sysctl makes of the files below sysctl.d at the next boot (sysctl.d(5), systemd 252, src/sysctl/sysctl.c): of files
//! with one name the one in the first folder counts whole, an empty one or a link to /dev/null takes the name away, and of
//! the rest, by name, the last line of a key wins. A pattern sets only keys that no line names. `-key = value` is a line like others;
//! `-key` alone takes back what an earlier line set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::HostError;
use crate::host::query::Observe;

/// In the order in which they count.
const FOLDERS: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

/// A line that sets a key, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// None: the key stays as the kernel has it.
    pub(super) value: Option<String>,
}

/// The files that are read, in their order, as path and content.
pub(super) async fn files<H: Observe>(host: &H) -> Result<Vec<(PathBuf, String)>, HostError> {
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        for name in host.list_folder(Path::new(folder)).await? {
            if name.ends_with(".conf") {
                by_name.entry(name.clone()).or_insert_with(|| Path::new(folder).join(name));
            }
        }
    }
    let mut files = Vec::new();
    for path in by_name.into_values() {
        files.extend(host.read_through(&path).await?.map(|text| (path, text)));
    }
    Ok(files)
}

/// The line that decides about a key; none when no file names it.
pub(super) fn deciding(files: &[(PathBuf, String)], key: &str) -> Option<Line> {
    let lines = files.iter().flat_map(|(path, text)| text.lines().map(move |line| (path, line.trim())));
    let mut of_key = lines.filter_map(|(path, line)| {
        let (named, value) = assignment(line)?;
        (named == key).then(|| Line { path: path.clone(), text: line.to_owned(), value })
    });
    of_key.next_back()
}

/// Key and value of a line; none for a comment and what is no assignment.
fn assignment(line: &str) -> Option<(String, Option<String>)> {
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    match line.split_once('=') {
        Some((key, value)) => {
            let key = key.trim();
            let words: Vec<&str> = value.split_whitespace().collect();
            Some((normalized(key.strip_prefix('-').unwrap_or(key)), Some(words.join(" "))))
        }
        None => line.strip_prefix('-').map(|key| (normalized(key.trim()), None)),
    }
}

/// With dots between its parts. Where the first separator is a slash, dots belong to a part.
fn normalized(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => key
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(files: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        deciding(&files, "net.ipv4.ip_forward").map(|line| (line.text, line.value))
    }

    #[test]
    fn the_last_line_of_a_key_decides_however_it_is_spelled() {
        let ours = ("/etc/sysctl.d/99-zz-muster.conf", "net.ipv4.ip_forward = 1\n");
        for (line, value) in [
            ("net.ipv4.ip_forward=0", Some("0")),
            ("  net/ipv4/ip_forward\t= 0  ", Some("0")),
            ("-net.ipv4.ip_forward = 0", Some("0")),
            ("-net.ipv4.ip_forward", None),
        ] {
            let expected = Some((line.trim().to_owned(), value.map(str::to_owned)));
            assert_eq!(decided(&[ours, ("/etc/sysctl.d/zzz.conf", line)]), expected);
            let ours_decides = Some((ours.1.trim().to_owned(), Some("1".to_owned())));
            assert_eq!(decided(&[("/etc/sysctl.d/10-x.conf", line), ours]), ours_decides);
        }
    }

    #[test]
    fn a_pattern_a_comment_and_another_key_decide_nothing() {
        for line in [
            "net.ipv4.* = 0",
            "#net.ipv4.ip_forward=0",
            "; net.ipv4.ip_forward=0",
            "net.ipv4.ip_forward",
            "kernel.panic=0",
        ] {
            assert_eq!(decided(&[("/etc/sysctl.d/zzz.conf", line)]), None, "{line}");
        }
    }
}
