//! The real host: the only place that starts programs, writes files of the host and makes calls that change it.
//! Clippy forbids the doors everywhere else (clippy.toml).
#![allow(clippy::disallowed_methods, reason = "this is the one door to the host")]

mod answers;
mod bus;
mod child;
mod errand;
mod etcd_data;
mod evidence;
mod files;
mod http;
mod kernel;
pub(in crate::host) mod kubelet_certificate;
mod listeners;
mod look;
mod make;
mod network;
mod obstacles;
mod output;
mod plain_file;
mod programs;
mod reach;
mod result;
pub(crate) mod runtime;
mod transient;
mod units;
pub mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::cluster::kubernetes::Kubernetes;
use answers::Answers;
use transient::Transient;

/// The host that the agent runs on.
#[derive(Debug, Clone)]
pub struct SystemHost {
    /// `/`, or a folder that stands for it in tests of file access.
    root: PathBuf,
    /// The agent's own binary, also when its file was replaced meanwhile.
    own_binary: PathBuf,
    transient: Transient,
    kubernetes: Kubernetes,
    answers: Answers,
    /// Set once the errands of an earlier life of the agent are over.
    left: Arc<OnceCell<()>>,
}

impl SystemHost {
    pub fn new() -> Self {
        Self::below(Path::new("/"))
    }

    /// With all files below a folder. Programs, units and users are the real host's all the same.
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            own_binary: "/proc/self/exe".into(),
            transient: Transient { folder: root.join("run/muster-agent/output") },
            kubernetes: Kubernetes::new(root.join("etc/kubernetes/admin.conf")),
            answers: Answers::default(),
            left: Arc::default(),
        }
    }

    /// An absolute path of the host as it is reached from here.
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Default for SystemHost {
    fn default() -> Self {
        Self::new()
    }
}
