//! Whose a process is, by its control group: a pod's, a unit's of systemd. The kernel tells it of every process, also of one
//! that the container runtime lost, and whatever runtime that is.

use std::path::Path;

use super::HostError;
use super::query::ObserveSystem;

/// The kubelet's root of all pods' control groups, by its two drivers (kubelet, `--cgroup-root` and `--cgroup-driver`). One
/// further down belongs to a kubelet inside a container, such as kind's.
const PODS: [&str; 2] = ["/kubepods/", "/kubepods.slice/"];

/// Who runs a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A container of a pod, by the runtime's id of it.
    Pod {
        container: String,
    },
    /// A unit of systemd, such as etcd.service.
    Unit(String),
    Other,
}

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodProcess {
    pub pid: u32,
    pub name: String,
    pub container: String,
}

impl Owner {
    /// Of /proc/PID/cgroup: `HIERARCHY:CONTROLLERS:PATH` a line, of which the first that tells counts.
    pub(crate) fn of(cgroup: &str) -> Self {
        let paths = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        if let Some(path) = paths().find(|path| PODS.iter().any(|root| path.starts_with(root))) {
            return Self::Pod { container: container_of(path) };
        }
        let unit = |path: &str| path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned);
        paths().find_map(unit).map_or(Self::Other, Self::Unit)
    }

    pub(crate) async fn of_process<H: ObserveSystem>(host: &H, pid: u32) -> Self {
        Self::of(&of_process(host, pid, "cgroup").await)
    }
}

/// `ID`, `docker-ID.scope`, `cri-containerd-ID.scope`.
fn container_of(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let last = last.strip_suffix(".scope").unwrap_or(last);
    last.rsplit('-').next().unwrap_or_default().to_owned()
}

/// What the kernel says of a process; empty when it ended meanwhile.
async fn of_process<H: ObserveSystem>(host: &H, pid: u32, what: &str) -> String {
    let path = format!("/proc/{pid}/{what}");
    host.read_file(Path::new(&path)).await.ok().flatten().unwrap_or_default()
}

/// The processes of pods that are alive.
pub(crate) async fn pod_processes<H: ObserveSystem>(host: &H) -> Result<Vec<PodProcess>, HostError> {
    let mut found = Vec::new();
    for pid in host.list_folder(Path::new("/proc")).await?.iter().filter_map(|name| name.parse().ok()) {
        if let Owner::Pod { container } = Owner::of_process(host, pid).await {
            let name = of_process(host, pid, "comm").await.trim_end().to_owned();
            found.push(PodProcess { pid, name, container });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    #[test]
    fn a_process_is_a_pods_or_a_units_by_its_control_group() {
        let id = "0123456789abcdef";
        for (cgroup, expected) in [
            (format!("0::/kubepods/besteffort/pod1-2/{id}\n"), Some(id)),
            (format!("12:pids:/kubepods/burstable/pod1/{id}\n1:name=systemd:/x\n"), Some(id)),
            (format!("0::/kubepods.slice/kubepods-pod1.slice/docker-{id}.scope\n"), Some(id)),
            (format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"), Some(id)),
            (format!("0::/docker/1/kubelet.slice/kubelet-kubepods.slice/docker-{id}.scope\n"), None),
            (format!("0::/docker/1/kubepods/pod1/{id}\n"), None),
            ("0::/user.slice\n".into(), None),
        ] {
            let expected = expected.map_or(Owner::Other, |id| Owner::Pod { container: id.into() });
            assert_eq!(Owner::of(&cgroup), expected, "{cgroup}");
        }
        for cgroup in
            ["0::/system.slice/etcd.service\n", "3:cpu:/\n1:name=systemd:/system.slice/etcd.service/x\n"]
        {
            assert_eq!(Owner::of(cgroup), Owner::Unit("etcd.service".into()));
        }
    }

    #[tokio::test]
    async fn processes_of_pods_are_found_among_all_others() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/proc/1/cgroup", "0::/init.scope\n");
        host.put_file("/proc/4711/cgroup", "0::/kubepods/pod1/abc\n");
        host.put_file("/proc/4711/comm", "etcd\n");
        let etcd = PodProcess { pid: 4711, name: "etcd".into(), container: "abc".into() };
        assert_eq!(pod_processes(&host).await.unwrap(), [etcd]);
    }
}
