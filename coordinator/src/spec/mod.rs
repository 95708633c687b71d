//! cluster.yaml: read once, checked as a whole, all problems at once, each with its line and what to write instead.

mod raw;
mod reader;

use std::fmt;

use ipnet::IpNet;
use muster_proto::coordinator::ClusterFiles;
use muster_proto::names::{ImageReference, KubernetesVersion, NodeName, UserName};
use serde::Serialize;

use raw::RawCluster;
use reader::Reader;

/// The one version of the file's form.
pub const API_VERSION: &str = "muster/v1";

/// What the user wants, every value parsed; nothing in it can be malformed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterSpec {
    pub name: NodeName,
    pub kubernetes_version: KubernetesVersion,
    pub control_plane: NodeName,
    pub workers: Vec<NodeName>,
    /// The taints that keep pods away from the control plane are removed.
    pub control_plane_runs_pods: bool,
    pub bind_port: u16,
    pub image_repository: Option<String>,
    pub skip_phases: Vec<String>,
    pub pod_subnet: IpNet,
    pub service_subnet: IpNet,
    /// The pod network's manifest, its content.
    pub network_manifest: String,
    pub disable_firewall: bool,
    pub cgroup_driver: Option<CgroupDriver>,
    pub kubectl_users: Vec<UserName>,
    pub smoke_test: Option<SmokeTest>,
}

/// The smoke test: pods on every node, each answering from every node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SmokeTest {
    pub image: ImageReference,
    /// The pods stay, as the lab manual wants them to be shown.
    pub keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupDriver {
    Systemd,
    Cgroupfs,
}

impl CgroupDriver {
    pub fn word(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

/// One thing that is wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 when the place is not known.
    pub line: u64,
    /// The path of the field, for instance `spec.nodes[1].name`.
    pub field: String,
    pub what: String,
}

/// All that is wrong in the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    pub file: String,
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        write!(f, "{} has {count} problem{}:", self.file, if count == 1 { "" } else { "s" })?;
        for Problem { line, field, what } in &self.list {
            write!(f, "\n  {}:{line}: {field}{}{what}", self.file, if field.is_empty() { "" } else { ": " })?;
        }
        Ok(())
    }
}

impl ClusterSpec {
    /// Reads the file and what it names.
    pub fn parse(files: &ClusterFiles) -> Result<Self, Problems> {
        let file = if files.spec_path.is_empty() { "cluster.yaml" } else { &files.spec_path };
        let raw: RawCluster = serde_saphyr::from_str(&files.spec).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            Problems {
                file: file.to_owned(),
                list: vec![Problem { line, field: String::new(), what: one_line(&error.to_string()) }],
            }
        })?;
        let mut reader = Reader::default();
        let spec = reader.cluster(raw, files);
        match spec {
            Some(spec) if reader.problems.is_empty() => Ok(spec),
            _ => {
                reader.problems.sort_by_key(|problem| problem.line);
                Err(Problems { file: file.to_owned(), list: reader.problems })
            }
        }
    }

    /// The control plane first.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        std::iter::once(&self.control_plane).chain(&self.workers)
    }
}

/// The first sentence of the YAML library's message, without the picture of the source that it draws below.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The file names that the spec refers to, for the CLI to read before it sends; empty when the spec cannot be read.
pub fn referenced_files(spec: &str) -> Vec<String> {
    serde_saphyr::from_str::<RawCluster>(spec)
        .map(|raw| vec![raw.spec.networking.manifest.value])
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const GOOD: &str = "apiVersion: muster/v1
kind: Cluster
metadata:
  name: lab
spec:
  kubernetesVersion: v1.20.2
  nodes:
    - name: master-20251234
      role: control-plane
    - name: node-20251234
      role: worker
  networking:
    podSubnet: 10.244.0.0/16
    manifest: net.yaml
  kubectlUsers: [student]
";

    fn files(spec: &str) -> ClusterFiles {
        let files = [("net.yaml".to_owned(), "kind: DaemonSet\n".to_owned())].into();
        ClusterFiles {
            spec: spec.to_owned(),
            spec_path: "cluster.yaml".to_owned(),
            files,
            ..ClusterFiles::default()
        }
    }
    fn problems(spec: &str) -> Vec<Problem> {
        ClusterSpec::parse(&files(spec)).unwrap_err().list
    }

    #[test]
    fn a_short_file_is_enough_and_the_rest_has_defaults() {
        let spec = ClusterSpec::parse(&files(GOOD)).unwrap();
        assert_eq!(spec.control_plane.as_str(), "master-20251234");
        assert_eq!(spec.service_subnet.to_string(), "10.96.0.0/12");
        assert_eq!(
            (spec.bind_port, spec.disable_firewall, spec.control_plane_runs_pods),
            (6443, false, false)
        );
        assert!(spec.smoke_test.is_some_and(|test| test.keep));
    }

    #[test]
    fn all_problems_are_said_at_once_each_with_its_line() {
        let wrong = GOOD
            .replace("node-20251234\n      role: worker", "Node_2\n      role: slave")
            .replace("10.244.0.0/16", "10.96.0.0/16")
            .replace("v1.20.2", "1.20")
            .replace("net.yaml", "missing.yaml");
        let lines: Vec<(u64, String)> =
            problems(&wrong).into_iter().map(|problem| (problem.line, problem.field)).collect();
        let expected = [
            (6, "spec.kubernetesVersion"),
            (10, "spec.nodes[1].name"),
            (11, "spec.nodes[1].role"),
            (13, "spec.networking.podSubnet"),
            (14, "spec.networking.manifest"),
        ];
        assert_eq!(lines, expected.map(|(line, field)| (line, field.to_owned())));
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let wrong = GOOD.replace("  kubectlUsers: [student]", "  kubectlUser: student");
        let found = problems(&wrong);
        assert_eq!(found[0].line, 15, "{found:?}");
        assert!(found[0].what.contains("kubectlUser"), "{found:?}");
    }

    #[test]
    fn no_control_plane_and_two_are_both_wrong() {
        for wrong in [
            GOOD.replace("role: control-plane", "role: worker"),
            GOOD.replace("role: worker", "role: control-plane"),
        ] {
            assert!(problems(&wrong)[0].what.contains("exactly one must"));
        }
    }

    #[test]
    fn a_cluster_of_one_must_let_its_control_plane_run_pods() {
        let alone = GOOD.replace("    - name: node-20251234\n      role: worker\n", "");
        assert!(problems(&alone)[0].what.contains("runsPods"));
        let spec = alone.replace("  networking:", "  controlPlane:\n    runsPods: true\n  networking:");
        assert!(ClusterSpec::parse(&files(&spec)).is_ok());
    }

    #[test]
    fn a_yaml_bomb_is_refused_and_not_expanded() {
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (last, next) in ('a'..'j').zip('b'..='j') {
            bomb.push_str(&format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(",")));
        }
        assert!(!problems(&bomb).is_empty());
    }
}
