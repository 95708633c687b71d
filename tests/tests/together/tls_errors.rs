//! What an agent does after a TLS error: nothing. No plaintext, no older version, no second try that asks for less.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_agent::connect::connection::{ConnectionError, serve, serve_once};
use muster_agent::connect::dial::{DialError, Endpoint};
use muster_agent::connect::enrol::{EnrollError, enroll};
use muster_agent::connect::identity::{Identity, MachineKey};
use muster_coordinator::doors::authority::Authority;
use muster_proto::names::NodeName;
use muster_proto::token::EnrolmentToken;
use muster_proto::version::{ALPN_AGENT, ALPN_ENROL};
use muster_tests::trust::{Machine, NoSteps};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

const SOON: Duration = Duration::from_secs(5);

/// The first byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 0x16;

/// What a server saw of one connection.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    first_byte: u8,
    shaken: bool,
    /// What came after a handshake that failed.
    after: Vec<u8>,
}

/// A TLS error that a server made, and nothing more.
fn broken_handshake() -> Seen {
    Seen { first_byte: HANDSHAKE, shaken: false, after: Vec::new() }
}

/// A server in the coordinator's place, with this CA's certificate for the coordinator's name.
struct Server {
    endpoint: Endpoint,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(authority: &Authority, version: &'static SupportedProtocolVersion) -> Self {
        let (certificates, key) = authority.server_identity();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut settings = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        settings.alpn_protocols = vec![ALPN_AGENT.to_vec(), ALPN_ENROL.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(settings));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let one = look(socket, &acceptor).await;
                all.lock().unwrap().push(one);
            }
        });
        Self { endpoint: Endpoint::new(address.ip(), address.port()), seen }
    }

    /// All connections, once no other one has come for a while.
    async fn seen(&self) -> Vec<Seen> {
        sleep(Duration::from_millis(500)).await;
        self.seen.lock().unwrap().clone()
    }
}

async fn look(socket: TcpStream, acceptor: &TlsAcceptor) -> Seen {
    let mut first = [0];
    timeout(SOON, socket.peek(&mut first)).await.expect("the agent says something").unwrap();
    let mut after = Vec::new();
    let shaken = match acceptor.accept(socket).into_fallible().await {
        Ok(_) => true,
        Err((_, mut socket)) => {
            let _ = timeout(SOON, socket.read_to_end(&mut after)).await.expect("the agent hangs up");
            false
        }
    };
    Seen { first_byte: first[0], shaken, after }
}

fn authority() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    (folder, authority)
}

/// A machine that this CA named.
fn enrolled(authority: &Authority, node: &NodeName) -> Machine {
    let machine = Machine::fresh();
    let key = MachineKey::open(&machine.paths.identity()).unwrap();
    let requested = authority.read_request(&key.request().unwrap()).unwrap();
    let certificate = authority.certify(node, &requested).unwrap();
    Identity::store(&machine.paths.identity(), &certificate, authority.certificate()).unwrap();
    machine
}

/// The coordinator's own CA over TLS 1.2 alone, and another CA over TLS 1.3.
async fn wrong_servers(own: &Authority, foreign: &Authority) -> [(&'static str, Server); 2] {
    [("TLS 1.2", Server::start(own, &TLS12).await), ("another CA", Server::start(foreign, &TLS13).await)]
}

#[tokio::test]
async fn an_agent_makes_one_attempt_and_falls_back_to_nothing() {
    let ((_own, own), (_foreign, foreign)) = (authority(), authority());
    let node: NodeName = "node-1".parse().unwrap();
    let identity = enrolled(&own, &node).identity();
    for (what, server) in wrong_servers(&own, &foreign).await {
        let serving = serve_once(&identity, &server.endpoint, &node, NoSteps);
        let error = timeout(SOON, serving).await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectionError::Dial(DialError::Untrusted(..))), "{what}: {error}");
        assert_eq!(server.seen().await, [broken_handshake()], "{what}");
    }
    // The same server with the right CA and version shows that nothing else is wrong with it.
    let right = Server::start(&own, &TLS13).await;
    let serving = serve_once(&identity, &right.endpoint, &node, NoSteps);
    let _ = timeout(SOON, serving).await.unwrap();
    assert!(right.seen().await[0].shaken);
}

#[tokio::test]
async fn an_enrolment_makes_one_attempt_keeps_nothing_and_falls_back_to_nothing() {
    let ((_own, own), (_foreign, foreign)) = (authority(), authority());
    for (what, server) in wrong_servers(&own, &foreign).await {
        let (machine, token) = (Machine::fresh(), EnrolmentToken::generate(own.pin()).unwrap());
        let asking = enroll(&machine.paths, &server.endpoint, &token);
        let error = timeout(SOON, asking).await.unwrap().unwrap_err();
        assert!(matches!(error, EnrollError::Dial(DialError::Untrusted(..))), "{what}: {error}");
        assert_eq!(server.seen().await, [broken_handshake()], "{what}");
        assert!(!machine.paths.configuration.exists(), "{what}");
        assert_eq!(Identity::trusts(&machine.paths.identity(), own.pin()).unwrap(), None, "{what}");
    }
}

#[tokio::test]
async fn an_agent_that_dials_for_ever_asks_for_no_less_at_any_later_try() {
    let ((_own, own), (_foreign, foreign)) = (authority(), authority());
    let node: NodeName = "node-1".parse().unwrap();
    let identity = enrolled(&own, &node).identity();
    for (what, server) in wrong_servers(&own, &foreign).await {
        let tries = async {
            while server.seen.lock().unwrap().len() < 3 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        // Ended in a pause between two tries.
        tokio::select! {
            () = serve(&identity, &server.endpoint, &node, NoSteps) => {}
            tried = timeout(4 * SOON, tries) => tried.unwrap_or_else(|_| panic!("{what}: it does not try again")),
        }
        let seen = server.seen().await;
        assert!(seen.iter().all(|one| *one == broken_handshake()), "{what}: {seen:?}");
    }
}
