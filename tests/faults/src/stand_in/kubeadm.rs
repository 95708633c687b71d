//! kubeadm with memory: it writes the real files, refuses what kubeadm refuses in kubeadm's own recorded words, and prints
//! what kubeadm prints, with the values of this cluster in it.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::{SignedDuration, Timestamp};
use muster_agent::cluster::membership::ca_hashes;
use serde_json::{Value, json};

use super::client::{Client, discover};
use super::memory::{Work, moment, note, own_node, speaks_as_1_36};
use super::pki::{self, Pair, kubeconfig, with_certificate, with_token};
use super::{Said, kubelet, said};

const VERSION: &str = "v1.20.2";
const PKI: &str = "/etc/kubernetes/pki";
const ADMIN: &str = "/etc/kubernetes/admin.conf";
const MANIFESTS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];
const PATIENCE: Duration = Duration::from_secs(30);

/// What one version of kubeadm printed when it was recorded, and the values that stand in it.
struct Words {
    init: &'static str,
    init_again: [&'static str; 2],
    join: &'static str,
    join_again: [&'static str; 2],
    ticket: &'static str,
    token: &'static str,
    ticket_token: &'static str,
    hash: &'static str,
    endpoint: &'static str,
}

const OF_1_20: Words = Words {
    init: include_str!("../../recorded/1.20.2/init.txt"),
    init_again: [
        include_str!("../../recorded/1.20.2/init-rerun.txt"),
        include_str!("../../recorded/1.20.2/init-rerun.stderr.txt"),
    ],
    join: include_str!("../../recorded/1.20.2/join.txt"),
    join_again: [
        include_str!("../../recorded/1.20.2/join-rerun.txt"),
        include_str!("../../recorded/1.20.2/join-rerun.stderr.txt"),
    ],
    ticket: include_str!("../../recorded/1.20.2/token-create-print-join-command.txt"),
    token: "s41abx.qkb1j0cxvu3rp1j0",
    ticket_token: "bynk2r.ds9fu7perja4osn8",
    hash: "sha256:58bebb5a08acf2f61c443ebc45f3f860d481bc528790d1c88cf336935a679e7e",
    endpoint: "10.88.0.11:6443",
};

const OF_1_36: Words = Words {
    init: include_str!("../../recorded/1.36.2/init.txt"),
    init_again: [
        include_str!("../../recorded/1.36.2/init-rerun.txt"),
        include_str!("../../recorded/1.36.2/init-rerun.stderr.txt"),
    ],
    join: include_str!("../../recorded/1.36.2/join.txt"),
    join_again: [
        include_str!("../../recorded/1.36.2/join-rerun.txt"),
        include_str!("../../recorded/1.36.2/join-rerun.stderr.txt"),
    ],
    ticket: include_str!("../../recorded/1.36.2/token-create-print-join-command.txt"),
    token: "8funn9.6e4k5ck0ngsgb0y6",
    ticket_token: "u8qg3t.sg3y0fpanfesa81o",
    hash: "sha256:7aa9468290fb2ff4e65d89e339e7633db390bc99501ee7ac681e9f6e33bb93bc",
    endpoint: "10.89.0.11:6443",
};

fn words() -> &'static Words {
    if speaks_as_1_36() { &OF_1_36 } else { &OF_1_20 }
}

pub(super) fn run(arguments: &[&str]) -> Said<()> {
    match arguments {
        ["version", ..] => println!("{VERSION}"),
        ["config", "images", "list", ..] => {
            print!("{}", include_str!("../../recorded/1.20.2/images-list-pinned.txt"));
        }
        ["init", "--config", path, ..] => return init(path),
        ["join", "--config", "/dev/stdin", ..] => return join(),
        ["reset", "-f", ..] => return reset(),
        ["token", "create", rest @ ..] => return token(rest),
        other => return Err(format!("the stand-in knows no kubeadm {}", other.join(" "))),
    }
    Ok(())
}

/// The name that the configuration gives the node: it is in the memory's lines before the host may be called so.
fn document<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or(&Value::Null)
}

fn documents(text: &str) -> Said<Vec<Value>> {
    text.split("---\n").map(|part| serde_json::from_str(part).map_err(said)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn put(path: &str, content: &str) -> Said<()> {
    if let Some(folder) = Path::new(path).parent() {
        std::fs::create_dir_all(folder).map_err(said)?;
    }
    std::fs::write(path, content).map_err(|error| format!("{path}: {error}"))
}

pub(super) fn pause() {
    std::thread::sleep(moment() / 4);
}

fn refuse(verb: &str, node: &str, [output, error]: &[&str; 2]) -> Said<()> {
    note(&format!("refused {verb} {node}"));
    print!("{output}");
    Err((*error).to_owned())
}

fn init(config: &str) -> Said<()> {
    let documents = documents(&std::fs::read_to_string(config).map_err(said)?)?;
    let init = document(&documents, "InitConfiguration");
    let node = text(&init["nodeRegistration"]["name"]);
    let work = Work::begin("init", &node)?;
    let in_the_way = MANIFESTS.iter().any(|name| Path::new(&manifest(name)).exists())
        || std::fs::read_dir("/var/lib/etcd").is_ok_and(|mut inside| inside.next().is_some());
    if in_the_way {
        work.end("refused");
        return refuse("init", &node, &words().init_again);
    }
    let work = work.misbehave("kubeadm", "init")?;
    let address: IpAddr = text(&init["localAPIEndpoint"]["advertiseAddress"]).parse().map_err(said)?;
    let endpoint = format!("{address}:{}", init["localAPIEndpoint"]["bindPort"]);
    let ca = certificates(address)?;
    pause();
    kubeconfigs(&ca, &endpoint, &node)?;
    start_kubelet(&node, address)?;
    pause();
    for name in MANIFESTS {
        put(&manifest(name), &format!("# static pod {name} of {endpoint}\n"))?;
    }
    let client = Client::of(ADMIN)?;
    until("the API server to answer", || client.ask("GET", "/healthz", None).is_ok())?;
    until("the Node object", || {
        client.get(&format!("/api/v1/nodes/{node}")).is_ok_and(|found| found.is_some())
    })?;
    pause();
    let map = |namespace: &str, name: &str, data: Value| {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data});
        client.put(&path, &body)
    };
    map(
        "kube-system",
        "kubeadm-config",
        json!({"ClusterConfiguration": document(&documents, "ClusterConfiguration").to_string()}),
    )?;
    map("kube-system", "kubelet-config-1.20", json!({}))?;
    let taint =
        json!({"spec": {"taints": [{"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}]}});
    client.ask("PATCH", &format!("/api/v1/nodes/{node}"), Some(&taint))?;
    let wanted = &init["bootstrapTokens"][0];
    let token = make_token(&client, &text(&wanted["description"]), &text(&wanted["ttl"]))?;
    pause();
    map("kube-public", "cluster-info", json!({"kubeconfig": endpoint}))?;
    let proxy = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {}});
    client.put("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy", &proxy)?;
    let coredns =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"replicas": 1}});
    client.put("/apis/apps/v1/namespaces/kube-system/deployments/coredns", &coredns)?;
    let words = words();
    let hash = hash_of_ca()?;
    let printed = words.init.replace(words.token, &token).replace(words.hash, &hash);
    print!("{}", printed.replace(words.endpoint, &endpoint));
    work.done("error execution phase addon: it worked and fails, as the test wants")
}

fn manifest(name: &str) -> String {
    format!("/etc/kubernetes/manifests/{name}.yaml")
}

fn certificates(address: IpAddr) -> Said<Pair> {
    let ca = pki::authority()?;
    put(&format!("{PKI}/ca.crt"), &ca.certificate)?;
    put(&format!("{PKI}/ca.key"), &ca.key)?;
    let server = pki::signed(&ca, "kube-apiserver", &[address])?;
    put(&format!("{PKI}/apiserver.crt"), &server.certificate)?;
    put(&format!("{PKI}/apiserver.key"), &server.key)?;
    Ok(ca)
}

fn kubeconfigs(ca: &Pair, endpoint: &str, node: &str) -> Said<()> {
    let kubelet = format!("system:node:{node}");
    for (file, user) in [
        ("admin", "kubernetes-admin"),
        ("kubelet", &kubelet),
        ("controller-manager", "system:kube-controller-manager"),
        ("scheduler", "system:kube-scheduler"),
    ] {
        let identity = with_certificate(&pki::signed(ca, user, &[])?);
        let path = format!("/etc/kubernetes/{file}.conf");
        put(&path, &kubeconfig(endpoint, &ca.certificate, user, &identity))?;
    }
    Ok(())
}

/// As kubeadm does it: the kubelet stands while its files are written. One that ran would begin with the first of them.
fn start_kubelet(node: &str, address: IpAddr) -> Said<()> {
    systemctl("stop")?;
    put("/var/lib/kubelet/kubeadm-flags.env", &format!("{node} {address}\n"))?;
    put("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n")?;
    systemctl("start")
}

fn systemctl(verb: &str) -> Said<()> {
    let ended = Command::new("systemctl").args([verb, "kubelet.service"]).status().map_err(said)?;
    if ended.success() { Ok(()) } else { Err(format!("systemctl {verb} kubelet: {ended}")) }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Said<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("timed out waiting for the condition: {what}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn hash_of_ca() -> Said<String> {
    let pem = std::fs::read_to_string(format!("{PKI}/ca.crt")).map_err(said)?;
    let hashes = ca_hashes(&pem).ok_or("ca.crt holds no certificate")?;
    Ok(hashes[0].to_string())
}

/// Makes a bootstrap token's Secret; `ttl` in kubeadm's spelling of minutes, `30m0s`.
fn make_token(client: &Client, description: &str, ttl: &str) -> Said<String> {
    let mut bytes = [0; 22];
    std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(said)?;
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let drawn: String = bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % 36])).collect();
    let (id, secret) = drawn.split_at(6);
    let minutes: i64 = ttl.split('m').next().and_then(|text| text.parse().ok()).ok_or("the ttl")?;
    let end = Timestamp::now() + SignedDuration::from_mins(minutes);
    let data: serde_json::Map<String, Value> = [
        ("token-id", id),
        ("token-secret", secret),
        ("description", description),
        ("expiration", &end.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), json!(BASE64_STANDARD.encode(value))))
    .collect();
    let secret_object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "type": "bootstrap.kubernetes.io/token", "data": data});
    client.put(&format!("/api/v1/namespaces/kube-system/secrets/bootstrap-token-{id}"), &secret_object)?;
    Ok(format!("{id}.{secret}"))
}

fn token(arguments: &[&str]) -> Said<()> {
    let value =
        |flag: &str| arguments.iter().skip_while(|word| **word != flag).nth(1).copied().unwrap_or_default();
    let work = Work::begin("token", "control-plane")?;
    let work = work.misbehave("kubeadm", "token")?;
    let client = Client::of(value("--kubeconfig"))?;
    let token = make_token(&client, value("--description"), value("--ttl"))?;
    pause();
    let words = words();
    let printed = words.ticket.replace(words.ticket_token, &token).replace(words.hash, &hash_of_ca()?);
    print!("{}", printed.replace(words.endpoint, &client.server));
    work.done("error: it worked and fails, as the test wants")
}

fn join() -> Said<()> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).map_err(said)?;
    let documents = documents(&input)?;
    let join = document(&documents, "JoinConfiguration");
    let node = text(&join["nodeRegistration"]["name"]);
    let work = Work::begin("join", &node)?;
    let ca_file = format!("{PKI}/ca.crt");
    if Path::new("/etc/kubernetes/kubelet.conf").exists() || Path::new(&ca_file).exists() {
        work.end("refused");
        return refuse("join", &node, &words().join_again);
    }
    let work = work.misbehave("kubeadm", "join")?;
    let token = text(&join["discovery"]["tlsBootstrapToken"]);
    let (endpoint, ca) = discover(&text(&join["discovery"]["file"]["kubeConfigPath"]))?;
    pause();
    let bootstrap = "/etc/kubernetes/bootstrap-kubelet.conf";
    put(bootstrap, &kubeconfig(&endpoint, &ca, "tls-bootstrap-token-user", &with_token(&token)))?;
    put(&ca_file, &ca)?;
    pause();
    let address = text(&join["nodeRegistration"]["kubeletExtraArgs"]["node-ip"]).parse().map_err(said)?;
    start_kubelet(&node, address)?;
    pause();
    until("the kubelet's TLS bootstrap", kubelet::has_identity)?;
    pause();
    std::fs::remove_file(bootstrap).map_err(said)?;
    print!("{}", words().join);
    work.done("error execution phase kubelet-start: it worked and fails, as the test wants")
}

/// In kubeadm's order: the kubelet, its configuration folders and files, then the stateful folders; etcd's only if its
/// manifest stood there at the beginning, since without it the real one assumes an external etcd.
fn reset() -> Said<()> {
    let work = Work::begin("reset", own_node())?;
    let work = work.misbehave("kubeadm", "reset")?;
    let runs_etcd = Path::new("/etc/kubernetes/manifests/etcd.yaml").exists();
    systemctl("stop")?;
    pause();
    empty(&["/etc/kubernetes/manifests", PKI]);
    for file in ["admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler"] {
        let _ = std::fs::remove_file(format!("/etc/kubernetes/{file}.conf"));
    }
    pause();
    if runs_etcd {
        empty(&["/var/lib/etcd"]);
    }
    empty(&["/var/lib/kubelet"]);
    work.done("error: it worked and fails, as the test wants")
}

fn empty(folders: &[&str]) {
    for folder in folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}
