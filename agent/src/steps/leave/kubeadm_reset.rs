//! Afterwards: nothing of kubeadm is left on this node: no kubeconfigs, static pods, keys, kubelet configuration and no
//! etcd member; no container or process of a pod, no kubelet that listens, no mount. `kubeadm reset` ends those, also on a
//! host where its files are gone; what it could not end keeps the node in the cluster's account until it is. What `kubeadm reset` leaves beside that is the business of `network-leftovers`.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use muster_proto::agent;
use muster_proto::kubernetes::files::{self, ETCD_MEMBER, INSTANCE_CONFIG, KUBELET_FLAGS};
use muster_proto::kubernetes::release::{RELEASES, Release};
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::KubernetesVersion;

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input, Yield};
use crate::undo::ledger::Etcd;
use remains::Remains;

mod remains;

pub const SETTLE: Duration = Duration::from_secs(15);

/// After its end the last processes and mounts go by themselves, or not at all.
const GRACE: SignedDuration = SignedDuration::from_secs(3);

/// It asks the API server first and gives up after 40 s; then the runtime removes every container.
const LIMIT: Duration = Duration::from_secs(420);

#[derive(Debug, Clone)]
pub struct KubeadmReset;

impl KubeadmReset {
    pub fn parse(_: &agent::KubeadmReset) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let (left, remains) = (left(host).await?, Remains::look(host).await?);
        // Containers that Muster's kubeadm did not bring are somebody else's: named, and left alone.
        let ours = input.ledger.began_cluster();
        if left.is_empty() && !remains.is_empty() && ours {
            match &input.ledger.reset {
                None => return run_reset(host, &remains, remains.in_short()).await,
                Some(ended) if remains.is_alive() => {
                    let since = Timestamp::now().duration_since(ended.at);
                    let just_now = (SignedDuration::ZERO..GRACE).contains(&since);
                    return Ok(match just_now {
                        true => Finding::Wait(format!("for the end of what is left: {}", remains.in_short())),
                        false => Finding::Blocked(remains.complaint(&ended.warnings)),
                    });
                }
                Some(_) => {}
            }
        }
        if left.is_empty() {
            if host.list_folder(Path::new(ETCD_MEMBER)).await?.is_empty() {
                return Ok(match remains.is_empty() {
                    true => Finding::DONE,
                    false => Finding::Done(Yield::Left(vec![told(&remains, ours)])),
                });
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
        run_reset(host, &remains, left.join(", ")).await
    }
}

/// `because`: what is there.
async fn run_reset<H: Observe>(host: &H, remains: &Remains, because: String) -> Result<Finding, HostError> {
    Ok(match host.kubernetes_version(KubernetesProgram::Kubeadm).await? {
        None => Finding::blocked(
            "kubeadm is not installed, but what it made is there",
            because,
            "install kubeadm again, then run the same reset again",
        ),
        Some(version) => Finding::Todo(vec![reset(&socket(host, remains, version).await?)]),
    })
}

/// What a person hears of what stays.
fn told(remains: &Remains, ours: bool) -> String {
    let what = remains.lines().join("; ");
    match ours {
        true => format!("kubeadm reset left what does no harm ({}): {what}", remains.in_short()),
        false => format!(
            "what Muster's journal knows nothing of was left alone ({}); `sudo kubeadm reset -f` ends what kubeadm brought: {what}",
            remains.in_short()
        ),
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

/// The socket of the runtime that this node's pods run in: the one that its kubelet was given; where those files are gone, that
/// of the runtime which still holds containers of pods; otherwise of the one which this kubeadm takes by itself, or of the only
/// one that is there.
async fn socket<H: Observe>(
    host: &H,
    remains: &Remains,
    kubeadm: KubernetesVersion,
) -> Result<String, HostError> {
    let flags = host.read_file(Path::new(KUBELET_FLAGS)).await?.unwrap_or_default();
    let instance = host.read_file(Path::new(INSTANCE_CONFIG)).await?.unwrap_or_default();
    if let Some(given) = given_socket(&flags, &instance) {
        return Ok(given.to_owned());
    }
    // What is newer than the last row speaks as that one does.
    let release = Release::of(kubeadm).unwrap_or(&RELEASES[RELEASES.len() - 1]);
    if let Some(runtime) = remains.runtime() {
        return Ok(release.cri_socket(runtime).to_owned());
    }
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
    use crate::steps::rehearsal::{carry_out, cause_of, master, step, waits_for};
    use crate::undo::ledger::{Ledger, ResetEnded};

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
        let none = Remains::default();
        let host = FakeHost::debian("m1", FakeCluster::default());
        let (old, new) = ("v1.20.2".parse().unwrap(), "v1.36.3".parse().unwrap());
        assert_eq!(socket(&host, &none, old).await.unwrap(), "/var/run/dockershim.sock");
        host.with(crate::host::fake::State::run_containerd);
        assert_eq!(socket(&host, &none, old).await.unwrap(), "/var/run/dockershim.sock");
        assert_eq!(socket(&host, &none, new).await.unwrap(), "unix:///run/containerd/containerd.sock");
        host.with(|state| state.units.remove("docker.service"));
        assert_eq!(socket(&host, &none, old).await.unwrap(), "/run/containerd/containerd.sock");
        host.put_file(
            KUBELET_FLAGS,
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///x.sock\"\n",
        );
        assert_eq!(socket(&host, &none, new).await.unwrap(), "unix:///x.sock");
        // kubeadm's files are gone, Docker is there, and containerd holds the pods' containers.
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|state| {
            let facts = state.runtimes.remove(&RuntimeName::Docker).unwrap();
            state.runtimes.insert(RuntimeName::Containerd, facts);
            state.start_container("etcd", &[]);
        });
        let remains = Remains::look(&host).await.unwrap();
        assert_eq!(socket(&host, &remains, old).await.unwrap(), "/run/containerd/containerd.sock");
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
        host.with(|state| {
            state.files.retain(|path, _| !path.starts_with("/etc/kubernetes"));
            state.remove_containers();
        });
        let ledger = Ledger { etcd: Etcd::OursReset, ..Ledger::default() };
        let mut input = Input { ledger, ..Input::default() };
        let Finding::Todo(changes) = carry_out(&host, &wanted(), &mut input).await else { panic!() };
        assert!(matches!(changes[..], [Change::RemoveEtcdData]), "{changes:?}");
        host.put_file("/var/lib/etcd/mine", "");
        let finding = carry_out(&host, &wanted(), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        assert!(host.file("/var/lib/etcd/mine").is_some());
    }

    /// Looks after `kubeadm reset` has ended, with this warning.
    fn after_reset(seconds_ago: i64) -> Input {
        let at = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
        let warnings = vec!["[reset] Failed to remove containers: exit status 1".to_owned()];
        let reset = Some(ResetEnded { at, warnings });
        Input { ledger: Ledger { reset_begun: true, reset, ..Ledger::default() }, ..Input::default() }
    }

    #[tokio::test]
    async fn containers_that_kubeadm_could_not_end_are_named_with_their_ports_and_with_its_own_warning() {
        let (host, _) = master().await;
        host.with(|state| state.files.retain(|path, _| path.starts_with("/proc")));
        let again = Input { ledger: Ledger { reset_begun: true, ..Ledger::default() }, ..Input::default() };
        let Finding::Todo(changes) = wanted().check(&host, &again).await.unwrap() else { panic!() };
        assert_eq!(changes.len(), 1, "although kubeadm's files are gone");
        assert!(changes[0].resets());
        waits_for(wanted().check(&host, &after_reset(0)).await.unwrap());
        let Finding::Blocked(complaint) = wanted().check(&host, &after_reset(9)).await.unwrap() else {
            panic!()
        };
        assert!(complaint.cause.contains("5 containers of pods run"), "{complaint}");
        for words in [
            "kubeadm reset said: [reset] Failed to remove containers",
            "Docker: k8s_etcd_etcd-m1_kube-system_1_0 runs, listens on 2379, 2380",
        ] {
            assert!(complaint.evidence.contains(words), "{complaint}");
        }
        for words in ["aa-remove-unknown", "systemctl stop docker.service", "then the same reset again"] {
            assert!(complaint.remedy.contains(words), "{complaint}");
        }
    }

    #[tokio::test]
    async fn processes_a_kubelet_and_mounts_count_also_where_no_runtime_tells_of_them() {
        for (path, text, expected) in [
            (
                "/proc/77/cgroup",
                "0::/kubepods/pod1/abc\n",
                "process 77 () of a container that no runtime knows",
            ),
            ("/proc/net/tcp", "\n0: 00000000:280A 00000000:0000 0A", "kubelet.service is active and listens"),
            (
                "/proc/self/mountinfo",
                "36 35 0:3 / /var/lib/kubelet rw\n37 36 0:4 / /var/lib/kubelet/pods/1/v rw,relatime - tmpfs t rw\n",
                "mounted: /var/lib/kubelet/pods/1/v",
            ),
            (
                "/proc/self/mountinfo",
                "37 36 0:4 / /data/k/pods/1/volumes/kubernetes.io~secret/a rw\n",
                "mounted: /data/k/pods/1/volumes/kubernetes.io~secret/a",
            ),
        ] {
            let host = FakeHost::debian("m1", FakeCluster::default());
            host.put_file(path, text);
            host.with(|state| state.units.get_mut("kubelet.service").unwrap().active = true);
            let Finding::Blocked(complaint) = wanted().check(&host, &after_reset(9)).await.unwrap() else {
                panic!("{path}")
            };
            assert!(complaint.evidence.ends_with(expected), "{complaint}");
        }
    }

    #[tokio::test]
    async fn what_ended_after_a_reboot_is_removed_and_only_told_where_it_cannot_be() {
        let (host, _) = master().await;
        host.with(|state| {
            state.files.retain(|path, _| path.starts_with("/proc"));
            state.end_containers();
        });
        let mut input =
            Input { ledger: Ledger { reset_begun: true, ..Ledger::default() }, ..Input::default() };
        let Finding::Done(Yield::Left(told)) = wanted().check(&host, &after_reset(9)).await.unwrap() else {
            panic!()
        };
        assert!(told[0].contains("5 ended containers are left"), "{told:?}");
        let finding = carry_out(&host, &wanted(), &mut input).await;
        assert!(matches!(finding, Finding::Done(Yield::Nothing)), "{finding:?}");
    }

    #[tokio::test]
    async fn containers_of_somebody_elses_cluster_are_named_and_left_alone() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|state| state.start_container("rancher", &[]));
        let finding = wanted().check(&host, &Input::default()).await.unwrap();
        let Finding::Done(Yield::Left(told)) = finding else { panic!("{finding:?}") };
        assert!(told[0].contains("k8s_rancher_") && told[0].contains("left alone"), "{told:?}");
    }
}
