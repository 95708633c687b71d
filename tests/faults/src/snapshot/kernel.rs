//! Of a machine's kernel: the host's name, swaps, sysctls, links, routes, and the packet filter.

use std::path::Path;

use super::{Snapshot, text};
use crate::machine::{Done, Machine};
use crate::stand_in::firewall::FILTER;

const OF_THE_KERNEL: [&str; 2] = ["/proc/sys/kernel/hostname", "/proc/swaps"];
/// All that Muster sets.
const SYSCTLS: [&str; 3] =
    ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables", "net.ipv4.ip_forward"];
/// Where Muster writes what it sets.
const SYSCTL_FILE: &str = "/etc/sysctl.d/99-zz-muster.conf";

pub(super) fn of(machine: &Machine, found: &mut Snapshot) -> Done<()> {
    let sysctls = SYSCTLS.map(|key| format!("/proc/sys/{}", key.replace('.', "/")));
    let paths = OF_THE_KERNEL.into_iter().chain(sysctls.iter().map(String::as_str));
    for path in paths {
        let said = machine.run(&["cat", path])?;
        found.insert(format!("{}:{path}", machine.name), said.text.trim_end().to_owned());
    }
    all_are_compared(machine)?;
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
    Ok(())
}

/// A sysctl that Muster learns to set, and that nobody named here, would be compared nowhere.
fn all_are_compared(machine: &Machine) -> Done<()> {
    let written = text(&machine.inside(SYSCTL_FILE));
    let mut keys = written.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    match keys.find(|key| !SYSCTLS.contains(key)) {
        Some(key) => Err(format!("Muster sets {key}, which snapshot/kernel.rs does not compare")),
        None => Ok(()),
    }
}
