//! cluster.yaml: read once, checked as a whole, all problems at once, each with its line and what to write instead.

mod raw;

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use muster_proto::coordinator::ClusterFiles;
use muster_proto::names::{ImageReference, KubernetesVersion, NodeName, UserName};
use serde::Serialize;
use serde_saphyr::Location;

use raw::{RawCluster, RawSpec, Text};

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
        let mut reader = Reader { problems: Vec::new() };
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

/// Walks over the raw form and notes every problem before it gives up.
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn cluster(&mut self, raw: RawCluster, files: &ClusterFiles) -> Option<ClusterSpec> {
        if raw.api_version.value != API_VERSION {
            self.problem(&raw.api_version.referenced, "apiVersion", format!("write {API_VERSION}"));
        }
        if raw.kind.value != "Cluster" {
            self.problem(&raw.kind.referenced, "kind", "write Cluster".to_owned());
        }
        let name = self.parse(&raw.metadata.name, "metadata.name");
        let spec = raw.spec;
        let kubernetes_version = self.parse(&spec.kubernetes_version, "spec.kubernetesVersion");
        let nodes = self.nodes(&spec);
        let pod_subnet = self.parse_as(
            &spec.networking.pod_subnet,
            "spec.networking.podSubnet",
            "an address range such as 10.244.0.0/16",
        );
        let service_subnet = match &spec.networking.service_subnet {
            Some(text) => {
                self.parse_as(text, "spec.networking.serviceSubnet", "an address range such as 10.96.0.0/12")
            }
            None => "10.96.0.0/12".parse().ok(),
        };
        if let (Some(pods), Some(services)) = (pod_subnet, service_subnet) {
            self.subnets(&spec, pods, services);
        }
        let network_manifest = self.manifest(&spec.networking.manifest, files);
        let cgroup_driver = spec.host.cgroup_driver.as_ref().and_then(|text| self.cgroup_driver(text));
        let kubectl_users = spec
            .kubectl_users
            .iter()
            .enumerate()
            .filter_map(|(index, user)| self.parse(user, &format!("spec.kubectlUsers[{index}]")))
            .collect();
        let smoke_test = self.smoke_test(&spec);
        let skip_phases = self.skip_phases(&spec);
        let image_repository =
            spec.control_plane.image_repository.as_ref().and_then(|text| self.repository(text));
        let (control_plane, workers) = nodes?;
        Some(ClusterSpec {
            name: name?,
            kubernetes_version: kubernetes_version?,
            control_plane,
            workers,
            control_plane_runs_pods: spec.control_plane.runs_pods,
            bind_port: spec.control_plane.bind_port.map_or(6443, |port| port.value),
            image_repository,
            skip_phases,
            pod_subnet: pod_subnet?,
            service_subnet: service_subnet?,
            network_manifest: network_manifest?,
            disable_firewall: spec.host.disable_firewall,
            cgroup_driver,
            kubectl_users,
            smoke_test,
        })
    }

    fn nodes(&mut self, spec: &RawSpec) -> Option<(NodeName, Vec<NodeName>)> {
        let before = self.problems.len();
        let (mut control_planes, mut workers, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (index, node) in spec.nodes.value.iter().enumerate() {
            let field = format!("spec.nodes[{index}]");
            let name: Option<NodeName> = self.parse(&node.name, &format!("{field}.name"));
            if let Some(name) = &name
                && !seen.insert(name.clone())
            {
                self.problem(
                    &node.name.referenced,
                    &format!("{field}.name"),
                    format!("{name} is in the list twice"),
                );
            }
            match node.role.value.as_str() {
                "control-plane" => control_planes.extend(name),
                "worker" => workers.extend(name),
                other => {
                    self.problem(
                        &node.role.referenced,
                        &format!("{field}.role"),
                        format!("{other:?}: write control-plane or worker"),
                    );
                }
            }
        }
        if self.problems.len() > before {
            // Which roles are missing can be said once the entries can be read.
            return Some((control_planes.into_iter().next()?, workers));
        }
        let place = spec.nodes.referenced;
        if control_planes.len() != 1 {
            let what =
                format!("{} nodes have the role control-plane; exactly one must", control_planes.len());
            self.problem(&place, "spec.nodes", what);
        } else if workers.is_empty() && !spec.control_plane.runs_pods {
            let what =
                "no node would run pods: add a worker, or set spec.controlPlane.runsPods: true".to_owned();
            self.problem(&place, "spec.nodes", what);
        }
        Some((control_planes.into_iter().next()?, workers))
    }

    fn subnets(&mut self, spec: &RawSpec, pods: IpNet, services: IpNet) {
        let field = "spec.networking.podSubnet";
        let place = spec.networking.pod_subnet.referenced;
        if pods.contains(&services.network()) || services.contains(&pods.network()) {
            self.problem(
                &place,
                field,
                format!("{pods} overlaps the service subnet {services}; take another range"),
            );
        }
        if pods.addr() != pods.network() {
            self.problem(&place, field, format!("{pods} has host bits set; write {}", pods.trunc()));
        }
        // kube-controller-manager gives every node a /24 (IPv4) of this range.
        if pods.addr().is_ipv4() && pods.prefix_len() > 24 {
            self.problem(
                &place,
                field,
                format!(
                    "{pods} is too small: every node takes a /24 of it; write for instance 10.244.0.0/16"
                ),
            );
        }
    }

    fn manifest(&mut self, path: &Text, files: &ClusterFiles) -> Option<String> {
        match files.files.get(&path.value) {
            Some(content) if !content.trim().is_empty() => Some(content.clone()),
            Some(_) => {
                self.problem(
                    &path.referenced,
                    "spec.networking.manifest",
                    format!("the file {} is empty", path.value),
                );
                None
            }
            None => {
                let what =
                    format!("the file {} cannot be read; write its path, relative to this file", path.value);
                self.problem(&path.referenced, "spec.networking.manifest", what);
                None
            }
        }
    }

    fn cgroup_driver(&mut self, text: &Text) -> Option<CgroupDriver> {
        match text.value.as_str() {
            "systemd" => Some(CgroupDriver::Systemd),
            "cgroupfs" => Some(CgroupDriver::Cgroupfs),
            other => {
                self.problem(
                    &text.referenced,
                    "spec.host.cgroupDriver",
                    format!("{other:?}: write systemd or cgroupfs"),
                );
                None
            }
        }
    }

    fn smoke_test(&mut self, spec: &RawSpec) -> Option<SmokeTest> {
        if spec.smoke_test.enabled == Some(false) {
            return None;
        }
        let image = match &spec.smoke_test.image {
            Some(text) => self.parse(text, "spec.smokeTest.image")?,
            None => "nginx:1.22".parse().ok()?,
        };
        Some(SmokeTest { image, keep: spec.smoke_test.keep.unwrap_or(true) })
    }

    fn skip_phases(&mut self, spec: &RawSpec) -> Vec<String> {
        let mut phases = Vec::new();
        for (index, phase) in spec.control_plane.skip_phases.iter().enumerate() {
            // The only phases that a whole cluster can do without; the others are what init is for.
            if matches!(phase.value.as_str(), "addon/coredns" | "addon/kube-proxy") {
                phases.push(phase.value.clone());
            } else {
                let what =
                    format!("{:?}: only addon/coredns and addon/kube-proxy can be left out", phase.value);
                self.problem(&phase.referenced, &format!("spec.controlPlane.skipPhases[{index}]"), what);
            }
        }
        phases
    }

    fn repository(&mut self, text: &Text) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "./:_-".contains(c);
        let valid = text.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.value.chars().all(plain)
            && text.value.len() <= 200;
        if !valid {
            let what = format!("{:?} is not an image repository such as registry.example/k8s", text.value);
            self.problem(&text.referenced, "spec.controlPlane.imageRepository", what);
            return None;
        }
        Some(text.value.clone())
    }

    fn parse<T: std::str::FromStr<Err: fmt::Display>>(&mut self, text: &Text, field: &str) -> Option<T> {
        text.value
            .parse()
            .map_err(|error: T::Err| self.problem(&text.referenced, field, error.to_string()))
            .ok()
    }

    fn parse_as<T: std::str::FromStr>(&mut self, text: &Text, field: &str, expected: &str) -> Option<T> {
        let what = || format!("{:?} is not {expected}", text.value.chars().take(80).collect::<String>());
        text.value.parse().map_err(|_| self.problem(&text.referenced, field, what())).ok()
    }

    fn problem(&mut self, place: &Location, field: &str, what: String) {
        self.problems.push(Problem { line: place.line(), field: field.to_owned(), what });
    }
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
        ClusterFiles { spec: spec.to_owned(), spec_path: "cluster.yaml".to_owned(), files }
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
