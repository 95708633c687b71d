//! The Kubernetes API through the node's own admin.conf: reads, and the two changes that need no manifest.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, Request,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use muster_proto::cause::chain;
use muster_proto::names::NodeName;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::host::HostError;
use crate::host::query::ObjectKind;

/// Every request has this long.
const LIMIT: Duration = Duration::from_secs(10);

/// Of a container's log, in characters.
const LONGEST_LINE: usize = 400;

/// How often a patch is tried again because somebody else changed the object meanwhile.
const ROUNDS: u32 = 5;

/// The API server that admin.conf names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    admin_conf: PathBuf,
    connected: Arc<Mutex<Option<Connected>>>,
}

/// A client, and the text of admin.conf that it was made from.
#[derive(Clone)]
struct Connected {
    text: String,
    server: String,
    client: Client,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connected({})", self.server)
    }
}

impl Kubernetes {
    pub fn new(admin_conf: PathBuf) -> Self {
        Self { admin_conf, connected: Arc::default() }
    }

    /// One object; none when it does not exist.
    pub async fn object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, HostError> {
        let (api, server) = self.api(kind, namespace).await?;
        let found = self.ask(&server, api.get_opt(name)).await?;
        found.map(|object| to_value(&server, object)).transpose()
    }

    /// The objects that the label selector chooses (empty: all); an empty namespace means every namespace.
    pub async fn objects(
        &self,
        kind: ObjectKind,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Value>, HostError> {
        let (api, server) = self.api(kind, namespace).await?;
        let wanted = ListParams::default().labels(selector);
        // A server without Leases answers 404 to the question after them.
        let found = self.ask(&server, unless(404, api.list(&wanted))).await?;
        found
            .map(|found| found.items)
            .unwrap_or_default()
            .into_iter()
            .map(|object| to_value(&server, object))
            .collect()
    }

    /// The last line of a container's life before its present one; none when the node does not hold it any more.
    pub async fn last_line(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Option<String>, HostError> {
        let Connected { client, server, .. } = self.connect().await?;
        let wanted = LogParams {
            container: Some(container.to_owned()),
            previous: true,
            tail_lines: Some(1),
            limit_bytes: Some(4096),
            ..LogParams::default()
        };
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let request = Request::new(path).logs(pod, &wanted).map_err(|error| HostError::Unexpected {
            what: format!("the question after the log of pod {pod}"),
            message: error.to_string(),
        })?;
        match self.ask(&server, client.request_text(request)).await {
            Ok(text) => Ok(text.lines().last().map(|line| line.chars().take(LONGEST_LINE).collect())),
            // The line only helps: what asks for it knows the reason without.
            Err(error) => {
                tracing::debug!(pod, error = chain(&error), "no log of its last life");
                Ok(None)
            }
        }
    }

    /// Takes the taints with these keys from the node and leaves all others, whoever changes the node meanwhile: the
    /// patch holds the version that was read, and a conflict means reading again.
    pub async fn remove_taints(&self, node: &NodeName, keys: &[String]) -> Result<(), HostError> {
        let (api, server) = self.api(ObjectKind::Node, "").await?;
        for _ in 0..ROUNDS {
            let held = self.ask(&server, api.get(node.as_str())).await?;
            let Some(patch) = taint_patch(&to_value(&server, held)?, keys) else { return Ok(()) };
            let merge = Patch::Merge(&patch);
            let parameters = PatchParams::default();
            let request = api.patch(node.as_str(), &parameters, &merge);
            let patched = self.ask(&server, unless(409, request)).await?;
            if patched.is_some() {
                return Ok(());
            }
        }
        Err(HostError::Kubernetes {
            server,
            message: format!("node {node} changed {ROUNDS} times while its taints were to be removed"),
            transient: true,
        })
    }

    /// Deletes an object and, in the background, what it owns. Gone already is fine.
    pub async fn delete(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<(), HostError> {
        let (api, server) = self.api(kind, namespace).await?;
        let parameters = DeleteParams::background();
        self.ask(&server, unless(404, api.delete(name, &parameters))).await.map(|_| ())
    }

    /// The answer within its time. After a failure that may pass, the next request makes a new connection: this one may
    /// lead to a server that is gone.
    async fn ask<T>(
        &self,
        server: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, HostError> {
        let answer = match tokio::time::timeout(LIMIT, request).await {
            Ok(answer) => answer.map_err(|error| failed(server, &error)),
            Err(_) => Err(too_slow(server)),
        };
        if answer.as_ref().is_err_and(HostError::is_transient) {
            *self.connected.lock().await = None;
        }
        answer
    }

    async fn api(
        &self,
        kind: ObjectKind,
        namespace: &str,
    ) -> Result<(Api<DynamicObject>, String), HostError> {
        let Connected { client, server, .. } = self.connect().await?;
        let resource = resource(kind);
        let api = if namespace.is_empty() {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, namespace, &resource)
        };
        Ok((api, server))
    }

    /// The client for admin.conf as it is now: the file is new after every init.
    async fn connect(&self) -> Result<Connected, HostError> {
        let unusable = |message: String| HostError::Kubernetes {
            server: format!("(named in {})", self.admin_conf.display()),
            message,
            transient: false,
        };
        let text = match tokio::fs::read_to_string(&self.admin_conf).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(unusable("there is no such file: this is no control-plane node".to_owned()));
            }
            Err(source) => {
                return Err(HostError::File { action: "reading", path: self.admin_conf.clone(), source });
            }
        };
        let mut connected = self.connected.lock().await;
        if let Some(held) = connected.as_ref().filter(|held| held.text == text) {
            return Ok(held.clone());
        }
        let kubeconfig = Kubeconfig::from_yaml(&text).map_err(|error| unusable(chain(&error)))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(chain(&error)))?;
        // The API server is a neighbour: no proxy of the environment lies between.
        config.proxy_url = None;
        config.connect_timeout = Some(LIMIT / 2);
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| unusable(chain(&error)))?;
        Ok(connected.insert(Connected { text, server, client }).clone())
    }
}

fn resource(kind: ObjectKind) -> ApiResource {
    let (group, plural) = match kind {
        ObjectKind::Node => ("", "nodes"),
        ObjectKind::Pod => ("", "pods"),
        ObjectKind::ConfigMap => ("", "configmaps"),
        ObjectKind::Secret => ("", "secrets"),
        ObjectKind::Deployment => ("apps", "deployments"),
        ObjectKind::DaemonSet => ("apps", "daemonsets"),
        ObjectKind::Lease => ("coordination.k8s.io", "leases"),
    };
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") },
        kind: kind.kind().to_owned(),
        plural: plural.to_owned(),
    }
}

/// The merge patch that leaves the node without these taints; none when it has none of them.
fn taint_patch(node: &Value, keys: &[String]) -> Option<Value> {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array)?;
    let stays = |taint: &&Value| !keys.iter().any(|key| taint["key"] == *key);
    let left: Vec<&Value> = taints.iter().filter(stays).collect();
    if left.len() == taints.len() {
        return None;
    }
    let version = &node["metadata"]["resourceVersion"];
    Some(json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": left } }))
}

/// None when the server answers with this code.
async fn unless<T>(code: u16, request: impl Future<Output = kube::Result<T>>) -> kube::Result<Option<T>> {
    match request.await {
        Err(kube::Error::Api(status)) if status.code == code => Ok(None),
        answer => answer.map(Some),
    }
}

fn too_slow(server: &str) -> HostError {
    HostError::Kubernetes {
        server: server.to_owned(),
        message: format!("no answer within {} s", LIMIT.as_secs()),
        transient: true,
    }
}

/// A server that cannot be reached, is overloaded or starting answers later; one that refuses will refuse again.
fn failed(server: &str, error: &kube::Error) -> HostError {
    let (message, transient) = match error {
        kube::Error::Api(status) => {
            (format!("{} ({})", status.message, status.code), status.code >= 500 || status.code == 429)
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => {
            let message = chain(error);
            let transient = !message.contains("certificate");
            (message, transient)
        }
        other => (chain(other), false),
    };
    HostError::Kubernetes { server: server.to_owned(), message, transient }
}

fn to_value(server: &str, object: DynamicObject) -> Result<Value, HostError> {
    serde_json::to_value(object).map_err(|error| HostError::Unexpected {
        what: format!("the API server at {server}"),
        message: error.to_string(),
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares its own folder")]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_taints_leave_and_the_version_read_is_held_fast() {
        let node = json!({
            "metadata": { "resourceVersion": "213" },
            "spec": { "taints": [
                { "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" },
                { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" },
            ] },
        });
        let keys =
            ["node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane"].map(str::to_owned);
        let patch = taint_patch(&node, &keys).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "213");
        assert_eq!(patch["spec"]["taints"].as_array().unwrap().len(), 1);
        assert_eq!(patch["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
        let nothing_to_do = json!({ "spec": { "taints": patch["spec"]["taints"] } });
        assert!(
            taint_patch(&nothing_to_do, &keys).is_none()
                && taint_patch(&json!({ "spec": {} }), &keys).is_none()
        );
    }

    #[tokio::test]
    async fn a_node_without_admin_conf_is_no_control_plane_and_asking_again_does_not_help() {
        let kubernetes = Kubernetes::new("/nonexistent/admin.conf".into());
        let error = kubernetes.object(ObjectKind::Node, "", "m1").await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("no control-plane node"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_may_be_there_later() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let place = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let conf = place.path().join("admin.conf");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: \"https://{address}\"}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n"
        );
        std::fs::write(&conf, text).unwrap();
        let error = Kubernetes::new(conf).objects(ObjectKind::Node, "", "").await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
