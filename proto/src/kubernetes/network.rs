//! What is known of pod networks: where their configuration stands and what marks it, their links, chains and routes, and
//! the ports over which nodes carry pods' packets to each other (flannel 0.10 to 0.28, calico, cilium, weave; kube-proxy).

/// Where the runtime, or an old kubelet, looks for the pod network's configuration; the first by name counts.
pub const CONFIGURATION_FOLDER: &str = "/etc/cni/net.d";
/// The endings of the files that CNI's library reads there (containernetworking/cni, libcni/conf.go).
pub const ENDINGS: [&str; 3] = [".conf", ".conflist", ".json"];
/// Where flannel and the package kubernetes-cni put the programs that the configuration names.
pub const PROGRAM_FOLDER: &str = "/opt/cni/bin";

/// What stands in the configuration of the usual pod networks, and in no other.
pub const MARKS: [&str; 4] = ["\"flannel\"", "\"calico\"", "\"cilium-cni\"", "\"weave-net\""];
/// A bridge of this name is a pod network's if its addresses are the pods': CRI-O and containerd bring one of their own.
pub const BRIDGE_MARK: &str = "\"cni0\"";
/// Files that a pod network writes beside its configuration, and that outlive it.
pub const FILES: [&str; 2] = ["/etc/cni/net.d/calico-kubeconfig", FLANNEL_SUBNET];
/// Which part of the pods' range this node has. While it is young its lack is no fault: flannel writes it some seconds after
/// its pod began, and pods that came before are tried again.
pub const FLANNEL_SUBNET: &str = "/run/flannel/subnet.env";

/// Only kube-proxy in mode ipvs makes this link.
pub const IPVS_LINK: &str = "kube-ipvs0";
/// Two ends of one pair: the second goes with the first.
pub const CILIUM_PAIR: [&str; 2] = ["cilium_host", "cilium_net"];
/// Every link that belongs to a pod network or to kube-proxy, and to nobody else.
pub const LINKS: [&str; 10] = [
    "cni0",
    "flannel.1",
    "flannel-v6.1",
    IPVS_LINK,
    "kube-bridge",
    "vxlan.calico",
    "weave",
    "cilium_vxlan",
    CILIUM_PAIR[0],
    CILIUM_PAIR[1],
];
/// Chains of kube-proxy and the kubelet, of CNI plugins, flannel and calico; comments name them too.
pub const CHAINS: [&str; 4] = ["KUBE-", "CNI-", "FLANNEL", "cali-"];

/// Whether a file of `CONFIGURATION_FOLDER` is read at all.
pub fn is_configuration(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// A port at which every node listens for every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    /// UDP; TCP otherwise.
    pub datagrams: bool,
    pub port: u16,
    /// Whose port it is, for a sentence.
    pub what: &'static str,
}

const fn carrier(datagrams: bool, port: u16, what: &'static str) -> Carrier {
    Carrier { datagrams, port, what }
}

/// What the pod network of a manifest needs (flannel: Documentation/backends.md; calico, cilium, weave: their requirements).
pub fn carriers(manifest: &str) -> Vec<Carrier> {
    let plain: String = manifest.chars().filter(|c| !c.is_whitespace()).collect();
    let known: [(bool, Carrier); 5] = [
        (plain.contains("\"Type\":\"vxlan\""), carrier(true, 8472, "flannel's VXLAN")),
        (manifest.contains("CALICO_IPV4POOL_VXLAN"), carrier(true, 4789, "calico's VXLAN")),
        (manifest.contains("cilium"), carrier(true, 8472, "cilium's VXLAN")),
        (manifest.contains("weave-net"), carrier(false, 6783, "weave")),
        (manifest.contains("weave-net"), carrier(true, 6783, "weave")),
    ];
    known.into_iter().filter_map(|(needed, carrier)| needed.then_some(carrier)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_a_network_are_read_off_its_manifest() {
        let ports = |manifest| carriers(manifest).into_iter().map(|one| (one.datagrams, one.port)).collect();
        let found: Vec<(bool, u16)> = ports("{\"Backend\": {\n\"Type\": \"vxlan\"}}");
        assert_eq!(found, [(true, 8472)]);
        assert_eq!(ports("kind: Other"), []);
        assert_eq!(ports("name: weave-net"), [(false, 6783), (true, 6783)]);
    }

    #[test]
    fn only_what_cnis_library_reads_is_a_configuration() {
        assert!(["a.conf", "a.conflist", "a.json"].into_iter().all(is_configuration));
        assert!(!["calico-kubeconfig", "a.conflist.bak", "conf"].into_iter().any(is_configuration));
    }
}
