//! What strangers can make the coordinator hold at once: every place taken, and on each connection all that it says it takes.
//! The coordinator is a process of its own, so that what is measured is what its unit would count.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use muster_agent::connect::dial::{Endpoint, dial};
use muster_coordinator::doors::authority::Authority;
use muster_coordinator::settings::{Limits, Paths};
use muster_proto::version::ALPN_ENROL;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::connection_limits::{DATA, HEADERS, frame, settings_taken};
use crate::own_process::{self, memory, memory_max};

/// Long enough that on the slowest machine the last connection stands before the first one is ended.
const ENOUGH: Duration = Duration::from_secs(120);

/// As in a flood from many machines: one source may take all places.
fn limits() -> Limits {
    let unproven_per_source = Limits::default().unproven;
    Limits { unproven_per_source, handshake: ENOUGH, first_answer: ENOUGH, ..Limits::default() }
}

/// A text of HPACK without Huffman coding, shorter than 127 bytes (RFC 7541, 5.2).
fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

/// Takes all that this connection offers: every stream with as many fields as a list of headers may hold, each a single byte
/// that names a field of the table of HPACK, and the beginning of a message as long as the window.
async fn takes_all(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let (streams, header_limit) = settings_taken(stream).await;
    let (streams, header_limit) = (streams.unwrap_or(100), header_limit.unwrap_or(16 << 20) as usize);
    // A literal goes into the table, where the newest is 62: the path, the authority, the type, and a field without a text.
    let mut first = vec![0x83, 0x86];
    for (name, value) in
        [(Some(4), "/muster.enrolment.v1.Enrolment/Enrol"), (Some(1), "x"), (Some(31), "application/grpc")]
    {
        first.push(0x40 | name.unwrap_or_default());
        first.extend(text(value));
    }
    first.push(0x40);
    first.extend(text("a"));
    first.extend(text(""));
    let rest = vec![0xbe; (header_limit - 512) / 33];
    first.extend(&rest);
    let mut later = vec![0x83, 0x86, 0xc1, 0xc0, 0xbf];
    later.extend(rest);
    let mut message = vec![0];
    message.extend(16_000_u32.to_be_bytes());
    message.resize(15_000, 0);
    for number in 0..streams {
        let headers = if number == 0 { &first } else { &later };
        let mut attack = frame(HEADERS, 4, 2 * number + 1, headers);
        if number < 4 {
            attack.extend(frame(DATA, 0, 2 * number + 1, &message));
        }
        stream.write_all(&attack).await.unwrap();
    }
    stream.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_take_every_place_and_all_that_each_offers_fill_less_than_half_of_the_coordinators_memory()
 {
    if own_process::is_the_coordinator(limits()).await {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut coordinator = own_process::Coordinator::start(root.path()).await;
    let (pid, port) = (coordinator.pid(), coordinator.port);
    let idle = memory(pid, "VmRSS");
    let mut roots = RootCertStore::empty();
    let authority = Authority::open(&Paths::under(root.path()).state.join("authority")).unwrap();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let endpoint = Endpoint::new(IpAddr::from([127, 0, 0, 1]), port);
    let mut held = Vec::new();
    for _ in 0..limits().unproven {
        let mut stream = dial(&endpoint, settings.clone(), ALPN_ENROL).await.unwrap();
        takes_all(&mut stream).await;
        held.push(stream);
    }
    // Until it has taken in all of it: its memory does not grow any more.
    let mut before = 0;
    while memory(pid, "VmRSS") > before {
        before = memory(pid, "VmRSS");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (highest, allowed) = (memory(pid, "VmHWM"), memory_max());
    println!("idle {} MiB, at most {} MiB of {} MiB", idle >> 20, highest >> 20, allowed >> 20);
    assert!(coordinator.lives(), "it lives");
    assert!(highest > idle, "nothing was taken in");
    assert!(highest < allowed / 2, "{} MiB of {} MiB", highest >> 20, allowed >> 20);
}
