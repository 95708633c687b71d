//! The fake host's container runtimes: each reads its settings when it starts, and says what they made of it. They share
//! their images, so that the same test can be made with either.

use std::path::{Path, PathBuf};

use muster_proto::kubernetes::runtime::{CgroupDriver, RuntimeName};
use serde_json::{Value, json};

use super::{FakeHost, State};
use crate::host::HostError;
use crate::host::query::{
    Cri, ExitedContainer, ObserveRuntime, PodContainer, RuntimeFacts, RuntimeSettings, RuntimeWish,
};
use crate::host::system::runtime::containerd_settings::{self, Said};
use crate::host::system::runtime::{docker_settings, root_of};

type Answer<T> = Result<T, HostError>;

/// What containerd 2.4 starts pods with unless it is told otherwise.
const SANDBOX: &str = "registry.k8s.io/pause:3.10.2";

impl ObserveRuntime for FakeHost {
    async fn runtime(&self, name: RuntimeName) -> Answer<Option<RuntimeFacts>> {
        Ok(self.state().runtimes.get(&name).cloned())
    }

    async fn runtime_settings(
        &self,
        name: RuntimeName,
        wanted: &RuntimeWish,
        running: Option<&RuntimeFacts>,
    ) -> Answer<RuntimeSettings> {
        let file = self.file(name.row().settings);
        Ok(match name {
            RuntimeName::Docker => {
                let unit_files = self.state().unit_files("docker.service");
                let environment = docker_settings::environment_files(&unit_files).into_iter();
                let environment: Vec<_> =
                    environment.filter_map(|path| self.file(&path).map(|text| (path, text))).collect();
                docker_settings::decide(file.as_deref(), &unit_files, &environment, wanted, running)
            }
            RuntimeName::Containerd => {
                containerd_settings::decide(file.as_deref(), &merged(file.as_deref()), &[], wanted)
            }
        })
    }

    async fn runtime_root(&self, name: RuntimeName) -> Answer<PathBuf> {
        Ok(root_of(name, &self.file(name.row().settings).unwrap_or_default()))
    }

    async fn images(&self, _: RuntimeName) -> Answer<Vec<String>> {
        Ok(self.state().images.iter().cloned().collect())
    }

    async fn exited_containers(&self, name: RuntimeName) -> Answer<Vec<ExitedContainer>> {
        let state = self.state();
        Ok(if state.runtimes.contains_key(&name) { state.exited_containers.clone() } else { Vec::new() })
    }

    async fn pod_containers(&self, name: RuntimeName) -> Answer<Vec<PodContainer>> {
        let state = self.state();
        Ok(if state.runtimes.contains_key(&name) { state.pod_containers.clone() } else { Vec::new() })
    }
}

/// What `containerd config dump` prints of its settings.
fn merged(file: Option<&str>) -> Result<String, String> {
    let said = Said::parse(file.unwrap_or_default())
        .map_err(|error| format!("containerd: failed to load TOML: {error}"))?;
    let disabled = if said.disables_cri() { "\"io.containerd.grpc.v1.cri\"" } else { "" };
    let systemd = said.driver("runc") == Some(CgroupDriver::Systemd);
    let mut programs = said.cni_programs();
    if programs.is_empty() {
        programs.push("/opt/cni/bin");
    }
    Ok(format!(
        "version = 4\ndisabled_plugins = [{disabled}]\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '{}'\n\
         [plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = {programs:?}\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = {systemd}\n",
        said.sandbox().unwrap_or(SANDBOX)
    ))
}

impl State {
    /// A containerd 2.4 beside or instead of Docker, running as its file says.
    pub fn run_containerd(&mut self) {
        let unit = super::stock::unit(true, "enabled");
        self.units.insert(RuntimeName::Containerd.row().unit.to_owned(), unit);
        self.runtime_ran(RuntimeName::Containerd, true);
    }

    /// One that was started reads its settings; one that was stopped says nothing.
    pub(super) fn runtime_ran(&mut self, name: RuntimeName, active: bool) {
        let facts = active.then(|| match name {
            RuntimeName::Docker => Some(self.docker()),
            RuntimeName::Containerd => self.containerd(),
        });
        match facts.flatten() {
            Some(facts) => self.runtimes.insert(name, facts),
            None => self.runtimes.remove(&name),
        };
    }

    pub(super) fn docker(&self) -> RuntimeFacts {
        let held = self.files.get(Path::new(RuntimeName::Docker.row().settings));
        let settings: Value =
            held.and_then(|file| serde_json::from_str(&file.content).ok()).unwrap_or_else(|| json!({}));
        let systemd = settings["exec-opts"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == "native.cgroupdriver=systemd"));
        RuntimeFacts {
            version: "20.10.24+dfsg1".to_owned(),
            cgroup_driver: Some(if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }),
            sandbox_image: None,
            cri: Cri::On,
            root: settings["data-root"].as_str().unwrap_or("/var/lib/docker").into(),
            settings_in_effect: true,
        }
    }

    /// None: it does not start with such a file.
    fn containerd(&self) -> Option<RuntimeFacts> {
        let held = self.files.get(Path::new(RuntimeName::Containerd.row().settings));
        let said = Said::parse(&merged(held.map(|file| file.content.as_str())).ok()?).ok()?;
        Some(RuntimeFacts {
            version: "2.4.2".to_owned(),
            cgroup_driver: said.driver("runc"),
            sandbox_image: said.sandbox().map(str::to_owned),
            cri: if said.disables_cri() { Cri::Off } else { Cri::On },
            root: "/var/lib/containerd".into(),
            settings_in_effect: true,
        })
    }

    /// A unit's own file and its drop-ins.
    fn unit_files(&self, unit: &str) -> Vec<(PathBuf, String)> {
        let own = Path::new("/lib/systemd/system").join(unit);
        let folder = Path::new("/etc/systemd/system").join(format!("{unit}.d"));
        let of_unit = |path: &Path| path == own || path.starts_with(&folder);
        let mut files: Vec<_> = self.files.iter().filter(|(path, _)| of_unit(path)).collect();
        files.sort_by_key(|(path, _)| (**path != own, (*path).clone()));
        files.into_iter().map(|(path, file)| (path.clone(), file.content.clone())).collect()
    }
}
