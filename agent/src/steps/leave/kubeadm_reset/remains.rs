//! What of a cluster is alive on this host once kubeadm's files are gone: containers and processes of pods, a kubelet that
//! listens, mounts. kubeadm only warns of what it could not end (1.20.2, phases/reset/cleanupnode.go), and then forgets it.

use std::collections::BTreeSet;
use std::path::Path;

use muster_proto::event::Complaint;
use muster_proto::kubernetes::files::KUBELET_FOLDER;
use muster_proto::kubernetes::runtime::RuntimeName;

use crate::cluster::kubelet;
use crate::engine::inspect::listening_ports;
use crate::host::HostError;
use crate::host::owner::{PodProcess, pod_processes};
use crate::host::query::{ContainerState, Listener, Observe, PodContainer};

/// The kubelet's API and its health endpoint; one that waits to be configured listens on neither.
const KUBELET_PORTS: [u32; 2] = [10250, 10248];
/// Where every mount is a pod's, besides the kubelet's folder: volumes, wherever that folder leads to, and containerd's
/// sandboxes and containers of Kubernetes.
const MOUNTS: [&str; 3] = [
    "/volumes/kubernetes.io~",
    "/io.containerd.grpc.v1.cri/sandboxes/",
    "/io.containerd.runtime.v2.task/k8s.io/",
];
/// Of each kind this many are named.
const MOST: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Remains {
    containers: Vec<(RuntimeName, PodContainer)>,
    processes: Vec<PodProcess>,
    kubelet_listens: bool,
    mounts: Vec<String>,
    /// Whose ports are taken; asked for only where something is left.
    listeners: Vec<Listener>,
}

impl Remains {
    pub(super) async fn look<H: Observe>(host: &H) -> Result<Self, HostError> {
        let mut remains = Self { processes: pod_processes(host).await?, ..Self::default() };
        for runtime in RuntimeName::ALL {
            let containers = host.pod_containers(runtime).await?.into_iter();
            remains.containers.extend(containers.map(|container| (runtime, container)));
        }
        let text =
            async |path: &str| host.read_file(Path::new(path)).await.ok().flatten().unwrap_or_default();
        let listening = [text("/proc/net/tcp").await, text("/proc/net/tcp6").await];
        let mut ports = listening.iter().flat_map(|table| listening_ports(table));
        remains.kubelet_listens =
            ports.any(|port| KUBELET_PORTS.contains(&port)) && host.unit(kubelet::UNIT).await?.active;
        let table = text("/proc/self/mountinfo").await;
        // One that is shared stands there more than once.
        let places: BTreeSet<&str> = mount_points(&table).filter(|mount| remains.is_of_pods(mount)).collect();
        remains.mounts = places.into_iter().map(str::to_owned).collect();
        if remains.is_alive() {
            // For the words alone.
            remains.listeners = host.listeners().await.unwrap_or_default();
        }
        Ok(remains)
    }

    fn is_of_pods(&self, mount: &str) -> bool {
        let below = mount.strip_prefix(KUBELET_FOLDER).is_some_and(|rest| rest.starts_with('/'));
        let of_container = |(_, container): &(_, PodContainer)| mount.contains(&container.id);
        below || MOUNTS.iter().any(|part| mount.contains(part)) || self.containers.iter().any(of_container)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.containers.is_empty() && !self.is_alive()
    }

    /// Which runtime holds containers, the one with a running one first.
    pub(super) fn runtime(&self) -> Option<RuntimeName> {
        self.running().chain(&self.containers).next().map(|(runtime, _)| *runtime)
    }

    /// Whether more is left than containers that ended, which hold neither a port nor a mount.
    pub(super) fn is_alive(&self) -> bool {
        let live = self.running().next().is_some() || !self.processes.is_empty();
        live || self.kubelet_listens || !self.mounts.is_empty()
    }

    fn running(&self) -> impl Iterator<Item = &(RuntimeName, PodContainer)> {
        self.containers.iter().filter(|(_, container)| container.state == ContainerState::Running)
    }

    /// `3 containers run, 1 process of pods lives, ...`
    pub(super) fn in_short(&self) -> String {
        let count = |number: usize, one: &str, many: &str| match number {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{number} {many}")),
        };
        let running = self.running().count();
        let strays = self.strays().count();
        let parts = [
            count(running, "container of a pod runs", "containers of pods run"),
            count(strays, "process of a pod lives", "processes of pods live"),
            count(self.containers.len() - running, "ended container is left", "ended containers are left"),
            self.kubelet_listens.then(|| "the kubelet listens".to_owned()),
            count(self.mounts.len(), "mount is left", "mounts are left"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Processes whose container no runtime knows.
    fn strays(&self) -> impl Iterator<Item = &PodProcess> {
        let is_known = |id: &str| self.containers.iter().any(|(_, container)| container.id == id);
        self.processes.iter().filter(move |process| !is_known(&process.container))
    }

    /// What is left, a line each: containers by name, with the ports that they hold.
    pub(super) fn lines(&self) -> Vec<String> {
        let ports = |of: &dyn Fn(&Listener) -> bool| {
            let held: Vec<String> =
                self.listeners.iter().filter(|one| of(one)).map(|one| one.port.to_string()).collect();
            match held.is_empty() {
                true => String::new(),
                false => format!(", listens on {}", held.join(", ")),
            }
        };
        let of_container = |listener: &Listener, id: &str| {
            self.processes.iter().any(|process| process.pid == listener.pid && process.container == id)
        };
        let mut lines = Vec::new();
        let containers = self.containers.iter().map(|(runtime, container)| {
            let state = match container.state {
                ContainerState::Running => "runs",
                ContainerState::Ended => "ended",
            };
            let held = ports(&|listener| of_container(listener, &container.id));
            format!("{runtime}: {} {state}{held}", container.name)
        });
        lines.extend(at_most(containers));
        let strays = self.strays().map(|process| {
            let held = ports(&|listener| listener.pid == process.pid);
            format!("process {} ({}) of a container that no runtime knows{held}", process.pid, process.name)
        });
        lines.extend(at_most(strays));
        if self.kubelet_listens {
            lines.push(format!("{} is active and listens", kubelet::UNIT));
        }
        lines.extend(at_most(self.mounts.iter().map(|mount| format!("mounted: {mount}"))));
        lines
    }

    /// What to say when `kubeadm reset` ended, with these warnings, and all this is still there.
    pub(super) fn complaint(&self, warnings: &[String]) -> Complaint {
        let cause =
            format!("kubeadm reset ended, but not everything of the cluster did: {}", self.in_short());
        let mut evidence: Vec<String> =
            warnings.iter().map(|line| format!("kubeadm reset said: {line}")).collect();
        evidence.extend(self.lines());
        let mut remedy = Vec::new();
        if self.running().next().is_some() || !self.processes.is_empty() {
            let mut units: Vec<&str> = self.running().map(|(runtime, _)| runtime.row().unit).collect();
            units.dedup();
            let stop = match units[..] {
                [] => "start the machine anew".to_owned(),
                _ => format!("`sudo systemctl stop {}` and start the machine anew", units.join(" ")),
            };
            remedy.push(format!(
                "if `sudo dmesg | grep -i 'apparmor.*denied'` shows that AppArmor keeps them from being ended: \
                 `sudo aa-remove-unknown`; otherwise {stop}"
            ));
        }
        if self.kubelet_listens {
            remedy.push(format!("`sudo systemctl stop {}`", kubelet::UNIT));
        }
        if let Some(mount) = self.mounts.first() {
            remedy.push(format!(
                "`sudo fuser -vm {mount}` names who holds a mount, `sudo umount {mount}` ends it"
            ));
        }
        remedy.push(
            "then the same reset again: it ends what is left, and nothing is undone or revoked before".into(),
        );
        Complaint::new(cause, evidence.join("\n"), remedy.join("\n"))
    }
}

fn at_most(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("... and {more} more"));
    }
    lines
}

/// The fifth column of /proc/self/mountinfo, of which the agent's own view gets every mount of the host (proc(5)); blanks
/// in it stand there as octal escapes.
fn mount_points(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| line.split_whitespace().nth(4))
}
