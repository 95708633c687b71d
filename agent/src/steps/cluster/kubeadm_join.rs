//! Afterwards: this node is a member of the cluster at the given endpoint and its kubelet is healthy. The ticket's token
//! reaches kubeadm on its standard input only; server and CA certificate, which are no secret, stand in a file while it
//! runs (discovery by file: the CA is known already, so nobody waits until the cluster has signed the token). A join of Muster's
//! that was cut off before the kubelet got its own identity is reset and done again; somebody else's blocks with the command
//! that resets the node, and a node of another cluster is left alone. Nothing else is ever joined a second time.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::event::reset_command;
use muster_proto::kubernetes::files::{
    ADMIN_CONF, BOOTSTRAP_CONF, CA_CERTIFICATE, ETCD_MEMBER, KUBELET_CONF, MANIFESTS,
};
use muster_proto::kubernetes::release::Release;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::{ApiEndpoint, KubernetesVersion, NodeName};

use crate::cluster::kubeadm::{Dialect, has_cgroup_v1};
use crate::cluster::kubelet_flags::{self, Wanted};
use crate::cluster::membership::Membership;
use crate::cluster::ticket::{DISCOVERY_FILE, Ticket};
use crate::diagnosis::restarting;
use crate::host::HostError;
use crate::host::change::{Change, FileMode, Program, ProgramName};
use crate::host::query::{KubernetesProgram, Observe};
use crate::steps::{BadStep, Finding, Input};
use crate::undo::ledger::Progress;

mod configuration;

/// After a reboot the kubelet needs some seconds, on slow machines a minute.
pub const SETTLE: Duration = Duration::from_secs(120);

/// Two minutes of discovery, five of kubeadm's own wait for the kubelet, and the preflight checks.
const LIMIT: Duration = Duration::from_secs(480);

#[derive(Debug, Clone)]
pub struct KubeadmJoin {
    node: NodeName,
    address: IpAddr,
    endpoint: ApiEndpoint,
    runtime: RuntimeName,
    /// Machines with cgroups v1 are wanted too.
    cgroup_v1: bool,
}

impl KubeadmJoin {
    pub fn parse(message: &agent::KubeadmJoin) -> Result<Self, BadStep> {
        // kubeadm takes the version from the cluster; a plan that names none is a mistake all the same.
        let version: KubernetesVersion =
            message.kubernetes_version.parse().map_err(BadStep::field("kubeadm_join.kubernetes_version"))?;
        if Release::of(version).is_none() {
            let problem = format!("Muster does not know Kubernetes {version}");
            return Err(BadStep::Value { field: "kubeadm_join.kubernetes_version", problem });
        }
        Ok(Self {
            node: message.node.parse().map_err(BadStep::field("kubeadm_join.node"))?,
            address: BadStep::parsed("kubeadm_join.address", &message.address, "an IP address")?,
            endpoint: message.endpoint.parse().map_err(BadStep::field("kubeadm_join.endpoint"))?,
            runtime: message.runtime.parse().map_err(BadStep::field("kubeadm_join.runtime"))?,
            cgroup_v1: message.cgroup_v1,
        })
    }

    pub(in crate::steps) fn runtime(&self) -> RuntimeName {
        self.runtime
    }

    /// HOST:PORT of the API server.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let kubelet_conf = host.read_file(Path::new(KUBELET_CONF)).await?;
        let bootstrap = host.read_file(Path::new(BOOTSTRAP_CONF)).await?.is_some();
        let without_identity = match &kubelet_conf {
            Some(text) => lacks_identity(host, text).await?,
            None => None,
        };
        if let Some(kubelet_conf) = kubelet_conf.filter(|_| without_identity.is_none()) {
            if let Some(complaint) = self.of_another_cluster(&kubelet_conf, input.ticket.as_ref()) {
                return Ok(complaint);
            }
            if !host.kubelet_healthy().await? {
                if let Some(complaint) = restarting::complaint(host, self.node.as_str()).await? {
                    return Ok(Finding::Blocked(complaint));
                }
                return Ok(Finding::Wait(format!(
                    "the kubelet of {} does not say that it is healthy; `sudo journalctl -u kubelet` on {} tells why",
                    self.node, self.node
                )));
            }
            // A kubeadm that was killed at its very end leaves the token behind, an agent the discovery file.
            let discovery = host.read_file(Path::new(DISCOVERY_FILE)).await?.is_some();
            let leftovers = [(bootstrap, BOOTSTRAP_CONF), (discovery, DISCOVERY_FILE)];
            let remove = |path: &str| Change::RemoveFile { path: path.into() };
            return Ok(Finding::from_changes(
                leftovers.into_iter().filter(|(there, _)| *there).map(|(_, path)| remove(path)).collect(),
            ));
        }
        let left = [
            (without_identity.is_some(), KUBELET_CONF),
            (bootstrap, BOOTSTRAP_CONF),
            (self.has_ca(host).await?, CA_CERTIFICATE),
        ];
        let half: Vec<&str> = left.into_iter().filter_map(|(there, path)| there.then_some(path)).collect();
        if !half.is_empty() {
            let missing = without_identity.unwrap_or_else(|| KUBELET_CONF.to_owned());
            return self.half_done(host, input, &half, &missing).await;
        }
        let wanted = Wanted { node: &self.node, address: self.address, runtime: self.runtime };
        if let Some(complaint) = kubelet_flags::complaint(host, &wanted).await? {
            return Ok(Finding::Blocked(complaint));
        }
        let Some(ticket) = &input.ticket else {
            if input.began.is_none() {
                return Ok(Finding::Wait("for the control plane to make a join ticket".to_owned()));
            }
            return Ok(Finding::blocked(
                format!("no join ticket was sent to {}", self.node),
                format!("there is no {KUBELET_CONF}: the node has not joined"),
                "run bootstrap again: the control plane makes a fresh ticket",
            ));
        };
        if ticket.endpoint != self.endpoint {
            return Ok(Finding::blocked(
                format!("the join ticket sent to {} is for another API server", self.node),
                format!("the ticket names {}, the plan {}", ticket.endpoint, self.endpoint),
                "give the control plane's own address in the cluster file, then run bootstrap again",
            ));
        }
        let Some(ca) = &ticket.ca else {
            return Ok(Finding::blocked(
                format!("the join ticket sent to {} holds no CA certificate", self.node),
                "without it nobody can tell the cluster from another that answers at its address",
                "install the same version of muster-agent on every node, then run bootstrap again",
            ));
        };
        let on_cgroup_v1 = has_cgroup_v1(host).await?;
        Ok(match Dialect::on(host).await? {
            Err(complaint) => Finding::Blocked(complaint),
            Ok(kubeadm) => Finding::Todo(vec![
                Change::WriteFile {
                    path: DISCOVERY_FILE.into(),
                    content: self.discovery(ca),
                    mode: FileMode::exactly(0o600),
                    secret: false,
                },
                Change::Run(
                    Program::new(ProgramName::Kubeadm, ["join", "--config", "/dev/stdin"], LIMIT)
                        .with_input(self.render(kubeadm, on_cgroup_v1, ticket)),
                ),
                Change::RemoveFile { path: DISCOVERY_FILE.into() },
            ]),
        })
    }

    /// Muster's own is reset and begun again by itself. Without its certificate the kubelet never had an identity, so the node
    /// was never Ready, and there is nothing to lose. Somebody else's may still be running: a person says what becomes of it.
    async fn half_done<H: Observe>(
        &self,
        host: &H,
        input: &Input,
        there: &[&str],
        missing: &str,
    ) -> Result<Finding, HostError> {
        // The engine has waited for every unit of an earlier life: no join of Muster's runs any more.
        let begun = input.ledger.join;
        if begun == Progress::Begun
            && let Some(release) =
                host.kubernetes_version(KubernetesProgram::Kubeadm).await?.and_then(Release::of)
            && !is_control_plane(host).await?
        {
            let socket = release.cri_socket(self.runtime);
            return Ok(Finding::Todo(vec![crate::steps::leave::kubeadm_reset::reset(socket)]));
        }
        let foreign = if begun == Progress::Never { "\nMuster has begun no join here" } else { "" };
        Ok(Finding::blocked(
            format!("kubeadm join on {} is half done", self.node),
            format!("there: {}\nmissing: {missing}{foreign}", there.join(", ")),
            format!(
                "on the master run `{}`, then the same bootstrap again",
                reset_command(self.node.as_str())
            ),
        ))
    }

    async fn has_ca<H: Observe>(&self, host: &H) -> Result<bool, HostError> {
        Ok(host.read_file(Path::new(CA_CERTIFICATE)).await?.is_some())
    }

    /// Blocked when the kubelet belongs to another API server, or to another CA at the same address.
    fn of_another_cluster(&self, kubelet_conf: &str, ticket: Option<&Ticket>) -> Option<Finding> {
        let own = format!("https://{}", self.endpoint);
        let membership = Membership::read(kubelet_conf)?;
        let trusts = |ticket: &Ticket| {
            membership.ca_hashes.is_empty()
                || membership.ca_hashes.iter().any(|hash| ticket.ca_hashes.contains(hash))
        };
        let evidence = if membership.server != own {
            format!("{KUBELET_CONF} names {}, not {own}", membership.server)
        } else if !ticket.is_none_or(trusts) {
            format!("{KUBELET_CONF} trusts the CA {}, not the ticket's", membership.ca_hashes[0])
        } else {
            return None;
        };
        Some(Finding::blocked(
            format!("{} is already a member of another cluster", self.node),
            evidence,
            format!(
                "take it out of that cluster: on {} run `sudo kubeadm reset -f`, then the same bootstrap again",
                self.node
            ),
        ))
    }
}

/// Whether a control plane, or what is left of one, is on this host.
async fn is_control_plane<H: Observe>(host: &H) -> Result<bool, HostError> {
    let folders = [MANIFESTS, ETCD_MEMBER];
    let manifests = host.list_folder(Path::new(folders[0])).await?;
    let etcd = host.list_folder(Path::new(folders[1])).await?;
    let admin = host.read_file(Path::new(ADMIN_CONF)).await?;
    Ok(!manifests.is_empty() || !etcd.is_empty() || admin.is_some())
}

/// What this kubelet.conf lacks to be a kubelet's identity, if anything: a loss of power can leave an empty file, and the
/// certificate that it names comes later than the file itself, once the cluster has signed it.
async fn lacks_identity<H: Observe>(host: &H, kubelet_conf: &str) -> Result<Option<String>, HostError> {
    if kubelet_conf.trim().is_empty() {
        return Ok(Some(format!("what {KUBELET_CONF} has to hold")));
    }
    let Some(path) = Membership::read(kubelet_conf).and_then(|membership| membership.client_certificate)
    else {
        return Ok(None);
    };
    let is_there = host.has_certificate(&path).await?;
    Ok((!is_there).then(|| format!("{}, which {KUBELET_CONF} names", path.display())))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use muster_proto::agent::step::Kind;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::cluster::ticket::PinnedCa;
    use crate::host::fake::{CA_CERTIFICATE as CA_FILE, CA_HASH, FakeHost};
    use crate::steps::rehearsal::{
        cause_of, join_of_w1, master_and_worker, master_with_ticket, prepared, step, waits_for,
    };
    use crate::undo::ledger::Ledger;

    async fn look(host: &FakeHost, input: &Input) -> Finding {
        step(Kind::KubeadmJoin(join_of_w1())).check(host, input).await.unwrap()
    }

    pub(super) fn ticket() -> Ticket {
        let ticket = Ticket::parse(&format!(
            "kubeadm join 10.88.0.11:6443 --token bynk2r.ds9fu7perja4osn8 --discovery-token-ca-cert-hash {CA_HASH}"
        ))
        .unwrap();
        Ticket { ca: PinnedCa::of(CA_FILE, &ticket.ca_hashes), ..ticket }
    }

    #[tokio::test]
    async fn a_clean_host_is_joined_with_the_token_on_standard_input_alone() {
        let (master, input) = master_with_ticket().await;
        let worker = prepared("w1", &master.cluster);
        let Finding::Todo(changes) = look(&worker, &input).await else { panic!() };
        let [Change::WriteFile { path, .. }, Change::Run(program), Change::RemoveFile { path: removed }] =
            &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert_eq!((path, removed), (&DISCOVERY_FILE.into(), &DISCOVERY_FILE.into()));
        assert_eq!(program.to_string(), "kubeadm join --config /dev/stdin");
        let token = input.ticket.as_ref().unwrap().token.expose_secret();
        assert!(program.input.as_ref().unwrap().expose_secret().contains(token));
        assert!(!serde_json::to_string(&changes).unwrap().contains(token));
        waits_for(look(&worker, &Input::default()).await);
        let attempted = Input { began: Some(Timestamp::now()), ..Input::default() };
        assert_eq!(cause_of(look(&worker, &attempted).await), "no join ticket was sent to w1");
    }

    #[tokio::test]
    async fn a_joined_node_is_done_without_a_ticket_and_waits_for_its_kubelet() {
        let (_, worker) = master_and_worker().await;
        assert!(matches!(look(&worker, &Input::default()).await, Finding::Done(_)));
        worker.with(|state| state.kubelet_healthy = false);
        assert!(waits_for(look(&worker, &Input::default()).await).starts_with("the kubelet of w1"));
        worker.with(|state| state.kubelet_healthy = true);
        worker.put_file(BOOTSTRAP_CONF, "token");
        worker.put_file(DISCOVERY_FILE, "server");
        let Finding::Todo(changes) = look(&worker, &Input::default()).await else { panic!() };
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["remove /etc/kubernetes/bootstrap-kubelet.conf", "remove /run/muster-agent/join-discovery.conf"]
        );
    }

    #[tokio::test]
    async fn half_done_foreign_and_misdirected_joins_are_blocked() {
        let (master, ticket_alone) = master_with_ticket().await;
        let knows = |join| Input {
            ticket: ticket_alone.ticket.clone(),
            ledger: Ledger { join, ..Ledger::default() },
            ..Input::default()
        };
        let input = knows(Progress::Begun);
        let half = prepared("w1", &master.cluster);
        half.put_file(BOOTSTRAP_CONF, "");
        let Finding::Todo(changes) = look(&half, &input).await else { panic!() };
        assert!(changes[0].to_string().starts_with("run kubeadm reset -f"), "{changes:?}");
        // Somebody else's, which may still be running; or the node was a member once.
        for join in [Progress::Never, Progress::Done] {
            let Finding::Blocked(complaint) = look(&half, &knows(join)).await else { panic!("{join:?}") };
            assert_eq!(complaint.cause, "kubeadm join on w1 is half done");
            assert_eq!(complaint.evidence.contains("Muster has begun no join here"), join == Progress::Never);
            assert!(complaint.remedy.contains(&reset_command("w1")), "{}", complaint.remedy);
        }
        let torn = prepared("w1", &master.cluster);
        torn.put_file(KUBELET_CONF, "");
        let Finding::Todo(changes) = look(&torn, &input).await else {
            panic!("an empty file is no identity")
        };
        assert!(changes[0].to_string().contains("kubeadm reset -f"), "{changes:?}");
        // The kubelet names its certificate before the cluster has signed it.
        let cut = prepared("w1", &master.cluster);
        let pem = "/var/lib/kubelet/pki/kubelet-client-current.pem";
        let names = format!("users:\n- user: {{client-certificate: {pem}}}\n");
        let server = "clusters: [{cluster: {server: \"https://10.88.0.11:6443\"}}]\n";
        cut.put_file(KUBELET_CONF, format!("{server}{names}"));
        let Finding::Todo(changes) = look(&cut, &input).await else {
            panic!("without its certificate the kubelet is nobody")
        };
        assert!(changes[0].to_string().contains("kubeadm reset -f"), "{changes:?}");
        let Finding::Blocked(complaint) = look(&cut, &knows(Progress::Done)).await else { panic!() };
        assert!(complaint.evidence.contains(&format!("missing: {pem}, which")), "{}", complaint.evidence);
        half.put_file("/etc/kubernetes/manifests/etcd.yaml", "");
        assert_eq!(cause_of(look(&half, &input).await), "kubeadm join on w1 is half done");

        let (_, other) = master_and_worker().await;
        let conf = other.file(KUBELET_CONF).unwrap();
        other.put_file(KUBELET_CONF, conf.replace("10.88.0.11", "10.88.0.99"));
        assert_eq!(cause_of(look(&other, &input).await), "w1 is already a member of another cluster");
        other.put_file(KUBELET_CONF, conf);
        let pin = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
        let foreign_ca =
            Input { ticket: Some(Ticket { ca_hashes: vec![pin], ..ticket() }), ..Input::default() };
        assert_eq!(cause_of(look(&other, &foreign_ca).await), "w1 is already a member of another cluster");

        let clean = prepared("w1", &master.cluster);
        let misdirected = Ticket { endpoint: "10.88.0.99:6443".parse().unwrap(), ..ticket() };
        let input = Input { ticket: Some(misdirected), ..Input::default() };
        assert_eq!(
            cause_of(look(&clean, &input).await),
            "the join ticket sent to w1 is for another API server"
        );
    }
}
