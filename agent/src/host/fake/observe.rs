//! Looking at the fake host.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use muster_proto::names::{ImageReference, KubernetesVersion, NodeName, UserName};
use serde_json::Value;

use super::FakeHost;
use super::cluster::ClusterState;
use super::stock::stock_images;
use crate::host::HostError;
use crate::host::obstacle::Obstacle;
use crate::host::query::{
    Disk, Family, Interface, JournalLine, KubernetesProgram, Listener, ObjectKind, ObserveCluster,
    ObserveSystem, Page, Unit, User, name_of,
};
use crate::host::system::kubelet_certificate;

type Answer<T> = Result<T, HostError>;

impl FakeHost {
    /// The cluster through this host's admin.conf.
    pub(super) fn api<T>(&self, act: impl FnOnce(&mut ClusterState) -> T) -> Answer<T> {
        let refused = |server: &str, message: &str, transient| HostError::Kubernetes {
            server: server.to_owned(),
            message: message.to_owned(),
            transient,
        };
        if !self.state().files.contains_key(Path::new("/etc/kubernetes/admin.conf")) {
            return Err(refused("(unknown)", "this host has no /etc/kubernetes/admin.conf", false));
        }
        self.cluster.with(|cluster| match &cluster.endpoint {
            Some(endpoint) if cluster.unreachable => Err(refused(endpoint, "connection refused", true)),
            _ => Ok(act(cluster)),
        })
    }
}

impl ObserveSystem for FakeHost {
    async fn read_file(&self, path: &Path) -> Answer<Option<String>> {
        if path == Path::new("/proc/net/tcp") {
            return Ok(Some(self.file(path).unwrap_or_default() + &self.taken_ports() + &self.open_doors()));
        }
        if self.state().links.contains_key(path) {
            return Err(HostError::NotPlain { path: path.to_owned(), what: "a symbolic link" });
        }
        Ok(self.file(path))
    }

    async fn read_through(&self, path: &Path) -> Answer<Option<String>> {
        let state = self.state();
        let Some(leads_to) = state.links.get(path) else {
            return Ok(state.files.get(path).map(|file| file.content.clone()));
        };
        Ok(Some(state.files.get(leads_to).map(|file| file.content.clone()).unwrap_or_default()))
    }

    async fn list_folder(&self, path: &Path) -> Answer<Vec<String>> {
        let state = self.state();
        let mut names: Vec<String> = state
            .files
            .keys()
            .chain(state.links.keys())
            .filter_map(|file| file.strip_prefix(path).ok()?.components().next())
            .map(|first| first.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn hostname(&self) -> Answer<String> {
        Ok(self.state().hostname.clone())
    }

    async fn swaps(&self) -> Answer<Vec<PathBuf>> {
        Ok(self.state().swaps.iter().cloned().collect())
    }

    async fn sysctl(&self, key: &str) -> Answer<Option<String>> {
        Ok(self.state().sysctls.get(key).cloned())
    }

    async fn kernel_has(&self, module: &str) -> Answer<bool> {
        Ok(self.state().modules.contains(module))
    }

    async fn unit(&self, name: &str) -> Answer<Unit> {
        Ok(self
            .state()
            .units
            .get(name)
            .cloned()
            .unwrap_or_else(|| Unit { state: "inactive (dead)".to_owned(), ..Unit::default() }))
    }

    async fn unit_files(&self, name: &str) -> Answer<Vec<PathBuf>> {
        let state = self.state();
        let (own, drop_ins) =
            (format!("/usr/lib/systemd/system/{name}"), format!("/etc/systemd/system/{name}.d"));
        let of_unit = |path: &&PathBuf| path.as_path() == Path::new(&own) || path.starts_with(&drop_ins);
        let (mut own, drop_ins): (Vec<_>, Vec<_>) =
            state.files.keys().filter(of_unit).cloned().partition(|path| path.starts_with("/usr"));
        own.extend(drop_ins);
        Ok(own)
    }

    async fn unit_journal(&self, unit: &str, since: Timestamp) -> Answer<Vec<JournalLine>> {
        let lines = self.state().unit_journals.get(unit).cloned().unwrap_or_default();
        Ok(lines.into_iter().filter(|line| line.time >= since).collect())
    }

    async fn manager_environment(&self) -> Answer<Vec<String>> {
        Ok(self.state().manager_environment.clone())
    }

    async fn swap_units(&self) -> Answer<Vec<String>> {
        Ok(self.state().units.keys().filter(|name| name.ends_with(".swap")).cloned().collect())
    }

    async fn user(&self, name: &UserName) -> Answer<Option<User>> {
        let flawed = self.control().flawed_look;
        assert!(!flawed, "a flaw of the test's, in a look");
        Ok(self.state().users.get(name).cloned())
    }

    async fn user_file(&self, name: &UserName, path: &Path) -> Answer<Option<String>> {
        let state = self.state();
        Ok(state.user_files.get(&(name.clone(), path.to_owned())).map(|file| file.content.clone()))
    }

    async fn file_obstacle(&self, path: &Path) -> Answer<Option<Obstacle>> {
        Ok(self.state().obstacles.get(path).cloned())
    }

    async fn user_file_obstacle(&self, name: &UserName, path: &Path) -> Answer<Option<Obstacle>> {
        Ok(self.state().user_obstacles.get(&(name.clone(), path.to_owned())).cloned())
    }

    async fn missing_programs(&self, names: &'static [&'static str]) -> Answer<Vec<&'static str>> {
        let state = self.state();
        Ok(names.iter().copied().filter(|name| state.missing_programs.contains(*name)).collect())
    }

    /// A pod answers with its name; of several with one address, this host's own.
    async fn http_page(&self, address: SocketAddr) -> Answer<Option<Page>> {
        let state = self.state().clone();
        if state.silent.contains(&address) {
            return Ok(None);
        }
        let cluster = self.cluster.snapshot();
        let there = cluster.of_kind("Pod").filter(|pod| pod["status"]["podIP"] == address.ip().to_string());
        let nearest = there.min_by_key(|pod| pod["spec"]["nodeName"] != state.hostname.as_str());
        let own = nearest.map(|pod| name_of(pod).to_owned());
        Ok(state.pages.get(&address).cloned().or(own).map(|text| Page { status: 200, text }))
    }

    async fn packet_filter(&self, family: Family) -> Answer<Option<String>> {
        Ok(match family {
            Family::Ipv4 => Some(self.state().packet_filter.clone()),
            Family::Ipv6 => None,
        })
    }

    async fn listeners(&self) -> Answer<Vec<Listener>> {
        Ok(self.state().listeners.clone())
    }

    async fn unreachable(&self, endpoint: &str) -> Answer<Option<String>> {
        Ok(self.state().unreachable.get(endpoint).cloned())
    }

    async fn addresses(&self) -> Answer<Vec<IpAddr>> {
        Ok(self.state().addresses.clone())
    }

    async fn interfaces(&self) -> Answer<Vec<Interface>> {
        let state = self.state();
        let addresses = state.addresses.iter().copied().filter(|address| !address.is_loopback()).collect();
        let hardware_address = state.hardware_address.clone();
        Ok(vec![Interface { name: "eth0".to_owned(), hardware_address, addresses }])
    }

    async fn processors(&self) -> Answer<usize> {
        Ok(self.state().processors)
    }

    async fn disk(&self, _: &Path) -> Answer<Disk> {
        Ok(self.state().disk)
    }

    async fn systemd_version(&self) -> Answer<Option<u32>> {
        Ok(Some(252))
    }

    async fn resolve(&self, name: &NodeName) -> Answer<Vec<IpAddr>> {
        let state = self.state();
        let hosts =
            state.files.get(Path::new("/etc/hosts")).map(|file| file.content.as_str()).unwrap_or_default();
        let named = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word == name.as_str()).then_some(address)
        };
        let found: Vec<IpAddr> = hosts.lines().filter_map(named).collect();
        Ok(if found.is_empty() { state.names.get(name.as_str()).cloned().unwrap_or_default() } else { found })
    }
}

impl ObserveCluster for FakeHost {
    async fn kubernetes_version(&self, program: KubernetesProgram) -> Answer<Option<KubernetesVersion>> {
        Ok(self.state().versions.get(&program).copied())
    }

    async fn kubeadm_images(
        &self,
        version: KubernetesVersion,
        repository: Option<&str>,
    ) -> Answer<Vec<ImageReference>> {
        let images = stock_images(version, repository.unwrap_or("k8s.gcr.io")).into_iter();
        images.map(ImageReference::try_from).collect::<Result<_, _>>().map_err(|error| {
            HostError::Unexpected {
                what: "kubeadm config images list".to_owned(),
                message: error.to_string(),
            }
        })
    }

    async fn object(&self, kind: ObjectKind, namespace: &str, name: &str) -> Answer<Option<Value>> {
        self.api(|cluster| cluster.get(kind.kind(), namespace, name).cloned())
    }

    async fn objects(&self, kind: ObjectKind, namespace: &str, selector: &str) -> Answer<Vec<Value>> {
        if kind == ObjectKind::Lease {
            return self.api(|cluster| cluster.leases());
        }
        let wanted: Vec<(&str, &str)> = selector.split(',').filter_map(|part| part.split_once('=')).collect();
        let chosen = |object: &Value| {
            (namespace.is_empty() || object["metadata"]["namespace"] == namespace)
                && wanted.iter().all(|(key, value)| object["metadata"]["labels"][*key] == *value)
        };
        self.api(|cluster| {
            let chosen = cluster.of_kind(kind.kind()).filter(|object| chosen(object)).cloned();
            chosen.map(|object| cluster.with_heartbeat(object)).collect()
        })
    }

    async fn last_line_of_ended_container(&self, _: &str, pod: &str, _: &str) -> Answer<Option<String>> {
        self.api(|cluster| cluster.last_lines.get(pod).cloned())
    }

    async fn kubelet_healthy(&self) -> Answer<bool> {
        Ok(self.state().kubelet_healthy)
    }

    async fn has_certificate(&self, path: &Path) -> Answer<bool> {
        let state = self.state();
        Ok(state.files.get(path).is_some_and(|file| kubelet_certificate::is_whole(file.content.as_bytes())))
    }

    async fn kubelet_journal(&self, since: Timestamp) -> Answer<Vec<JournalLine>> {
        Ok(self.state().kubelet_journal.iter().filter(|line| line.time >= since).cloned().collect())
    }
}
