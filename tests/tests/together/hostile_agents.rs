//! What an enrolled agent can do to the coordinator that it serves: a machine that somebody else holds by now. It answers with
//! as much as is taken, and with more.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use muster_agent::connect::dial::{Endpoint, dial};
use muster_agent::connect::enrol::enroll;
use muster_agent::connect::identity::Identity;
use muster_agent::connect::service::{ListenReplies, NodeService, Replies, Steps};
use muster_agent::connect::settings;
use muster_coordinator::cli;
use muster_coordinator::preflight::Check;
use muster_coordinator::settings::{Limits, Paths};
use muster_proto::agent::node_agent_server::NodeAgentServer;
use muster_proto::agent::{
    AgentEvent, CheckStepReply, CheckStepRequest, Heard, HostReport, InspectRequest, ListenReply,
    ListenRequest, Listening, PlannedChange, PortHolder, ReachOutcome, ReachReply, ReachRequest, Reached,
    RunStepReply, RunStepRequest, Todo, check_step_reply, listen_reply, run_step_reply,
};
use muster_proto::bounds;
use muster_proto::change::Change;
use muster_proto::coordinator::admin_client::AdminClient;
use muster_proto::coordinator::status_client::StatusClient;
use muster_proto::coordinator::{
    ClusterFiles, ClusterStatus, CreateTokenRequest, GetStatusRequest, ListNodesRequest, RunEnd, progress,
};
use muster_proto::event::{Event, EventKind};
use muster_proto::names::NodeName;
use muster_proto::transport::{self, Watched};
use muster_proto::version::ALPN_AGENT;
use muster_tests::cluster::NETWORK;
use serde_json::Value;
use tonic::Status;
use tonic::transport::Channel;

use crate::own_process::{self, memory, memory_max};

/// No command may take longer, whatever an agent does.
const PATIENCE: Duration = Duration::from_secs(120);

/// What it answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// Messages as large as are read, of what becomes largest in memory; of events as many as it can.
    AsMuchAsIsRead,
    /// Messages of megabytes.
    More,
    /// A host that is like any other; of what it hears at its doors it tells without end.
    NewsWithoutEnd,
}

#[derive(Clone)]
struct Hostile(Answers);

impl Hostile {
    /// How many items of two bytes fill a message.
    fn items(&self, most: usize) -> usize {
        match self.0 {
            Answers::AsMuchAsIsRead => most / 2 - 16,
            Answers::More => 3_000_000,
            Answers::NewsWithoutEnd => 0,
        }
    }
}

impl Steps for Hostile {
    async fn check(&self, _: CheckStepRequest) -> Result<CheckStepReply, Status> {
        let changes = vec![PlannedChange::default(); self.items(bounds::FINDING)];
        Ok(CheckStepReply { finding: Some(check_step_reply::Finding::Todo(Todo { changes })) })
    }

    async fn inspect(&self, request: InspectRequest) -> Result<HostReport, Status> {
        let items = self.items(bounds::host_report(request.names.len()));
        Ok(HostReport { port_holders: vec![PortHolder::default(); items / 2], ..HostReport::default() })
    }

    async fn listen(&self, request: ListenRequest, _: IpAddr) -> Result<ListenReplies, Status> {
        let door = request.doors.first().copied();
        let first = listen_reply::Item::Listening(Listening { open: request.doors, taken: Vec::new() });
        let heard = listen_reply::Item::Heard(Heard { door, from: "10.88.0.12".into() });
        let items = stream::iter([first]).chain(stream::repeat(heard));
        Ok(items.map(|item| Ok(ListenReply { item: Some(item) })).boxed())
    }

    async fn reach(&self, request: ReachRequest) -> Result<ReachReply, Status> {
        let refused = Reached { outcome: ReachOutcome::Refused.into(), said: "no".into() };
        Ok(ReachReply { reached: vec![refused; request.targets.len()] })
    }

    async fn run(&self, request: RunStepRequest) -> Result<Replies, Status> {
        let bomb = |bytes: usize| format!("[{}0]", "{\"\":0},".repeat(bytes / 7));
        // Text that is read, and as many values as are: what becomes of both is kept until it is written.
        let (values, text) = match self.0 {
            Answers::More => (bomb(7 << 20), String::new()),
            _ => (bomb(7 * (bounds::EVENT_VALUES / 2 - 16)), "x".repeat(bounds::EVENT / 2)),
        };
        let started = EventKind::Started { content: String::new(), attempt: 1 };
        let changes = (0..).flat_map(move |index| {
            let change = Change::ReloadUnits.record();
            let before = Some(Value::from([text.as_str(), "@values"].as_slice()));
            [
                EventKind::Intended { index, change, summary: "s".repeat(bounds::SENTENCE), before },
                EventKind::EndUnknown { index },
            ]
        });
        let step = request.step_id.parse().unwrap();
        let events = std::iter::once(started).chain(changes).zip(1..).map(move |(kind, sequence)| {
            let time = jiff::Timestamp::UNIX_EPOCH;
            let event =
                Event { sequence, time, run: request.run_id.clone(), step: Clone::clone(&step), kind };
            let body = serde_json::to_string(&event).unwrap().replace("\"@values\"", &values);
            RunStepReply { item: Some(run_step_reply::Item::Event(AgentEvent { sequence, body })) }
        });
        Ok(stream::iter(events).map(Ok).boxed())
    }
}

/// The commands of a person on the master.
struct Person {
    paths: Paths,
}

impl Person {
    async fn admin(&self) -> AdminClient<Channel> {
        cli::admin(&self.paths).await.unwrap()
    }

    async fn token(&self, node: &str) -> String {
        let request = CreateTokenRequest { node: node.to_owned(), lifetime_seconds: 60 };
        self.admin().await.create_token(request).await.unwrap().into_inner().token
    }

    /// What `coordinator preflight` prints of what is wrong.
    async fn preflight(&self, files: ClusterFiles) -> String {
        let mut admin = self.admin().await;
        let asked = tokio::time::timeout(PATIENCE, admin.preflight(files)).await;
        let found = asked.expect("the checks end").unwrap().into_inner();
        assert_eq!(found.problems, None);
        found.complaints.into_iter().map(|found| format!("{}: {}\n", found.node, found.cause)).collect()
    }

    async fn bootstrap(&self, files: ClusterFiles) -> RunEnd {
        let mut admin = self.admin().await;
        let to_its_end = async {
            let mut stream = admin.bootstrap(files).await.unwrap().into_inner();
            while let Some(progress) = stream.message().await.unwrap() {
                if let Some(progress::Item::End(end)) = progress.item {
                    return end;
                }
            }
            panic!("it did not begin");
        };
        tokio::time::timeout(PATIENCE, to_its_end).await.expect("the run ends")
    }

    async fn status(&self) -> ClusterStatus {
        let channel = cli::connect(&self.paths.status_socket()).await.unwrap();
        StatusClient::new(channel).get(GetStatusRequest::default()).await.unwrap().into_inner()
    }

    async fn all_are_connected(&self, count: usize) {
        loop {
            let nodes = self.admin().await.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
            if nodes.iter().filter(|node| node.connected).count() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn files(ignored: &[&str]) -> ClusterFiles {
    let spec = "apiVersion: muster/v1\nkind: Cluster\nmetadata: {name: lab}\nspec:\n  kubernetesVersion: v1.20.2\n  nodes:\n    - {name: m1, role: control-plane}\n    - {name: w1, role: worker}\n  networking: {podSubnet: 10.244.0.0/16, manifest: network.yaml}\n";
    ClusterFiles {
        spec: spec.to_owned(),
        spec_path: "cluster.yaml".to_owned(),
        files: [("network.yaml".to_owned(), NETWORK.to_owned())].into(),
        ignored_checks: ignored.iter().map(|word| (*word).to_owned()).collect(),
    }
}

/// Enrols under this name and serves the one connection.
async fn enrolled(person: &Person, folder: &Path, port: u16, node: &str, number: u8, hostile: Hostile) {
    let endpoint = Endpoint::new(IpAddr::from([127, 0, 0, 1]), port);
    let paths = settings::Paths::under(&folder.join(node));
    enroll(&paths, &endpoint, &person.token(node).await.parse().unwrap()).await.unwrap();
    let identity = Identity::open(&paths.identity()).unwrap();
    let stream = dial(&endpoint, identity.tls().unwrap(), ALPN_AGENT).await.unwrap();
    let node: NodeName = node.parse().unwrap();
    // What it says its address is, it says itself.
    let service = NodeService::new(hostile, node, IpAddr::from([10, 88, 0, number]));
    let (watched, _) = Watched::new(stream);
    let incoming = stream::iter([Ok::<_, std::io::Error>(watched)]).chain(stream::pending());
    tokio::spawn(
        transport::server().add_service(NodeAgentServer::new(service)).serve_with_incoming(incoming),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_say_all_that_they_can_fill_less_than_half_of_the_coordinators_memory() {
    if own_process::is_the_coordinator(Limits::default()).await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let person = Person { paths: Paths::under(folder.path()) };
    let mut coordinator = own_process::Coordinator::start(folder.path()).await;
    let (idle, allowed) = (memory(coordinator.pid(), "VmRSS"), memory_max());
    enrolled(&person, folder.path(), coordinator.port, "m1", 11, Hostile(Answers::AsMuchAsIsRead)).await;
    enrolled(&person, folder.path(), coordinator.port, "w1", 12, Hostile(Answers::More)).await;
    person.all_are_connected(2).await;

    let found = person.preflight(files(&[])).await;
    for node in ["m1", "w1"] {
        assert!(
            found.contains(&format!("{node}: the agent of {node} could not look at its host")),
            "{found}"
        );
    }
    let end = person.bootstrap(files(&Check::ALL.map(Check::word))).await;
    for node in ["m1", "w1"] {
        let failure = end.failures.iter().find(|failure| failure.node == node).expect("it failed");
        assert!(failure.cause.contains(&format!("the agent of {node} said more")), "{failure:?}");
        assert!(failure.evidence.contains("at most") || failure.evidence.contains("limit"), "{failure:?}");
    }
    for _ in 0..20 {
        person.status().await;
    }
    let highest = memory(coordinator.pid(), "VmHWM");
    println!("idle {} MiB, at most {} MiB of {} MiB", idle >> 20, highest >> 20, allowed >> 20);
    assert!(coordinator.lives(), "it lives");
    assert!(highest < allowed / 2, "{} MiB of {} MiB", highest >> 20, allowed >> 20);

    coordinator.kill().await;
    let mut coordinator = own_process::Coordinator::start(folder.path()).await;
    for _ in 0..20 {
        let status = person.status().await;
        assert_eq!(status.phase, "failed");
    }
    let highest = memory(coordinator.pid(), "VmHWM");
    println!("after a restart and 20 looks at the status at most {} MiB", highest >> 20);
    assert!(coordinator.lives() && highest < allowed / 4, "{} MiB of {} MiB", highest >> 20, allowed >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_tells_without_end_of_tries_at_its_doors_keeps_no_checks_waiting() {
    if own_process::is_the_coordinator(Limits::default()).await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let person = Person { paths: Paths::under(folder.path()) };
    let coordinator = own_process::Coordinator::start(folder.path()).await;
    for (node, number) in [("m1", 11), ("w1", 12)] {
        let hostile = Hostile(Answers::NewsWithoutEnd);
        enrolled(&person, folder.path(), coordinator.port, node, number, hostile).await;
    }
    person.all_are_connected(2).await;
    let began = std::time::Instant::now();
    let found = person.preflight(files(&[])).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(found.contains("m1") && found.contains("w1"), "{found}");
    let highest = memory(coordinator.pid(), "VmHWM");
    assert!(highest < memory_max() / 2, "{} MiB", highest >> 20);
}
