//! What a run of 50, 500 and 2,000 nodes costs the coordinator by itself: its plan, and the execution with real journal and
//! real calls over in-memory streams; every agent is a stand-in that answers each step with the events of one that finds
//! nothing to do. The clock is no part of the tests that always run: those count what each node is told. The measurement runs alone:
//! `cargo test --release -p muster-tests --test together growth -- --ignored --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use muster_coordinator::doors::fleet::Fleet;
use muster_coordinator::executor::Executor;
use muster_coordinator::plans::bootstrap::plan;
use muster_coordinator::plans::{Hosts, Plan};
use muster_coordinator::preview::preview;
use muster_coordinator::spec::ClusterSpec;
use muster_proto::agent::node_agent_server::{NodeAgent, NodeAgentServer};
use muster_proto::agent::{
    AgentEvent, CheckStepReply, CheckStepRequest, Done, HelloReply, HelloRequest, HostFacts, HostReport,
    InspectRequest, ListenReply, ListenRequest, ReachReply, ReachRequest, RunStepReply, RunStepRequest, Step,
    StepOutput, check_step_reply, run_step_reply, step::Kind,
};
use muster_proto::coordinator::ClusterFiles;
use muster_proto::event::{Event, EventKind};
use muster_proto::journal::Journal;
use muster_proto::names::NodeName;
use muster_proto::transport;
use muster_proto::version::PROTOCOL;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

/// Room for a /24 for each node.
const PODS: &str = "10.128.0.0/10";

/// A node whose every step holds already.
struct StandIn {
    facts: HostFacts,
    told: Told,
}

/// How many lines about nodes all stand-ins were told.
type Told = Arc<AtomicUsize>;

impl StandIn {
    fn note(&self, step: Option<&Step>, content: &str) {
        match step.and_then(|step| step.kind.as_ref()) {
            Some(Kind::Hosts(hosts)) => drop(self.told.fetch_add(hosts.entries.len(), Ordering::Relaxed)),
            Some(_) => {}
            None => assert_eq!(content.len(), 64, "a step that is not sent is called by its digest"),
        }
    }
}

#[tonic::async_trait]
impl NodeAgent for StandIn {
    type RunStepStream = BoxStream<'static, Result<RunStepReply, Status>>;
    type ListenStream = BoxStream<'static, Result<ListenReply, Status>>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let facts = Some(self.facts.clone());
        Ok(Response::new(HelloReply { agent_version: "0".to_owned(), protocol: PROTOCOL, facts }))
    }

    async fn run_step(
        &self,
        request: Request<RunStepRequest>,
    ) -> Result<Response<Self::RunStepStream>, Status> {
        let request = request.into_inner();
        self.note(request.step.as_ref(), &request.content);
        // Numbers of its own for each step: a node's sequence is looked up by number and step.
        let event = |sequence: u64, kind: EventKind| {
            let step = request.step_id.parse().unwrap();
            let event = Event { sequence, time: Timestamp::now(), run: request.run_id.clone(), step, kind };
            let body = serde_json::to_string(&event).unwrap();
            RunStepReply { item: Some(run_step_reply::Item::Event(AgentEvent { sequence, body })) }
        };
        let started = EventKind::Started { content: "c".to_owned(), attempt: 1 };
        let output = RunStepReply { item: Some(run_step_reply::Item::Output(StepOutput::default())) };
        let replies = [event(1, started), event(2, EventKind::Done { changes: 0 }), output];
        Ok(Response::new(stream::iter(replies.map(Ok)).boxed()))
    }

    async fn check_step(
        &self,
        request: Request<CheckStepRequest>,
    ) -> Result<Response<CheckStepReply>, Status> {
        let request = request.into_inner();
        self.note(request.step.as_ref(), &request.content);
        Ok(Response::new(CheckStepReply { finding: Some(check_step_reply::Finding::Done(Done {})) }))
    }

    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<HostReport>, Status> {
        Err(Status::unimplemented("no part of the measurement"))
    }

    async fn listen(&self, _: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        Err(Status::unimplemented("no part of the measurement"))
    }

    async fn reach(&self, _: Request<ReachRequest>) -> Result<Response<ReachReply>, Status> {
        Err(Status::unimplemented("no part of the measurement"))
    }
}

struct InMemory(DuplexStream);

impl Connected for InMemory {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for InMemory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for InMemory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn address(node: usize) -> IpAddr {
    IpAddr::from([10, 88, u8::try_from(node / 200).unwrap(), u8::try_from(1 + node % 200).unwrap()])
}

fn planned(nodes: usize) -> (Plan, Hosts) {
    let names: Vec<NodeName> = (0..nodes).map(|node| format!("n{node}").parse().unwrap()).collect();
    let workers: String =
        names[1..].iter().map(|name| format!("    - {{name: {name}, role: worker}}\n")).collect();
    let spec = format!(
        "apiVersion: muster/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesVersion: v1.20.2\n  nodes:\n    - {{name: n0, role: control-plane}}\n{workers}  networking: {{podSubnet: {PODS}, manifest: n}}\n"
    );
    let manifest = muster_tests::cluster::NETWORK.replace("10.244.0.0/16", PODS);
    let files = [("n".to_owned(), manifest)].into();
    let files = ClusterFiles { spec, files, ..ClusterFiles::default() };
    let hosts: Hosts = names
        .iter()
        .enumerate()
        .map(|(node, name)| {
            let (name, address) = (name.clone(), address(node).to_string());
            (name.clone(), Ok(HostFacts { node: name.to_string(), address, ..HostFacts::default() }))
        })
        .collect();
    let spec = ClusterSpec::parse(&files, &names.into_iter().collect()).unwrap();
    (plan(&spec, &hosts, None).unwrap(), hosts)
}

async fn connected(hosts: &Hosts, told: &Told) -> Fleet {
    let fleet = Fleet::new();
    for (name, facts) in hosts {
        let facts = facts.as_ref().unwrap().clone();
        let peer: IpAddr = facts.address.parse().unwrap();
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let incoming = stream::iter([Ok::<_, io::Error>(InMemory(ours))]).chain(stream::pending());
        let server =
            transport::server().add_service(NodeAgentServer::new(StandIn { facts, told: told.clone() }));
        tokio::spawn(server.serve_with_incoming(incoming));
        let (fleet, name) = (fleet.clone(), name.clone());
        tokio::spawn(async move {
            let _ = fleet.adopt(&name, peer, theirs, Duration::from_secs(60), || true, ()).await;
        });
    }
    while fleet.connected().len() < hosts.len() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fleet
}

/// The looks before a run, the run and the one after it: of each line one copy goes to each node, and the plan itself has one.
#[tokio::test]
async fn what_every_node_is_told_of_every_node_goes_to_each_of_them_once() {
    for nodes in [20, 40] {
        let (plan, hosts) = planned(nodes);
        let copies: BTreeSet<_> = plan
            .steps
            .iter()
            .filter(|step| matches!(step.step.kind, Some(Kind::Hosts(_))))
            .map(|step| Arc::as_ptr(&step.step))
            .collect();
        assert_eq!(copies.len(), 1, "all nodes share it");
        let told = Told::default();
        let fleet = connected(&hosts, &told).await;
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        preview(&fleet, &plan.steps).await;
        for run in ["r1", "r2"] {
            let (fleet, journal, run) = (fleet.clone(), journal.clone(), run.to_owned());
            let ended =
                Executor { fleet, journal, run, patience: Duration::from_secs(60) }.execute(&plan).await;
            assert_eq!((ended.done.len(), ended.failed.len()), (plan.steps.len(), 0));
        }
        assert_eq!(told.load(Ordering::Relaxed), nodes * nodes, "of {nodes} nodes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it takes minutes and wants the machine for itself"]
async fn growth_of_a_plan_and_of_its_execution_with_the_number_of_nodes() {
    let mut figures: BTreeMap<usize, (Duration, Duration)> = BTreeMap::new();
    for nodes in [50, 500, 2_000] {
        let begun = Instant::now();
        let (plan, hosts) = planned(nodes);
        let _ = plan.digest();
        let planning = begun.elapsed();
        let fleet = connected(&hosts, &Told::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let run = "r1".to_owned();
        let executor = Executor { fleet, journal: journal.clone(), run, patience: Duration::from_secs(60) };
        let begun = Instant::now();
        let ended = executor.execute(&plan).await;
        let executing = begun.elapsed();
        let events = journal.after(0).unwrap();
        let first = events.iter().find(|event| matches!(event.kind, EventKind::Failed { .. }));
        assert_eq!((ended.done.len(), ended.failed.len()), (plan.steps.len(), 0), "{first:?}");
        let (steps, events) = (plan.steps.len(), journal.last_sequence());
        println!(
            "{nodes:>5} nodes {steps:>6} steps {events:>7} events: planned in {planning:>9.3?}, executed in {executing:>9.3?}, {:>8.1?} per event",
            executing / u32::try_from(events).unwrap()
        );
        figures.insert(nodes, (planning, executing));
    }
    let ((few, least), (many, most)) =
        (figures.first_key_value().unwrap(), figures.last_key_value().unwrap());
    let exponent = |least: Duration, most: Duration| {
        (most.as_secs_f64() / least.as_secs_f64()).ln() / (*many as f64 / *few as f64).ln()
    };
    println!(
        "grows with nodes^{:.2} (planning) and nodes^{:.2} (execution) between {few} and {many}",
        exponent(least.0, most.0),
        exponent(least.1, most.1)
    );
}
