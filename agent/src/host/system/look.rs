//! Looking at the real host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use muster_proto::names::{ImageReference, KubernetesVersion, NodeName, UserName};
use serde_json::Value;

use super::{
    SystemHost, child, errand, evidence, files, http, kubelet_certificate, listeners, network, programs,
    units,
};
use crate::host::HostError;
use crate::host::obstacle::Obstacle;
use crate::host::query::{
    Disk, Family, Interface, JournalLine, KubernetesProgram, Listener, ObjectKind, ObserveCluster,
    ObserveSystem, Page, Unit, User,
};

type Answer<T> = Result<T, HostError>;

impl ObserveSystem for SystemHost {
    async fn read_file(&self, path: &Path) -> Answer<Option<String>> {
        files::read(self.path(path)).await
    }

    async fn read_through(&self, path: &Path) -> Answer<Option<String>> {
        files::read_through(self.path(path)).await
    }

    async fn list_folder(&self, path: &Path) -> Answer<Vec<String>> {
        files::list(self.path(path)).await
    }

    async fn hostname(&self) -> Answer<String> {
        self.kernel_hostname().await
    }

    async fn swaps(&self) -> Answer<Vec<PathBuf>> {
        self.active_swaps().await
    }

    async fn sysctl(&self, key: &str) -> Answer<Option<String>> {
        self.read_sysctl(key).await
    }

    async fn kernel_has(&self, module: &str) -> Answer<bool> {
        self.has_module(module).await
    }

    async fn unit(&self, name: &str) -> Answer<Unit> {
        units::state(name).await
    }

    async fn unit_files(&self, name: &str) -> Answer<Vec<PathBuf>> {
        units::files(name).await
    }

    async fn unit_journal(&self, unit: &str, since: Timestamp) -> Answer<Vec<JournalLine>> {
        evidence::unit_journal(unit, since).await
    }

    async fn manager_environment(&self) -> Answer<Vec<String>> {
        units::manager_environment().await
    }

    async fn swap_units(&self) -> Answer<Vec<String>> {
        units::swap_units().await
    }

    async fn user(&self, name: &UserName) -> Answer<Option<User>> {
        self.passwd(name).await
    }

    async fn user_file(&self, name: &UserName, path: &Path) -> Answer<Option<String>> {
        self.read_user_file(name, path).await
    }

    async fn file_obstacle(&self, path: &Path) -> Answer<Option<Obstacle>> {
        files::obstacle(self.path(path)).await
    }

    async fn user_file_obstacle(&self, name: &UserName, path: &Path) -> Answer<Option<Obstacle>> {
        self.obstacle_of_user_file(name, path).await
    }

    async fn missing_programs(&self, names: &'static [&'static str]) -> Answer<Vec<&'static str>> {
        Ok(names.iter().copied().filter(|name| child::find(name).is_none()).collect())
    }

    async fn http_page(&self, address: SocketAddr) -> Answer<Option<Page>> {
        Ok(http::page(address, "/").await)
    }

    async fn packet_filter(&self, family: Family) -> Answer<Option<String>> {
        programs::packet_filter(family).await
    }

    async fn listeners(&self) -> Answer<Vec<Listener>> {
        listeners::listeners().await
    }

    async fn unreachable(&self, endpoint: &str) -> Answer<Option<String>> {
        Ok(evidence::unreachable(endpoint).await)
    }

    async fn addresses(&self) -> Answer<Vec<IpAddr>> {
        network::addresses()
    }

    async fn interfaces(&self) -> Answer<Vec<Interface>> {
        network::interfaces()
    }

    async fn processors(&self) -> Answer<usize> {
        Ok(std::thread::available_parallelism().map_or(1, usize::from))
    }

    async fn disk(&self, path: &Path) -> Answer<Disk> {
        files::disk(self.path(path)).await
    }

    async fn systemd_version(&self) -> Answer<Option<u32>> {
        if !errand::possible() {
            return Ok(None);
        }
        units::systemd_version().await.map(Some)
    }

    async fn resolve(&self, name: &NodeName) -> Answer<Vec<IpAddr>> {
        Ok(network::resolve(name).await)
    }
}

impl ObserveCluster for SystemHost {
    async fn kubernetes_version(&self, program: KubernetesProgram) -> Answer<Option<KubernetesVersion>> {
        programs::kubernetes_version(&self.answers, program).await
    }

    async fn kubeadm_images(
        &self,
        version: KubernetesVersion,
        repository: Option<&str>,
    ) -> Answer<Vec<ImageReference>> {
        programs::kubeadm_images(&self.answers, version, repository).await
    }

    async fn object(&self, kind: ObjectKind, namespace: &str, name: &str) -> Answer<Option<Value>> {
        self.kubernetes.object(kind, namespace, name).await
    }

    async fn objects(&self, kind: ObjectKind, namespace: &str, selector: &str) -> Answer<Vec<Value>> {
        self.kubernetes.objects(kind, namespace, selector).await
    }

    async fn last_line_of_ended_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Answer<Option<String>> {
        self.kubernetes.last_line(namespace, pod, container).await
    }

    async fn kubelet_healthy(&self) -> Answer<bool> {
        let health = SocketAddr::from((Ipv4Addr::LOCALHOST, 10248));
        Ok(http::page(health, "/healthz").await.is_some_and(|page| page.status == 200))
    }

    async fn has_certificate(&self, path: &Path) -> Answer<bool> {
        kubelet_certificate::is_there(self.path(path)).await
    }

    async fn kubelet_journal(&self, since: Timestamp) -> Answer<Vec<JournalLine>> {
        evidence::unit_journal(crate::cluster::kubelet::UNIT, since).await
    }
}
