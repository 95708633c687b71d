//! Afterwards: the kernel's host name and /etc/hostname are the node's name, now and after a reboot, and cloud-init
//! does not put its own name back.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::NodeName;

use super::{BadStep, Finding, Input};
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::Observe;

pub const NAME: &str = "hostname";
pub const SETTLE: Duration = Duration::from_secs(5);

/// Only where cloud-init is installed: it would set the name of its metadata at every boot.
const CLOUD_FOLDER: &str = "/etc/cloud/cloud.cfg.d";
const CLOUD_FILE: &str = "/etc/cloud/cloud.cfg.d/99-muster.cfg";
const CLOUD_CONTENT: &str = "# Written by Muster: the node's name must survive a reboot.\npreserve_hostname: true\nmanage_etc_hosts: false\n";

#[derive(Debug, Clone)]
pub struct Hostname {
    name: NodeName,
}

impl Hostname {
    pub fn parse(message: &agent::Hostname) -> Result<Self, BadStep> {
        Ok(Self { name: message.name.parse().map_err(BadStep::field("hostname.name"))? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let mut changes = Vec::new();
        let kept = host.read_file(Path::new("/etc/hostname")).await?;
        if host.hostname().await? != self.name.as_str()
            || kept.as_deref().map(str::trim) != Some(self.name.as_str())
        {
            changes.push(Change::SetHostname { name: self.name.clone() });
        }
        let cloud_init = !host.list_folder(Path::new(CLOUD_FOLDER)).await?.is_empty();
        if cloud_init && host.read_file(Path::new(CLOUD_FILE)).await?.as_deref() != Some(CLOUD_CONTENT) {
            changes.push(Change::WriteFile {
                path: CLOUD_FILE.into(),
                content: CLOUD_CONTENT.into(),
                mode: 0o644,
            });
        }
        Ok(Finding::from_changes(changes))
    }
}
