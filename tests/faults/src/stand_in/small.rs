//! kubectl, Docker, swapoff and ufw, as far as the steps use them.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use muster_proto::pod_network::objects;
use serde_json::Value;

use super::client::Client;
use super::memory::{Work, machine_id, misbehave, moment};
use super::{Said, said};

const DOCKER_RUNS: &str = "/run/docker.driver";

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
        other => Err(format!("the stand-in knows no kubectl {}", other.join(" "))),
    }
}

fn apply(kubeconfig: &str, text: &str) -> Said<()> {
    let work = Work::begin("apply", "control-plane")?;
    let fails = match misbehave("kubectl", "apply") {
        Ok(fails) => fails,
        Err(message) => {
            work.end("failed");
            return Err(message);
        }
    };
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
    work.end(if fails { "worked-and-failed" } else { "done" });
    if fails { Err("error: it worked and fails, as the test wants".to_owned()) } else { Ok(()) }
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
    let swaps = "/proc/swaps";
    let text = std::fs::read_to_string(swaps).map_err(said)?;
    let left: String =
        text.split_inclusive('\n').filter(|line| line.split_whitespace().next() != Some(device)).collect();
    std::thread::sleep(moment() / 4);
    std::fs::write(swaps, left).map_err(said)
}

pub(super) fn ufw(arguments: &[&str]) -> Said<()> {
    if arguments != ["--force", "disable"] {
        return Ok(());
    }
    let work = Work::begin("ufw", machine_id().get(..1).unwrap_or_default())?;
    if let Err(message) = misbehave("ufw", "disable") {
        work.end("failed");
        return Err(message);
    }
    let path = Path::new("/etc/ufw/ufw.conf");
    let text = std::fs::read_to_string(path).map_err(said)?;
    std::thread::sleep(moment() / 2);
    std::fs::write(path, text.replace("ENABLED=yes", "ENABLED=no")).map_err(said)?;
    work.end("done");
    Ok(())
}
