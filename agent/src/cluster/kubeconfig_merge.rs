//! A user's kubeconfig with this cluster added: the entries of other clusters and the current context stay.

use serde_json::{Value, json};

pub(crate) use crate::cluster::kubeconfig_form::{CLUSTERS, CONTEXTS, LISTS, USERS, parse};

/// The user's file with admin.conf's cluster, user and context in it; none when it has them already, or what keeps it
/// from being read (never a piece of its text, which may hold keys).
///
/// They keep admin.conf's own names in a file that has no other cluster, or has a cluster of that name at the same
/// server: then it is an earlier copy, perhaps of a cluster that is gone, and its entries are replaced. In a file of
/// other clusters they are called `kubernetes-HOST`.
pub fn merged(existing: &str, admin: &str) -> Result<Option<String>, String> {
    let ours = Admin::parse(admin)?;
    let before = parse(existing)?;
    let mut after = before.clone();
    let name = match ours.may_keep_names(&before) {
        true => None,
        false => Some(format!("kubernetes-{}", host_of(&ours.server))),
    };
    let [cluster, user, context] = match &name {
        Some(name) => [name; 3],
        None => [&ours.cluster_name, &ours.user_name, &ours.context_name],
    };
    put(&mut after, CLUSTERS, cluster, ours.cluster.clone());
    put(&mut after, USERS, user, ours.user.clone());
    put(&mut after, CONTEXTS, context, json!({ "cluster": cluster, "user": user }));
    if after["current-context"].as_str().unwrap_or_default().is_empty() {
        after["current-context"] = json!(context);
    }
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        after.as_object_mut().map(|map| map.entry(key).or_insert(json!(value)));
    }
    if after == before {
        return Ok(None);
    }
    serde_saphyr::to_string(&after).map(Some).map_err(|_| "it cannot be written as YAML again".into())
}

/// The current context of a user's file where it leads to another server than admin.conf, and the context that leads to
/// admin.conf's; none where kubectl speaks to this cluster already, or cannot.
pub fn other_context(existing: &str, admin: &str) -> Option<(String, String)> {
    let (server, config) = (Admin::parse(admin).ok()?.server, parse(existing).ok()?);
    let leads_to = |context: &str| {
        let cluster = content(&config, CONTEXTS, context)?["cluster"].as_str()?;
        content(&config, CLUSTERS, cluster)?["server"].as_str()
    };
    let current = config["current-context"].as_str().filter(|current| !current.is_empty())?;
    if leads_to(current) == Some(server.as_str()) {
        return None;
    }
    let names = entries(&config, CONTEXTS).filter_map(|entry| entry["name"].as_str());
    let own = names.into_iter().find(|name| leads_to(name) == Some(server.as_str()))?;
    Some((current.to_owned(), own.to_owned()))
}

/// What admin.conf holds of its current context.
struct Admin {
    cluster_name: String,
    user_name: String,
    context_name: String,
    server: String,
    cluster: Value,
    user: Value,
}

impl Admin {
    fn parse(admin: &str) -> Result<Self, String> {
        let incomplete = |what: &str| format!("admin.conf names no {what}");
        let text = |value: &Value, what| value.as_str().map(str::to_owned).ok_or_else(|| incomplete(what));
        let config = parse(admin)?;
        let context_name = text(&config["current-context"], "current context")?;
        let context =
            content(&config, CONTEXTS, &context_name).ok_or_else(|| incomplete("current context"))?;
        let cluster_name = text(&context["cluster"], "cluster")?;
        let user_name = text(&context["user"], "user")?;
        let cluster = content(&config, CLUSTERS, &cluster_name).ok_or_else(|| incomplete("cluster"))?.clone();
        let user = content(&config, USERS, &user_name).ok_or_else(|| incomplete("user"))?.clone();
        Ok(Self {
            server: text(&cluster["server"], "server")?,
            cluster_name,
            user_name,
            context_name,
            cluster,
            user,
        })
    }

    fn may_keep_names(&self, config: &Value) -> bool {
        let same = content(config, CLUSTERS, &self.cluster_name)
            .map(|cluster| cluster["server"] == self.server.as_str());
        let foreign = |entry: &Value| {
            let context = &entry["context"];
            context["user"] == self.user_name.as_str() && context["cluster"] != self.cluster_name.as_str()
        };
        let shared = entries(config, CONTEXTS).any(foreign);
        same.unwrap_or_else(|| {
            LISTS.iter().enumerate().all(|(list, _)| entries(config, list).next().is_none())
        }) && !shared
    }
}

pub(crate) fn entries(config: &Value, list: usize) -> impl Iterator<Item = &Value> {
    config[LISTS[list].0].as_array().into_iter().flatten()
}

fn content<'a>(config: &'a Value, list: usize, name: &str) -> Option<&'a Value> {
    entries(config, list).find(|entry| entry["name"] == name).map(|entry| &entry[LISTS[list].1])
}

/// Puts an entry in the place of the one with its name, or at the end.
fn put(config: &mut Value, list: usize, name: &str, content: Value) {
    let (list, key) = LISTS[list];
    let entry = json!({ "name": name, key: content });
    if let Value::Array(all) = &mut config[list] {
        match all.iter_mut().find(|held| held["name"] == name) {
            // Keys that we do not know stay, such as the namespace of a context.
            Some(held) if held[key].is_object() && key == "context" => {
                held[key]["cluster"] = entry[key]["cluster"].clone();
                held[key]["user"] = entry[key]["user"].clone();
            }
            Some(held) => *held = entry,
            None => all.push(entry),
        }
    } else {
        config[list] = json!([entry]);
    }
}

fn host_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn config(cluster: &str, user: &str, server: &str, key: &str) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {key}\n    server: {server}\n  name: {cluster}\n\
             contexts:\n- context:\n    cluster: {cluster}\n    user: {user}\n  name: {user}@{cluster}\n\
             current-context: {user}@{cluster}\nkind: Config\nusers:\n- name: {user}\n  user:\n    client-key-data: {key}\n"
        )
    }

    pub(crate) fn admin() -> String {
        config("kubernetes", "kubernetes-admin", "https://10.88.0.11:6443", "bmV3")
    }

    fn read(file: &str) -> Value {
        parse(file).unwrap()
    }

    #[test]
    fn a_file_that_has_the_cluster_already_stays_as_it_is() {
        let commented = format!("# mine\n{}", admin());
        assert_eq!(merged(&commented, &admin()), Ok(None));
    }

    #[test]
    fn the_entries_of_an_earlier_cluster_at_the_same_address_are_replaced() {
        let old = config("kubernetes", "kubernetes-admin", "https://10.88.0.11:6443", "b2xk");
        let after = merged(&old, &admin()).unwrap().unwrap();
        assert_eq!(read(&after), read(&admin()));
    }

    #[test]
    fn a_foreign_file_keeps_its_entries_and_its_current_context() {
        for server in ["https://192.168.49.2:8443", "https://10.0.0.1:6443"] {
            let foreign = config("kubernetes", "kubernetes-admin", server, "\"0123\"");
            let after = merged(&foreign, &admin()).unwrap().unwrap();
            let (before, value) = (read(&foreign), read(&after));
            for (list, _) in LISTS {
                assert_eq!(value[list][0], before[list][0]);
                assert_eq!(value[list][1]["name"], "kubernetes-10.88.0.11");
            }
            assert_eq!(value["current-context"], before["current-context"]);
            assert_eq!(value["users"][1]["user"], json!({ "client-key-data": "bmV3" }));
            assert_eq!(merged(&after, &admin()), Ok(None), "twice");
        }
    }

    #[test]
    fn a_user_entry_that_another_cluster_uses_too_is_not_replaced() {
        let mut old = read(&admin());
        let other = json!({ "name": "x", "context": { "cluster": "x", "user": "kubernetes-admin" } });
        old["contexts"].as_array_mut().unwrap().push(other);
        old["users"][0]["user"] = json!({ "token": "theirs" });
        let after = read(&merged(&serde_saphyr::to_string(&old).unwrap(), &admin()).unwrap().unwrap());
        assert_eq!(after["users"][0], old["users"][0]);
        assert_eq!(after["users"][1]["name"], "kubernetes-10.88.0.11");
    }

    #[test]
    fn an_empty_file_gets_admin_conf_under_its_own_names() {
        for empty in
            ["", "apiVersion: v1\nclusters: []\ncontexts: null\ncurrent-context: \"\"\nkind: Config\n"]
        {
            let after = merged(empty, &admin()).unwrap().unwrap();
            assert_eq!(read(&after), read(&admin()));
        }
    }

    #[test]
    fn words_that_yaml_could_take_for_something_else_stay_texts() {
        let foreign = "clusters: []\nusers:\n- name: 'yes'\n  user: {password: '0123', token: '1e3', username: 'null', x: '~'}\n";
        let after = read(&merged(foreign, &admin()).unwrap().unwrap());
        assert_eq!(after["users"][0], read(foreign)["users"][0]);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_refused_without_showing_its_text() {
        for wrong in [
            "users: [\n  secret-key",
            "- secret-key\n",
            "users: secret-key\n",
            "users:\n- secret-key\n",
            "a: 1\n---\nb: secret-key\n",
            "contexts:\n- name: a\n  context: secret-key\n",
            "contexts:\n- name: a\n  context: [secret-key]\n",
            "current-context: [secret-key]\n",
            "users:\n- name: a\n  user: secret-key\n",
            "clusters:\n- name: a\n  cluster:\n    server: [secret-key]\n",
        ] {
            let problem = merged(wrong, &admin()).unwrap_err();
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn the_host_of_a_server_is_found_in_every_spelling() {
        for server in ["https://h:6443", "https://h", "h:6443", "https://h:6443/path", "https://[h]:6443"] {
            assert_eq!(host_of(server), "h");
        }
    }
}
