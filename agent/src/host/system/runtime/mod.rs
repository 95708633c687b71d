//! The container runtimes: each answers the same questions, and nothing outside of here knows how it is asked.

mod containerd;
pub(crate) mod containerd_settings;
mod docker;
pub(crate) mod docker_settings;
mod socket;

use std::path::{Path, PathBuf};

use muster_proto::kubernetes::runtime::RuntimeName;

use super::SystemHost;
use crate::host::HostError;
use crate::host::query::{
    ExitedContainer, ObserveRuntime, PodContainer, RuntimeFacts, RuntimeSettings, RuntimeWish,
};

type Answer<T> = Result<T, HostError>;

/// Of ended containers this many are asked for their last lines, and for this many lines.
const MOST_CONTAINERS: usize = 8;
const LAST_LINES: usize = 8;

impl SystemHost {
    /// What stands in these files. Some of systemd's may lie where the agent reads nothing: those say nothing here.
    async fn texts(&self, paths: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
        let mut texts = Vec::new();
        for path in paths {
            let text = super::files::read(self.path(&path)).await.ok().flatten();
            texts.push((path, text.unwrap_or_default()));
        }
        texts
    }
}

/// Where its data lies by its own settings, or by default.
pub(crate) fn root_of(name: RuntimeName, settings: &str) -> PathBuf {
    let set = match name {
        RuntimeName::Docker => docker_settings::root(settings),
        RuntimeName::Containerd => containerd_settings::root(settings),
    };
    set.unwrap_or_else(|| name.row().root.into())
}

impl ObserveRuntime for SystemHost {
    async fn runtime(&self, name: RuntimeName) -> Answer<Option<RuntimeFacts>> {
        match name {
            RuntimeName::Docker => docker::facts().await,
            RuntimeName::Containerd => containerd::facts(self).await,
        }
    }

    async fn runtime_settings(
        &self,
        name: RuntimeName,
        wanted: &RuntimeWish,
        running: Option<&RuntimeFacts>,
    ) -> Answer<RuntimeSettings> {
        let row = name.row();
        let file = super::files::read(self.path(row.settings)).await?;
        match name {
            RuntimeName::Docker => {
                let unit_files = self.texts(super::units::files(row.unit).await?).await;
                let environment = self.texts(docker_settings::environment_files(&unit_files)).await;
                Ok(docker_settings::decide(file.as_deref(), &unit_files, &environment, wanted, running))
            }
            RuntimeName::Containerd => {
                let merged = containerd::merged_settings(file.is_some()).await?;
                let mut imports = Vec::new();
                for pattern in containerd_settings::imports(&merged, Path::new(row.settings)) {
                    let (Some(folder), Some(wanted)) = (pattern.parent(), pattern.file_name()) else {
                        continue;
                    };
                    for name in super::files::list(self.path(folder)).await? {
                        if containerd_settings::matches(&wanted.to_string_lossy(), &name) {
                            let path = folder.join(&name);
                            let text = super::files::read(self.path(&path)).await?.unwrap_or_default();
                            imports.push((path, text));
                        }
                    }
                }
                Ok(containerd_settings::decide(file.as_deref(), &merged, &imports, wanted))
            }
        }
    }

    async fn runtime_root(&self, name: RuntimeName) -> Answer<PathBuf> {
        Ok(root_of(name, &super::files::read(self.path(name.row().settings)).await?.unwrap_or_default()))
    }

    async fn images(&self, name: RuntimeName) -> Answer<Vec<String>> {
        match name {
            RuntimeName::Docker => docker::images().await,
            RuntimeName::Containerd => containerd::images(self).await,
        }
    }

    async fn exited_containers(&self, name: RuntimeName) -> Answer<Vec<ExitedContainer>> {
        match name {
            RuntimeName::Docker => docker::exited_containers().await,
            RuntimeName::Containerd => containerd::exited_containers(self).await,
        }
    }

    async fn pod_containers(&self, name: RuntimeName) -> Answer<Vec<PodContainer>> {
        match name {
            RuntimeName::Docker => docker::pod_containers().await,
            RuntimeName::Containerd => containerd::pod_containers(self).await,
        }
    }
}
