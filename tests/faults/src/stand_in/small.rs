//! kubectl, Docker, swapoff and swapon, as far as the steps use them.

use std::io::Read;
use std::time::Duration;

use muster_proto::pod_network::objects;
use serde_json::{Value, json};

use super::boot::swap_line;
use super::client::Client;
use super::memory::{Work, moment, own_node};
use super::{Said, said};

const DOCKER_RUNS: &str = "/run/docker.driver";
/// This machine's own list, see `boot`.
const SWAPS: &str = "/proc/swaps";

pub(super) fn kubectl(arguments: &[&str]) -> Said<()> {
    match arguments {
        ["version", "--client", ..] => {
            println!(r#"{{"clientVersion": {{"gitVersion": "v1.20.2"}}}}"#);
            Ok(())
        }
        ["apply", "--kubeconfig", kubeconfig, ..] => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(said)?;
            apply(kubeconfig, &text)
        }
        ["drain", "--kubeconfig", kubeconfig, node, ..] | ["--kubeconfig", kubeconfig, "drain", node, ..] => {
            drain(kubeconfig, node)
        }
        other => Err(format!("the stand-in knows no kubectl {}", other.join(" "))),
    }
}

fn apply(kubeconfig: &str, text: &str) -> Said<()> {
    let work = Work::begin("apply", "control-plane")?;
    let work = work.misbehave("kubectl", "apply")?;
    let client = Client::of(kubeconfig)?;
    for object in objects(text).map_err(said)? {
        let field = |name: &str| object["metadata"][name].as_str().map(str::to_owned);
        let plural = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
        let group = match object["apiVersion"].as_str().unwrap_or_default() {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        let namespace = field("namespace").unwrap_or_else(|| "default".to_owned());
        let name = field("name").ok_or("an object without a name")?;
        client.put(&format!("{group}/namespaces/{namespace}/{plural}/{name}"), &object)?;
        println!("{plural}/{name} configured");
    }
    std::thread::sleep(moment() / 2);
    work.done("error: it worked and fails, as the test wants")
}

/// Nothing new comes to the node, then its pods end one after another.
fn drain(kubeconfig: &str, node: &str) -> Said<()> {
    let work = Work::begin("drain", node)?;
    let work = work.misbehave("kubectl", "drain")?;
    let client = Client::of(kubeconfig)?;
    let cordoned = json!({"spec": {"unschedulable": true}});
    match client.ask("PATCH", &format!("/api/v1/nodes/{node}"), Some(&cordoned))? {
        (200, _) => println!("node/{node} cordoned"),
        (code, answer) => return Err(format!("Error from server: {code} {answer}")),
    }
    std::thread::sleep(moment() / 2);
    let pods = client.get("/api/v1/pods")?.unwrap_or_default();
    for pod in pods["items"].as_array().into_iter().flatten() {
        if pod["spec"]["nodeName"] != node {
            continue;
        }
        let field = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
        let path = format!("/api/v1/namespaces/{}/pods/{}", field("namespace"), field("name"));
        client.ask("DELETE", &path, None)?;
        println!("pod/{} evicted", field("name"));
        std::thread::sleep(moment() / 4);
    }
    println!("node/{node} drained");
    work.done("error: it worked and fails, as the test wants")
}

pub(super) fn docker(arguments: &[&str]) -> Said<()> {
    let driver = std::fs::read_to_string(DOCKER_RUNS).unwrap_or_default();
    if driver.is_empty() {
        return Err("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?".to_owned());
    }
    match arguments {
        ["info", ..] => println!("20.10.24+dfsg1|{driver}"),
        ["images", ..] => {
            print!("{}", include_str!("../../recorded/1.20.2/images-list-pinned.txt"));
            println!("nginx:1.22");
        }
        _ => {}
    }
    Ok(())
}

/// Runs until it is stopped, with the cgroup driver that its configuration names.
pub(super) fn dockerd() -> Said<()> {
    let text = std::fs::read_to_string("/etc/docker/daemon.json").unwrap_or_default();
    let settings: Value = serde_json::from_str(&text).unwrap_or_default();
    let option = settings["exec-opts"][0].as_str().unwrap_or_default();
    let driver = option.strip_prefix("native.cgroupdriver=").unwrap_or("cgroupfs").to_owned();
    std::fs::write(DOCKER_RUNS, driver).map_err(said)?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Takes the device out of this machine's own list of swaps; the kernel's is one for all machines.
pub(super) fn swapoff(arguments: &[&str]) -> Said<()> {
    let device = arguments.last().copied().unwrap_or_default();
    let text = std::fs::read_to_string(SWAPS).map_err(said)?;
    let left: String =
        text.split_inclusive('\n').filter(|line| line.split_whitespace().next() != Some(device)).collect();
    std::thread::sleep(moment() / 4);
    std::fs::write(SWAPS, left).map_err(said)
}

/// Puts the device back onto that list.
pub(super) fn swapon(arguments: &[&str]) -> Said<()> {
    let device = arguments.last().copied().unwrap_or_default();
    let work = Work::begin("swapon", own_node())?;
    let work = work.misbehave("swapon", "")?;
    let text = std::fs::read_to_string(SWAPS).map_err(said)?;
    if text.lines().any(|line| line.split_whitespace().next() == Some(device)) {
        work.end("refused");
        return Err(format!("swapon: {device}: swapon failed: Device or resource busy"));
    }
    if !std::path::Path::new(device).exists() {
        work.end("refused");
        return Err(format!("swapon: cannot open {device}: No such file or directory"));
    }
    std::thread::sleep(moment() / 4);
    std::fs::write(SWAPS, text + &swap_line(device)).map_err(said)?;
    work.done("swapon: it worked and fails, as the test wants")
}
