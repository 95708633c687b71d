//! Afterwards: the kernel's host name and /etc/hostname are the node's name, now and after a reboot, and cloud-init
//! does not put its own name back.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::NodeName;

use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input};

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
            changes.push(Change::SetHostname { name: (&self.name).into() });
        }
        let cloud_init = !host.list_folder(Path::new(CLOUD_FOLDER)).await?.is_empty();
        if cloud_init && host.read_file(Path::new(CLOUD_FILE)).await?.as_deref() != Some(CLOUD_CONTENT) {
            changes.push(Change::write(CLOUD_FILE, CLOUD_CONTENT));
        }
        Ok(Finding::from_changes(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};
    use muster_proto::agent::step::Kind;

    #[tokio::test]
    async fn a_cloned_machine_gets_its_name_and_cloud_init_does_not_take_it_back() {
        let host = FakeHost::debian("clone", FakeCluster::default());
        host.put_file("/etc/cloud/cloud.cfg.d/05_logging.cfg", "");
        let step = step(Kind::Hostname(agent::Hostname { name: "m1".into() }));
        let finding = carry_out(&host, &step, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert_eq!(host.file("/etc/hostname").as_deref(), Some("m1\n"));
        assert_eq!(host.file(CLOUD_FILE).as_deref(), Some(CLOUD_CONTENT));
    }

    #[tokio::test]
    async fn a_name_that_would_be_gone_after_a_reboot_is_not_done() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/etc/hostname", "debian\n");
        let step = step(Kind::Hostname(agent::Hostname { name: "m1".into() }));
        carry_out(&host, &step, &mut Input::default()).await;
        assert_eq!(host.file("/etc/hostname").as_deref(), Some("m1\n"));
        assert_eq!(host.file(CLOUD_FILE), None, "no cloud-init, no file for it");
    }
}
