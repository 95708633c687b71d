//! A coordinator and its agents in one process: real engine, real executor, real journals, gRPC over in-memory
//! streams. Stand-ins: the hosts and kubeadm (`FakeHost`, with memory), and the stream in the place of TCP and TLS.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use muster_agent::connect::service::NodeService;
use muster_agent::engine::{Allowed, Engine};
use muster_agent::host::fake::{FakeCluster, FakeHost};
use muster_coordinator::doors::fleet::Fleet;
use muster_coordinator::doors::store::Store;
use muster_coordinator::runs::Runs;
use muster_proto::agent::node_agent_server::NodeAgentServer;
use muster_proto::coordinator::{ClusterFiles, ClusterStatus, Progress, ResetRequest, RunEnd, progress};
use muster_proto::journal::Journal;
use muster_proto::names::NodeName;
use muster_proto::token::{EnrolmentToken, KeyPin};
use muster_proto::transport;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tonic::Status;
use tonic::transport::server::Connected;

/// The pod network's manifest of these tests.
pub const NETWORK: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-flannel-cfg, namespace: kube-system}\ndata:\n  net-conf.json: |\n    {\"Network\": \"10.244.0.0/16\", \"Backend\": {\"Type\": \"vxlan\"}}\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: kube-flannel-ds, namespace: kube-system}\nspec: {template: {spec: {initContainers: [{name: install-cni, args: [-f, /etc/kube-flannel/cni-conf.json, /etc/cni/net.d/10-flannel.conflist]}]}}}\n";

/// Machines, their agents, and the coordinator over them.
pub struct TestCluster {
    pub folder: TempDir,
    pub kubernetes: FakeCluster,
    pub hosts: BTreeMap<NodeName, FakeHost>,
    pub fleet: Fleet,
    /// Who is enrolled; a host's name stands for its public key.
    pub store: Store,
    pub runs: Runs,
    /// Every agent's life on a runtime of its own: ending it ends all that the agent does, as a kill would.
    agents: BTreeMap<NodeName, Option<Runtime>>,
}

impl TestCluster {
    /// Stock Debian hosts of these names, the first one the master; their agents are enrolled and connected.
    pub async fn of(names: &[&str]) -> Self {
        // RUST_LOG=info shows what both sides say.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let kubernetes = FakeCluster::default();
        let hosts: BTreeMap<NodeName, FakeHost> = names
            .iter()
            .map(|name| (name.parse().unwrap(), FakeHost::debian(name, kubernetes.clone())))
            .collect();
        let fleet = Fleet::new();
        let store = Store::open(&folder.path().join("nodes.db")).expect("the list of nodes opens");
        let runs = open_runs(folder.path(), &fleet, &store);
        let mut cluster = Self { folder, kubernetes, hosts, fleet, store, runs, agents: BTreeMap::new() };
        for name in names {
            cluster.enrol(name);
            cluster.start_agent(name);
        }
        cluster
    }

    /// Puts a machine on the list, with a new token of its name.
    pub fn enrol(&self, name: &str) {
        let now = Timestamp::now();
        let token = EnrolmentToken::generate(KeyPin::of(b"the coordinator")).expect("there is randomness");
        let node = name.parse().unwrap();
        self.store.add_token(&token, &node, now + Duration::from_secs(900), now).expect("the token is kept");
        let enrolled = self.store.enrol(token.id(), name.as_bytes(), now, |_| true, |_| ());
        assert_eq!(enrolled.expect("the list is written"), Ok(node));
    }

    /// A new life of a node's agent, over the same host and journal.
    pub fn start_agent(&mut self, name: &str) {
        let node: NodeName = name.parse().unwrap();
        let host = self.hosts[&node].clone();
        let journal = Journal::open(&self.agent_journal(name)).expect("the agent's journal opens");
        let engine = Engine::new(host.clone(), journal, Allowed::default());
        let address =
            host.with(|state| *state.addresses.iter().find(|address| !address.is_loopback()).unwrap());
        let service = NodeService::new(engine, node.clone(), address);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let life =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime starts");
        life.spawn(async move {
            let incoming = stream::iter([Ok::<_, io::Error>(InMemory(ours))]).chain(stream::pending());
            let _ = transport::server()
                .add_service(NodeAgentServer::new(service))
                .serve_with_incoming(incoming)
                .await;
        });
        let (fleet, store) = (self.fleet.clone(), self.store.clone());
        let (name, first_answer) = (node.clone(), Duration::from_secs(5));
        tokio::spawn(async move {
            let enrolled = || store.node_of(name.as_str().as_bytes()).is_ok_and(|known| known.is_some());
            let _ = fleet.adopt(&name, address, theirs, first_answer, enrolled, ()).await;
        });
        self.kill_agent(node.as_str());
        self.agents.insert(node, Some(life));
    }

    /// The node's agent dies: its connection is cut and nothing of it goes on.
    pub fn kill_agent(&mut self, name: &str) {
        if let Some(life) = self.agents.remove(&name.parse::<NodeName>().unwrap()).flatten() {
            // On a thread of its own: a runtime may not wait for another. Nothing of the old life goes on after this.
            let ended = std::thread::spawn(move || life.shutdown_timeout(Duration::from_secs(5)));
            ended.join().expect("the agent's runtime ends");
        }
    }

    /// The coordinator dies and a new one opens its state; the agents must be started again to connect to it.
    pub fn restart_coordinator(&mut self) {
        for name in self.hosts.keys().map(ToString::to_string).collect::<Vec<_>>() {
            self.kill_agent(&name);
        }
        self.fleet = Fleet::new();
        self.runs = open_runs(self.folder.path(), &self.fleet, &self.store);
    }

    /// The names on the list.
    pub fn enrolled(&self) -> Vec<String> {
        self.store.nodes().expect("the list is read").into_iter().map(|node| node.name).collect()
    }

    /// Returns when the node's agent is not connected.
    pub async fn gone(&self, name: &str) {
        let mut changes = self.fleet.changes();
        while self.fleet.connected().iter().any(|agent| agent.node.as_str() == name) {
            let changed = tokio::time::timeout(Duration::from_secs(5), changes.changed()).await;
            changed.expect("its connection is closed").expect("the fleet is there");
        }
    }

    pub fn host(&self, name: &str) -> &FakeHost {
        &self.hosts[&name.parse::<NodeName>().unwrap()]
    }

    pub fn agent_journal(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("agent-{name}.db"))
    }

    /// The spec for these hosts; `more` is put into its `spec`.
    pub fn files(&self, more: &str) -> ClusterFiles {
        let master =
            self.hosts.keys().find(|name| name.as_str().starts_with('m')).expect("there is a master");
        let role = |name: &NodeName| if name == master { "control-plane" } else { "worker" };
        let nodes: String =
            self.hosts.keys().map(|name| format!("    - {{name: {name}, role: {}}}\n", role(name))).collect();
        let spec = format!(
            "apiVersion: muster/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesVersion: v1.20.2\n  nodes:\n{nodes}  networking: {{podSubnet: 10.244.0.0/16, manifest: network.yaml}}\n  host: {{disableFirewall: true, cgroupDriver: systemd}}\n  kubectlUsers: [student]\n{more}"
        );
        let files = [("network.yaml".to_owned(), NETWORK.to_owned())].into();
        ClusterFiles { spec, spec_path: "cluster.yaml".to_owned(), files, ignored_checks: Vec::new() }
    }

    /// Runs bootstrap to its end; every status on the way, and the end.
    pub async fn bootstrap(&self, more: &str) -> (Vec<ClusterStatus>, RunEnd) {
        ended(self.runs.bootstrap(self.files(more)).await.expect("the run begins")).await
    }

    /// Resets these nodes (none: all) to the end of the run.
    pub async fn reset(&self, nodes: &[&str]) -> (Vec<ClusterStatus>, RunEnd) {
        let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
        let request = ResetRequest { nodes, confirm: "lab".to_owned(), remove: false };
        ended(self.runs.reset(request).await.expect("the reset begins")).await
    }
}

/// Every status on the way, and the end.
pub async fn ended(
    mut progress: BoxStream<'static, Result<Progress, Status>>,
) -> (Vec<ClusterStatus>, RunEnd) {
    let mut seen = Vec::new();
    while let Some(message) = progress.next().await {
        match message.expect("progress is sent").item {
            Some(progress::Item::Status(status)) => seen.push(status),
            Some(progress::Item::End(end)) => return (seen, end),
            Some(progress::Item::Preflight(found)) if found.complaints.is_empty() => {}
            // The checks found something: no run began, and this is all that comes.
            Some(progress::Item::Preflight(found)) => {
                let failures = found.complaints;
                return (seen, RunEnd { phase: "preflight".to_owned(), failures, ..RunEnd::default() });
            }
            Some(progress::Item::Found(_)) => {}
            Some(progress::Item::Problems(problems)) => panic!("the file cannot be used: {problems:?}"),
            None => {}
        }
    }
    panic!("the progress ended without the run's end");
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        // A runtime may not be dropped where others run; it is left to end by itself.
        self.agents.values_mut().filter_map(Option::take).for_each(Runtime::shutdown_background);
    }
}

fn open_runs(folder: &Path, fleet: &Fleet, store: &Store) -> Runs {
    let journal = Journal::open(&folder.join("journal.db")).expect("the journal opens");
    Runs::open(journal, &folder.join("runs.db"), fleet.clone(), store.clone()).expect("the record opens")
}

/// An in-memory stream that tonic takes for a connection.
struct InMemory(tokio::io::DuplexStream);

impl Connected for InMemory {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for InMemory {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for InMemory {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, buffer)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}
