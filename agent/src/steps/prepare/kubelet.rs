//! Afterwards: a kubelet of 1.15 to 1.20 on a machine that is not Amazon's asks nobody for Amazon's credentials. It does so
//! before anything else, and where no metadata service answers it stands still for 4 s (seen with 1.20.2 where there is no
//! route to it) to 20 s (where its packets are dropped: kubernetes issue 92162, mended by pull request 93260 in 1.21).
//! kubeadm has systemd read its files anew before it starts the kubelet, so that nothing more is needed after a crash.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::release::Release;
use muster_proto::names::KubernetesVersion;

use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(5);

const FILE: &str = "/etc/systemd/system/kubelet.service.d/20-muster.conf";
const CONTENT: &str = "\
# Written by Muster: this machine is not Amazon's, and kubelet 1.15 to 1.20 waits up to 20 s at every start for credentials
# of Amazon's (github.com/kubernetes/kubernetes/issues/92162).
[Service]
Environment=AWS_EC2_METADATA_DISABLED=true
";

/// What tells a machine of Amazon's: newer ones by the vendor of their case, older ones by Xen's identifier.
const CASE: &str = "/sys/class/dmi/id/chassis_vendor";
const XEN: &str = "/sys/hypervisor/uuid";

#[derive(Debug, Clone)]
pub struct Kubelet;

impl Kubelet {
    pub fn parse(_: &agent::Kubelet) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let version = host.kubernetes_version(KubernetesProgram::Kubelet).await?;
        if !version.is_some_and(asks_amazon) {
            return Ok(Finding::DONE);
        }
        // Most machines have none of these files, or let nobody read them.
        let text =
            async |path: &str| host.read_file(Path::new(path)).await.ok().flatten().unwrap_or_default();
        if is_amazons(&text(CASE).await, &text(XEN).await) {
            return Ok(Finding::DONE);
        }
        if host.read_file(Path::new(FILE)).await?.as_deref() == Some(CONTENT) {
            return Ok(Finding::DONE);
        }
        Ok(Finding::Todo(vec![Change::write(FILE, CONTENT), Change::ReloadUnits]))
    }
}

fn asks_amazon(version: KubernetesVersion) -> bool {
    Release::of(version).is_some_and(|release| release.asks_amazon)
}

fn is_amazons(case: &str, xen: &str) -> bool {
    case.trim() == "Amazon EC2" || xen.trim().to_ascii_lowercase().starts_with("ec2")
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, step};

    #[test]
    fn only_the_kubelets_that_wait_are_told() {
        for (version, told) in [
            ("v1.14.10", false),
            ("v1.15.0", true),
            ("v1.20.2", true),
            ("v1.21.0", false),
            ("v1.37.0", false),
        ] {
            assert_eq!(asks_amazon(version.parse().unwrap()), told, "{version}");
        }
    }

    #[tokio::test]
    async fn a_kubelet_asks_for_amazons_credentials_only_on_a_machine_of_amazons() {
        let unasked = step(Kind::Kubelet(agent::Kubelet {}));
        for (path, content) in [(CASE, "Amazon EC2\n"), (XEN, "ec2e1916-9099-7caf-fd21-012345abcdef\n")] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.put_file(path, content);
            let finding = unasked.check(&host, &Input::default()).await;
            assert!(matches!(finding, Ok(Finding::Done(_))), "{path}: {finding:?}");
        }
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file(CASE, "QEMU\n");
        let finding = carry_out(&host, &unasked, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert!(host.file(FILE).unwrap().contains("\nEnvironment=AWS_EC2_METADATA_DISABLED=true\n"));
    }
}
