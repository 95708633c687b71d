//! Enrolment and connection over real TCP: who gets in, who does not, and what each is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_agent::connect::connection::{ConnectionError, serve_once};
use muster_agent::connect::enrol::{EnrollError, enroll};
use muster_agent::connect::identity::Identity;
use muster_coordinator::cli::init::{Standing, standing};
use muster_coordinator::doors::enrolment::EnrolmentService;
use muster_coordinator::doors::tls::Faces;
use muster_proto::coordinator::{
    CreateTokenRequest, ListTokensRequest, RevokeNodeRequest, RevokeTokenRequest,
};
use muster_proto::enrolment::enrolment_server::{Enrolment, EnrolmentServer};
use muster_proto::enrolment::{EnrolReply, EnrolRequest};
use muster_proto::journal::Journal;
use muster_proto::listing::{self, Form};
use muster_proto::settings_file::SettingsFile;
use muster_proto::token::{EnrolmentToken, KeyPin};
use muster_proto::transport::{self, Watched};
use muster_tests::trust::{Coordinator, Machine, NoSteps};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status};

const SOON: Duration = Duration::from_secs(5);

fn sentence(error: &EnrollError) -> String {
    muster_proto::cause::chain(error)
}

#[tokio::test]
async fn a_machine_enrols_connects_and_says_hello_with_its_own_end_of_the_connection() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    assert_eq!(node.as_str(), "node-1");
    machine.serve(&coordinator);
    let agent = coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    assert_eq!((agent.facts.node.as_str(), agent.facts.address.as_str()), ("node-1", "127.0.0.1"));
    let nodes = coordinator.nodes().await;
    assert!(nodes[0].connected && nodes[0].name == "node-1", "{nodes:?}");
}

#[tokio::test]
async fn a_token_made_over_the_admin_socket_enrols_and_is_shown_as_used() {
    let coordinator = Coordinator::start().await;
    let mut admin = coordinator.admin().await;
    let request = CreateTokenRequest { node: "node-1".into(), lifetime_seconds: 60 };
    let reply = admin.create_token(request).await.unwrap().into_inner();
    assert_eq!(reply.coordinator_address, coordinator.endpoint().to_string());
    let token: EnrolmentToken = reply.token.parse().unwrap();
    Machine::fresh().enrol(&coordinator, &token).await.unwrap();
    let tokens = admin.list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!((tokens[0].node.as_str(), tokens[0].state.as_str()), ("node-1", "used"));
    let hostile = CreateTokenRequest { node: "$(id)".into(), lifetime_seconds: 60 };
    assert_eq!(admin.create_token(hostile).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_server_with_another_key_than_the_token_names_is_not_spoken_to() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let foreign = EnrolmentToken::generate(KeyPin::of(b"another authority")).unwrap();
    let error = machine.enrol(&coordinator, &foreign).await.unwrap_err();
    assert!(matches!(error, EnrollError::Dial(_)), "{error}");
    assert!(sentence(&error).contains("not the coordinator that made this token"), "{}", sentence(&error));
    assert!(!machine.paths.configuration.exists());
}

#[tokio::test]
async fn five_proofs_with_a_wrong_secret_lock_the_token_for_its_owner_too() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("node-1");
    // The right id and pin, another secret: what somebody guesses who saw `coordinator token list`.
    let guess = EnrolmentToken::generate(token.pin()).unwrap().reveal();
    let mut parts: Vec<&str> = guess.split('.').collect();
    parts[2] = token.id().as_str();
    let guess: EnrolmentToken = parts.join(".").parse().unwrap();
    for _ in 0..5 {
        let error = Machine::fresh().enrol(&coordinator, &guess).await.unwrap_err();
        assert!(sentence(&error).contains("does not accept this token"), "{}", sentence(&error));
    }
    let error = Machine::fresh().enrol(&coordinator, &token).await.unwrap_err();
    assert!(sentence(&error).contains("locked"), "{}", sentence(&error));
    let refused = refused(coordinator).await;
    let last = refused.last().unwrap();
    assert_eq!(refused.len(), 5, "what a locked token refuses is no event: {refused:?}");
    assert!(last.contains("number 5") && last.contains("locked now"), "{last}");
}

#[tokio::test]
async fn the_same_machine_may_retry_and_another_one_is_refused_and_noticed() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("node-1");
    let (first, second) = (Machine::fresh(), Machine::fresh());
    first.enrol(&coordinator, &token).await.unwrap();
    first.enrol(&coordinator, &token).await.unwrap();
    let error = second.enrol(&coordinator, &token).await.unwrap_err();
    assert!(sentence(&error).contains("used already"), "{}", sentence(&error));
    assert!(Identity::open(&second.paths.identity()).is_err());
    let tokens =
        coordinator.admin().await.list_tokens(ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert!(tokens[0].state.contains("ANOTHER KEY TRIED IT 1 times"), "{tokens:?}");
    let refused = refused(coordinator).await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    for expected in
        ["node-1/enrolment", "REFUSED, from 127.0.0.1:", token.id().as_str(), "nodes revoke node-1"]
    {
        assert!(refused[0].contains(expected), "no {expected} in {}", refused[0]);
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a test removes what a crash kept from being written")]
async fn an_enrolment_that_was_cut_off_is_not_taken_for_one_that_succeeded_and_is_done_again() {
    let coordinator = Coordinator::start().await;
    let (machine, node) = (Machine::fresh(), "node-1".parse().unwrap());
    let mut admin = coordinator.admin().await;
    let patience = Duration::from_millis(300);
    assert_eq!(standing(&mut admin, &node, SOON).await.unwrap(), Standing::NotEnrolled);
    // What a crash leaves after the coordinator wrote its list: the machine's key, and nothing else on the machine.
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    for kept in ["certificate.der", "authority.der"] {
        std::fs::remove_file(machine.paths.identity().join(kept)).unwrap();
    }
    std::fs::remove_file(&machine.paths.configuration).unwrap();
    assert_eq!(standing(&mut admin, &node, patience).await.unwrap(), Standing::Away);

    let another = Machine::fresh().enrol(&coordinator, &coordinator.token("node-1")).await.unwrap_err();
    let another = sentence(&another);
    assert!(another.contains("`coordinator nodes revoke node-1`"), "the name is not given away: {another}");
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    machine.serve(&coordinator);
    assert_eq!(standing(&mut admin, &node, SOON).await.unwrap(), Standing::Connected("127.0.0.1".into()));
}

#[tokio::test]
async fn many_keys_that_come_with_one_tokens_secret_do_not_fill_the_journal() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("node-1");
    for _ in 0..10 {
        let _ = Machine::fresh().enrol(&coordinator, &token).await;
    }
    let refused = refused(coordinator).await;
    let nth =
        |line: &String| line.split("for the ").nth(1).map(|rest| rest.split(' ').next().unwrap().to_owned());
    assert_eq!(refused.iter().filter_map(nth).collect::<Vec<_>>(), ["1.", "2.", "4.", "8."], "{refused:?}");
}

/// The refused attempts that `coordinator journal` shows once the daemon is gone.
async fn refused(coordinator: Coordinator) -> Vec<String> {
    let Coordinator { root, daemon } = coordinator;
    drop(daemon);
    let paths = muster_coordinator::settings::Paths::under(root.path());
    let mut shown = Vec::new();
    let journal = Journal::read_only(&paths.journal()).unwrap();
    listing::list(&journal, Form::Text, &mut shown).unwrap();
    String::from_utf8(shown)
        .unwrap()
        .lines()
        .filter(|line| line.contains("REFUSED"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn of_many_machines_with_one_token_exactly_one_enrols() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("node-1");
    let machines: Vec<Machine> = (0..6).map(|_| Machine::fresh()).collect();
    let tries = machines.iter().map(|machine| machine.enrol(&coordinator, &token));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(coordinator.nodes().await.len(), 1);
}

#[tokio::test]
async fn an_expired_and_a_revoked_token_say_so() {
    let coordinator = Coordinator::start().await;
    let expired = coordinator.token_for("node-1", Duration::ZERO);
    let error = Machine::fresh().enrol(&coordinator, &expired).await.unwrap_err();
    assert!(sentence(&error).contains("expired"), "{}", sentence(&error));
    let revoked = coordinator.token("node-1");
    let id = revoked.id().to_string();
    coordinator.admin().await.revoke_token(RevokeTokenRequest { id }).await.unwrap();
    let error = Machine::fresh().enrol(&coordinator, &revoked).await.unwrap_err();
    assert!(sentence(&error).contains("revoked"), "{}", sentence(&error));
}

#[tokio::test]
async fn a_machine_of_another_coordinator_is_told_how_to_leave_it() {
    let (first, second) = (Coordinator::start().await, Coordinator::start().await);
    let machine = Machine::fresh();
    machine.enrol(&first, &first.token("node-1")).await.unwrap();
    let error = machine.enrol(&second, &second.token("node-1")).await.unwrap_err();
    assert!(matches!(error, EnrollError::OtherCoordinator { .. }), "{error}");
    assert!(sentence(&error).contains(&first.endpoint().to_string()), "{error}");
    assert!(second.nodes().await.is_empty());
}

#[tokio::test]
async fn what_the_owner_of_a_machine_allowed_survives_a_new_enrolment() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    let mut settings = muster_agent::connect::settings::Settings::load(&machine.paths.configuration).unwrap();
    settings.allow_steps = Some(vec![muster_proto::step_kind::StepKind::Swap]);
    settings.write(&machine.paths.configuration).unwrap();
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    assert_eq!(
        muster_agent::connect::settings::Settings::load(&machine.paths.configuration).unwrap(),
        settings
    );
}

#[tokio::test]
async fn revoking_a_node_closes_its_connection_at_once_and_keeps_it_out() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let token = coordinator.token("node-1");
    let node = machine.enrol(&coordinator, &token).await.unwrap();
    let identity = machine.identity();
    let endpoint = coordinator.endpoint();
    let serving = tokio::spawn({
        let node = node.clone();
        async move { serve_once(&identity, &endpoint, &node, NoSteps).await }
    });
    let agent = coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    coordinator.admin().await.revoke_node(RevokeNodeRequest { name: node.to_string() }).await.unwrap();
    let ended = tokio::time::timeout(SOON, serving).await.expect("closed at once").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert!(agent.client.clone().check_step(muster_proto::agent::CheckStepRequest::default()).await.is_err());
    assert!(coordinator.daemon.fleet.connected().is_empty());

    let error = serve_once(&machine.identity(), &coordinator.endpoint(), &node, NoSteps).await.unwrap_err();
    assert!(matches!(error, ConnectionError::TurnedAway(..)), "{error}");
    let error = machine.enrol(&coordinator, &token).await.unwrap_err();
    assert!(sentence(&error).contains("revoked"), "the token that it used: {}", sentence(&error));
    machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    machine.serve(&coordinator);
    coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
}

#[tokio::test]
async fn a_new_connection_of_a_node_replaces_its_old_one() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    let serve = || {
        let (identity, endpoint, node) = (machine.identity(), coordinator.endpoint(), node.clone());
        tokio::spawn(async move { serve_once(&identity, &endpoint, &node, NoSteps).await })
    };
    let first = serve();
    coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    let second = serve();
    tokio::time::timeout(SOON, first).await.expect("the first is closed").unwrap().unwrap();
    let agent = coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    agent.client.clone().check_step(muster_proto::agent::CheckStepRequest::default()).await.unwrap();
    assert_eq!(coordinator.daemon.fleet.connected().len(), 1);
    second.abort();
}

#[tokio::test]
async fn an_agent_comes_back_by_itself_after_the_coordinator_was_restarted() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    machine.serve(&coordinator);
    coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    let coordinator = coordinator.restart().await;
    coordinator.daemon.fleet.agent(&node, Duration::from_secs(15)).await.unwrap();
}

#[tokio::test]
async fn an_enrolment_at_a_port_where_nobody_listens_names_the_service_to_look_at() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("node-1");
    let endpoint = coordinator.endpoint();
    drop(coordinator);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = enroll(&Machine::fresh().paths, &endpoint, &token).await.unwrap_err();
    assert!(sentence(&error).contains("muster-coordinator"), "{}", sentence(&error));
}

/// Passes bytes on in both directions until it is told to stall; the sockets stay open, as when a cable is pulled.
async fn stallable_proxy(
    to: std::net::SocketAddr,
) -> (muster_agent::connect::dial::Endpoint, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stalled = Arc::new(AtomicBool::new(false));
    let flag = stalled.clone();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = TcpStream::connect(to).await.unwrap().into_split();
        tokio::join!(pass(near_read, far_write, flag.clone()), pass(far_read, near_write, flag));
    });
    (muster_agent::connect::dial::Endpoint::new(address.ip(), address.port()), stalled)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, stalled: Arc<AtomicBool>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if stalled.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_peer_behind_a_pulled_cable_is_noticed_by_both_sides_within_fifteen_seconds() {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    let (endpoint, stalled) = stallable_proxy(coordinator.daemon.address).await;
    let (identity, name) = (machine.identity(), node.clone());
    let serving = tokio::spawn(async move { serve_once(&identity, &endpoint, &name, NoSteps).await });
    let agent = coordinator.daemon.fleet.agent(&node, SOON).await.unwrap();
    stalled.store(true, Ordering::Relaxed);
    let call = agent.client.clone().check_step(muster_proto::agent::CheckStepRequest::default()).await;
    assert!(call.is_err());
    let limit = Duration::from_secs(15);
    tokio::time::timeout(limit, serving).await.expect("the agent notices").unwrap().unwrap();
    let mut changes = coordinator.daemon.fleet.changes();
    let gone = tokio::time::timeout(limit, async {
        while !coordinator.daemon.fleet.connected().is_empty() {
            changes.changed().await.unwrap();
        }
    });
    gone.await.expect("the coordinator notices");
}

/// The coordinator's own service behind a hand that changes its replies.
struct Tampering {
    service: EnrolmentService,
    change: fn(&mut EnrolReply),
}

#[tonic::async_trait]
impl Enrolment for Tampering {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let mut reply = self.service.enrol(request).await?.into_inner();
        (self.change)(&mut reply);
        Ok(Response::new(reply))
    }
}

/// What a machine says that enrols where every reply is changed like this on its way.
async fn enrolled_through(change: fn(&mut EnrolReply)) -> Result<(), EnrollError> {
    let coordinator = Coordinator::start().await;
    let (authority, store) = (&coordinator.daemon.authority, &coordinator.daemon.store);
    let faces = Faces::new(authority, store).unwrap();
    let journal = Journal::open(&coordinator.root.path().join("another-journal.db")).unwrap();
    let service = EnrolmentService::new(authority.clone(), store.clone(), journal, "test".into());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let stream = tokio_rustls::TlsAcceptor::from(faces.enrolment).accept(socket).await.unwrap();
        let incoming = futures_util::stream::iter([Ok::<_, std::io::Error>(Watched::new(stream).0)]);
        let service = EnrolmentServer::new(Tampering { service, change });
        let incoming = futures_util::StreamExt::chain(incoming, futures_util::stream::pending());
        transport::server().add_service(service).serve_with_incoming(incoming).await
    });
    let machine = Machine::fresh();
    let endpoint = muster_agent::connect::dial::Endpoint::new(address.ip(), address.port());
    let outcome = enroll(&machine.paths, &endpoint, &coordinator.token("node-1")).await;
    assert_eq!(machine.paths.configuration.exists(), outcome.is_ok(), "nothing of a refused reply is kept");
    assert_eq!(Identity::open(&machine.paths.identity()).is_ok(), outcome.is_ok());
    outcome.map(|_| ())
}

#[tokio::test]
async fn a_reply_that_was_changed_on_its_way_is_refused_and_nothing_of_it_is_kept() {
    enrolled_through(|_| {}).await.unwrap();
    let changes: [fn(&mut EnrolReply); 4] = [
        |reply| reply.node = "node-9".into(),
        |reply| reply.proof.clear(),
        |reply| reply.proof[0] ^= 1,
        |reply| reply.ca_certificate = reply.certificate.clone(),
    ];
    for change in changes {
        let error = enrolled_through(change).await.unwrap_err();
        assert!(matches!(error, EnrollError::Forged), "{error}");
    }
}
