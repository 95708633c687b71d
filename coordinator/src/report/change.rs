//! One change out of its event: what it wrote.

use muster_proto::change::{Change, FileMode};
use muster_proto::difference::of_own_lines;
use serde_json::Value;

use super::clean;
use crate::view::report::Written;

/// What a change wrote; none of one that writes no file.
pub(super) fn written(change: &Change, before: Option<&Value>) -> Option<Written> {
    let before = before.unwrap_or(&Value::Null);
    let (path, content, difference) = match change {
        Change::WriteFile { path, content, mode, secret } => {
            let path = clean(&path.display().to_string());
            let difference = if *secret { None } else { difference(&path, content, *mode, before) };
            (path, content, difference)
        }
        Change::WriteUserFile { user, path, content, .. } => {
            (clean(&format!("~{user}/{}", path.display())), content, None)
        }
        _ => return None,
    };
    Some(Written {
        difference: difference.map(|text| clean(&text)).filter(|text| !text.is_empty()),
        digest: digest(content).unwrap_or_default(),
        digest_before: before["digest"].as_str().and_then(digest).unwrap_or_default(),
        path,
    })
}

/// Out of an agent's own journal, which holds the contents.
fn difference(path: &str, content: &str, mode: FileMode, before: &Value) -> Option<String> {
    if digest(content).is_some() {
        return None;
    }
    let mode_before = before["mode"].as_u64().and_then(|mode| u32::try_from(mode).ok());
    let stood = match before {
        Value::Null => "",
        before => before["content"].as_str()?,
    };
    of_own_lines(path, (stood, mode_before), (content, mode.over(mode_before)))
}

/// Of a content that is told by its digest alone.
fn digest(content: &str) -> Option<String> {
    content.starts_with("sha256:").then(|| clean(content))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(content: &str, mode: FileMode, secret: bool) -> Change {
        Change::WriteFile { path: "/etc/hosts".into(), content: content.into(), mode, secret }
    }

    #[test]
    fn out_of_an_agents_own_journal_the_lines_are_told_where_all_may_read_the_file() {
        let before = json!({"content": "a\n", "mode": 0o644});
        let told = |change: &Change, before: &Value| written(change, Some(before)).unwrap().difference;
        let change = write("a\nb\n", FileMode::IfNew(0o644), false);
        assert!(told(&change, &before).unwrap().ends_with("\n+b\n"));
        assert_eq!(told(&change, &json!({"content": "a\n", "mode": 0o600})), None);
        assert_eq!(told(&write("a\nb\n", FileMode::exactly(0o600), false), &before), None);
        assert_eq!(told(&write("a\nb\n", FileMode::IfNew(0o644), true), &before), None);
    }

    #[test]
    fn of_a_coordinators_journal_the_digests_are_told() {
        let change = write("sha256:aa", FileMode::IfNew(0o644), false);
        let file = written(&change, Some(&json!({"digest": "sha256:bb", "bytes": 3, "mode": 420}))).unwrap();
        assert_eq!((file.difference, &*file.digest, &*file.digest_before), (None, "sha256:aa", "sha256:bb"));
    }

    #[test]
    fn of_a_users_file_no_content_is_told_and_of_no_file_nothing() {
        let (user, content, mode) = ("student".parse().unwrap(), "x\n".into(), FileMode::IfNew(0o644));
        let change = Change::WriteUserFile { user, path: ".bashrc".into(), content, mode, secret: false };
        let file = written(&change, None).unwrap();
        assert_eq!((&*file.path, file.difference), ("~student/.bashrc", None));
        assert_eq!(written(&Change::ReloadUnits, None), None);
    }
}
