//! A host in memory that behaves: its programs remember what they did, refuse what the real ones refuse, and write the
//! files that the real ones write. Tests use this one instead of mocks.

mod apply;
pub mod cluster;
mod kubeadm;
mod observe;
mod pods;
mod programs;
mod reach;
mod runtimes;
mod stock;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::{KubernetesVersion, UserName};
use tokio::sync::{Notify, watch};

pub use cluster::{ClusterState, FakeCluster};
pub use stock::{CA_CERTIFICATE, CA_HASH};

use super::change::ProgramName;
use super::obstacle::Obstacle;
use super::query::{
    Disk, ExitedContainer, JournalLine, KubernetesProgram, Listener, PodContainer, RuntimeFacts, Unit, User,
};

/// One host. Cheap to clone: all clones are the same host.
#[derive(Debug, Clone)]
pub struct FakeHost {
    inner: Arc<Inner>,
    pub cluster: FakeCluster,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    control: Mutex<Control>,
    died: Notify,
}

/// All that is on the host; what `snapshot` compares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub files: BTreeMap<PathBuf, File>,
    /// By user and path below the home.
    pub user_files: BTreeMap<(UserName, PathBuf), File>,
    /// Where a link leads; /dev/null and what is not there are empty.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// What keeps files of the system, and files below a home, from being written.
    pub obstacles: BTreeMap<PathBuf, Obstacle>,
    pub user_obstacles: BTreeMap<(UserName, PathBuf), Obstacle>,
    pub hostname: String,
    /// What systemd gives every service.
    pub manager_environment: Vec<String>,
    pub swaps: BTreeSet<PathBuf>,
    pub sysctls: BTreeMap<String, String>,
    pub modules: BTreeSet<String>,
    /// Modules that `modprobe` would find.
    pub loadable: BTreeSet<String>,
    pub units: BTreeMap<String, Unit>,
    pub users: BTreeMap<UserName, User>,
    pub versions: BTreeMap<KubernetesProgram, KubernetesVersion>,
    pub missing_programs: BTreeSet<String>,
    /// Those that run and answer.
    pub runtimes: BTreeMap<RuntimeName, RuntimeFacts>,
    pub images: BTreeSet<String>,
    pub kubelet_healthy: bool,
    pub addresses: Vec<IpAddr>,
    /// Of the card that has the addresses.
    pub hardware_address: String,
    pub processors: usize,
    pub disk: Disk,
    /// What DNS says, besides /etc/hosts.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// What iptables-save prints.
    pub packet_filter: String,
    /// Addresses that answer no HTTP although a pod is there.
    pub silent: BTreeSet<SocketAddr>,
    /// What answers there instead of the pod.
    pub pages: BTreeMap<SocketAddr, String>,
    pub kubelet_journal: Vec<JournalLine>,
    /// Of other units.
    pub unit_journals: BTreeMap<String, Vec<JournalLine>>,
    pub exited_containers: Vec<ExitedContainer>,
    pub pod_containers: Vec<PodContainer>,
    /// The runtime is not allowed to end a container.
    pub containers_stay: bool,
    pub listeners: Vec<Listener>,
    /// HOST:PORT that this host gets no connection to and no datagram through, and why.
    pub unreachable: BTreeMap<String, String>,
}

/// A plain file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub content: String,
    pub mode: u32,
}

/// When the agent dies in `FakeHost::crash_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing was done yet.
    BeforeEffect,
    /// A program was started and goes on without the agent; any other change is as `BeforeEffect`.
    WhileRunning,
    /// All was done, only the answer is lost.
    AfterEffect,
    /// The agent's own code panics, before anything was done.
    Panic,
}

/// What tests set and read; no part of the host.
#[derive(Debug, Default)]
struct Control {
    applied: u32,
    crash: Option<(u32, Moment)>,
    /// Looking for a user panics.
    flawed_look: bool,
    failures: Vec<(ProgramName, i32, String)>,
    runs: Vec<(ProgramName, Vec<String>)>,
    running: u32,
    overlaps: u32,
    program_takes: Duration,
    /// systemd does not answer when this program is started next, which it is all the same.
    unanswered: Option<ProgramName>,
    /// Turns true when a change that an earlier life of the agent began has ended.
    errand: Option<watch::Receiver<bool>>,
    /// By unit: programs that run or ended and were not forgotten.
    started: BTreeMap<String, watch::Receiver<Option<Ended>>>,
}

/// How a fake program ended.
#[derive(Debug, Clone, Default)]
struct Ended {
    exit_code: i32,
    standard_output: String,
    standard_error: String,
}

/// The whole of a host and its cluster, to compare before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub host: State,
    pub cluster: ClusterState,
}

impl FakeHost {
    /// A host with this state.
    pub fn new(state: State, cluster: FakeCluster) -> Self {
        let inner = Inner { state: Mutex::new(state), control: Mutex::default(), died: Notify::new() };
        Self { inner: Arc::new(inner), cluster }
    }

    /// Looks at or changes the host from a test.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state())
    }

    pub fn put_file(&self, path: impl Into<PathBuf>, content: impl Into<String>) {
        self.state().put(path, content);
    }

    /// The content of a file, none when it is not there.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<String> {
        self.state().files.get(path.as_ref()).map(|file| file.content.clone())
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { host: self.state().clone(), cluster: self.cluster.snapshot() }
    }

    /// How often a program was started.
    pub fn runs(&self, program: ProgramName) -> usize {
        self.control().runs.iter().filter(|(name, _)| *name == program).count()
    }

    /// Every start of a program with its arguments, in order.
    pub fn run_log(&self) -> Vec<String> {
        let line = |(name, arguments): &(ProgramName, Vec<String>)| {
            format!("{} {}", name.name(), arguments.join(" "))
        };
        self.control().runs.iter().map(line).collect()
    }

    /// How often a program was started while another still ran on this host.
    pub fn overlaps(&self) -> u32 {
        self.control().overlaps
    }

    /// How many changes were asked for.
    pub fn applied(&self) -> u32 {
        self.control().applied
    }

    /// The next run of this program that has no other failure before it ends so, without any effect.
    pub fn fail_next(&self, program: ProgramName, exit_code: i32, standard_error: impl Into<String>) {
        self.control().failures.push((program, exit_code, standard_error.into()));
    }

    /// systemd starts this program when it is asked next, and does not answer.
    pub fn answer_is_lost(&self, program: ProgramName) {
        self.control().unanswered = Some(program);
    }

    /// The agent dies in the n-th change from the beginning (the first is 1): that `apply` never returns, `died` does.
    /// A new engine over the same host is the agent's next life.
    pub fn crash_at(&self, nth: u32, moment: Moment) {
        self.control().crash = Some((nth, moment));
    }

    /// Every look for a user panics, or none does.
    pub fn panic_when_looking_for_users(&self, panics: bool) {
        self.control().flawed_look = panics;
    }

    /// Returns when the agent died of `crash_at`.
    pub async fn died(&self) {
        self.inner.died.notified().await;
    }

    /// How long every program takes from now on.
    pub fn programs_take(&self, duration: Duration) {
        self.control().program_takes = duration;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.inner.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// Puts a file of mode 0644 there.
    pub fn put(&mut self, path: impl Into<PathBuf>, content: impl Into<String>) {
        self.files.insert(path.into(), File { content: content.into(), mode: 0o644 });
    }

    /// The address that the host would announce: its first that is not loopback.
    fn address(&self) -> String {
        self.addresses
            .iter()
            .find(|address| !address.is_loopback())
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}
