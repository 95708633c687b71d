//! The container runtimes that Muster sets up, each a row: where it stands on a machine, and the words of what a person
//! types for it.

use std::fmt;
use std::str::FromStr;

use crate::names::Malformed;

/// A container runtime, by the word that stands for it in cluster.yaml and in every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeName {
    Docker,
    Containerd,
}

impl RuntimeName {
    pub const ALL: [Self; 2] = [Self::Docker, Self::Containerd];

    pub fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
        }
    }
}

impl FromStr for RuntimeName {
    type Err = Malformed;
    fn from_str(word: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.into_iter().find(|runtime| runtime.word() == word);
        found.ok_or_else(|| Malformed::new(word, "a container runtime: docker or containerd"))
    }
}

/// As it is written in a sentence.
impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Containerd => "containerd",
        })
    }
}

/// Who makes the cgroups of containers; kubelet and runtime must mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

impl CgroupDriver {
    pub const ALL: [Self; 2] = [Self::Systemd, Self::Cgroupfs];

    pub fn word(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

impl fmt::Display for CgroupDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for CgroupDriver {
    type Err = Malformed;
    fn from_str(word: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.into_iter().find(|driver| driver.word() == word);
        found.ok_or_else(|| Malformed::new(word, "a cgroup driver: systemd or cgroupfs"))
    }
}

/// A program between the kubelet and a runtime that a version of Kubernetes does not drive itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adapter {
    pub name: &'static str,
    /// The service of systemd.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// What is to be known of a runtime outside of the code that speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runtime {
    pub name: RuntimeName,
    /// The service of systemd.
    pub unit: &'static str,
    /// Its own socket.
    pub socket: &'static str,
    /// Where its images lie unless its settings say otherwise.
    pub root: &'static str,
    /// The file of its settings.
    pub settings: &'static str,
    /// The program on the search path that tells that it is installed.
    pub program: &'static str,
    /// Debian's package.
    pub package: &'static str,
    /// Whether its containers end when its service is started anew (Docker's do unless live-restore is set; containerd's
    /// are children of shims that outlive it).
    pub restart_ends_containers: bool,
    /// Whether its settings name the sandbox image; the kubelet does for the other.
    pub names_sandbox_image: bool,
    /// Where the kubelet does not drive it itself.
    pub adapter: Option<Adapter>,
    /// The first version (major, minor) that runs where there are only cgroups v2.
    pub least_for_cgroup_v2: (u16, u16),
    /// The beginning of a command that fetches one image.
    pull: &'static str,
    /// The beginning of a command that loads an archive of images.
    load: &'static str,
    /// What lists all containers.
    pub list: &'static str,
    /// The beginning of what prints one container's last lines.
    pub logs: &'static str,
    /// What runs one container by hand.
    pub trial: &'static str,
    /// kubeadm's checks that fail when it does not answer: by themselves, and those that only do so with the words below.
    pub checks: &'static [&'static str],
    pub asking_checks: &'static [&'static str],
    /// The beginnings of the names of network interfaces that it makes for itself.
    pub bridges: &'static [&'static str],
    /// The service that stands where it is installed as a snap, which Kubernetes cannot use: it sees neither the kubelet's
    /// folders nor is it seen where they look (kubeadm issue 1979).
    pub snap: Option<&'static str>,
    /// Words by which kubeadm and the kubelet tell that it does not answer.
    pub silent: &'static [&'static str],
    /// Words that tell that the kubelet and it make cgroups in different ways.
    pub other_driver: &'static str,
    /// Words that tell that it runs without the interface that the kubelet speaks.
    pub no_interface: &'static str,
    /// What shows what its images and containers hold of the disk.
    pub usage: &'static str,
}

/// docs.docker.com (engine, daemon and CLI); containerd 1.6 to 2.4 (docs/getting-started.md, docs/cri/crictl.md). Kubernetes
/// sees only the images in containerd's name space k8s.io, and a pull by ctr reads no settings of registries.
const ROWS: [Runtime; 2] = [
    Runtime {
        name: RuntimeName::Docker,
        unit: "docker.service",
        socket: "/var/run/docker.sock",
        root: "/var/lib/docker",
        settings: "/etc/docker/daemon.json",
        program: "docker",
        package: "docker.io",
        restart_ends_containers: true,
        names_sandbox_image: false,
        adapter: Some(Adapter {
            name: "cri-dockerd",
            unit: "cri-docker.service",
            source: "github.com/Mirantis/cri-dockerd, releases",
        }),
        least_for_cgroup_v2: (20, 10),
        pull: "docker pull",
        load: "docker load -i",
        list: "docker ps -a",
        logs: "docker logs",
        trial: "docker run --rm nginx:1.22 true",
        checks: &["Service-Docker", "CRI", "ContainerRuntimeVersion"],
        asking_checks: &["SystemVerification", "IsDockerSystemdCheck"],
        bridges: &["docker", "br-"],
        snap: Some("snap.docker.dockerd.service"),
        // Docker's client; kubelet 1.20.2, pkg/kubelet/dockershim.
        silent: &["Cannot connect to the Docker daemon", "failed to get docker version", "docker info"],
        other_driver: "is different from docker cgroup driver",
        no_interface: "unknown service runtime.v1alpha2.RuntimeService",
        usage: "docker system df",
    },
    Runtime {
        name: RuntimeName::Containerd,
        unit: "containerd.service",
        socket: "/run/containerd/containerd.sock",
        root: "/var/lib/containerd",
        settings: "/etc/containerd/config.toml",
        program: "containerd",
        package: "containerd",
        restart_ends_containers: false,
        names_sandbox_image: true,
        adapter: None,
        least_for_cgroup_v2: (1, 4),
        pull: "crictl -r unix:///run/containerd/containerd.sock pull",
        load: "ctr -n k8s.io images import",
        list: "crictl -r unix:///run/containerd/containerd.sock ps -a",
        logs: "crictl -r unix:///run/containerd/containerd.sock logs",
        trial: "ctr -n k8s.io run --rm docker.io/library/nginx:1.22 trial true",
        checks: &["CRI", "ContainerRuntimeVersion"],
        asking_checks: &[],
        bridges: &[],
        snap: None,
        // gRPC's words for a socket that is not there, or at which nobody listens.
        silent: &["containerd.sock: connect: no such file", "containerd.sock: connect: connection refused"],
        // runc 1.1 and 1.3, libcontainer/specconv.
        other_driver: "expected cgroupsPath to be of format",
        no_interface: "unknown service runtime.v1.RuntimeService",
        usage: "crictl -r unix:///run/containerd/containerd.sock images",
    },
];

impl RuntimeName {
    pub fn row(self) -> &'static Runtime {
        match self {
            Self::Docker => &ROWS[0],
            Self::Containerd => &ROWS[1],
        }
    }
}

/// Whether an interface of this name is one that a runtime makes for itself.
pub fn is_bridge(interface: &str) -> bool {
    RuntimeName::ALL
        .iter()
        .flat_map(|runtime| runtime.row().bridges)
        .any(|start| interface.starts_with(start))
}

/// `20.10.24+dfsg1`, `1.6.20~ds1`, `v2.4.2`, `29.3`: its numbers.
pub fn numbers(version: &str) -> Option<(u16, u16, u16)> {
    let mut parts = version.trim_start_matches('v').split(['.', '+', '-', '~']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or_default()))
}

impl Runtime {
    /// One command that fetches all of these images, each by its whole name where the runtime wants that.
    pub fn pull(&self, images: &[&str]) -> String {
        let commands: Vec<String> = images.iter().map(|image| format!("{} {image}", self.pull)).collect();
        commands.join(" && ")
    }

    /// The command that loads the images of an archive.
    pub fn load(&self, archive: &str) -> String {
        format!("{} {archive}", self.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_has_the_row_of_its_own_name() {
        for runtime in RuntimeName::ALL {
            assert_eq!(runtime.row().name, runtime);
        }
    }

    #[test]
    fn a_runtime_is_known_by_its_word_alone() {
        for runtime in RuntimeName::ALL {
            assert_eq!(runtime.word().parse(), Ok(runtime));
        }
        assert!("Docker".parse::<RuntimeName>().is_err() && "".parse::<RuntimeName>().is_err());
    }
}
