//! From the raw form to the parsed one: every field is looked at before it is said what is wrong.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use muster_proto::coordinator::ClusterFiles;
use muster_proto::names::NodeName;
use serde_saphyr::Location;

use super::raw::{RawCluster, RawSpec, Text};
use super::{API_VERSION, CgroupDriver, ClusterSpec, Problem, SmokeTest};

/// Walks over the raw form and notes every problem before it gives up.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn cluster(&mut self, raw: RawCluster, files: &ClusterFiles) -> Option<ClusterSpec> {
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
