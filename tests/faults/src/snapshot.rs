//! What a run leaves on both machines, with everything taken out that differs between any two clusters.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{Done, Machine, told};
use crate::pair::Pair;
use crate::stand_in::firewall::FILTER;

/// Of these only that they are there: keys and certificates are drawn anew for every cluster.
const DRAWN: [&str; 5] = [
    "/etc/kubernetes/pki/",
    "/etc/kubernetes/",
    "/home/student/.kube/config",
    "/etc/machine-id",
    "/etc/ld.so.cache",
];
const PLACES: [&str; 4] = ["/etc", "/var/lib/kubelet", "/home/student", "/run/muster-agent/output"];
const OBJECTS: &str = "/var/lib/etcd/member/objects.json";

const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// By machine and name: what stands there.
pub type Snapshot = BTreeMap<String, String>;

/// Once nothing moves any more, which every cell is held against: a connection that is just being closed is not there for good.
pub fn settled(pair: &Pair) -> Done<Snapshot> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    let (mut found, mut same) = (of(pair)?, 0);
    while same < 3 {
        std::thread::sleep(Duration::from_millis(300));
        let next = of(pair)?;
        let moved = differences(&found, &next);
        same = if moved.is_empty() { same + 1 } else { 0 };
        if Instant::now() > deadline {
            return Err(format!(
                "after the clean run the machines do not come to rest:\n  {}",
                moved.join("\n  ")
            ));
        }
        found = next;
    }
    Ok(found)
}

pub fn of(pair: &Pair) -> Done<Snapshot> {
    let mut found = Snapshot::new();
    for machine in [&pair.master, &pair.worker] {
        for place in PLACES {
            files(machine, place, &mut found)?;
        }
        kernel(machine, &mut found);
        live(machine, &mut found)?;
    }
    objects(&pair.master, &mut found)?;
    Ok(found)
}

/// What differs, one line each; empty when nothing does.
pub fn differences(clean: &Snapshot, found: &Snapshot) -> Vec<String> {
    let names = clean.keys().chain(found.keys().filter(|name| !clean.contains_key(*name)));
    let differ = names.filter(|name| clean.get(*name) != found.get(*name));
    let shown = |side: &Snapshot, name: &String| side.get(name).map_or("nothing".to_owned(), Clone::clone);
    differ
        .map(|name| format!("{name}: {:?} instead of {:?}", shown(found, name), shown(clean, name)))
        .collect()
}

fn files(machine: &Machine, place: &str, found: &mut Snapshot) -> Done<()> {
    let outside = machine.inside(place);
    for entry in std::fs::read_dir(&outside).into_iter().flatten().flatten() {
        let path = format!("{place}/{}", entry.file_name().to_string_lossy());
        let metadata = entry.path().symlink_metadata().map_err(told)?;
        let name = format!("{}:{path}", machine.name);
        if metadata.is_symlink() {
            let target = std::fs::read_link(entry.path()).map_err(told)?;
            found.insert(name, format!("-> {}", target.display()));
        } else if metadata.is_dir() {
            files(machine, &path, found)?;
        } else {
            let drawn = DRAWN.iter().any(|prefix| path.starts_with(prefix));
            let content = if drawn { String::new() } else { text(&entry.path()) };
            found.insert(name, format!("{:o} {content}", metadata.permissions().mode() & 0o7777));
        }
    }
    Ok(())
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Of the kernel: the host's name, swaps, forwarding, links, routes, and the packet filter.
fn kernel(machine: &Machine, found: &mut Snapshot) {
    let read = |words: &[&str]| machine.must(words).unwrap_or_else(|problem| problem);
    let paths = ["/proc/sys/kernel/hostname", "/proc/swaps", "/proc/sys/net/ipv4/ip_forward"];
    let words = [&["cat"][..], &paths].concat();
    found.insert(format!("{}: kernel", machine.name), read(&words));
    let table = |name: &str| text(Path::new(&format!("/proc/{}/net/{name}", machine.leader())));
    let (devices, routes) = (table("dev"), table("route"));
    let mut links: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    links.sort_unstable();
    // Where to, by whom, and how wide.
    let mut routes: Vec<String> = routes
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 7)
        .map(|fields| [fields[0], fields[1], fields[2], fields[7]].join(" "))
        .collect();
    routes.sort_unstable();
    found.insert(format!("{}: links", machine.name), links.join(" "));
    found.insert(format!("{}: routes", machine.name), routes.join("\n"));
    found.insert(format!("{}: packet filter", machine.name), text(&machine.inside(FILTER)));
}

/// What must be neither more nor less than after a clean run: units, processes, mounts, connections to the coordinator.
fn live(machine: &Machine, found: &mut Snapshot) -> Done<()> {
    let listed = machine.must(&[
        "systemctl",
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "muster-*",
        "docker.service",
        "kubelet.service",
    ])?;
    let units: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect();
    found.insert(format!("{}: units", machine.name), units.join("\n"));
    let mut processes: Vec<String> = machine
        .processes()
        .into_iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    processes.sort();
    found.insert(format!("{}: processes", machine.name), processes.join(" "));
    let mounts = text(Path::new(&format!("/proc/{}/mountinfo", machine.leader())));
    let mut points: Vec<&str> = mounts.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    points.sort_unstable();
    found.insert(format!("{}: mounts", machine.name), points.join(" "));
    let table = text(Path::new(&format!("/proc/{}/net/tcp", machine.leader())));
    let connected = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |index: usize| fields.get(index).is_some_and(|address| address.ends_with(":1D13"));
        fields.get(3) == Some(&"01") && (port(1) || port(2))
    });
    found.insert(format!("{}: connections", machine.name), connected.count().to_string());
    found.insert(format!("{}: listening", machine.name), listening(machine));
    Ok(())
}

/// Every socket that somebody could connect to: TCP by address and port in hexadecimal, unix by path.
fn listening(machine: &Machine) -> String {
    let table = |name: &str| text(Path::new(&format!("/proc/{}/net/{name}", machine.leader())));
    let mut sockets: Vec<String> = Vec::new();
    for name in ["tcp", "tcp6"] {
        for line in table(name).lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(3) == Some(&"0A") {
                sockets.push(format!("{name} {}", fields[1]));
            }
        }
    }
    for line in table("unix").lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // __SO_ACCEPTCON
        if let (Some(&"00010000"), Some(path)) = (fields.get(3), fields.get(7)) {
            sockets.push(format!("unix {path}"));
        }
    }
    sockets.sort_unstable();
    sockets.dedup();
    sockets.join("\n")
}

fn objects(master: &Machine, found: &mut Snapshot) -> Done<()> {
    let Ok(held) = std::fs::read_to_string(master.inside(OBJECTS)) else {
        found.insert("objects".to_owned(), "no etcd".to_owned());
        return Ok(());
    };
    let all: Vec<(Value, Value)> = serde_json::from_str(&held).map_err(told)?;
    for (key, mut object) in all {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        found.insert(format!("object {key}"), object.to_string());
    }
    Ok(())
}
