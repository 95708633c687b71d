//! The API server: TLS, HTTP/1.1, and the verbs that the agent, kubectl and the kubelet use. Whoever has a certificate of
//! the cluster's CA may do everything; a bootstrap token lets in who wants to join, and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::pki::{Pair, signed};
use super::store::{Key, Store};
use super::{Said, pod_network, said};

const PKI: &str = "/etc/kubernetes/pki";

/// Listens and answers on threads of its own.
pub(super) fn start(port: u16) -> Said<()> {
    let settings = Arc::new(settings()?);
    let store = Arc::new(Mutex::new(Store::open()?));
    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(said)?;
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (settings, store) = (settings.clone(), store.clone());
            std::thread::spawn(move || {
                let _ = socket.set_nodelay(true);
                let Ok(connection) = ServerConnection::new(settings) else { return };
                let _ = converse(StreamOwned::new(connection, socket), &store);
            });
        }
    });
    Ok(())
}

fn settings() -> Said<ServerConfig> {
    let read = |name: &str| std::fs::read(format!("{PKI}/{name}")).map_err(said);
    let ca = CertificateDer::from_pem_slice(&read("ca.crt")?).map_err(said)?;
    let certificate = CertificateDer::from_pem_slice(&read("apiserver.crt")?).map_err(said)?;
    let key = PrivateKeyDer::from_pem_slice(&read("apiserver.key")?).map_err(said)?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(said)?;
    let verifier =
        WebPkiClientVerifier::builder(roots.into()).allow_unauthenticated().build().map_err(said)?;
    ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate, ca], key)
        .map_err(said)
}

type Conversation = StreamOwned<ServerConnection, TcpStream>;

struct Request {
    method: String,
    path: String,
    query: String,
    token: Option<String>,
    body: Vec<u8>,
}

fn converse(stream: Conversation, store: &Mutex<Store>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream)? {
        let certified = stream.get_ref().conn.peer_certificates().is_some();
        let (code, body) = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            match answer(&mut store, &request, certified) {
                Ok(body) => (200, body),
                Err((code, message)) => {
                    let reason = match code {
                        401 => "Unauthorized",
                        403 => "Forbidden",
                        404 => "NotFound",
                        409 => "Conflict",
                        _ => "InternalError",
                    };
                    (
                        code,
                        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}),
                    )
                }
            }
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        stream.flush()?;
    }
    Ok(())
}

fn read(stream: &mut BufReader<Conversation>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (mut length, mut token) = (0, None);
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let Some((name, value)) = header.trim().split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => token = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Request { method, path: path.to_owned(), query: query.to_owned(), token, body }))
}

type Answer = Result<Value, (u16, String)>;

fn answer(store: &mut Store, request: &Request, certified: bool) -> Answer {
    let problem = |message: String| (500, message);
    if request.path == "/healthz" {
        return Ok(json!("ok"));
    }
    if request.path == "/stand-in/join" {
        let lives = request.token.as_deref().is_some_and(|token| token_lives(store, token));
        if !lives {
            return Err((401, "Unauthorized".to_owned()));
        }
        let wanted: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        return identity(wanted["node"].as_str().unwrap_or_default()).map_err(problem);
    }
    if !certified {
        return Err((403, "Forbidden".to_owned()));
    }
    let (key, whole) = target(&request.path).ok_or((404, format!("no such path {}", request.path)))?;
    let absent = || (404, format!("{} {:?} not found", key.0, key.2));
    match (request.method.as_str(), whole) {
        ("GET", true) => {
            let items = store.list(&key.0, &key.1, &selector(&request.query));
            Ok(
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
            )
        }
        ("GET", false) => store.get(&key).cloned().ok_or_else(absent),
        ("PUT", false) => {
            let mut object: Value =
                serde_json::from_slice(&request.body).map_err(|error| problem(said(error)))?;
            if key.0 == "leases" {
                // By this machine's clock, whatever the node's says: one that jumps back in the middle is not tried.
                object["spec"]["renewTime"] = jiff::Timestamp::now().to_string().into();
                return Ok(store.put_unsaved(key, object));
            }
            let object = store.put(key, object).map_err(problem)?;
            pods(store, &object).map_err(problem)?;
            Ok(object)
        }
        ("PATCH", false) => {
            let mut object = store.get(&key).cloned().ok_or_else(absent)?;
            let mut patch: Value =
                serde_json::from_slice(&request.body).map_err(|error| problem(said(error)))?;
            let version = patch["metadata"]["resourceVersion"].take();
            if !version.is_null() && version != object["metadata"]["resourceVersion"] {
                return Err((409, "the object has been modified".to_owned()));
            }
            merge(&mut object, &patch);
            store.put(key, object).map_err(problem)
        }
        ("DELETE", false) => {
            let removed = store.remove(&key).map_err(problem)?.ok_or_else(absent)?;
            if key.0 == "deployments" {
                for pod in store.list("pods", &key.1, &format!("app={}", key.2)) {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    store.remove(&("pods".to_owned(), key.1.clone(), name)).map_err(problem)?;
                }
            }
            Ok(
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {"name": removed["metadata"]["name"]}}),
            )
        }
        _ => Err((405, format!("{} is not known here", request.method))),
    }
}

/// What the approval of a kubelet's signing request brings it.
fn identity(node: &str) -> Said<Value> {
    let read = |name: &str| std::fs::read_to_string(format!("{PKI}/{name}")).map_err(said);
    let ca = Pair { certificate: read("ca.crt")?, key: read("ca.key")? };
    let pair = signed(&ca, &format!("system:node:{node}"), &[])?;
    Ok(json!({"certificate": pair.certificate, "key": pair.key}))
}

/// The object or the list that a path names.
fn target(path: &str) -> Option<(Key, bool)> {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let rest = match words.split_first()? {
        (&"api", rest) => rest.get(1..)?,
        (&"apis", rest) => rest.get(2..)?,
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let key = |plural: &str, name: &str| (plural.to_owned(), namespace.to_owned(), name.to_owned());
    match rest {
        [plural] => Some((key(plural, ""), true)),
        [plural, name] => Some((key(plural, name), false)),
        _ => None,
    }
}

fn selector(query: &str) -> String {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")).unwrap_or_default();
    value.replace("%3D", "=").replace("%3d", "=")
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null if name == "resourceVersion" => {}
            Value::Null => {
                object.as_object_mut().map(|object| object.remove(name));
            }
            value => merge(&mut object[name.as_str()], value),
        }
    }
}

/// What the controllers, the scheduler and the kubelets make of a Deployment: one pod on each node, named after it, that
/// answers with its name.
fn pods(store: &mut Store, object: &Value) -> Said<()> {
    if object["kind"] != "Deployment" {
        return Ok(());
    }
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let wanted = object
        .pointer("/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0/values")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for node in store.list("nodes", "", "") {
        let node_name = &node["metadata"]["name"];
        if !wanted.contains(node_name) {
            continue;
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": labels},
            "spec": {"nodeName": node_name},
            "status": {
                "phase": "Running",
                "podIP": pod_network::pod_address(node_name.as_str().unwrap_or_default()),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        let pod_name = format!("{name}-{}", node_name.as_str().unwrap_or_default());
        store.put(("pods".to_owned(), namespace.clone(), pod_name), pod)?;
    }
    Ok(())
}

fn token_lives(store: &Store, token: &str) -> bool {
    let Some((id, secret)) = token.split_once('.') else { return false };
    let key = ("secrets".to_owned(), "kube-system".to_owned(), format!("bootstrap-token-{id}"));
    let Some(held) = store.get(&key) else { return false };
    let value = |name: &str| {
        let bytes =
            BASE64_STANDARD.decode(held["data"][name].as_str().unwrap_or_default()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    value("token-secret") == secret
        && value("expiration").parse::<Timestamp>().is_ok_and(|end| end > Timestamp::now())
}
