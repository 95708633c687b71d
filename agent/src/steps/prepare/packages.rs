//! Afterwards: the Kubernetes programs are installed in versions that fit together, the programs that they need are
//! there, and the kubelet's unit starts at every boot. Nothing is installed: what is missing is told, all at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::{API_SERVER_MANIFEST, KUBELET_CONF};
use muster_proto::kubernetes::release::Release;
use muster_proto::names::KubernetesVersion;

use crate::cluster::kubelet::UNIT as KUBELET;
use crate::host::HostError;
use crate::host::change::{Change, UnitAction};
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input};

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
        let mut versions = BTreeMap::new();
        for program in KubernetesProgram::ALL {
            match host.kubernetes_version(program).await? {
                None => missing.push(program.name()),
                Some(found) => {
                    versions.insert(program, found);
                    problems.extend(misfit(program, found, self.version));
                }
            }
        }
        if let Some(other) = self.other_cluster(host, &versions).await? {
            return Ok(other);
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

    /// Blocked when this node is a member of a cluster of another version: no package that is installed here would mend that.
    async fn other_cluster<H: Observe>(
        &self,
        host: &H,
        versions: &BTreeMap<KubernetesProgram, KubernetesVersion>,
    ) -> Result<Option<Finding>, HostError> {
        if host.read_file(Path::new(KUBELET_CONF)).await?.is_none() {
            return Ok(None);
        }
        let manifest = host.read_file(Path::new(API_SERVER_MANIFEST)).await?;
        let (cluster, evidence) = match manifest.as_deref().and_then(version_of_api_server) {
            Some(version) => (version, format!("{API_SERVER_MANIFEST} runs {version}")),
            // A worker's own programs tell, if they agree: one alone may have been raised by an upgrade of the system.
            None => {
                let of = |program| versions.get(&program).copied();
                let (kubelet, kubeadm) = (of(KubernetesProgram::Kubelet), of(KubernetesProgram::Kubeadm));
                match (kubelet, kubeadm) {
                    (Some(kubelet), Some(kubeadm)) if same_minor(kubelet, kubeadm) => (
                        kubelet,
                        format!("kubelet is {kubelet}, kubeadm is {kubeadm}; {KUBELET_CONF} is there"),
                    ),
                    _ => return Ok(None),
                }
            }
        };
        Ok((!same_minor(cluster, self.version)).then(|| {
            Finding::blocked(
                format!(
                    "this node is a member of a cluster of Kubernetes {cluster}, and the file says {}",
                    self.version
                ),
                evidence,
                format!(
                    "write `kubernetesVersion: {cluster}` into the file: Muster upgrades no cluster; who upgrades this one by \
                     himself (kubernetes.io, \"Upgrading kubeadm clusters\") writes the new version afterwards"
                ),
            )
        }))
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

fn same_minor(one: KubernetesVersion, other: KubernetesVersion) -> bool {
    (one.major, one.minor) == (other.major, other.minor)
}

/// Of the manifest's line `image: registry.k8s.io/kube-apiserver:v1.36.3`.
fn version_of_api_server(manifest: &str) -> Option<KubernetesVersion> {
    let image =
        manifest.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"))?;
    let (_, tag) = image.trim().trim_matches('"').rsplit_once("kube-apiserver:")?;
    tag.split(['@', '_', '-']).next()?.parse().ok()
}

/// What is wrong with the version of an installed program: kubeadm deploys its own minor version or the one below
/// (it refuses others); the kubelet is kept equal; kubectl may be one apart.
fn misfit(program: KubernetesProgram, found: KubernetesVersion, wanted: KubernetesVersion) -> Option<String> {
    let ahead = i32::from(found.minor) - i32::from(wanted.minor);
    let (fits, rule) = match program {
        KubernetesProgram::Kubeadm => match Release::of(found) {
            Some(release) => (release.deploys(wanted), "deploys its own minor version or one lower"),
            None => (false, "is none that Muster knows"),
        },
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
    fn every_kubeadm_that_muster_knows_is_taken_for_its_own_clusters() {
        let misfit = |found: &str| {
            let found: KubernetesVersion = found.parse().unwrap();
            misfit(KubernetesProgram::Kubeadm, found, found)
        };
        for found in ["v1.13.2", "v1.23.17", "v1.24.17", "v1.36.3", "v1.37.2"] {
            assert_eq!(misfit(found), None);
        }
        assert!(misfit("v1.38.0").unwrap().contains("none that Muster knows"));
    }

    #[tokio::test]
    async fn a_member_of_a_cluster_of_another_version_is_told_as_what_it_is() {
        let host = FakeHost::debian("w1", FakeCluster::default());
        let wanted = Packages { version: "v1.21.0".parse().unwrap() };
        host.put_file(KUBELET_CONF, "");
        let look = async || match wanted.check(&host, &Input::default()).await {
            Ok(Finding::Blocked(complaint)) => complaint,
            other => panic!("{other:?}"),
        };
        let complaint = look().await;
        assert_eq!(
            complaint.cause,
            "this node is a member of a cluster of Kubernetes v1.20.2, and the file says v1.21.0"
        );
        assert!(complaint.remedy.starts_with("write `kubernetesVersion: v1.20.2`"), "{}", complaint.remedy);
        // The cluster is the wanted one, and an upgrade of the system raised a program.
        host.put_file(
            API_SERVER_MANIFEST,
            "spec:\n  containers:\n  - image: k8s.gcr.io/kube-apiserver:v1.21.0\n",
        );
        assert!(look().await.cause.starts_with("programs that Kubernetes v1.21.0 needs"));
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
