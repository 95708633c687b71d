//! What differs between the minor versions of Kubernetes, as far as Muster has to know: one row for each of them, in
//! `rows`, and the questions that are asked of a row. A row says what kubeadm, the kubelet and the control plane of that
//! version do when nothing else is told to them.

mod rows;

use super::runtime::{Adapter, RuntimeName};
use crate::names::KubernetesVersion;

pub use rows::RELEASES;

/// The versions of `kubeadm.k8s.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigApi {
    V1beta1,
    V1beta2,
    V1beta3,
    V1beta4,
}

impl ConfigApi {
    /// What stands behind `apiVersion:`.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1beta1 => "kubeadm.k8s.io/v1beta1",
            Self::V1beta2 => "kubeadm.k8s.io/v1beta2",
            Self::V1beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// Extra arguments are a list of name and value; maps before.
    pub fn lists_arguments(self) -> bool {
        self >= Self::V1beta4
    }

    /// All waits stand in one field `timeouts`; each in a place of its own before.
    pub fn has_timeouts(self) -> bool {
        self >= Self::V1beta4
    }

    /// Checks that shall be ignored can stand in the file; only on the command line before.
    pub fn ignores_checks(self) -> bool {
        self >= Self::V1beta2
    }
}

/// What the kubelet and kubeadm do on a machine with cgroups v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupV1 {
    /// They run, and say nothing.
    Runs,
    /// They run, kubeadm warns; the kubelet knows `failCgroupV1`.
    Warned,
    /// kubeadm's check SystemVerification fails, and the kubelet does not start unless `failCgroupV1` is false.
    Refused,
}

/// The versions of containerd that serve the CRI which this kubelet speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Containerd {
    /// The first that does (major, minor).
    pub least: (u16, u16),
    /// The first that does not any more.
    pub below: Option<(u16, u16)>,
    /// The oldest patch of every line that containerd's authors test with it; none where they name none.
    pub tested: &'static [(u16, u16, u16)],
}

/// How `kubeadm init` prints the command that joins a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinCommand {
    OneLine,
    /// Broken before the hash, which these characters precede.
    Broken(&'static str),
}

/// One minor version of Kubernetes.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Of 1.
    pub minor: u16,

    /// The newest that its kubeadm reads and writes.
    pub config_api: ConfigApi,
    /// `kubeadm config validate` is there, for which a field that it does not know is an error.
    pub validates: bool,
    /// Since kubeadm's checks of memory, MiB that a control plane must have.
    pub least_memory: Option<u32>,
    /// Swap that is on is an error of kubeadm's check; a warning later. The kubelet refuses it in all versions.
    pub refuses_swap: bool,
    /// Programs that kubeadm's checks, the kubelet, port-forwarding and the pod network call, without the runtime's own.
    pub programs: &'static [&'static str],
    /// kubeadm speaks to any runtime but Docker through the program crictl.
    pub calls_crictl: bool,

    /// The kubelet drives Docker itself; later Docker needs cri-dockerd.
    pub drives_docker: bool,
    /// The newest Docker on kubeadm's list (major, minor); a newer one is warned of.
    pub newest_docker: (u32, u32),
    pub containerd: Containerd,
    /// kubeadm gives the kubelet the cgroup driver systemd when none is named; the runtime's own before.
    pub takes_systemd_driver: bool,
    /// The kubelet runs where there are only cgroups v2.
    pub knows_cgroup_v2: bool,
    pub cgroup_v1: CgroupV1,

    /// TCP ports that the control plane takes besides the API server's.
    pub control_plane_ports: &'static [u16],
    /// Keys of the taints that kubeadm gives a control plane, all with effect NoSchedule.
    pub taints: &'static [&'static str],
    /// Labels that kubeadm gives a control plane, all empty.
    pub labels: &'static [&'static str],

    /// Where kubeadm takes its images from; late patches of 1.22 to 1.24 take the later one.
    pub registry: &'static str,
    /// The tag of the sandbox image. Tags of etcd move with every patch: ask the kubeadm that will run.
    pub pause: &'static str,
    /// CoreDNS below the registry; below any other repository it is always `coredns`.
    pub coredns: &'static str,

    /// Flags that the kubelet had once and ends at now.
    pub gone_kubelet_flags: &'static [&'static str],
    /// kubectl's flag with which a drain gives up the data in emptyDir volumes.
    pub drain_gives_up: &'static str,
    /// How many minor versions a kubelet may be behind the API server.
    pub kubelet_behind: u16,
    /// How many minor versions a kubelet may be behind kubeadm.
    pub kubelet_behind_kubeadm: u16,

    /// The ConfigMap with the kubelets' configuration has the minor version in its name.
    pub numbers_kubelet_config: bool,
    /// init writes super-admin.conf, and admin.conf has its rights by a rule of the cluster only.
    pub super_admin: bool,
    /// kubeadm writes the runtime's socket into instance-config.yaml, not among the kubelet's flags.
    pub instance_config: bool,
    /// The kubelet shows that it lives by a Lease every 10 s; by its Node object before.
    pub leases: bool,
    /// Seconds after which a silent node is called Unknown.
    pub node_grace: u16,
    /// Whether every start of the kubelet waits for Amazon's metadata service.
    pub asks_amazon: bool,

    /// The sentence at the end of a good init.
    pub init_done: &'static str,
    pub join_command: JoinCommand,
    /// The control plane's name in the last sentence of a join.
    pub joined_on: &'static str,
    /// `kubeadm reset` empties /etc/cni/net.d too.
    pub reset_empties_network: bool,
    /// An error of kubeadm's checks ends with the sentence that says so; before, it begins with it.
    pub summary_last: bool,
}

/// Of a control plane, in all versions.
pub const TAINTS: [&str; 2] = [rows::MASTER, rows::CONTROL_PLANE];
/// kubeadm's registries; an upgrade turns the old one into the new one.
pub const REGISTRIES: [&str; 2] = [rows::OLD_REGISTRY, rows::REGISTRY];
/// TCP ports that every node's kubelet and kube-proxy take (kubernetes.io, "Ports and Protocols").
pub const NODE_PORTS: [u16; 3] = [10250, 10248, 10249];

impl Release {
    /// The row of this version; none when Muster does not know it.
    pub fn of(version: KubernetesVersion) -> Option<&'static Self> {
        RELEASES.iter().find(|release| (version.major, version.minor) == (1, release.minor))
    }

    /// The first and the last that Muster knows, as `v1.13` and `v1.37`.
    pub fn known() -> (String, String) {
        let word = |release: &Self| format!("v1.{}", release.minor);
        (word(&RELEASES[0]), word(&RELEASES[RELEASES.len() - 1]))
    }

    /// The runtime where the person names none.
    pub fn default_runtime(&self) -> RuntimeName {
        if self.drives_docker { RuntimeName::Docker } else { RuntimeName::Containerd }
    }

    /// Where kubeadm and the kubelet find this runtime, as it stands behind `criSocket`. From 1.24 on they want a scheme; the
    /// first one is no file, only kubeadm's word for Docker itself (cmd/kubeadm/app/constants/constants_unix.go).
    pub fn cri_socket(&self, runtime: RuntimeName) -> &'static str {
        match (runtime, self.drives_docker) {
            (RuntimeName::Docker, true) => "/var/run/dockershim.sock",
            (RuntimeName::Docker, false) => "unix:///var/run/cri-dockerd.sock",
            (RuntimeName::Containerd, true) => "/run/containerd/containerd.sock",
            (RuntimeName::Containerd, false) => "unix:///run/containerd/containerd.sock",
        }
    }

    /// What the kubelet reaches the runtime by, where not by itself.
    pub fn adapter(&self, runtime: RuntimeName) -> Option<Adapter> {
        runtime.row().adapter.filter(|_| !self.drives_docker)
    }

    /// Whether kubeadm speaks to this runtime by the program crictl.
    pub fn wants_crictl(&self, runtime: RuntimeName) -> bool {
        self.calls_crictl && runtime != RuntimeName::Docker
    }

    /// The sandbox image that kubeadm of this version wants, from its own registry or from a mirror.
    pub fn sandbox_image(&self, repository: Option<&str>) -> String {
        format!("{}/pause:{}", repository.unwrap_or(self.registry), self.pause)
    }

    /// The ConfigMap of kube-system with the kubelets' configuration.
    pub fn kubelet_config_map(&self) -> String {
        if self.numbers_kubelet_config {
            format!("kubelet-config-1.{}", self.minor)
        } else {
            "kubelet-config".to_owned()
        }
    }

    /// Whether kubeadm of this version makes clusters of that one: its own and the one before it.
    pub fn deploys(&self, cluster: KubernetesVersion) -> bool {
        cluster.major == 1 && (self.minor.saturating_sub(1)..=self.minor).contains(&cluster.minor)
    }

    /// Whether this containerd (major, minor) serves what the kubelet of this version speaks.
    pub fn runs_on_containerd(&self, version: (u16, u16)) -> bool {
        self.containerd.least <= version && self.containerd.below.is_none_or(|below| version < below)
    }

    /// What the newest Docker on kubeadm's list is called, for instance 18.06.
    pub fn newest_docker_word(&self) -> String {
        format!("{}.{:02}", self.newest_docker.0, self.newest_docker.1)
    }
}

#[cfg(test)]
mod tests;
