//! This cluster's entries in a user's kubeconfig, known again after the cluster and its admin.conf are gone: the journal
//! holds names and digests of what a merge of ours put there, never the entries, which hold keys.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::kubeconfig_merge::{CLUSTERS, CONTEXTS, LISTS, USERS, entries, parse};
use crate::host::change::digest_of;

/// What one write of ours, or several, put into a kubeconfig.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    clusters: Vec<Mark>,
    users: Vec<Mark>,
    /// The current contexts that we found, the oldest first.
    current: Vec<String>,
}

/// An entry of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    name: String,
    /// The digest of all of it: it is ours under whatever name somebody gave it.
    whole: String,
    /// The digest of the cluster's CA or the user's certificate: with its name it is ours, whatever else was changed.
    part: String,
}

/// What is left of a kubeconfig without the entries of ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Rest {
    /// None of ours is in it.
    Same,
    /// Nothing is left that a kubeconfig is for.
    Empty(String),
    Others(String),
}

impl Marks {
    /// What the written file has and the found one has not. None where one of them is no kubeconfig.
    pub fn of(found: Option<&str>, written: &str) -> Option<Self> {
        let (found, written) = (parse(found.unwrap_or_default()).ok()?, parse(written).ok()?);
        let new = |list: usize, part: fn(&Value) -> &Value| -> Vec<Mark> {
            let is_new = |entry: &&Value| !entries(&found, list).any(|known| known == *entry);
            entries(&written, list).filter(is_new).map(|entry| mark(entry, list, part)).collect()
        };
        let current = found["current-context"].as_str().filter(|name| !name.is_empty());
        Some(Self {
            clusters: new(CLUSTERS, authority),
            users: new(USERS, certificate),
            current: current.into_iter().map(str::to_owned).collect(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.users.is_empty()
    }

    /// Takes in what a later write put there.
    pub fn absorb(&mut self, later: Self) {
        self.clusters.extend(later.clusters);
        self.users.extend(later.users);
        self.current.extend(later.current);
    }

    /// The file without the clusters of ours, the contexts that lead to them and the users that nothing leads to any more.
    /// Where the current context is one of these, it is again the last one that stood there before and still exists, or
    /// none. What keeps the file from being read is an error, never with a piece of its text.
    pub fn without(&self, file: &str) -> Result<Rest, String> {
        let before = parse(file)?;
        let mut after = before.clone();
        let gone: Vec<Value> = taken(&mut after, CLUSTERS, |entry| is_ours(&self.clusters, entry, CLUSTERS));
        let mut contexts = taken(&mut after, CONTEXTS, |entry| gone.contains(&entry["context"]["cluster"]));
        let used: Vec<Value> =
            entries(&after, CONTEXTS).map(|entry| entry["context"]["user"].clone()).collect();
        taken(&mut after, USERS, |entry| {
            is_ours(&self.users, entry, USERS) && !used.contains(&entry["name"])
        });
        if after == before {
            return Ok(Rest::Same);
        }
        contexts.retain(|name| !entries(&after, CONTEXTS).any(|left| left["name"] == *name));
        if contexts.contains(&after["current-context"]) {
            let is_there =
                |name: &&String| entries(&after, CONTEXTS).any(|left| left["name"] == name.as_str());
            after["current-context"] =
                self.current.iter().rev().find(is_there).cloned().unwrap_or_default().into();
        }
        let text =
            serde_saphyr::to_string(&after).map_err(|_| "it cannot be written as YAML again".to_owned())?;
        Ok(if holds_nothing(&after) { Rest::Empty(text) } else { Rest::Others(text) })
    }
}

fn mark(entry: &Value, list: usize, part: fn(&Value) -> &Value) -> Mark {
    let content = &entry[LISTS[list].1];
    Mark {
        name: entry["name"].as_str().unwrap_or_default().to_owned(),
        whole: digest_of(&content.to_string()),
        part: digest_of(&part(content).to_string()),
    }
}

fn is_ours(marks: &[Mark], entry: &Value, list: usize) -> bool {
    let found = mark(entry, list, if list == CLUSTERS { authority } else { certificate });
    marks.iter().any(|ours| ours.whole == found.whole || (ours.name == found.name && ours.part == found.part))
}

/// Takes the entries out of the list; their names.
fn taken(config: &mut Value, list: usize, goes: impl Fn(&Value) -> bool) -> Vec<Value> {
    let Some(all) = config[LISTS[list].0].as_array_mut() else { return Vec::new() };
    let (gone, left): (Vec<Value>, Vec<Value>) = std::mem::take(all).into_iter().partition(goes);
    *all = left;
    gone.into_iter().map(|mut entry| entry["name"].take()).collect()
}

/// What tells a cluster from another one at the same address.
fn authority(cluster: &Value) -> &Value {
    cluster.get("certificate-authority-data").unwrap_or(&cluster["server"])
}

fn certificate(user: &Value) -> &Value {
    user.get("client-certificate-data").unwrap_or(user)
}

/// No entry, no current context and no setting: what is left says only what kind of file it is.
fn holds_nothing(config: &Value) -> bool {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    let kind = |key: &str| key == "apiVersion" || key == "kind";
    config.as_object().is_some_and(|all| all.iter().all(|(key, value)| kind(key) || says_nothing(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::kubeconfig_merge::merged;
    use crate::cluster::kubeconfig_merge::tests::{admin, config};

    fn other() -> String {
        config("prod", "me", "https://10.0.0.1:6443", "cHJvZA==")
    }

    fn read(text: &str) -> Value {
        parse(text).unwrap()
    }

    fn others(rest: Result<Rest, String>) -> Value {
        match rest {
            Ok(Rest::Others(text)) => read(&text),
            rest => panic!("{rest:?}"),
        }
    }

    /// Our entries beside those of `other()`.
    fn merged_file() -> (String, Marks) {
        let text = merged(&other(), &admin()).unwrap().unwrap();
        let marks = Marks::of(Some(&other()), &text).unwrap();
        (text, marks)
    }

    #[test]
    fn what_a_merge_put_there_is_taken_out_and_everything_else_is_as_it_was() {
        let (text, marks) = merged_file();
        assert_eq!(others(marks.without(&text)), read(&other()));
        assert_eq!(marks.without(&other()), Ok(Rest::Same), "twice");
    }

    #[test]
    fn a_file_that_was_ours_alone_is_empty_without_our_entries_whatever_was_set_in_them() {
        let marks = Marks::of(None, &admin()).unwrap();
        let mut file = read(&admin());
        file["contexts"][0]["context"]["namespace"] = "dev".into();
        file["contexts"][0]["name"] = "lab".into();
        file["current-context"] = "lab".into();
        file["clusters"][0]["cluster"]["proxy-url"] = "http://proxy".into();
        file["preferences"] = json!({});
        let rest = marks.without(&serde_saphyr::to_string(&file).unwrap());
        assert!(matches!(rest, Ok(Rest::Empty(_))), "{rest:?}");
    }

    #[test]
    fn the_current_context_goes_back_to_the_one_that_stood_there_before_if_it_still_exists() {
        let (text, marks) = merged_file();
        let mut file = read(&text);
        file["current-context"] = "kubernetes-10.88.0.11".into();
        let after = others(marks.without(&serde_saphyr::to_string(&file).unwrap()));
        assert_eq!(after["current-context"], "me@prod");
        file["contexts"][0]["name"] = "renamed".into();
        let after = others(marks.without(&serde_saphyr::to_string(&file).unwrap()));
        assert_eq!(
            after["current-context"], "",
            "kubectl asks then, instead of speaking to a cluster by chance"
        );
    }

    #[test]
    fn entries_of_another_cluster_under_our_names_and_users_that_somebody_else_needs_stay() {
        let (text, marks) = merged_file();
        let mut file = read(&text);
        // Ours was removed, and another cluster is called so now, even at the same address.
        file["clusters"][1]["cluster"]["certificate-authority-data"] = "b3RoZXI=".into();
        file["users"][1]["user"] = json!({ "token": "theirs" });
        assert_eq!(marks.without(&serde_saphyr::to_string(&file).unwrap()), Ok(Rest::Same));

        let mut file = read(&text);
        let context =
            json!({ "name": "x", "context": { "cluster": "prod", "user": "kubernetes-10.88.0.11" } });
        file["contexts"].as_array_mut().unwrap().push(context);
        let after = others(marks.without(&serde_saphyr::to_string(&file).unwrap()));
        assert_eq!(after["users"].as_array().unwrap().len(), 2);
        assert_eq!(after["clusters"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_marks_hold_no_key_and_a_file_that_cannot_be_read_is_an_error_without_its_text() {
        let (_, marks) = merged_file();
        let text = serde_json::to_string(&marks).unwrap();
        assert!(!text.contains("bmV3") && text.contains("kubernetes-10.88.0.11"), "{text}");
        assert_eq!(serde_json::from_str::<Marks>(&text).unwrap(), marks);
        let problem = marks.without("users: [\n  secret-key").unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}
