//! Everything the agent may ask of a host. Nothing here changes anything; every answer has a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
pub use muster_proto::change::ObjectKind;
use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use muster_proto::names::{ImageReference, KubernetesVersion, NodeName, UserName};
use serde_json::Value;

use super::HostError;
use super::obstacle::Obstacle;

type Answer<T> = Result<T, HostError>;

/// The view that a step's `check` gets: the machine, its container runtime, and the cluster that it is or becomes part of.
pub trait Observe: ObserveSystem + ObserveRuntime + ObserveCluster {}

impl<H: ObserveSystem + ObserveRuntime + ObserveCluster> Observe for H {}

/// The machine: its files, kernel, units, users and network.
pub trait ObserveSystem: Send + Sync {
    /// The content of a plain file, none when there is no such file. At most 16 MiB; links are refused.
    fn read_file(&self, path: &Path) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// The content of a file as systemd reads its settings: through a link, and empty where it leads to /dev/null or to no file.
    fn read_through(&self, path: &Path) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// The names in a folder, sorted; empty when there is no such folder.
    fn list_folder(&self, path: &Path) -> impl Future<Output = Answer<Vec<String>>> + Send;
    /// The kernel's host name.
    fn hostname(&self) -> impl Future<Output = Answer<String>> + Send;
    /// What /proc/swaps lists.
    fn swaps(&self) -> impl Future<Output = Answer<Vec<PathBuf>>> + Send;
    /// The live value below /proc/sys of a key such as `net.ipv4.ip_forward`; none when the kernel has no such key.
    fn sysctl(&self, key: &str) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// Whether the kernel has the module's function now, loaded or built in.
    fn kernel_has(&self, module: &str) -> impl Future<Output = Answer<bool>> + Send;
    /// What systemd knows of a unit; also answers for units that do not exist.
    fn unit(&self, name: &str) -> impl Future<Output = Answer<Unit>> + Send;
    /// The files that make up a unit, in the order in which they count: its own, then its drop-ins.
    fn unit_files(&self, name: &str) -> impl Future<Output = Answer<Vec<PathBuf>>> + Send;
    /// What a unit, and systemd about it, wrote into the journal since then; at most 4 MiB, oldest first. Nothing when there is no
    /// journal.
    fn unit_journal(
        &self,
        unit: &str,
        since: Timestamp,
    ) -> impl Future<Output = Answer<Vec<JournalLine>>> + Send;
    /// What systemd gives every service in its environment, as `NAME=VALUE`.
    fn manager_environment(&self) -> impl Future<Output = Answer<Vec<String>>> + Send;
    /// The names of all .swap units that systemd knows, active or not.
    fn swap_units(&self) -> impl Future<Output = Answer<Vec<String>>> + Send;
    /// The passwd entry of a user.
    fn user(&self, name: &UserName) -> impl Future<Output = Answer<Option<User>>> + Send;
    /// A file below a user's home, read as that user; `path` is relative. None when there is no such file.
    fn user_file(&self, name: &UserName, path: &Path) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// What would keep a file of the system from being replaced, made or removed; none when nothing is seen.
    fn file_obstacle(&self, path: &Path) -> impl Future<Output = Answer<Option<Obstacle>>> + Send;
    /// The same of a file below a user's home, which that user has to read as well; `path` is relative.
    fn user_file_obstacle(
        &self,
        name: &UserName,
        path: &Path,
    ) -> impl Future<Output = Answer<Option<Obstacle>>> + Send;
    /// Which of these programs are not on the search path of root.
    fn missing_programs(
        &self,
        names: &'static [&'static str],
    ) -> impl Future<Output = Answer<Vec<&'static str>>> + Send;
    /// GET / over plain HTTP; none when nothing answers within 3 s.
    fn http_page(&self, address: SocketAddr) -> impl Future<Output = Answer<Option<Page>>> + Send;
    /// The rules of the packet filter as iptables-save or ip6tables-save prints them, without counters of rules; none
    /// when that program is not installed.
    fn packet_filter(&self, family: Family) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// Who listens on which TCP port of this host, as far as the host tells.
    fn listeners(&self) -> impl Future<Output = Answer<Vec<Listener>>> + Send;
    /// Why no TCP connection to HOST:PORT can be opened within 3 s; none when it can.
    fn unreachable(&self, endpoint: &str) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// The addresses of this host's interfaces.
    fn addresses(&self) -> impl Future<Output = Answer<Vec<IpAddr>>> + Send;
    /// The network interfaces with their addresses, loopback left out.
    fn interfaces(&self) -> impl Future<Output = Answer<Vec<Interface>>> + Send;
    /// How many processors this host's programs may use.
    fn processors(&self) -> impl Future<Output = Answer<usize>> + Send;
    /// The file system that holds the path, or its nearest folder that exists.
    fn disk(&self, path: &Path) -> impl Future<Output = Answer<Disk>> + Send;
    /// The version of the systemd that runs; none when another init does.
    fn systemd_version(&self) -> impl Future<Output = Answer<Option<u32>>> + Send;
    /// The addresses of a name as the programs of this host get them; none when it is unknown.
    fn resolve(&self, name: &NodeName) -> impl Future<Output = Answer<Vec<IpAddr>>> + Send;
}

/// The container runtimes, whichever of them is there.
pub trait ObserveRuntime: Send + Sync {
    /// What a runtime says of itself; none when it is not there or does not answer.
    fn runtime(&self, name: RuntimeName) -> impl Future<Output = Answer<Option<RuntimeFacts>>> + Send;
    /// Whether its settings on disk are as wanted, or how they could be; `running` is what it says of itself.
    fn runtime_settings(
        &self,
        name: RuntimeName,
        wanted: &RuntimeWish,
        running: Option<&RuntimeFacts>,
    ) -> impl Future<Output = Answer<RuntimeSettings>> + Send;
    /// Where its settings say that its images lie; what is not set is the runtime's own choice.
    fn runtime_root(&self, name: RuntimeName) -> impl Future<Output = Answer<PathBuf>> + Send;
    /// The images (`name:tag`) that the runtime holds for Kubernetes, in its own spelling.
    fn images(&self, name: RuntimeName) -> impl Future<Output = Answer<Vec<String>>> + Send;
    /// The newest Kubernetes containers that ended, each with its last lines; at most 8. Nothing where the runtime does not
    /// answer.
    fn exited_containers(
        &self,
        name: RuntimeName,
    ) -> impl Future<Output = Answer<Vec<ExitedContainer>>> + Send;
    /// All Kubernetes containers that the runtime holds, whether they run or not; nothing where it does not answer.
    fn pod_containers(&self, name: RuntimeName) -> impl Future<Output = Answer<Vec<PodContainer>>> + Send;
}

/// Kubernetes: its programs on this host, its kubelet, and the API server's objects.
pub trait ObserveCluster: Send + Sync {
    /// The version that a program says of itself; none when it is not installed.
    fn kubernetes_version(
        &self,
        program: KubernetesProgram,
    ) -> impl Future<Output = Answer<Option<KubernetesVersion>>> + Send;
    /// The images that this host's kubeadm wants for a version (`kubeadm config images list`).
    fn kubeadm_images(
        &self,
        version: KubernetesVersion,
        repository: Option<&str>,
    ) -> impl Future<Output = Answer<Vec<ImageReference>>> + Send;
    /// One Kubernetes object through admin.conf; none when it does not exist. Only on a control-plane node.
    fn object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Answer<Option<Value>>> + Send;
    /// Kubernetes objects by label selector (empty: all).
    fn objects(
        &self,
        kind: ObjectKind,
        namespace: &str,
        selector: &str,
    ) -> impl Future<Output = Answer<Vec<Value>>> + Send;
    /// Whether the kubelet's own health endpoint (127.0.0.1:10248/healthz) says ok.
    fn kubelet_healthy(&self) -> impl Future<Output = Answer<bool>> + Send;
    /// Whether this file, which may be the kubelet's own link to its newest, holds a whole certificate; of what is in it
    /// nothing is told.
    fn has_certificate(&self, path: &Path) -> impl Future<Output = Answer<bool>> + Send;
    /// The last line, at most 400 characters, that a container of a pod wrote before it ended the last time; none when
    /// nobody knows it any more. Only on a control-plane node.
    fn last_line_of_ended_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> impl Future<Output = Answer<Option<String>>> + Send;
    /// What the kubelet, and systemd about it, wrote into the journal since then; at most 4 MiB, oldest first. Nothing when
    /// there is no journal.
    fn kubelet_journal(&self, since: Timestamp) -> impl Future<Output = Answer<Vec<JournalLine>>> + Send;
}

/// What a web server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// The beginning of the body, at most 4 KiB, as it came: with the lengths between its parts if it came in chunks.
    pub text: String,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// `02:42:ac:11:00:02`; empty when it has none.
    pub hardware_address: String,
    pub addresses: Vec<IpAddr>,
}

/// A file system, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    pub total: u64,
    /// For programs that are not root's.
    pub available: u64,
}

/// Which of the two packet filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// A systemd unit as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// LoadState is `loaded` or `masked`: a file for it exists.
    pub exists: bool,
    /// ActiveState is `active`, `activating` or `reloading`.
    pub active: bool,
    /// UnitFileState: enabled, disabled, masked, static, generated, ...; empty when there is none.
    pub file_state: String,
    /// ActiveState and SubState for evidence, for instance `failed (failed)`.
    pub state: String,
    /// When it became inactive last: what it said after that it said in its present life. None when it never was.
    pub inactive_at: Option<Timestamp>,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLine {
    pub time: Timestamp,
    pub message: String,
}

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitedContainer {
    /// In its pod: `kube-apiserver`.
    pub name: String,
    pub exit_code: i64,
    pub last_lines: Vec<String>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodContainer {
    /// The runtime's own, in full length.
    pub id: String,
    /// As the runtime's own command shows it.
    pub name: String,
    pub state: ContainerState,
}

/// Whether a container has a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Also one that is paused, or in the middle of its removal.
    Running,
    Ended,
}

/// A program that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    /// The program's name as the kernel cuts it.
    pub process: String,
    pub pid: u32,
}

/// A passwd entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: UserName,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

/// What a container runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFacts {
    pub version: String,
    /// In effect; none: it does not tell.
    pub cgroup_driver: Option<CgroupDriver>,
    /// The image of the pause container that it starts pods with; none: it does not tell, or the kubelet decides.
    pub sandbox_image: Option<String>,
    /// How the interface that the kubelet speaks to stands.
    pub cri: Cri,
    /// Where its images and containers lie.
    pub root: PathBuf,
    /// Its settings were not written after it started.
    pub settings_in_effect: bool,
}

/// The Container Runtime Interface of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cri {
    On,
    /// Its settings disable it.
    Off,
    /// It does not come up: the runtime's own words.
    Failed(String),
}

/// What a runtime is wanted to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeWish {
    /// None: whatever it uses.
    pub cgroup_driver: Option<CgroupDriver>,
    /// The pause image that kubeadm brings; none: not known.
    pub sandbox_image: Option<ImageReference>,
}

/// How a runtime's settings on disk compare with what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeSettings {
    Fit,
    /// The file with what is wanted in it, everything else kept; and whether a runtime that runs has to start anew for it.
    Rewrite {
        path: PathBuf,
        content: String,
        restart: bool,
    },
    /// Nothing that may be written here would help.
    Unfit(Complaint),
}

/// The Kubernetes programs that a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KubernetesProgram {
    Kubeadm,
    Kubelet,
    Kubectl,
}

impl KubernetesProgram {
    pub const ALL: [Self; 3] = [Self::Kubeadm, Self::Kubelet, Self::Kubectl];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kubeadm => "kubeadm",
            Self::Kubelet => "kubelet",
            Self::Kubectl => "kubectl",
        }
    }
}

/// Whether a Node object's Ready condition is True.
pub fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// The name in an object's metadata.
pub fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The objects by their names, so that N of them are asked for N names at the cost of N.
pub fn by_name(objects: &[Value]) -> BTreeMap<&str, &Value> {
    objects.iter().map(|object| (name_of(object), object)).collect()
}

/// Which of the names have no Node object.
pub fn lacking<'a>(nodes: &[Value], names: &'a [NodeName]) -> Vec<&'a NodeName> {
    let nodes = by_name(nodes);
    names.iter().filter(|name| !nodes.contains_key(name.as_str())).collect()
}
