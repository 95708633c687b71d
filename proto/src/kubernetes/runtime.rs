//! The container runtimes that Muster sets up, each a row: where it stands on a machine, and the words of what a person
//! types for it.

use std::fmt;
use std::str::FromStr;

use super::release::Release;
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

/// How a version of a runtime suits a version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suits {
    Well,
    /// It is expected to work, and nobody tried: the rest of a sentence about it, and the evidence.
    Untried {
        sentence: String,
        evidence: String,
    },
    /// It does not work: the rest of a sentence about it, the evidence, and what to install.
    Not {
        sentence: String,
        evidence: String,
        remedy: String,
    },
}

impl RuntimeName {
    /// Of a runtime with this version (`20.10.24+dfsg1`); one whose version cannot be read suits. kubeadm refuses a Docker
    /// older than its list and warns of a newer one. Docker 29.0 raised the oldest API that it takes above what these kubelets
    /// speak, 29.3 lowered it again (Docker's release notes).
    pub fn suits(self, version: &str, release: &Release) -> Suits {
        let Some((major, minor, patch)) = numbers(version) else { return Suits::Well };
        let (own, kubernetes) = ((major, minor), format!("Kubernetes v1.{}", release.minor));
        match self {
            Self::Docker if !release.drives_docker => Suits::Well,
            Self::Docker => {
                let newest = release.newest_docker_word();
                let (newest_major, newest_minor) = release.newest_docker;
                if own < (1, 11) {
                    Suits::Not {
                        sentence: format!("is too old for {kubernetes}: kubeadm refuses it"),
                        evidence: format!("validated with {kubernetes}: Docker 1.11 to {newest}"),
                        remedy: format!("install Docker {newest}"),
                    }
                } else if ((29, 0)..=(29, 2)).contains(&own) {
                    Suits::Not {
                        sentence: format!("and the kubelet of {kubernetes} have no version of Docker's API in common"),
                        evidence: "Docker 29.0 to 29.2 takes the API from 1.44 on, the kubelet up to v1.23 speaks at most 1.41"
                            .to_owned(),
                        remedy: "install Docker 28, or 29.3 or later; or write \"min-api-version\": \"1.24\" into \
                                 /etc/docker/daemon.json there, restart Docker, and give --ignore-check runtime"
                            .to_owned(),
                    }
                } else if (u32::from(major), u32::from(minor)) > (newest_major, newest_minor) {
                    Suits::Untried {
                        sentence: format!(
                            "is newer than {kubernetes} was validated with; kubeadm only warns of it"
                        ),
                        evidence: format!("the newest validated: {newest}"),
                    }
                } else {
                    Suits::Well
                }
            }
            Self::Containerd => {
                let known = release.containerd;
                let least = format!("{}.{}", known.least.0, known.least.1);
                let below =
                    known.below.map(|below| format!(", before {}.{}", below.0, below.1)).unwrap_or_default();
                let tested: Vec<String> = known
                    .tested
                    .iter()
                    .map(|(major, minor, patch)| format!("{major}.{minor}.{patch}"))
                    .collect();
                if !release.runs_on_containerd(own) {
                    return Suits::Not {
                        sentence: format!("does not serve what the kubelet of {kubernetes} speaks"),
                        evidence: format!("{kubernetes} runs on containerd from {least} on{below}"),
                        remedy: match tested.last() {
                            Some(tested) => format!("install containerd {tested} or later{below}"),
                            None => format!("install containerd {least} or later{below}"),
                        },
                    };
                }
                // Of the lines that are tested, its own or the one before it; a newer line is taken for tested.
                let line = known.tested.iter().filter(|tested| (tested.0, tested.1) == own).min();
                let oldest = known.tested.iter().min();
                let tried = match (line, oldest) {
                    (Some(line), _) => (major, minor, patch) >= *line,
                    (None, Some(oldest)) => (major, minor, patch) >= *oldest,
                    (None, None) => true,
                };
                if tried {
                    return Suits::Well;
                }
                Suits::Untried {
                    sentence: format!("is older than those that containerd's authors test with {kubernetes}"),
                    evidence: format!("tested from {} on", tested.join(", ")),
                }
            }
        }
    }
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

    fn found(runtime: RuntimeName, kubernetes: &str, version: &str) -> (usize, usize) {
        let release = Release::of(kubernetes.parse().unwrap()).unwrap();
        match runtime.suits(version, release) {
            Suits::Well => (0, 0),
            Suits::Untried { .. } => (0, 1),
            Suits::Not { .. } => (1, 0),
        }
    }

    #[test]
    fn a_docker_that_kubernetes_was_not_validated_with_is_told_and_one_that_kubeadm_refuses_does_not_suit() {
        for (kubernetes, docker, expected) in [
            ("v1.20.2", "19.03.15", (0, 0)),
            ("v1.20.2", "20.10.24+dfsg1", (0, 1)),
            ("v1.21.0", "20.10.24", (0, 0)),
            ("v1.13.0", "18.06.3", (0, 0)),
            ("v1.13.0", "18.09.1", (0, 1)),
            ("v1.20.2", "1.10.3", (1, 0)),
            ("v1.20.2", "28.5.1", (0, 1)),
            ("v1.20.2", "29.2.0", (1, 0)),
            ("v1.20.2", "29.3.0", (0, 1)),
            ("v1.20.2", "", (0, 0)),
        ] {
            assert_eq!(found(RuntimeName::Docker, kubernetes, docker), expected, "{kubernetes} {docker}");
        }
    }

    #[test]
    fn a_containerd_that_the_kubelet_cannot_speak_to_does_not_suit_and_an_old_patch_is_told() {
        for (kubernetes, containerd, expected) in [
            ("v1.36.3", "2.4.2", (0, 0)),
            ("v1.36.3", "2.3.0", (0, 0)),
            ("v1.36.3", "1.7.24~ds1", (0, 1)),
            ("v1.24.17", "1.6.20~ds1", (0, 0)),
            ("v1.28.15", "1.6.4", (0, 1)),
            ("v1.28.15", "1.5.18", (1, 0)),
        ] {
            assert_eq!(
                found(RuntimeName::Containerd, kubernetes, containerd),
                expected,
                "{kubernetes} {containerd}"
            );
        }
    }

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
