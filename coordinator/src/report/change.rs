//! One change out of its event: the one place here that knows the form in which agents record changes.

use muster_proto::difference::of_own_lines;
use serde_json::Value;

use super::clean;
use crate::view::report::Written;

/// What a recorded change wrote, and what its program was given.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Recorded {
    pub(super) written: Option<Written>,
    pub(super) input: Option<String>,
}

/// Of a change that this version does not know nothing but its summary is told.
pub(super) fn recorded(change: &Value, before: Option<&Value>) -> Recorded {
    let before = before.unwrap_or(&Value::Null);
    match change["change"].as_str() {
        Some("write-file") => {
            Recorded { written: Some(written(change, before, text(&change["path"]))), input: None }
        }
        Some("write-user-file") => {
            let path = format!("~{}/{}", text(&change["user"]), text(&change["path"]));
            let file = Written { difference: None, ..written(change, before, path) };
            Recorded { written: Some(file), input: None }
        }
        Some("run") => Recorded { written: None, input: change["shown_input"].as_str().map(clean) },
        _ => Recorded::default(),
    }
}

fn written(change: &Value, before: &Value, path: String) -> Written {
    let digest = |value: &Value| match value.as_str() {
        Some(text) if text.starts_with("sha256:") => clean(text),
        _ => String::new(),
    };
    Written {
        difference: difference(change, before, &path)
            .map(|text| clean(&text))
            .filter(|text| !text.is_empty()),
        digest: digest(&change["content"]),
        digest_before: digest(&before["digest"]),
        path,
    }
}

/// As the agent told it; made here out of an agent's own journal, which holds the contents.
fn difference(change: &Value, before: &Value, path: &str) -> Option<String> {
    if let Some(told) = change["difference"].as_str() {
        return Some(told.to_owned());
    }
    let after = change["content"].as_str().filter(|content| !content.starts_with("sha256:"))?;
    let mode_before = before["mode"].as_u64().and_then(|mode| u32::try_from(mode).ok());
    let stood = match before {
        Value::Null => "",
        before => before["content"].as_str()?,
    };
    let mode = match &change["mode"] {
        Value::Number(if_new) => mode_before.or(u32::try_from(if_new.as_u64()?).ok())?,
        mode => u32::try_from(mode["exactly"].as_u64()?).ok()?,
    };
    of_own_lines(path, (stood, mode_before), (after, mode))
}

fn text(value: &Value) -> String {
    clean(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn out_of_an_agents_own_journal_the_difference_is_made_here_where_all_may_read_the_file() {
        let change = |mode: Value| json!({"change": "write-file", "path": "/etc/hosts", "content": "a\nb\n", "mode": mode});
        let before = json!({"content": "a\n", "mode": 0o644});
        let told =
            |change: &Value, before: &Value| recorded(change, Some(before)).written.unwrap().difference;
        assert!(told(&change(json!(0o644)), &before).unwrap().ends_with("\n+b\n"));
        assert_eq!(told(&change(json!({"exactly": 0o600})), &before), None);
        assert_eq!(told(&change(json!(0o644)), &json!({"content": "a\n", "mode": 0o600})), None);
    }

    #[test]
    fn of_a_coordinators_journal_the_digests_are_told_and_what_the_agent_said_of_the_difference() {
        let change = json!({"change": "write-file", "path": "/etc/x", "content": "sha256:aa", "mode": 420});
        let before = json!({"digest": "sha256:bb", "bytes": 3, "mode": 420});
        let file = recorded(&change, Some(&before)).written.unwrap();
        assert_eq!((file.difference, &*file.digest, &*file.digest_before), (None, "sha256:aa", "sha256:bb"));
        let mut told = change;
        told["difference"] = "+token: abcdef.0123456789abcdef\n".into();
        assert_eq!(recorded(&told, None).written.unwrap().difference.unwrap(), "+token: <redacted>\n");
    }

    #[test]
    fn of_a_users_file_no_content_is_told_and_of_an_unknown_change_nothing() {
        let change = json!({"change": "write-user-file", "user": "student", "path": ".bashrc", "content": "x\n", "mode": 420});
        let file = recorded(&change, None).written.unwrap();
        assert_eq!((&*file.path, file.difference), ("~student/.bashrc", None));
        assert_eq!(recorded(&json!({"change": "of-tomorrow", "content": "x"}), None), Recorded::default());
        assert_eq!(recorded(&Value::Null, None), Recorded::default());
    }
}
