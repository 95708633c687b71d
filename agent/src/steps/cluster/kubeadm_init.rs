//! Afterwards: this node runs the control plane that `kubeadm init` makes, complete by observation: files, static pods,
//! the objects that init writes last, its own Node object. Nothing of it there: init runs. All files there and the API
//! server silent, as after a reboot: it is waited for. Anything between is a half-done init (a crash, a failed run) and
//! blocks with the command that resets the node; init is never run twice over something. Only where the spec allows it and
//! nobody can ever have joined, it is reset and done again. A complete one that was made with other values than are wanted
//! now is left as it is: kubeadm init cannot change it.

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::event::reset_command;
use muster_proto::kubernetes::files::{self, ADMIN_CONF, ETCD_FOLDER, KUBELET_CONF};
use muster_proto::kubernetes::release::Release;
use muster_proto::kubernetes::runtime::RuntimeName;

use crate::cluster::control_plane::ControlPlane;
use crate::cluster::kubeadm::{Dialect, has_cgroup_v1};
use crate::cluster::kubelet_flags::{self, Wanted};
use crate::cluster::membership::Membership;
use crate::host::HostError;
use crate::host::change::{Change, FileMode, Program, ProgramName};
use crate::host::query::{KubernetesProgram, ObjectKind, Observe, name_of};
use crate::steps::{BadStep, Finding, Input};
use crate::undo::ledger::Progress;

/// After a reboot the API server needs up to a minute; slow disks more.
pub const SETTLE: Duration = Duration::from_secs(240);

/// kubeadm's own waits end after about 5 minutes; pulling images may come before.
const LIMIT: Duration = Duration::from_secs(600);
/// It reads one file and asks nobody.
const VALIDATION_LIMIT: Duration = Duration::from_secs(30);
/// Holds no secret, and `kubeadm reset` does not delete it.
const CONFIG: &str = "/var/lib/muster-agent/kubeadm-init.yaml";
/// What mkfs makes at the top of every ext file system.
const LOST_AND_FOUND: &str = "lost+found";
/// kubeadm's check that /var/lib/etcd is empty; it looks at nothing else (cmd/kubeadm/app/preflight/checks.go).
const ETCD_CHECK: &str = "DirAvailable--var-lib-etcd";

#[derive(Debug, Clone)]
pub struct KubeadmInit {
    wanted: ControlPlane,
    /// The spec allows to reset a half-done init.
    redo: bool,
}

impl KubeadmInit {
    pub fn parse(message: &agent::KubeadmInit) -> Result<Self, BadStep> {
        Ok(Self { wanted: ControlPlane::parse(message)?, redo: message.redo_half_done })
    }

    pub(in crate::steps) fn runtime(&self) -> RuntimeName {
        self.wanted.runtime
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let (mut present, mut torn, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        for file in files::of_a_control_plane() {
            match host.read_file(Path::new(file)).await? {
                // A loss of power can leave an empty file: kubeadm would refuse it, and nobody can use it.
                Some(text) if text.trim().is_empty() => torn.push(file),
                Some(_) => present.push(file),
                None => lacking.push(file),
            }
        }
        if let Some(finding) = self.elsewhere(host).await? {
            return Ok(finding);
        }
        if present.is_empty() && torn.is_empty() {
            return self.init(host).await;
        }
        lacking.extend(torn);
        let cluster = if present.contains(&ADMIN_CONF) {
            self.cluster(host).await
        } else {
            Ok(Cluster::Lacks(Vec::new()))
        };
        let (others, answer) = match cluster {
            Err(error) if error.is_transient() && lacking.is_empty() => {
                return Ok(Finding::Wait(format!(
                    "the API server of {} does not answer, though every file of kubeadm init is there ({error}); \
                     `sudo journalctl -u kubelet` on {} tells why",
                    self.wanted.node, self.wanted.node
                )));
            }
            Err(error) if error.is_transient() => {
                (Others::Unseen, "the API server does not answer".to_owned())
            }
            Err(error) => return Err(error),
            Ok(Cluster::Complete { node: true, held }) if lacking.is_empty() => {
                let complaint = self.wanted.other_than(None, &held);
                return Ok(complaint.map_or(Finding::DONE, Finding::Blocked));
            }
            Ok(Cluster::Complete { node: false, .. }) if lacking.is_empty() => {
                return Ok(Finding::Wait(format!(
                    "the kubelet of {} has not registered its Node object; `sudo systemctl restart kubelet` on {} does it",
                    self.wanted.node, self.wanted.node
                )));
            }
            Ok(Cluster::Complete { .. }) => return Ok(self.lost_files(&lacking)),
            Ok(Cluster::Lacks(objects)) => {
                lacking.extend(objects);
                let others =
                    if present.contains(&ADMIN_CONF) { self.others(host).await? } else { Others::Unseen };
                (others, "kubeadm init did not reach its end".to_owned())
            }
        };
        // The engine has waited for every unit of an earlier life: no init runs any more. Its step never ended well, so no
        // ticket was ever given to anybody, and what the API server knows of, if it answers, agrees.
        if self.redo
            && input.ledger.init == Progress::Begun
            && others != Others::Joined
            && let Some(release) =
                host.kubernetes_version(KubernetesProgram::Kubeadm).await?.and_then(Release::of)
        {
            let socket = release.cri_socket(self.wanted.runtime);
            return Ok(Finding::Todo(vec![crate::steps::leave::kubeadm_reset::reset(socket)]));
        }
        Ok(Finding::blocked(
            format!("kubeadm init on {} is half done", self.wanted.node),
            format!("{answer}\nthere: {}\nmissing: {}", present.join(", "), lacking.join(", ")),
            format!(
                "on the master run `{}`, then the same bootstrap again",
                reset_command(self.wanted.node.as_str())
            ),
        ))
    }

    /// Blocked when the kubelet of this node belongs to another API server: its own at another endpoint, or a foreign one.
    async fn elsewhere<H: Observe>(&self, host: &H) -> Result<Option<Finding>, HostError> {
        let wanted = format!("https://{}", self.wanted.endpoint);
        let Some(server) = server_of(host, KUBELET_CONF).await?.filter(|server| *server != wanted) else {
            return Ok(None);
        };
        // Only a control plane has an administrator's file, and its own leads to itself.
        if server_of(host, ADMIN_CONF).await?.as_ref() == Some(&server) {
            let held = match self.cluster(host).await {
                Ok(Cluster::Complete { held, .. }) => held,
                _ => String::new(),
            };
            return Ok(self.wanted.other_than(Some(&server), &held).map(Finding::Blocked));
        }
        Ok(Some(Finding::blocked(
            format!("{} is a member of another cluster", self.wanted.node),
            format!("{KUBELET_CONF} names {server}, not {wanted}"),
            format!(
                "take it out of that cluster: on {} run `sudo kubeadm reset -f`, then the same bootstrap again",
                self.wanted.node
            ),
        )))
    }

    async fn init<H: Observe>(&self, host: &H) -> Result<Finding, HostError> {
        let kubeadm = match Dialect::on(host).await? {
            Ok(kubeadm) => kubeadm,
            Err(complaint) => return Ok(Finding::Blocked(complaint)),
        };
        let wanted = Wanted {
            node: &self.wanted.node,
            address: self.wanted.endpoint.ip(),
            runtime: self.wanted.runtime,
        };
        if let Some(complaint) = kubelet_flags::complaint(host, &wanted).await? {
            return Ok(Finding::Blocked(complaint));
        }
        let mut arguments = vec!["init".to_owned(), "--config".to_owned(), CONFIG.to_owned()];
        let in_etcds_folder = host.list_folder(Path::new(ETCD_FOLDER)).await?;
        match in_etcds_folder.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => {}
            // etcd takes a disk of its own as it is; kubeadm asks for an empty folder.
            [LOST_AND_FOUND] => arguments.push(format!("--ignore-preflight-errors={ETCD_CHECK}")),
            // A member's data is told as what an earlier cluster left.
            ref names if names.contains(&"member") => {}
            [first, ..] => return Ok(self.not_empty(first)),
        }
        if !self.wanted.skip_phases.is_empty() {
            arguments.push(format!("--skip-phases={}", self.wanted.skip_phases.join(",")));
        }
        let program = Program::new(ProgramName::Kubeadm, arguments, LIMIT).yielding_ticket();
        let content = self.wanted.render(kubeadm, has_cgroup_v1(host).await?);
        let mut changes = vec![Change::WriteFile {
            path: CONFIG.into(),
            content,
            mode: FileMode::exactly(0o600),
            secret: false,
        }];
        if kubeadm.release().validates {
            // init only warns of a field that it does not know, and goes on without it.
            let arguments = ["config", "validate", "--config", CONFIG];
            changes.push(Change::Run(Program::new(ProgramName::Kubeadm, arguments, VALIDATION_LIMIT)));
        }
        changes.push(Change::Run(program));
        Ok(Finding::Todo(changes))
    }

    /// Whether the API server knows of a node besides this one.
    async fn others<H: Observe>(&self, host: &H) -> Result<Others, HostError> {
        match host.objects(ObjectKind::Node, "", "").await {
            Ok(nodes) if nodes.iter().any(|node| name_of(node) != self.wanted.node.as_str()) => {
                Ok(Others::Joined)
            }
            Ok(_) => Ok(Others::None),
            Err(error) if error.is_transient() => Ok(Others::Unseen),
            Err(error) => Err(error),
        }
    }

    /// What the API server says of init's work.
    async fn cluster<H: Observe>(&self, host: &H) -> Result<Cluster, HostError> {
        let skipped =
            |phase: &str| self.wanted.skip_phases.iter().any(|skip| skip == phase || skip == "addon");
        let mut wanted = vec![
            (ObjectKind::ConfigMap, "kube-system", "kubeadm-config"),
            (ObjectKind::ConfigMap, "kube-public", "cluster-info"),
        ];
        if !skipped("addon/kube-proxy") {
            wanted.push((ObjectKind::DaemonSet, "kube-system", "kube-proxy"));
        }
        let mut lacking = Vec::new();
        let mut held = String::new();
        for (kind, namespace, name) in wanted {
            match host.object(kind, namespace, name).await? {
                None => lacking.push(name),
                Some(object) => {
                    if let Some(text) = object["data"]["ClusterConfiguration"].as_str() {
                        held = text.to_owned();
                    }
                }
            }
        }
        if !lacking.is_empty() {
            return Ok(Cluster::Lacks(lacking));
        }
        let node = host.object(ObjectKind::Node, "", self.wanted.node.as_str()).await?;
        Ok(Cluster::Complete { node: node.is_some(), held })
    }

    fn not_empty(&self, first: &str) -> Finding {
        let node = &self.wanted.node;
        Finding::blocked(
            format!(
                "{ETCD_FOLDER} of {node} is not empty, and kubeadm init wants a folder of etcd's own there"
            ),
            format!("{ETCD_FOLDER}/{first}"),
            format!(
                "on {node}: move what is in {ETCD_FOLDER} elsewhere (`sudo ls -la {ETCD_FOLDER}`), then run the same command again"
            ),
        )
    }

    /// A finished cluster whose files went missing must not be told to reset itself.
    fn lost_files(&self, lacking: &[&str]) -> Finding {
        Finding::blocked(
            format!("the control plane of {} works, but files of it are gone", self.wanted.node),
            lacking.join(", "),
            format!(
                "put them back; `sudo kubeadm init phase kubeconfig all --config {CONFIG}` and `sudo kubeadm init phase \
                 control-plane all --config {CONFIG}` write what is missing below /etc/kubernetes"
            ),
        )
    }
}

/// The API server that a kubeconfig of this host names.
async fn server_of<H: Observe>(host: &H, path: &str) -> Result<Option<String>, HostError> {
    let text = host.read_file(Path::new(path)).await?;
    Ok(text.and_then(|text| Membership::read(&text)).map(|membership| membership.server))
}

/// Nodes of the cluster besides this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Joined,
    None,
    /// The API server does not tell.
    Unseen,
}

/// What the API server says of init's work: the objects it makes are all there, or which are not.
enum Cluster {
    Complete {
        node: bool,
        /// The ClusterConfiguration that kubeadm keeps.
        held: String,
    },
    Lacks(Vec<&'static str>),
}

#[cfg(test)]
mod tests;
