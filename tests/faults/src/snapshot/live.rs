//! What must be neither more nor less than after a clean run: units, processes, mounts, connections to the coordinator, and
//! sockets that listen.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Snapshot, text};
use crate::machine::{Done, Machine};

pub(super) fn of(machine: &Machine, found: &mut Snapshot) -> Done<()> {
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
    for (point, times) in mounts(machine) {
        found.insert(mount_at(&machine.name, &point), times.to_string());
    }
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

/// Under which name it stands how often something is mounted there.
pub(crate) fn mount_at(machine: &str, point: &str) -> String {
    format!("{machine}: mounted at {point}")
}

/// How often something is mounted at each place. Not what: the disks lie in other folders, and some in a file.
fn mounts(machine: &Machine) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let table = text(Path::new(&format!("/proc/{}/mountinfo", machine.leader())));
    for point in table.lines().filter_map(|line| line.split_whitespace().nth(4)) {
        *found.entry(point.to_owned()).or_default() += 1;
    }
    found
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
