//! Which version of a runtime goes with which version of Kubernetes.

use super::release::Release;
use super::runtime::{RuntimeName, numbers};

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
}
