//! The rows. Each is the one before it, and what changed; so a row shows the difference that its version made. Where a
//! fact comes from stands beside it: `#N` is a pull request or issue of kubernetes/kubernetes, `kubeadm#N` one of
//! kubernetes/kubeadm; "run" means seen with the programs of that version; "recalled" that nothing was at hand to prove it.

use super::{CgroupV1, ConfigApi, Containerd, JoinCommand, Release};

pub(super) const MASTER: &str = "node-role.kubernetes.io/master";
pub(super) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const NO_BALANCER: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
pub(super) const OLD_REGISTRY: &str = "k8s.gcr.io";
pub(super) const REGISTRY: &str = "registry.k8s.io";

/// cmd/kubeadm/app/preflight/checks.go; `ip` and `iptables` also for what Muster itself takes away at a reset, and for the
/// plugin portmap of the pod network.
const PROGRAMS: &[&str] =
    &["conntrack", "ebtables", "ethtool", "ip", "iptables", "mount", "nsenter", "socat", "tc"];

/// cmd/kubeadm/app/constants: kubeadm 1.13.2 and a cluster of it, as its source and the logs of users have them.
/// Docker up to 18.06 (k8s.io/system-validators). etcd 2379 and 2380; the controller-manager 10252 and 10257, the scheduler
/// 10251 and 10259. containerd 1.2 is recalled; no kubelet before 1.23 speaks CRI v1, and containerd 2.0 speaks nothing else.
const V1_13: Release = Release {
    minor: 13,
    config_api: ConfigApi::V1beta1,
    validates: false,
    least_memory: None,
    refuses_swap: true,
    programs: PROGRAMS,
    calls_crictl: true,
    drives_docker: true,
    newest_docker: (18, 6),
    containerd: Containerd { least: (1, 2), below: Some((2, 0)), tested: &[] },
    takes_systemd_driver: false,
    knows_cgroup_v2: false,
    cgroup_v1: CgroupV1::Runs,
    control_plane_ports: &[2379, 2380, 10251, 10252, 10257, 10259],
    taints: &[MASTER],
    labels: &[MASTER],
    registry: OLD_REGISTRY,
    pause: "3.1",
    coredns: "coredns",
    gone_kubelet_flags: &[],
    drain_gives_up: "--delete-local-data",
    kubelet_behind: 2,
    kubelet_behind_kubeadm: 1,
    numbers_kubelet_config: true,
    super_admin: false,
    instance_config: false,
    leases: false,
    node_grace: 40,
    asks_amazon: false,
    init_done: "Your Kubernetes master has initialized successfully!",
    join_command: JoinCommand::OneLine,
    joined_on: "master",
    reset_empties_network: true,
    summary_last: false,
};

/// The sentence of success and the broken join command: #75487. Docker 18.09: system-validators. Leases by default: #72096.
const V1_14: Release = Release {
    minor: 14,
    newest_docker: (18, 9),
    leases: true,
    init_done: "Your Kubernetes control-plane has initialized successfully!",
    join_command: JoinCommand::Broken("    "),
    joined_on: "control-plane",
    ..V1_13
};

/// v1beta2: kubeadm 1.20.2 has both and calls v1beta1 deprecated since 1.17. Amazon: #92162, mended by #93260 in 1.21.
const V1_15: Release = Release { minor: 15, config_api: ConfigApi::V1beta2, asks_amazon: true, ..V1_14 };

/// Nothing that Muster has to know.
const V1_16: Release = Release { minor: 16, ..V1_15 };

/// Docker 19.03: system-validators. reset leaves /etc/cni/net.d: #83950. kubeadm's checks ask for 10257 and 10259 (#85043),
/// but 10251 and 10252 are listened to until 1.19.
const V1_17: Release = Release { minor: 17, newest_docker: (19, 3), reset_empties_network: false, ..V1_16 };

/// kubeadm's check of conntrack: #85857 (the kubelet called it before).
const V1_18: Release = Release { minor: 18, ..V1_17 };

/// kubeadm sets --port=0: #92720. cgroups v2: #85218.
const V1_19: Release =
    Release { minor: 19, knows_cgroup_v2: true, control_plane_ports: &[2379, 2380, 10257, 10259], ..V1_18 };

/// Run: 1.20.2. 1700 MB: #93275. --delete-emptydir-data: CHANGELOG-1.20. Both labels: kubeadm#2200. pause 3.2: run.
/// containerd: its RELEASES.md.
const V1_20: Release = Release {
    minor: 20,
    least_memory: Some(1700),
    drain_gives_up: "--delete-emptydir-data",
    labels: &[MASTER, CONTROL_PLANE],
    containerd: Containerd { least: (1, 3), below: Some((2, 0)), tested: &[(1, 5, 0)] },
    pause: "3.2",
    ..V1_19
};

/// A TAB before the hash: #97413. CoreDNS in a folder of its own and pause 3.4.1: a log of 1.21.0. Docker 20.10:
/// system-validators. The label that keeps balancers away: #98269. Amazon: #93260.
const V1_21: Release = Release {
    minor: 21,
    newest_docker: (20, 10),
    labels: &[MASTER, CONTROL_PLANE, NO_BALANCER],
    coredns: "coredns/coredns",
    pause: "3.4.1",
    asks_amazon: false,
    join_command: JoinCommand::Broken("\t"),
    ..V1_20
};

/// v1beta3, v1beta1 gone: #101129. The driver systemd: kubernetes.io, "Configuring a cgroup driver". pause 3.5: a log of 1.22.2.
const V1_22: Release = Release {
    minor: 22,
    config_api: ConfigApi::V1beta3,
    takes_systemd_driver: true,
    pause: "3.5",
    containerd: Containerd { least: (1, 3), below: Some((2, 0)), tested: &[(1, 5, 5)] },
    ..V1_21
};

/// Swap is only warned of: #104854. The kubelet speaks CRI v1 too: #104575 (recalled). pause 3.6: a log of 1.23.1.
const V1_23: Release = Release {
    minor: 23,
    refuses_swap: false,
    pause: "3.6",
    containerd: Containerd { least: (1, 3), below: None, tested: &[(1, 5, 8), (1, 6, 0)] },
    ..V1_22
};

/// Run: 1.24.17 on containerd 2.4.2. dockershim is gone: #97252; its flags: CHANGELOG-1.24. Both taints, one label:
/// kubeadm#2200. kubelet-config: #108027. pause 3.7: run.
const V1_24: Release = Release {
    minor: 24,
    drives_docker: false,
    taints: &[MASTER, CONTROL_PLANE],
    labels: &[CONTROL_PLANE, NO_BALANCER],
    numbers_kubelet_config: false,
    pause: "3.7",
    containerd: Containerd { least: (1, 3), below: None, tested: &[(1, 6, 4), (1, 7, 0)] },
    gone_kubelet_flags: WITHOUT_DOCKERSHIM,
    ..V1_23
};
const WITHOUT_DOCKERSHIM: &[&str] =
    &["--network-plugin", "--cni-conf-dir", "--cni-bin-dir", "--cni-cache-dir", "--network-plugin-mtu"];

/// One taint: kubeadm#2200. registry.k8s.io and pause 3.8: a log of 1.25.0.
const V1_25: Release =
    Release { minor: 25, taints: &[CONTROL_PLANE], registry: REGISTRY, pause: "3.8", ..V1_24 };

/// CRI v1 alone, which containerd serves from 1.6 on: CHANGELOG-1.26. pause 3.9: a log of 1.26.1.
const V1_26: Release = Release {
    minor: 26,
    pause: "3.9",
    containerd: Containerd { least: (1, 6), below: None, tested: &[(1, 6, 15), (1, 7, 0)] },
    ..V1_25
};

/// --container-runtime is gone: CHANGELOG-1.27.
const V1_27: Release = Release { minor: 27, gone_kubelet_flags: WITHOUT_RUNTIME_FLAG, ..V1_26 };
const WITHOUT_RUNTIME_FLAG: &[&str] = &[
    "--network-plugin",
    "--cni-conf-dir",
    "--cni-bin-dir",
    "--cni-cache-dir",
    "--network-plugin-mtu",
    "--container-runtime",
];

/// `kubeadm config validate`: #118013. A kubelet may be three behind: kubernetes.io, "Version Skew Policy".
const V1_28: Release =
    Release { minor: 28, validates: true, kubelet_behind: 3, kubelet_behind_kubeadm: 3, ..V1_27 };

/// super-admin.conf: kubeadm#2414, CHANGELOG-1.29.
const V1_29: Release = Release {
    minor: 29,
    super_admin: true,
    containerd: Containerd { least: (1, 6), below: None, tested: &[(1, 6, 27), (1, 7, 11)] },
    ..V1_28
};

/// The bridge's sysctls are not checked any more (#123464), but still needed.
const V1_30: Release = Release {
    minor: 30,
    containerd: Containerd { least: (1, 6), below: None, tested: &[(1, 6, 28), (1, 7, 13), (2, 0, 0)] },
    ..V1_29
};

/// v1beta4: #125029. kubeadm speaks CRI itself: #124685. cgroups v1 in maintenance mode, failCgroupV1: kubernetes.io, "About cgroup v2". pause 3.10: recalled.
const V1_31: Release = Release {
    minor: 31,
    config_api: ConfigApi::V1beta4,
    calls_crictl: false,
    cgroup_v1: CgroupV1::Warned,
    pause: "3.10",
    containerd: Containerd { least: (1, 6), below: None, tested: &[(1, 6, 34), (1, 7, 20), (2, 0, 0)] },
    ..V1_30
};

/// conntrack, socat and ebtables are not asked for: #126953, #127151. 50 s of grace: #126287.
const V1_32: Release = Release {
    minor: 32,
    node_grace: 50,
    programs: &["ethtool", "ip", "iptables", "mount", "nsenter", "tc"],
    containerd: Containerd {
        least: (1, 6),
        below: None,
        tested: &[(1, 6, 36), (1, 7, 24), (2, 0, 1), (2, 1, 0)],
    },
    ..V1_31
};

/// ip, iptables, tc and ethtool are not asked for by kubeadm: #129131.
const V1_33: Release = Release {
    minor: 33,
    programs: &["ip", "iptables", "mount", "nsenter"],
    containerd: Containerd {
        least: (1, 6),
        below: None,
        tested: &[(1, 6, 36), (1, 7, 24), (2, 0, 4), (2, 1, 0)],
    },
    ..V1_32
};

/// instance-config.yaml and the summary behind the errors: logs of 1.34.2. pause 3.10.1: kubeadm's source.
const V1_34: Release = Release {
    minor: 34,
    instance_config: true,
    summary_last: true,
    pause: "3.10.1",
    containerd: Containerd {
        least: (1, 6),
        below: None,
        tested: &[(1, 6, 39), (1, 7, 28), (2, 0, 6), (2, 1, 3)],
    },
    ..V1_33
};

/// cgroups v1 are refused: kubernetes.io, "About cgroup v2"; system-validators. --pod-infra-container-image: #133779.
const V1_35: Release = Release {
    minor: 35,
    cgroup_v1: CgroupV1::Refused,
    gone_kubelet_flags: WITHOUT_SANDBOX_FLAG,
    containerd: Containerd { least: (1, 6), below: None, tested: &[(1, 7, 28), (2, 1, 5), (2, 2, 0)] },
    ..V1_34
};
const WITHOUT_SANDBOX_FLAG: &[&str] = &[
    "--network-plugin",
    "--cni-conf-dir",
    "--cni-bin-dir",
    "--cni-cache-dir",
    "--network-plugin-mtu",
    "--container-runtime",
    "--pod-infra-container-image",
];

/// Run: 1.36.2 and 1.36.3 on containerd 2.1.9 and 2.4.2, cgroups v1. pause 3.10.2: run.
const V1_36: Release = Release {
    minor: 36,
    pause: "3.10.2",
    containerd: Containerd { least: (1, 6), below: None, tested: &[(2, 2, 0), (2, 3, 0)] },
    ..V1_35
};

/// v1beta3 is gone: #136016, which Muster does not write from 1.31 on. Its containerd and pause are those of 1.36, unproved.
const V1_37: Release = Release { minor: 37, ..V1_36 };

/// By their minor versions, without a gap.
pub const RELEASES: [Release; 25] = [
    V1_13, V1_14, V1_15, V1_16, V1_17, V1_18, V1_19, V1_20, V1_21, V1_22, V1_23, V1_24, V1_25, V1_26, V1_27,
    V1_28, V1_29, V1_30, V1_31, V1_32, V1_33, V1_34, V1_35, V1_36, V1_37,
];
