//! The one form of a kubeconfig that is worked on: whatever else the YAML holds is a complaint with its line, never a panic.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// The three lists of a kubeconfig, and the key below which an entry holds its content.
pub(crate) const LISTS: [(&str, &str); 3] =
    [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];
pub(crate) const CLUSTERS: usize = 0;
pub(crate) const USERS: usize = 1;
pub(crate) const CONTEXTS: usize = 2;

/// The file as a kubeconfig whose three lists are lists of named entries with a mapping each; an empty file has none. What is
/// wrong names the line and the field, and no piece of the file's text, which may be a key.
pub(crate) fn parse(file: &str) -> Result<Value, String> {
    let value: Value = serde_saphyr::from_str(file).map_err(|error| match error.location() {
        Some(location) => format!("no YAML from line {} on", location.line()),
        None => "no YAML".to_owned(),
    })?;
    let value = if value.is_null() { Value::Object(Map::new()) } else { value };
    match wrong(&value) {
        None => Ok(value),
        Some(wrong) => {
            let line = wrong.line(file).map(|line| format!("line {line}: ")).unwrap_or_default();
            Err(format!(
                "{line}no kubeconfig: {} must be {}, and is {}",
                wrong.field, wrong.expected, wrong.found
            ))
        }
    }
}

/// The first field that is not what a kubeconfig has there.
struct Wrong {
    field: String,
    expected: &'static str,
    found: &'static str,
    /// The key at the top under which it is, and the entry of that list.
    key: Option<&'static str>,
    entry: Option<usize>,
}

fn wrong(value: &Value) -> Option<Wrong> {
    let top = |key: Option<&'static str>, expected, found: &Value| {
        let field = key.unwrap_or("the file").to_owned();
        Wrong { field, expected, found: kind(found), key, entry: None }
    };
    if !value.is_object() {
        return Some(top(None, "a mapping", value));
    }
    let current = &value["current-context"];
    if !(current.is_null() || current.is_string()) {
        return Some(top(Some("current-context"), "a text", current));
    }
    LISTS.iter().find_map(|(list, key)| {
        let all = match &value[*list] {
            Value::Null => return None,
            Value::Array(all) => all,
            other => return Some(top(Some(list), "a list of named entries", other)),
        };
        let of_entry = |(at, entry): (usize, &Value)| {
            let (field, expected, found) = wrong_in(entry, key)?;
            let field = format!("{list}[{at}]{field}");
            Some(Wrong { field, expected, found, key: Some(list), entry: Some(at) })
        };
        all.iter().enumerate().find_map(of_entry)
    })
}

/// Of one entry: the field below it, what must stand there, and what does.
fn wrong_in(entry: &Value, key: &str) -> Option<(String, &'static str, &'static str)> {
    if !entry.is_object() {
        return Some((String::new(), "a mapping with a name", kind(entry)));
    }
    if !entry["name"].is_string() {
        return Some((".name".to_owned(), "a text", kind(&entry["name"])));
    }
    let content = &entry[key];
    if !(content.is_null() || content.is_object()) {
        return Some((format!(".{key}"), "a mapping", kind(content)));
    }
    let texts = ["server", "certificate-authority-data", "client-certificate-data", "cluster", "user"];
    let wrong = texts.iter().find(|text| !(content[**text].is_null() || content[**text].is_string()))?;
    Some((format!(".{key}.{wrong}"), "a text", kind(&content[*wrong])))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Where the entries of the three lists begin. A list that is none keeps all from being read; its own line tells then.
#[derive(Deserialize)]
struct Entries {
    clusters: Option<Vec<Spanned<IgnoredAny>>>,
    users: Option<Vec<Spanned<IgnoredAny>>>,
    contexts: Option<Vec<Spanned<IgnoredAny>>>,
}

impl Wrong {
    /// The line, from 1, on which the entry begins, or else the value of the key at the top.
    fn line(&self, file: &str) -> Option<u64> {
        let of_entry = || {
            let entries: Entries = serde_saphyr::from_str(file).ok()?;
            let list = match self.key? {
                "clusters" => entries.clusters?,
                "users" => entries.users?,
                _ => entries.contexts?,
            };
            Some(list.get(self.entry?)?.referenced.line())
        };
        let of_key = || {
            let key = self.key?;
            let is_key =
                |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
            Some(file.lines().position(is_key)? as u64 + 1)
        };
        of_entry().or_else(of_key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cluster::kubeconfig_marks::Marks;
    use crate::cluster::kubeconfig_merge::merged;
    use crate::cluster::kubeconfig_merge::tests::admin;

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_its_field() {
        for (file, expected) in [
            (
                "apiVersion: v1\nusers: secret\n",
                "line 2: no kubeconfig: users must be a list of named entries, and is a text",
            ),
            (
                "contexts:\n- name: a\n  context: {}\n- name: b\n  context: secret\n",
                "line 4: no kubeconfig: contexts[1].context must be a mapping, and is a text",
            ),
            (
                "users:\n- name: 5\n  user: {}\n",
                "line 2: no kubeconfig: users[0].name must be a text, and is a number",
            ),
            (
                "kind: Config\ncurrent-context: [a]\n",
                "line 2: no kubeconfig: current-context must be a text, and is a list",
            ),
            ("- secret\n", "no kubeconfig: the file must be a mapping, and is a list"),
        ] {
            assert_eq!(parse(file).unwrap_err(), expected);
        }
    }

    /// Any value of YAML that JSON knows too, with the words of a kubeconfig among its keys and texts.
    fn any_value() -> impl Strategy<Value = Value> {
        let word = || {
            let words = [
                "clusters",
                "users",
                "contexts",
                "cluster",
                "user",
                "context",
                "name",
                "current-context",
                "server",
            ];
            prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "[a-z~]{0,4}"]
        };
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            word().prop_map(Value::from),
            Just(json!("kubernetes")),
            Just(json!("kubernetes-admin@kubernetes")),
        ];
        leaf.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(word(), inner, 0..5)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    /// A kubeconfig in which one field at some depth is any value.
    fn nearly_a_kubeconfig() -> impl Strategy<Value = Value> {
        let places = [
            "",
            "/clusters",
            "/clusters/0",
            "/clusters/0/name",
            "/clusters/0/cluster",
            "/clusters/0/cluster/server",
            "/users",
            "/users/0",
            "/users/0/name",
            "/users/0/user",
            "/contexts",
            "/contexts/0",
            "/contexts/0/name",
            "/contexts/0/context",
            "/contexts/0/context/cluster",
            "/contexts/0/context/user",
            "/current-context",
            "/kind",
        ];
        (prop::sample::select(places.to_vec()), any_value()).prop_map(|(place, other)| {
            let mut file: Value = serde_saphyr::from_str(&admin()).unwrap();
            *file.pointer_mut(place).unwrap() = other;
            file
        })
    }

    proptest! {
        #[test]
        fn no_value_of_yaml_makes_a_merge_or_its_undoing_panic(file in prop_oneof![any_value(), nearly_a_kubeconfig()]) {
            let text = serde_saphyr::to_string(&file).unwrap();
            let merge = merged(&text, &admin());
            if let Ok(Some(after)) = &merge {
                prop_assert!(parse(after).is_ok(), "{}", after);
                prop_assert_eq!(merged(after, &admin()), Ok(None), "twice");
            }
            let _ = merged(&admin(), &text);
            for (found, written) in [(Some(text.as_str()), admin()), (None, text.clone()), (None, admin())] {
                if let Some(marks) = Marks::of(found, &written) {
                    let _ = marks.without(&text);
                    let _ = marks.without(&admin());
                }
            }
        }

        #[test]
        fn no_text_makes_a_merge_panic(file in "[a-z:\\[\\]{}\\-& *!|>'\"#\\n ]{0,60}") {
            let _ = merged(&file, &admin());
        }
    }
}
