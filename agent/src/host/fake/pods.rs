//! The containers that the fake kubelet starts: the runtime knows them, the kernel their processes, and they take their ports.

use std::path::Path;

use super::State;
use crate::host::query::{ContainerState, Listener, PodContainer};

/// The component and the ports that it listens on.
pub(super) const CONTROL_PLANE: [(&str, &[u16]); 4] = [
    ("kube-apiserver", &[6443]),
    ("kube-controller-manager", &[10257]),
    ("kube-scheduler", &[10259]),
    ("etcd", &[2379, 2380]),
];
pub(super) const KUBE_PROXY: (&str, &[u16]) = ("kube-proxy", &[10249]);

impl State {
    /// Starts a container as dockershim names it; its process listens on these ports.
    pub fn start_container(&mut self, component: &str, ports: &[u16]) {
        let number = 4001 + self.pod_containers.len();
        let (id, pid) = (format!("{number:064x}"), number as u32);
        let name = format!("k8s_{component}_{component}-{}_kube-system_1_0", self.hostname);
        self.put(format!("/proc/{pid}/cgroup"), format!("0::/kubepods/burstable/pod1/{id}\n"));
        self.put(format!("/proc/{pid}/comm"), format!("{}\n", &component[..component.len().min(15)]));
        let process = component.chars().take(15).collect::<String>();
        self.listeners.extend(ports.iter().map(|port| Listener {
            port: *port,
            process: process.clone(),
            pid,
        }));
        self.pod_containers.push(PodContainer { id, name, state: ContainerState::Running });
    }

    /// Whether one of them holds its ports.
    pub(super) fn runs_containers(&self) -> bool {
        self.pod_containers.iter().any(|container| container.state == ContainerState::Running)
    }

    /// Ends and removes them; false where the runtime is not allowed to.
    pub fn remove_containers(&mut self) -> bool {
        if self.containers_stay && self.runs_containers() {
            return false;
        }
        for container in std::mem::take(&mut self.pod_containers) {
            self.end_process_of(&container.id);
        }
        true
    }

    /// The machine starts anew: no process is left, and nobody starts the containers again.
    pub fn end_containers(&mut self) {
        let ids: Vec<String> = self.pod_containers.iter().map(|one| one.id.clone()).collect();
        ids.iter().for_each(|id| self.end_process_of(id));
        self.pod_containers.iter_mut().for_each(|container| container.state = ContainerState::Ended);
    }

    fn end_process_of(&mut self, container: &str) {
        let pid = u32::from_str_radix(container, 16).unwrap_or_default();
        self.files.retain(|path, _| !path.starts_with(Path::new(&format!("/proc/{pid}"))));
        self.listeners.retain(|listener| listener.pid != pid);
    }
}
