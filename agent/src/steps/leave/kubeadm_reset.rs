//! Afterwards: nothing of kubeadm is left on this node: no kubeconfigs, static pods, keys, kubelet configuration and no
//! etcd member. What `kubeadm reset` leaves beside that is the business of `network-leftovers`.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::kubernetes::files::{self, ETCD_MEMBER, INSTANCE_CONFIG, KUBELET_FLAGS};
use muster_proto::kubernetes::release::{RELEASES, Release};
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::KubernetesVersion;

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input};
use crate::undo::ledger::Etcd;

pub const NAME: &str = "kubeadm-reset";
pub const SETTLE: Duration = Duration::from_secs(15);

/// It asks the API server first and gives up after 40 s; then the runtime removes every container.
const LIMIT: Duration = Duration::from_secs(420);

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
            Some(version) => Ok(Finding::Todo(vec![reset(&socket(host, version).await?)])),
        }
    }
}

/// What of kubeadm is on the host, etcd's data apart.
async fn left<H: Observe>(host: &H) -> Result<Vec<&'static str>, HostError> {
    let mut left = Vec::new();
    for file in files::files_to_remove() {
        if host.read_file(Path::new(file)).await?.is_some() {
            left.push(file);
        }
    }
    for folder in files::folders_to_empty() {
        if !host.list_folder(Path::new(folder)).await?.is_empty() {
            left.push(folder);
        }
    }
    Ok(left)
}

/// The one run of `kubeadm reset`. The socket is named always: a wrong runtime would leave the pods' containers, and with two
/// on a host kubeadm does not choose.
pub(crate) fn reset(socket: &str) -> Change {
    Change::Run(Program::new(ProgramName::Kubeadm, ["reset", "-f", "--cri-socket", socket], LIMIT))
}

/// The socket of the runtime that this node's pods run in: the one that its kubelet was given, otherwise that of the runtime
/// which this kubeadm takes by itself, or of the only one that is there.
async fn socket<H: Observe>(host: &H, kubeadm: KubernetesVersion) -> Result<String, HostError> {
    let flags = host.read_file(Path::new(KUBELET_FLAGS)).await?.unwrap_or_default();
    let instance = host.read_file(Path::new(INSTANCE_CONFIG)).await?.unwrap_or_default();
    if let Some(given) = given_socket(&flags, &instance) {
        return Ok(given.to_owned());
    }
    // What is newer than the last row speaks as that one does.
    let release = Release::of(kubeadm).unwrap_or(&RELEASES[RELEASES.len() - 1]);
    let by_itself = release.default_runtime();
    for runtime in std::iter::once(by_itself).chain(RuntimeName::ALL) {
        if host.unit(runtime.row().unit).await?.exists {
            return Ok(release.cri_socket(runtime).to_owned());
        }
    }
    Ok(release.cri_socket(by_itself).to_owned())
}

/// `--container-runtime-endpoint=SOCKET` among the kubelet's flags, from 1.34 on `containerRuntimeEndpoint: SOCKET` in a file
/// of its own. Nothing but an absolute path, with or without its scheme, goes on to kubeadm.
fn given_socket<'a>(flags: &'a str, instance: &'a str) -> Option<&'a str> {
    let of_flag =
        flags.split([' ', '"', '=', '\n']).skip_while(|word| *word != "--container-runtime-endpoint").nth(1);
    let of_file = instance.lines().find_map(|line| line.trim().strip_prefix("containerRuntimeEndpoint:"));
    let given = of_flag.or(of_file)?.trim().trim_matches(['"', '\'']);
    given.strip_prefix("unix://").unwrap_or(given).starts_with('/').then_some(given)
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
    fn the_socket_is_read_where_each_version_of_kubeadm_writes_it() {
        let docker = "KUBELET_KUBEADM_ARGS=\"--cgroup-driver=cgroupfs --network-plugin=cni --pod-infra-container-image=k8s.gcr.io/pause:3.2\"\n";
        assert_eq!(given_socket(docker, ""), None);
        let old = "KUBELET_KUBEADM_ARGS=\"--container-runtime=remote --container-runtime-endpoint=/run/containerd/containerd.sock --node-ip=10.88.0.12\"\n";
        assert_eq!(given_socket(old, ""), Some("/run/containerd/containerd.sock"));
        let new = "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///var/run/crio/crio.sock\"\n";
        assert_eq!(given_socket(new, ""), Some("unix:///var/run/crio/crio.sock"));
        let file = "apiVersion: kubelet.config.k8s.io/v1beta1\ncontainerRuntimeEndpoint: \"unix:///run/containerd/containerd.sock\"\n";
        assert_eq!(
            given_socket("KUBELET_KUBEADM_ARGS=\"\"\n", file),
            Some("unix:///run/containerd/containerd.sock")
        );
        assert_eq!(given_socket("--container-runtime-endpoint=--force", ""), None);
    }

    #[tokio::test]
    async fn the_socket_is_that_of_the_kubelet_or_of_the_runtime_that_is_there() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        let (old, new) = ("v1.20.2".parse().unwrap(), "v1.36.3".parse().unwrap());
        assert_eq!(socket(&host, old).await.unwrap(), "/var/run/dockershim.sock");
        host.with(crate::host::fake::State::run_containerd);
        assert_eq!(socket(&host, old).await.unwrap(), "/var/run/dockershim.sock");
        assert_eq!(socket(&host, new).await.unwrap(), "unix:///run/containerd/containerd.sock");
        host.with(|state| state.units.remove("docker.service"));
        assert_eq!(socket(&host, old).await.unwrap(), "/run/containerd/containerd.sock");
        host.put_file(
            KUBELET_FLAGS,
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///x.sock\"\n",
        );
        assert_eq!(socket(&host, new).await.unwrap(), "unix:///x.sock");
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
