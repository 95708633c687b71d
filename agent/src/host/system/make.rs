//! Changing the real host.

use std::path::Path;
use std::time::Instant;

use muster_proto::event::Outcome;
use muster_proto::kubernetes::files::ETCD_MEMBER;
use serde_json::Value;

use super::{SystemHost, errand, etcd_data, files, units};
use crate::host::change::{Applied, Change, ChangeId, Host};
use crate::host::{HostError, before};

impl Host for SystemHost {
    async fn before(&self, change: &Change) -> Result<Option<Value>, HostError> {
        let mode = match change {
            Change::WriteFile { path, .. } | Change::RemoveFile { path } => {
                files::mode(self.path(path)).await?
            }
            Change::WriteUserFile { user, path, .. } | Change::RemoveUserFile { user, path } => {
                self.user_file_mode(user, path).await?
            }
            _ => None,
        };
        before::image(self, change, mode).await
    }

    async fn apply(&self, change: &Change, id: &ChangeId) -> Result<Applied, HostError> {
        let begun = Instant::now();
        match change {
            Change::Run(program) => return self.transient.run(id, program).await,
            Change::WriteFile { path, content, mode, .. } => {
                files::write(self.path(path), content.clone(), *mode).await?;
            }
            Change::RemoveFile { path } => files::remove(self.path(path)).await?,
            Change::RemoveEtcdData => etcd_data::remove(self.path(Path::new(ETCD_MEMBER))).await?,
            Change::SetHostname { name } => self.set_hostname(name).await?,
            Change::SwapOff { device } => self.swap_off(device).await?,
            Change::SetSysctl { key, value } => self.set_sysctl(key, value).await?,
            Change::Unit { unit, action } => units::act(unit, *action).await?,
            Change::ReloadUnits => units::reload().await?,
            Change::WriteUserFile { user, path, content, mode, .. } => {
                self.write_user_file(user, path, content, *mode).await?;
            }
            Change::RemoveUserFile { user, path } => self.remove_user_file(user, path).await?,
            Change::RemoveTaints { node, keys } => self.kubernetes.remove_taints(node, keys).await?,
            Change::DeleteObject { kind, namespace, name } => {
                self.kubernetes.delete(*kind, namespace, name).await?;
            }
        }
        let duration_ms = begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        Ok(Applied {
            made: true,
            outcome: Outcome { duration_ms, ..Outcome::default() },
            ..Applied::default()
        })
    }

    async fn attach(&self, id: &ChangeId) -> Result<Option<Applied>, HostError> {
        self.transient.attach(id).await
    }

    async fn earlier_ended(&self) {
        self.left.get_or_init(errand::clear_left).await;
    }

    async fn forget(&self, id: &ChangeId) -> Result<(), HostError> {
        self.transient.forget(id).await
    }
}
