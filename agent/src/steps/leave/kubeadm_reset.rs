//! Afterwards: nothing of kubeadm is left on this node: no kubeconfigs, static pods, keys, kubelet configuration and no
//! etcd member. What `kubeadm reset` leaves beside that is the business of `network-leftovers`.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::KubernetesVersion;

use crate::host::HostError;
use crate::host::change::{Change, ETCD_MEMBER, Program, ProgramName};
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input};
use crate::undo::ledger::Etcd;

pub const NAME: &str = "kubeadm-reset";
pub const SETTLE: Duration = Duration::from_secs(15);

/// It asks the API server first and gives up after 40 s; then Docker removes every container.
const LIMIT: Duration = Duration::from_secs(420);
/// The last Kubernetes that speaks to Docker itself; with two sockets on a host kubeadm wants to be told.
const DOCKERSHIM: (&str, KubernetesVersion) =
    ("/var/run/dockershim.sock", KubernetesVersion { major: 1, minor: 23, patch: u32::MAX as _ });

const FILES: [&str; 8] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/scheduler.conf",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
];
const FOLDERS: [&str; 2] = ["/etc/kubernetes/manifests", "/etc/kubernetes/pki"];

#[derive(Debug, Clone)]
pub struct KubeadmReset;

impl KubeadmReset {
    pub fn parse(_: &agent::KubeadmReset) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let left = left(host).await?;
        if left.is_empty() {
            if host.list_folder(Path::new(ETCD_MEMBER)).await?.is_empty() {
                return Ok(Finding::DONE);
            }
            // kubeadm removes etcd's manifest first and its data last, and without the manifest it takes etcd for somebody
            // else's: a reset that was cut off in its middle cannot be ended by another one.
            if input.ledger.etcd == Etcd::OursReset {
                return Ok(Finding::Todo(vec![Change::RemoveEtcdData]));
            }
            return Ok(Finding::blocked(
                "kubeadm reset left etcd's data behind, because it was interrupted",
                format!("{ETCD_MEMBER} is not empty, and nothing else of kubeadm is there"),
                format!(
                    "if no other etcd runs on this machine: `sudo rm -r {ETCD_MEMBER}`; then the same reset again"
                ),
            ));
        }
        match host.kubernetes_version(KubernetesProgram::Kubeadm).await? {
            None => Ok(Finding::blocked(
                "kubeadm is not installed, but what it made is there",
                left.join(", "),
                "install kubeadm again, then run the same reset again",
            )),
            Some(version) => Ok(Finding::Todo(vec![reset(version)])),
        }
    }
}

/// What of kubeadm is on the host, etcd's data apart.
async fn left<H: Observe>(host: &H) -> Result<Vec<&'static str>, HostError> {
    let mut left = Vec::new();
    for file in FILES {
        if host.read_file(Path::new(file)).await?.is_some() {
            left.push(file);
        }
    }
    for folder in FOLDERS {
        if !host.list_folder(Path::new(folder)).await?.is_empty() {
            left.push(folder);
        }
    }
    Ok(left)
}

/// The one run of `kubeadm reset` for this kubeadm.
pub(crate) fn reset(kubeadm: KubernetesVersion) -> Change {
    let mut arguments = vec!["reset", "-f"];
    if kubeadm <= DOCKERSHIM.1 {
        arguments.extend(["--cri-socket", DOCKERSHIM.0]);
    }
    Change::Run(Program::new(ProgramName::Kubeadm, arguments, LIMIT))
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::steps::rehearsal::{carry_out, cause_of, master, step};
    use crate::undo::ledger::Ledger;

    fn wanted() -> crate::steps::Step {
        step(Kind::KubeadmReset(agent::KubeadmReset {}))
    }

    #[test]
    fn the_socket_is_named_only_where_kubernetes_speaks_to_docker_itself() {
        assert_eq!(
            reset("v1.20.2".parse().unwrap()).to_string(),
            "run kubeadm reset -f --cri-socket /var/run/dockershim.sock"
        );
        assert_eq!(reset("v1.24.0".parse().unwrap()).to_string(), "run kubeadm reset -f");
    }

    #[tokio::test]
    async fn a_control_plane_is_reset_once_and_a_clean_host_is_left_alone() {
        let (host, mut input) = master().await;
        let finding = carry_out(&host, &wanted(), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let clean = FakeHost::debian("m1", FakeCluster::default());
        assert!(matches!(wanted().check(&clean, &Input::default()).await, Ok(Finding::Done(_))));
    }

    #[tokio::test]
    async fn what_an_interrupted_reset_left_of_etcd_is_named() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/var/lib/etcd/member/snap/db", "");
        for etcd in [Etcd::Foreign, Etcd::Ours] {
            let ledger = Ledger { etcd, ..Ledger::default() };
            let input = Input { ledger, ..Input::default() };
            let cause = cause_of(wanted().check(&host, &input).await.unwrap());
            assert!(cause.contains("etcd"), "{cause}");
        }
    }

    #[tokio::test]
    async fn what_an_interrupted_reset_left_of_the_etcd_that_our_own_init_made_is_removed() {
        let (host, _) = master().await;
        // Cut off after kubeadm emptied /etc/kubernetes; the one that comes next assumes an external etcd.
        host.with(|state| state.files.retain(|path, _| !path.starts_with("/etc/kubernetes")));
        let ledger = Ledger { etcd: Etcd::OursReset, ..Ledger::default() };
        let mut input = Input { ledger, ..Input::default() };
        let Finding::Todo(changes) = carry_out(&host, &wanted(), &mut input).await else { panic!() };
        assert!(matches!(changes[..], [Change::RemoveEtcdData]), "{changes:?}");
        host.put_file("/var/lib/etcd/mine", "");
        let finding = carry_out(&host, &wanted(), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert!(host.file("/var/lib/etcd/mine").is_some());
    }
}
