//! From good values to what the user wants: the values that have to fit each other, the files that are named, and the
//! machines that are enrolled.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use ipnet::IpNet;
use muster_proto::coordinator::ClusterFiles;
use muster_proto::kubernetes::release::Release;
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use muster_proto::names::{NodeName, UserName};
use muster_proto::pod_network;

use super::form::Values;
use super::limits::{node_part, overlap};
use super::{ClusterSpec, Place, Places, Problem, SmokeTest};

/// Reads values and notes every problem before it gives up.
pub(super) struct Reader<'a> {
    pub(super) values: Values,
    pub(super) files: &'a ClusterFiles,
    /// The names of the machines that are enrolled.
    pub(super) enrolled: &'a BTreeSet<NodeName>,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    /// None when a value is missing or wrong; why is among the problems then.
    pub(super) fn cluster(&mut self) -> Option<ClusterSpec> {
        let nodes = self.nodes();
        self.ranges();
        self.users();
        let network_manifest = self.manifest();
        let (control_plane, workers) = self.roles()?;
        let release = Release::of(self.value("spec.kubernetesVersion")?)?;
        let named = self.value::<RuntimeName>("spec.containerRuntime.name");
        Some(ClusterSpec {
            name: self.value("metadata.name")?,
            kubernetes_version: self.value("spec.kubernetesVersion")?,
            release,
            container_runtime: named.unwrap_or(release.default_runtime()),
            control_plane,
            workers,
            control_plane_runs_pods: self.value("spec.controlPlane.runsPods")?,
            bind_port: self.value("spec.controlPlane.bindPort")?,
            image_repository: self.value("spec.controlPlane.imageRepository"),
            skip_phases: self
                .items("spec.controlPlane.skipPhases")
                .into_iter()
                .map(|(_, phase)| phase)
                .collect(),
            redo_half_done_init: self.value("spec.controlPlane.redoHalfDoneInit")?,
            pod_subnet: self.value("spec.networking.podSubnet")?,
            service_subnet: self.value("spec.networking.serviceSubnet")?,
            network_manifest: network_manifest?,
            disable_firewall: self.value("spec.host.disableFirewall")?,
            cgroup_driver: self.value::<CgroupDriver>("spec.host.cgroupDriver"),
            allows_cgroup_v1: self.value::<String>("spec.host.cgroupV1")? == "allow",
            kubectl_users: self.items("spec.kubectlUsers").into_iter().map(|(_, user)| user).collect(),
            smoke_test: self.smoke_test()?,
            places: Places {
                file: super::file_name(self.files),
                nodes,
                kubernetes_version: self.place("spec.kubernetesVersion"),
                pod_subnet: self.place("spec.networking.podSubnet"),
                service_subnet: self.place("spec.networking.serviceSubnet"),
            },
        })
    }

    /// Where every node stands; one that stands twice or is not enrolled is a problem.
    pub(super) fn nodes(&mut self) -> BTreeMap<NodeName, Place> {
        let mut places: BTreeMap<NodeName, Place> = BTreeMap::new();
        for (path, name) in self.each::<NodeName>("spec.nodes", ".name") {
            let place = self.place(&path);
            if let Some(first) = places.get(&name) {
                let what = format!(
                    "{name} stands here a second time, first in line {}; give every node once",
                    first.line
                );
                self.problems.push(place.problem(what));
                continue;
            }
            if !self.enrolled.contains(&name) {
                let what = format!(
                    "{name} is not enrolled; run `sudo coordinator token create --node {name}` here and, on that machine, what it prints, \
                     or write the name of a machine that `coordinator nodes list` shows"
                );
                self.problems.push(place.problem(what));
            }
            places.insert(name, place);
        }
        places
    }

    fn users(&mut self) {
        let mut seen: BTreeMap<UserName, Place> = BTreeMap::new();
        for (path, user) in self.items::<UserName>("spec.kubectlUsers") {
            let place = self.place(&path);
            if let Some(first) = seen.get(&user) {
                let what = format!(
                    "{user} stands here a second time, first in line {}; keep one of them",
                    first.line
                );
                self.problems.push(place.problem(what));
            } else {
                seen.insert(user, place);
            }
        }
    }

    /// The control plane and the workers. That a role is missing can be said only when every one can be read.
    fn roles(&mut self) -> Option<(NodeName, Vec<NodeName>)> {
        let (line, length) = self.values.list("spec.nodes")?;
        let list = Place { line, field: "spec.nodes".into() };
        let roles = self.each::<String>("spec.nodes", ".role");
        let is_master = |(_, role): &&(String, String)| role == "control-plane";
        let masters: Vec<Place> = roles.iter().filter(is_master).map(|(path, _)| self.place(path)).collect();
        if let [first, second, ..] = &masters[..] {
            self.problems.push(second.problem(format!(
                "a second node has the role control-plane, the first in line {}; Muster makes clusters with one: write worker",
                first.line
            )));
        }
        if roles.len() < length {
            return None;
        }
        if masters.is_empty() {
            self.problems.push(list.problem("no node has the role control-plane; give it to one of them"));
        } else if length == 1 && self.value("spec.controlPlane.runsPods") == Some(false) {
            let what =
                "no node would run pods; add a worker, or write `runsPods: true` under spec.controlPlane";
            self.problems.push(list.problem(what));
        }
        let (mut control_plane, mut workers) = (None, Vec::new());
        for (path, name) in self.each::<NodeName>("spec.nodes", ".name") {
            let role = format!("{}.role", path.trim_end_matches(".name"));
            if masters.iter().any(|master| master.field == role) {
                control_plane = Some(name);
            } else {
                workers.push(name);
            }
        }
        Some((control_plane?, workers))
    }

    /// The ranges have one kind of address, share none, and have a part for every node.
    fn ranges(&mut self) {
        let Some(pods) = self.value::<IpNet>("spec.networking.podSubnet") else { return };
        let place = self.place("spec.networking.podSubnet");
        if let Some(services) = self.value::<IpNet>("spec.networking.serviceSubnet") {
            if pods.addr().is_ipv4() != services.addr().is_ipv4() {
                let what = format!(
                    "{pods} and the service subnet {services} are of two kinds (IPv4, IPv6); write both in one kind"
                );
                self.problems.push(place.problem(what));
            } else if overlap(&pods, &services) {
                let free = if overlap(&services, &"10.244.0.0/16".parse().expect("is a range")) {
                    "172.20.0.0/16"
                } else {
                    "10.244.0.0/16"
                };
                let what =
                    format!("{pods} overlaps the service subnet {services}; write for instance {free}");
                self.problems.push(place.problem(what));
            }
        }
        let parts = 1_u64 << (node_part(&pods) - pods.prefix_len());
        let nodes = self.values.list("spec.nodes").map_or(0, |(_, length)| length as u64);
        if nodes > parts {
            let part = node_part(&pods);
            let what = format!(
                "{pods} has room for {parts} of {nodes} nodes (each takes a /{part} of it); write a wider range"
            );
            self.problems.push(place.problem(what));
        }
    }

    /// The manifest's text: there, of the form of a manifest, and with the cluster's range of pod addresses.
    fn manifest(&mut self) -> Option<String> {
        let place = self.place("spec.networking.manifest");
        let path = &self.values.text("spec.networking.manifest")?.text;
        let problem = match self.files.files.get(path).map(|content| (content, pod_network::objects(content)))
        {
            None => format!("the file {path} cannot be found; write its path, relative to this file"),
            Some((content, _)) if content.trim().is_empty() => {
                format!("the file {path} is empty; write the path of the pod network's manifest")
            }
            Some((_, Err(error))) => format!("{path}: {error}"),
            Some((content, Ok(objects))) => {
                let pods: Option<IpNet> = self.value("spec.networking.podSubnet");
                let other = pods.and_then(|pods| Some((pods, pod_network::other_range(&objects, &pods)?)));
                let Some((pods, found)) = other else { return Some(content.clone()) };
                format!(
                    "{path} has another range than podSubnet: {} says {}; write {pods} there, or `podSubnet: {}` here",
                    found.place, found.range, found.range
                )
            }
        };
        self.problems.push(place.problem(problem));
        None
    }

    /// None: a value of it is wrong.
    fn smoke_test(&self) -> Option<Option<SmokeTest>> {
        let test = SmokeTest {
            image: self.value("spec.smokeTest.image")?,
            keep: self.value("spec.smokeTest.keep")?,
        };
        let enabled: bool = self.value("spec.smokeTest.enabled")?;
        Some(enabled.then_some(test))
    }

    fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.values.text(path)?.text.parse().ok()
    }

    fn place(&self, path: &str) -> Place {
        Place { line: self.values.text(path).map_or(0, |text| text.line), field: path.to_owned() }
    }

    /// The items of a list that can be read, each with its path.
    fn items<T: FromStr>(&self, path: &str) -> Vec<(String, T)> {
        self.each(path, "")
    }

    /// A field of every item of a list, where it can be read, each with its path.
    fn each<T: FromStr>(&self, path: &str, field: &str) -> Vec<(String, T)> {
        let length = self.values.list(path).map_or(0, |(_, length)| length);
        let paths = (0..length).map(|index| format!("{path}[{index}]{field}"));
        paths.filter_map(|path| self.value(&path).map(|value| (path, value))).collect()
    }
}
