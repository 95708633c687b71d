//! What the pod network's DaemonSet, kube-proxy and the CNI plugins make on a node, and `kubeadm reset` leaves there: the CNI
//! configuration, the bridge, the route to the other node's pods, the packet filter's rules.

use std::path::Path;
use std::process::Command;

use super::memory::own_node;
use super::{Said, firewall, said};

pub(super) const CONFIGURATION: &str = "/etc/cni/net.d/10-flannel.conflist";
const CONTENT: &str =
    "{\"name\": \"cbr0\", \"plugins\": [{\"type\": \"flannel\", \"delegate\": {\"bridge\": \"cni0\"}}]}\n";
/// Written last: whoever finds it finds everything.
pub const READY: &str = "/run/flannel/subnet.env";

/// Makes what is missing, and nothing twice.
pub(super) fn make() -> Said<()> {
    let put = |path: &str, content: &str| -> Said<()> {
        if std::fs::read_to_string(path).is_ok_and(|held| held == content) {
            return Ok(());
        }
        let path = Path::new(path);
        std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(said)?;
        std::fs::write(path, content).map_err(said)
    };
    put(CONFIGURATION, CONTENT)?;
    firewall::with_kube_chains()?;
    let holds = |file: &str, what: &str| std::fs::read_to_string(file).unwrap_or_default().contains(what);
    if !holds("/proc/net/dev", "cni0:") {
        // A bridge asks for a module that the testing machine may not have.
        ip(&["link", "add", "cni0", "type", "veth", "peer", "name", "vethcni0"])?;
    }
    let node = own_node();
    let (own, range, gateway, shown) = match node {
        "m1" => ("10.244.0.0/24", "10.244.1.0/24", "10.88.0.12", "0001F40A"),
        _ => ("10.244.1.0/24", "10.244.0.0/24", "10.88.0.11", "0000F40A"),
    };
    if !holds("/proc/net/fib_trie", pod_address(node)) {
        ip(&["address", "add", &format!("{}/32", pod_address(node)), "dev", "cni0"])?;
    }
    if !holds("/proc/net/route", shown) {
        ip(&["route", "add", range, "via", gateway])?;
    }
    put(READY, &format!("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={own}\n"))
}

/// What CoreDNS has there; it answers nobody.
pub(super) fn coredns_address(node: &str) -> &'static str {
    if node == "m1" { "10.244.0.3" } else { "10.244.1.3" }
}

/// The address of the smoke test's pod on the node. It goes with the bridge.
pub(super) fn pod_address(node: &str) -> &'static str {
    if node == "m1" { "10.244.0.2" } else { "10.244.1.2" }
}

fn ip(words: &[&str]) -> Said<()> {
    let ended = Command::new("ip").args(words).output().map_err(said)?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&ended.stderr))),
    }
}
