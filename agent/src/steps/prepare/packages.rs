//! Afterwards: the Kubernetes programs are installed in versions that fit together, the programs that they need are
//! there, and the kubelet's unit starts at every boot. Nothing is installed: what is missing is told, all at once.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::release::Release;
use muster_proto::names::KubernetesVersion;

use crate::cluster::kubelet::UNIT as KUBELET;
use crate::host::HostError;
use crate::host::change::{Change, UnitAction};
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input};

pub const NAME: &str = "packages";
pub const SETTLE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct Packages {
    version: KubernetesVersion,
}

impl Packages {
    pub fn parse(message: &agent::Packages) -> Result<Self, BadStep> {
        let version =
            message.kubernetes_version.parse().map_err(BadStep::field("packages.kubernetes_version"))?;
        Ok(Self { version })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let mut problems = Vec::new();
        let mut missing = Vec::new();
        for program in KubernetesProgram::ALL {
            match host.kubernetes_version(program).await? {
                None => missing.push(program.name()),
                Some(found) => problems.extend(misfit(program, found, self.version)),
            }
        }
        // The runtime is another step's business.
        let programs = Release::of(self.version).map_or(&[][..], |release| release.programs);
        missing.extend(host.missing_programs(programs).await?);
        let unit = host.unit(KUBELET).await?;
        if !missing.is_empty() {
            problems.insert(0, format!("not installed: {}", missing.join(", ")));
        }
        if !unit.exists && !missing.contains(&"kubelet") {
            problems.push(format!("systemd knows no {KUBELET}"));
        }
        let masked = unit.file_state.starts_with("masked");
        if masked && problems.is_empty() {
            return Ok(Finding::blocked(
                "the kubelet is masked: systemd may not start it",
                format!("{KUBELET} is {}", unit.file_state),
                "`sudo systemctl unmask kubelet` on this node, then run the same command again",
            ));
        }
        if masked {
            problems.push(format!("{KUBELET} is masked (systemctl unmask kubelet)"));
        }
        if !problems.is_empty() {
            let cause =
                format!("programs that Kubernetes {} needs here are missing or do not fit", self.version);
            return Ok(Finding::blocked(cause, problems.join("\n"), self.remedy(&missing)));
        }
        if unit.file_state != "enabled" {
            let enable = Change::Unit { unit: KUBELET.into(), action: UnitAction::Enable };
            return Ok(Finding::Todo(vec![enable]));
        }
        Ok(Finding::DONE)
    }

    fn remedy(&self, missing: &[&str]) -> String {
        let mut packages: Vec<String> = missing.iter().map(|program| self.package(program)).collect();
        packages.sort();
        packages.dedup();
        if packages.is_empty() {
            let KubernetesVersion { major, minor, .. } = self.version;
            return format!("install kubeadm, kubelet and kubectl {major}.{minor}, with their systemd unit");
        }
        format!("apt-get install {}", packages.join(" "))
    }

    /// The Debian package that holds a program.
    fn package(&self, program: &str) -> String {
        let KubernetesVersion { major, minor, patch } = self.version;
        match program {
            "kubeadm" | "kubelet" | "kubectl" => format!("'{program}={major}.{minor}.{patch}-*'"),
            "ip" | "tc" => "iproute2".into(),
            "nsenter" => "util-linux".into(),
            other => other.into(),
        }
    }
}

/// What is wrong with the version of an installed program: kubeadm deploys its own minor version or the one below
/// (it refuses others), and from 1.24 on knows nothing of Docker; the kubelet is kept equal; kubectl may be one apart.
fn misfit(program: KubernetesProgram, found: KubernetesVersion, wanted: KubernetesVersion) -> Option<String> {
    let ahead = i32::from(found.minor) - i32::from(wanted.minor);
    let (fits, rule) = match program {
        KubernetesProgram::Kubeadm if found.minor > 23 => {
            (false, "does not know Docker, up to v1.23 it does")
        }
        KubernetesProgram::Kubeadm => {
            ((0..=1).contains(&ahead), "deploys its own minor version or one lower")
        }
        KubernetesProgram::Kubelet => (ahead == 0, "must have the cluster's minor version"),
        KubernetesProgram::Kubectl => (ahead.abs() <= 1, "must be within one minor version of the cluster's"),
    };
    let fits = fits && found.major == wanted.major;
    (!fits).then(|| format!("{} is {found}: it {rule}, here {wanted}", program.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    #[test]
    fn kubeadm_may_be_one_ahead_the_kubelet_equal_and_kubectl_one_apart() {
        use KubernetesProgram::{Kubeadm, Kubectl, Kubelet};
        let wanted = "v1.20.2".parse().unwrap();
        for (program, found, fits) in [
            (Kubeadm, "v1.20.0", true),
            (Kubeadm, "v1.21.5", true),
            (Kubeadm, "v1.22.0", false),
            (Kubeadm, "v1.19.9", false),
            (Kubelet, "v1.20.9", true),
            (Kubelet, "v1.19.2", false),
            (Kubelet, "v1.21.0", false),
            (Kubectl, "v1.19.2", true),
            (Kubectl, "v1.21.2", true),
            (Kubectl, "v1.18.2", false),
            (Kubectl, "v2.20.2", false),
        ] {
            assert_eq!(
                misfit(program, found.parse().unwrap(), wanted).is_none(),
                fits,
                "{program:?} {found}"
            );
        }
    }

    #[test]
    fn the_remedy_names_the_packages_of_all_missing_programs_once() {
        let packages = Packages { version: "v1.20.2".parse().unwrap() };
        assert_eq!(
            packages.remedy(&["kubelet", "ip", "tc", "conntrack"]),
            "apt-get install 'kubelet=1.20.2-*' conntrack iproute2"
        );
    }

    #[tokio::test]
    async fn all_that_is_missing_is_told_at_once() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|state| {
            state.versions.remove(&KubernetesProgram::Kubeadm);
            state.versions.insert(KubernetesProgram::Kubelet, "v1.21.0".parse().unwrap());
            state.missing_programs.extend(["socat".to_owned(), "conntrack".to_owned()]);
        });
        let packages = Packages { version: "v1.20.2".parse().unwrap() };
        let Ok(Finding::Blocked(complaint)) = packages.check(&host, &Input::default()).await else {
            panic!()
        };
        assert!(
            complaint.evidence.starts_with("not installed: kubeadm, conntrack, socat\nkubelet is v1.21.0")
        );
        assert_eq!(complaint.remedy, "apt-get install 'kubeadm=1.20.2-*' conntrack socat");
    }
}
