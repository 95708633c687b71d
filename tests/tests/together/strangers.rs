//! What the coordinator's port does with peers that prove nothing, or the wrong thing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_agent::connect::connection::{ConnectionError, serve_once};
use muster_agent::connect::identity::{Identity, MachineKey};
use muster_coordinator::doors::authority::Authority;
use muster_coordinator::settings::Limits;
use muster_proto::agent::node_agent_server::{NodeAgent, NodeAgentServer};
use muster_proto::agent::{
    CheckStepReply, CheckStepRequest, HelloReply, HelloRequest, HostFacts, HostReport, InspectRequest,
    ListenRequest, ReachReply, ReachRequest, RunStepRequest,
};
use muster_proto::enrolment::EnrolRequest;
use muster_proto::enrolment::enrolment_client::EnrolmentClient;
use muster_proto::names::NodeName;
use muster_proto::transport::{self, Watched, channel_over};
use muster_proto::version::{ALPN_AGENT, ALPN_ENROL, PROTOCOL};
use muster_tests::trust::{Coordinator, Machine, NoSteps};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Request, Response, Status};

const SOON: Duration = Duration::from_secs(5);

fn quick() -> Limits {
    Limits {
        handshake: Duration::from_millis(300),
        first_answer: Duration::from_millis(600),
        ..Limits::default()
    }
}

/// TLS settings of somebody who knows the CA and shows no certificate.
fn anonymous(coordinator: &Coordinator) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(coordinator.daemon.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Whether the coordinator closes the connection without a word of its own.
async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin), within: Duration) -> bool {
    let mut bytes = Vec::new();
    // TLS may say goodbye with an alert; nothing else may come.
    let read = tokio::time::timeout(within, stream.read_to_end(&mut bytes)).await;
    read.is_ok() && bytes.len() < 16
}

#[tokio::test]
async fn idle_sockets_and_garbage_are_dropped_and_nobody_else_notices() {
    let coordinator = Coordinator::start_with(quick()).await;
    let mut idle = TcpStream::connect(coordinator.daemon.address).await.unwrap();
    let mut garbage = TcpStream::connect(coordinator.daemon.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let began = Instant::now();
    assert!(is_closed(&mut garbage, SOON).await);
    assert!(is_closed(&mut idle, SOON).await);
    assert!(began.elapsed() < Duration::from_secs(2));
    Machine::fresh().enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_shakes_hands_and_then_says_nothing_is_dropped_too() {
    let coordinator = Coordinator::start_with(quick()).await;
    let settings = anonymous(&coordinator);
    let mut stream =
        muster_agent::connect::dial::dial(&coordinator.endpoint(), settings, ALPN_ENROL).await.unwrap();
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "the connection outlived its time");
}

#[tokio::test]
async fn a_flood_from_one_address_is_capped_and_leaves_the_connected_agents_alone() {
    let limits = Limits { unproven_per_source: 4, ..quick() };
    let coordinator = Coordinator::start_with(limits).await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    machine.serve(&coordinator);
    let agent = coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(TcpStream::connect(coordinator.daemon.address).await.unwrap());
    }
    let began = Instant::now();
    agent.client.clone().check_step(CheckStepRequest::default()).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    // The one beyond the cap is closed at once, not after the handshake's time.
    let mut last = flood.pop().unwrap();
    assert!(is_closed(&mut last, Duration::from_millis(200)).await);
    drop(flood);
    tokio::time::sleep(Duration::from_millis(100)).await;
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
}

#[tokio::test]
async fn tls_1_2_and_unknown_uses_of_the_port_are_refused() {
    let coordinator = Coordinator::start().await;
    let endpoint = coordinator.endpoint();
    let old = {
        let mut roots = RootCertStore::empty();
        roots.add(coordinator.daemon.authority.certificate().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    assert!(muster_agent::connect::dial::dial(&endpoint, old, ALPN_ENROL).await.is_err());
    assert!(muster_agent::connect::dial::dial(&endpoint, anonymous(&coordinator), b"h2").await.is_err());
}

#[tokio::test]
async fn the_port_for_commands_wants_a_certificate() {
    let coordinator = Coordinator::start().await;
    let settings = anonymous(&coordinator);
    // In TLS 1.3 the client believes that it is in until it reads: the alert is the first thing that it reads.
    if let Ok(mut stream) =
        muster_agent::connect::dial::dial(&coordinator.endpoint(), settings, ALPN_AGENT).await
    {
        assert!(stream.read_u8().await.unwrap_err().to_string().contains("CertificateRequired"));
    }
    assert!(coordinator.daemon.fleet.connected().is_empty());
}

#[tokio::test]
async fn a_certificate_of_our_own_authority_is_not_enough_without_an_enrolled_key() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let key = MachineKey::open(&machine.paths.identity()).unwrap();
    let authority = &coordinator.daemon.authority;
    let requested = authority.read_request(&key.request().unwrap()).unwrap();
    let certificate = authority.certify(&"node-1".parse().unwrap(), &requested).unwrap();
    Identity::store(&machine.paths.identity(), &certificate, authority.certificate()).unwrap();
    refused_and_told(&coordinator, &machine).await;
}

#[tokio::test]
async fn an_enrolled_key_is_not_enough_under_another_authority() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let foreign = Authority::open(folder.path()).unwrap();
    let key = MachineKey::open(&machine.paths.identity()).unwrap();
    let requested = foreign.read_request(&key.request().unwrap()).unwrap();
    let certificate: CertificateDer<'_> = foreign.certify(&"node-1".parse().unwrap(), &requested).unwrap();
    let trusted = coordinator.daemon.authority.certificate();
    Identity::store(&machine.paths.identity(), &certificate, trusted).unwrap();
    refused_and_told(&coordinator, &machine).await;
}

async fn refused_and_told(coordinator: &Coordinator, machine: &Machine) {
    let node: NodeName = "node-1".parse().unwrap();
    let (identity, endpoint) = (machine.identity(), coordinator.endpoint());
    let serving = serve_once(&identity, &endpoint, &node, NoSteps);
    let error = tokio::time::timeout(SOON, serving).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::TurnedAway(..)), "{error}");
    assert!(coordinator.daemon.fleet.connected().is_empty());
}

#[tokio::test]
async fn a_machine_that_was_taken_off_the_list_reads_so_in_its_own_log() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    coordinator.daemon.store.revoke_node(&node).unwrap();
    let error = serve_once(&machine.identity(), &coordinator.endpoint(), &node, NoSteps).await.unwrap_err();
    assert!(error.to_string().contains("not enrolled there any more"), "{error}");
}

#[tokio::test]
async fn an_enrolment_with_another_protocol_is_refused_with_the_sentence() {
    let coordinator = Coordinator::start().await;
    let stream =
        muster_agent::connect::dial::dial(&coordinator.endpoint(), anonymous(&coordinator), ALPN_ENROL)
            .await
            .unwrap();
    let mut client = EnrolmentClient::new(channel_over(stream).await.unwrap());
    let request = EnrolRequest {
        protocol: PROTOCOL + 1,
        agent_version: "9.9.9".into(),
        token_id: coordinator.token("node-1").id().to_string(),
        ..EnrolRequest::default()
    };
    let status = client.enrol(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("install the same version"), "{}", status.message());
}

/// An agent that answers Hello as it is told to.
#[derive(Clone)]
struct Impostor(HelloReply);

#[tonic::async_trait]
impl NodeAgent for Impostor {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(self.0.clone()))
    }
    async fn check_step(&self, _: Request<CheckStepRequest>) -> Result<Response<CheckStepReply>, Status> {
        Err(Status::unimplemented("an impostor"))
    }
    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<HostReport>, Status> {
        Err(Status::unimplemented("an impostor"))
    }
    type ListenStream = muster_agent::connect::service::ListenReplies;
    async fn listen(&self, _: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        Err(Status::unimplemented("an impostor"))
    }
    async fn reach(&self, _: Request<ReachRequest>) -> Result<Response<ReachReply>, Status> {
        Err(Status::unimplemented("an impostor"))
    }
    type RunStepStream = muster_agent::connect::service::Replies;
    async fn run_step(&self, _: Request<RunStepRequest>) -> Result<Response<Self::RunStepStream>, Status> {
        Err(Status::unimplemented("an impostor"))
    }
}

/// Enrols, connects, and answers Hello with this reply; what the fleet tells to whoever waits for the node.
async fn answered_with(reply: HelloReply) -> String {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    let settings = machine.identity().tls().unwrap();
    let stream =
        muster_agent::connect::dial::dial(&coordinator.endpoint(), settings, ALPN_AGENT).await.unwrap();
    let (watched, cord) = Watched::new(stream);
    let incoming = futures_util::stream::iter([Ok::<_, std::io::Error>(watched)]);
    let serving = transport::server()
        .add_service(NodeAgentServer::new(Impostor(reply)))
        .serve_with_incoming(futures_util::StreamExt::chain(incoming, futures_util::stream::pending()));
    tokio::spawn(serving);
    tokio::time::timeout(SOON, cord.ended()).await.expect("the coordinator closes the connection");
    coordinator.daemon.fleet.agent(&node, Duration::from_millis(50)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_refused_and_who_waits_for_it_reads_why() {
    let facts = Some(HostFacts { node: "node-1".into(), address: "10.0.0.1".into(), ..HostFacts::default() });
    let reply = HelloReply { agent_version: "9.9.9".into(), protocol: PROTOCOL + 1, facts };
    let told = answered_with(reply).await;
    assert!(told.contains("install the same version") && told.contains("9.9.9"), "{told}");
}

#[tokio::test]
async fn an_agent_cannot_speak_for_another_node_nor_without_an_address() {
    let reply = |node: &str, address: &str| HelloReply {
        agent_version: "0.1.0".into(),
        protocol: PROTOCOL,
        facts: Some(HostFacts { node: node.into(), address: address.into(), ..HostFacts::default() }),
    };
    assert!(answered_with(reply("node-2", "10.0.0.1")).await.contains("node-2"));
    assert!(answered_with(reply("node-1", "$(reboot)")).await.contains("no IP address"));
}

#[tokio::test]
async fn an_answer_of_an_agent_beyond_the_limit_of_a_message_is_not_read() {
    let facts = Some(HostFacts { node: "node-1".into(), address: "10.0.0.1".into(), ..HostFacts::default() });
    let reply =
        HelloReply { agent_version: "9".repeat(transport::MESSAGE_LIMIT + 1), protocol: PROTOCOL, facts };
    let told = answered_with(reply).await;
    assert!(told.contains("too large") && told.len() < 1_000, "{told}");
}
