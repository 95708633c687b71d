//! The kubelet: healthy once it is configured and has its identity, runs the API server where its manifest lies, registers
//! its node and keeps its state, lets the node's pod answer on port 80 with its name, and renews its Lease. What it lacks when
//! it starts it says in its journal and takes up by itself later, as the real one does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::kubeadm::pause;
use super::{Said, api, pki, pod_network, said};

const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
const BOOTSTRAP_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// A worker's kubelet.conf names it before it is there, as the real one's does.
const CLIENT_CERTIFICATE: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// The Deployment whose pod answers here.
const SMOKE_TEST: &str = "muster-smoke-test";
const JOURNAL: &str = "/run/kubelet.journal";
/// One that started without a certificate learns by itself that it has one.
const STRANGER_FOR: Duration = Duration::from_secs(17);
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// Once the node is Ready there is little to tell.
const LOOK_LATER: Duration = Duration::from_millis(700);

pub(super) fn run(arguments: &[&str]) -> Said<()> {
    if arguments == ["--version"] {
        println!("Kubernetes v1.20.2");
        return Ok(());
    }
    while !Path::new(CONFIG).exists() {
        std::thread::sleep(LOOK_EVERY);
    }
    let flags = std::fs::read_to_string(FLAGS).map_err(said)?;
    let (node, address) = flags.trim().split_once(' ').ok_or("the flags are not written yet")?;
    let stranger = !has_identity();
    // The master's says nothing: started anew it would take the API server with it, which lives in this process here.
    if !Path::new(ADMIN_CONF).exists() {
        lacks(stranger)?;
    }
    let began = Instant::now();
    let (mut serves, mut healthy, mut pod_answers, mut told) = (false, false, false, Value::Null);
    loop {
        if !serves && Path::new(MANIFEST).exists() {
            api::start(6443)?;
            serves = true;
        }
        if !has_identity() && Path::new(BOOTSTRAP_CONF).exists() {
            // A server that does not answer yet is asked again.
            let _ = bootstrap(node);
        }
        if Path::new(KUBELET_CONF).exists() {
            if !healthy {
                answer("127.0.0.1:10248", "ok".to_owned())?;
                healthy = true;
            }
            let runs_pods = !stranger || began.elapsed() > STRANGER_FOR;
            // Without its certificate it is healthy all the same, and nobody to the server.
            if has_identity()
                && let Ok(state) = register(node, address, &told, runs_pods)
            {
                told = state;
            }
            if !pod_answers && Path::new(pod_network::READY).exists() {
                answer(&format!("{}:80", pod_network::pod_address(node)), format!("{SMOKE_TEST}-{node}"))?;
                pod_answers = true;
            }
        }
        let ready = told["conditions"][0]["status"] == "True";
        std::thread::sleep(if ready { LOOK_LATER } else { LOOK_EVERY });
    }
}

/// Says what is missing at its start.
fn lacks(stranger: bool) -> Said<()> {
    if stranger {
        say(
            "E1125 10:42:58.466759    1034 event.go:264] Server rejected event: User \"system:anonymous\" cannot create resource \"events\"",
        )?;
    }
    if !Path::new(pod_network::CONFIGURATION).exists() {
        say(
            "E1125 10:36:40.602105     508 kubelet.go:2163] Container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady",
        )?;
    }
    Ok(())
}

fn say(message: &str) -> Said<()> {
    let now = jiff::Timestamp::now().as_microsecond().to_string();
    let line = json!({"__REALTIME_TIMESTAMP": now, "MESSAGE": message});
    let mut journal = std::fs::OpenOptions::new().create(true).append(true).open(JOURNAL).map_err(said)?;
    writeln!(journal, "{line}").map_err(said)
}

/// journalctl: the lines since `--since @SECONDS`.
pub(super) fn journal(arguments: &[&str]) -> Said<()> {
    let since =
        arguments.iter().find_map(|word| word.strip_prefix('@')).and_then(|word| word.parse::<i64>().ok());
    for line in std::fs::read_to_string(JOURNAL).unwrap_or_default().lines() {
        let entry: Value = serde_json::from_str(line).map_err(said)?;
        let at = entry["__REALTIME_TIMESTAMP"]
            .as_str()
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or_default();
        if since.is_none_or(|since| at >= since * 1_000_000) {
            println!("{line}");
        }
    }
    Ok(())
}

/// Whether it can say to the server who it is: the master's kubelet.conf holds the certificate, a worker's names a file.
pub(super) fn has_identity() -> bool {
    let own = std::fs::read_to_string(KUBELET_CONF).unwrap_or_default();
    !own.is_empty() && (!own.contains(CLIENT_CERTIFICATE) || Path::new(CLIENT_CERTIFICATE).exists())
}

/// TLS bootstrap: kubelet.conf is written first; the token proves that the node may join; then it has an identity of its own.
fn bootstrap(node: &str) -> Said<()> {
    let client = Client::of(BOOTSTRAP_CONF)?;
    let pem = std::fs::read_to_string("/etc/kubernetes/pki/ca.crt").map_err(said)?;
    let user = format!("system:node:{node}");
    let names =
        format!("    client-certificate: {CLIENT_CERTIFICATE}\n    client-key: {CLIENT_CERTIFICATE}\n");
    put(KUBELET_CONF, &pki::kubeconfig(&client.server, &pem, &user, &names))?;
    pause();
    let (code, answer) = client.ask("POST", "/stand-in/join", Some(&json!({"node": node})))?;
    if code != 200 {
        return Err(answer.to_string());
    }
    let field = |name: &str| answer[name].as_str().unwrap_or_default();
    std::fs::create_dir_all("/var/lib/kubelet/pki").map_err(said)?;
    put(CLIENT_CERTIFICATE, &format!("{}{}", field("certificate"), field("key")))
}

/// All of it, or nothing.
fn put(path: &str, content: &str) -> Said<()> {
    let fresh = format!("{path}.fresh");
    std::fs::write(&fresh, content).map_err(said)?;
    std::fs::rename(fresh, path).map_err(said)
}

/// Tells the API server how this node is; what was told before is not told again while it stands there.
fn register(node: &str, address: &str, told: &Value, runs_pods: bool) -> Said<Value> {
    let client = Client::of(KUBELET_CONF)?;
    let path = format!("/api/v1/nodes/{node}");
    let held = client.get(&path)?;
    let network =
        runs_pods && client.get("/api/v1/namespaces/kube-system/configmaps/kube-flannel-cfg")?.is_some();
    if network {
        pod_network::make()?;
    }
    let status = json!({
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{
            "type": "Ready",
            "status": if network { "True" } else { "False" },
            "message": if network { "" } else { "network plugin is not ready: cni config uninitialized" },
        }],
    });
    if network {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
            "spec": {"holderIdentity": node}});
        client
            .put(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"), &lease)?;
    }
    if held.is_some() && *told == status {
        return Ok(status);
    }
    let mut object = held.unwrap_or_else(|| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"labels": {"kubernetes.io/hostname": node}}, "spec": {}})
    });
    object["status"] = status.clone();
    if network {
        addons(&client, node, address)?;
    }
    let patched = client.ask("PATCH", &path, Some(&json!({"status": status})))?;
    if patched.0 == 404 {
        client.put(&path, &object)?;
    }
    Ok(status)
}

/// The pods of kube-proxy and CoreDNS on this node.
fn addons(client: &Client, node: &str, address: &str) -> Said<()> {
    for (name, label, host_network, address) in [
        ("kube-proxy", "kube-proxy", true, address),
        ("coredns", "kube-dns", false, pod_network::coredns_address(node)),
    ] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": {"k8s-app": label}},
            "spec": {"nodeName": node, "hostNetwork": host_network},
            "status": {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        client.put(&format!("/api/v1/namespaces/kube-system/pods/{name}-{node}"), &pod)?;
    }
    Ok(())
}

/// 200 and this page to whoever asks.
fn answer(address: &str, page: String) -> Said<()> {
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = socket.read(&mut request);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", page.len());
            let _ = socket.write_all((head + &page).as_bytes());
        }
    });
    Ok(())
}
