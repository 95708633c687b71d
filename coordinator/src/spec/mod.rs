//! cluster.yaml: read once, checked as a whole, all problems at once, each with its line and what to write instead.

mod fields;
mod form;
mod limits;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use muster_proto::coordinator::{self, ClusterFiles};
use muster_proto::kubernetes::release::Release;
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use muster_proto::names::{ImageReference, KubernetesVersion, NodeName, UserName};
use muster_proto::redaction::printable;

use form::Values;
use reader::Reader;
pub use schema::schema;

/// The one version of the file's form.
pub const API_VERSION: &str = "muster/v1";

/// What the user wants, every value parsed; nothing in it can be malformed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSpec {
    pub name: NodeName,
    pub kubernetes_version: KubernetesVersion,
    /// What is known of that version.
    pub release: &'static Release,
    /// The runtime of every node; where the person names none, the one that this version takes by itself.
    pub container_runtime: RuntimeName,
    pub control_plane: NodeName,
    pub workers: Vec<NodeName>,
    /// The taints that keep pods away from the control plane are removed.
    pub control_plane_runs_pods: bool,
    pub bind_port: u16,
    pub image_repository: Option<String>,
    pub skip_phases: Vec<String>,
    /// A half-done init may be reset and done again.
    pub redo_half_done_init: bool,
    pub pod_subnet: IpNet,
    pub service_subnet: IpNet,
    /// The pod network's manifest, its content.
    pub network_manifest: String,
    pub disable_firewall: bool,
    pub cgroup_driver: Option<CgroupDriver>,
    /// Machines with cgroups v1 are taken also where this version refuses them by itself.
    pub allows_cgroup_v1: bool,
    pub kubectl_users: Vec<UserName>,
    pub smoke_test: Option<SmokeTest>,
    pub places: Places,
}

/// Where in the file the values stand that can still turn out wrong once the hosts are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// As the person named it.
    pub file: String,
    pub nodes: BTreeMap<NodeName, Place>,
    pub kubernetes_version: Place,
    pub pod_subnet: Place,
    pub service_subnet: Place,
}

/// A field of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u64,
    /// The path of the field, for instance `spec.nodes[1].name`.
    pub field: String,
}

impl Place {
    /// Something that is wrong there, and what to write or do instead.
    pub fn problem(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.line, &self.field, what)
    }
}

/// The smoke test: pods on every node, each answering from every node.
#[derive(Debug, Clone, PartialEq)]
pub struct SmokeTest {
    pub image: ImageReference,
    /// The pods stay, as the lab manual wants them to be shown.
    pub keep: bool,
}

/// One thing that is wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: u64,
    /// The path of the field, for instance `spec.nodes[1].name`; empty when the whole file is meant.
    pub field: String,
    /// What is wrong, and what to write or do instead.
    pub what: String,
}

impl Problem {
    fn new(line: u64, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { line, field: field.into(), what: what.into() }
    }

    /// One that no field alone is to blame for.
    pub fn of_the_file(what: impl Into<String>) -> Self {
        Self::new(1, "", what)
    }
}

/// All that is wrong in the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    pub file: String,
    pub list: Vec<Problem>,
}

impl Problems {
    pub fn new(files: &ClusterFiles, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.line);
        Self { file: file_name(files), list }
    }

    /// With more that is wrong in the same file.
    pub fn and(mut self, more: Vec<Problem>) -> Self {
        self.list.extend(more);
        self.list.sort_by_key(|problem| problem.line);
        self
    }
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

impl From<Problems> for coordinator::Problems {
    fn from(problems: Problems) -> Self {
        let list = problems.list.into_iter();
        let list = list.map(|Problem { line, field, what }| coordinator::Problem { line, field, what });
        Self { file: problems.file, list: list.collect() }
    }
}

/// As they came over an edge: nothing in them steers a terminal.
impl From<coordinator::Problems> for Problems {
    fn from(problems: coordinator::Problems) -> Self {
        let list = problems.list.into_iter();
        let plain = |text: String| printable(&text).replace('\n', " ");
        let list = list.map(|problem| Problem::new(problem.line, plain(problem.field), plain(problem.what)));
        Self { file: plain(problems.file), list: list.collect() }
    }
}

impl ClusterSpec {
    /// Reads the file and what it names, for a coordinator at which these machines are enrolled.
    pub fn parse(files: &ClusterFiles, enrolled: &BTreeSet<NodeName>) -> Result<Self, Problems> {
        let (values, problems) =
            values(&files.spec).map_err(|problem| Problems::new(files, vec![problem]))?;
        let mut reader = Reader { values, files, enrolled, problems };
        let spec = reader.cluster();
        spec.filter(|_| reader.problems.is_empty()).ok_or_else(|| Problems::new(files, reader.problems))
    }

    pub fn runtime(&self) -> RuntimeName {
        self.container_runtime
    }

    /// The cgroup driver that kubelet and runtime have to agree on; none: the runtime's own, which kubeadm takes over.
    pub fn driver(&self) -> Option<CgroupDriver> {
        let systemd = self.runtime() == RuntimeName::Containerd || self.release.takes_systemd_driver;
        self.cgroup_driver.or(systemd.then_some(CgroupDriver::Systemd))
    }

    /// The control plane first.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        std::iter::once(&self.control_plane).chain(&self.workers)
    }
}

/// The file as the person named it.
fn file_name(files: &ClusterFiles) -> String {
    if files.spec_path.is_empty() { "cluster.yaml".to_owned() } else { files.spec_path.clone() }
}

/// The good values of the file and what is wrong with its fields; one problem alone when it is not YAML.
fn values(spec: &str) -> Result<(Values, Vec<Problem>), Problem> {
    let tree = yaml::read(spec)?;
    Ok(form::check(tree))
}

/// The nodes that the file names and that are enrolled, also of a file that cannot be used.
pub fn named_nodes(files: &ClusterFiles, enrolled: &BTreeSet<NodeName>) -> BTreeMap<NodeName, Place> {
    let Ok((values, problems)) = values(&files.spec) else { return BTreeMap::new() };
    let mut nodes = Reader { values, files, enrolled, problems }.nodes();
    nodes.retain(|node, _| enrolled.contains(node));
    nodes
}

/// The file names that the spec refers to, for the CLI to read before it sends; none when it cannot be read that far.
pub fn referenced_files(spec: &str) -> Vec<String> {
    let manifest =
        |values: Values| values.text("spec.networking.manifest").map(|manifest| manifest.text.clone());
    values(spec).ok().and_then(|(values, _)| manifest(values)).into_iter().collect()
}
