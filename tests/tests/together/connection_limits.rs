//! What a peer may send over one connection, in both directions: sizes of messages and headers, streams at once, and
//! streams that are opened only to be reset.

use std::sync::Arc;
use std::time::Duration;

use muster_agent::connect::connection::serve_once;
use muster_coordinator::doors::tls::Faces;
use muster_proto::agent::node_agent_client::NodeAgentClient;
use muster_proto::agent::{HelloRequest, RunStepRequest};
use muster_proto::enrolment::EnrolRequest;
use muster_proto::enrolment::enrolment_client::EnrolmentClient;
use muster_proto::transport::{MESSAGE_LIMIT, channel_over};
use muster_proto::version::{ALPN_ENROL, PROTOCOL};
use muster_tests::trust::{Coordinator, Machine, NoSteps};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::{Code, Request};

const SOON: Duration = Duration::from_secs(5);

/// A stranger's TLS connection to the coordinator, for enrolment.
async fn stranger(coordinator: &Coordinator) -> impl AsyncRead + AsyncWrite + Send + Unpin + use<> {
    let mut roots = RootCertStore::empty();
    roots.add(coordinator.daemon.authority.certificate().clone()).unwrap();
    let settings =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    muster_agent::connect::dial::dial(&coordinator.endpoint(), settings, ALPN_ENROL).await.unwrap()
}

/// HTTP/2 frame by frame (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const ENHANCE_YOUR_CALM: [u8; 4] = 11_u32.to_be_bytes();

/// The next frame: its kind and its payload; none at the end of the connection.
async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

/// Opens streams and resets each at once; whether the other side ends the connection because of it.
async fn rapid_reset_ends_it(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    attack.extend(frame(SETTINGS, 0, 0, &[]));
    // POST, http, /, :authority x: all of it in HPACK's static table but the last.
    let request = [0x83, 0x86, 0x84, 0x41, 0x01, b'x'];
    for number in 0..500 {
        attack.extend(frame(HEADERS, 4, 2 * number + 1, &request));
        attack.extend(frame(RESET, 0, 2 * number + 1, &8_u32.to_be_bytes()));
    }
    // The other side may be gone before all of it is written.
    let _ = stream.write_all(&attack).await;
    let _ = stream.flush().await;
    let told = async {
        while let Some((kind, payload)) = next_frame(&mut stream).await {
            if kind == GO_AWAY {
                return payload[4..8] == ENHANCE_YOUR_CALM;
            }
        }
        false
    };
    tokio::time::timeout(SOON, told).await.unwrap_or(false)
}

/// What the other side says that it takes: streams at once, bytes of headers.
async fn settings_of(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> (Option<u32>, Option<u32>) {
    settings_taken(&mut stream).await
}

/// The same of a connection that is used on.
pub(crate) async fn settings_taken(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> (Option<u32>, Option<u32>) {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    loop {
        let (kind, payload) = next_frame(stream).await.expect("it speaks HTTP/2");
        if kind == SETTINGS && !payload.is_empty() {
            let value = |wanted: u16| {
                let found = payload.chunks_exact(6).find(|one| one[..2] == wanted.to_be_bytes())?;
                Some(u32::from_be_bytes(found[2..].try_into().unwrap()))
            };
            return (value(3), value(6));
        }
    }
}

/// The coordinator's end of a connection that an agent dialled; the coordinator is played by the test.
async fn dialled_by_an_agent() -> impl AsyncRead + AsyncWrite + Send + Unpin {
    let coordinator = Coordinator::start().await;
    let machine = Machine::fresh();
    let node = machine.enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
    let faces = Faces::new(&coordinator.daemon.authority, &coordinator.daemon.store).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = muster_agent::connect::dial::Endpoint::new(address.ip(), address.port());
    let identity = machine.identity();
    tokio::spawn(async move {
        // The folders live as long as the agent.
        let _kept = (coordinator, machine);
        let _ = serve_once(&identity, &endpoint, &node, NoSteps).await;
    });
    let (socket, _) = listener.accept().await.unwrap();
    tokio_rustls::TlsAcceptor::from(faces.agent).accept(socket).await.unwrap()
}

#[tokio::test]
async fn streams_that_are_opened_only_to_be_reset_end_the_connection_on_both_sides() {
    let coordinator = Coordinator::start().await;
    assert!(rapid_reset_ends_it(stranger(&coordinator).await).await, "the coordinator");
    assert!(rapid_reset_ends_it(dialled_by_an_agent().await).await, "the agent");
    Machine::fresh().enrol(&coordinator, &coordinator.token("node-1")).await.unwrap();
}

#[tokio::test]
async fn both_sides_say_how_many_streams_and_how_long_headers_they_take() {
    let coordinator = Coordinator::start().await;
    let enrolment = (Some(1), Some(4 * 1024));
    assert_eq!(settings_of(stranger(&coordinator).await).await, enrolment, "the coordinator");
    let limits = (Some(64), Some(16 * 1024));
    assert_eq!(settings_of(dialled_by_an_agent().await).await, limits, "the agent");
}

#[tokio::test]
async fn an_enrolment_that_is_larger_than_any_can_be_is_not_read_nor_are_its_headers() {
    let coordinator = Coordinator::start().await;
    let mut client = EnrolmentClient::new(channel_over(stranger(&coordinator).await).await.unwrap());
    let large = EnrolRequest {
        certificate_request: vec![0; 17 * 1024],
        protocol: PROTOCOL,
        ..EnrolRequest::default()
    };
    let status = client.enrol(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let mut request = Request::new(EnrolRequest::default());
    request.metadata_mut().insert("x-long", "a".repeat(17 * 1024).parse().unwrap());
    let status = client.enrol(request).await.unwrap_err();
    assert_ne!(status.code(), Code::FailedPrecondition, "it came as far as the service: {status}");
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_by_the_agent_and_its_connection_lives_on() {
    let channel = channel_over(dialled_by_an_agent().await).await.unwrap();
    let mut client = NodeAgentClient::new(channel);
    let large = RunStepRequest { run_id: "a".repeat(MESSAGE_LIMIT + 1), ..RunStepRequest::default() };
    let status = client.run_step(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let hello = HelloRequest { coordinator_version: "0.1.0".into(), protocol: PROTOCOL };
    assert!(client.hello(hello).await.is_ok(), "the connection lives on");
}
