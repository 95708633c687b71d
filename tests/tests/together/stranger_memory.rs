//! What strangers can make the coordinator hold at once: every place taken, and on each connection all that it says it takes.
//! The coordinator is a process of its own, so that what is measured is what its unit would count.

#![allow(
    clippy::disallowed_methods,
    reason = "a test starts a coordinator and reads what the kernel says of it"
)]

use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use muster_agent::connect::dial::{Endpoint, dial};
use muster_coordinator::daemon::Daemon;
use muster_coordinator::doors::authority::Authority;
use muster_coordinator::settings::{Limits, Paths, Settings};
use muster_proto::version::ALPN_ENROL;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::connection_limits::{DATA, HEADERS, frame, settings_taken};

const ROOT: &str = "MUSTER_TEST_COORDINATOR_UNDER";

/// Long enough that on the slowest machine the last connection stands before the first one is ended.
const ENOUGH: Duration = Duration::from_secs(120);

/// As in a flood from many machines: one source may take all places.
fn limits() -> Limits {
    let unproven_per_source = Limits::default().unproven;
    Limits { unproven_per_source, handshake: ENOUGH, first_answer: ENOUGH, ..Limits::default() }
}

/// What this test's own process is when it is started again with `ROOT`: a coordinator, until its input ends.
async fn be_the_coordinator(root: &Path) {
    let paths = Paths::under(root);
    std::fs::create_dir_all(&paths.runtime).unwrap();
    let (address, admin_group) = (IpAddr::from([127, 0, 0, 1]), "no-such-group".to_owned());
    let settings = Settings { address, port: 0, paths, limits: limits(), admin_group };
    let daemon = Daemon::start(settings).await.unwrap();
    // The harness prints without a line's end before it.
    println!("\nlistens {}", daemon.address.port());
    let _ = BufReader::new(tokio::io::stdin()).lines().next_line().await;
}

/// A line of /proc/PID/status that counts KiB, in bytes.
fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
    found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What the unit lets the coordinator have, in bytes.
fn memory_max() -> u64 {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/muster-coordinator.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let megabytes = unit.lines().find_map(|line| line.strip_prefix("MemoryMax=")?.strip_suffix('M')).unwrap();
    megabytes.parse::<u64>().unwrap() << 20
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
    if let Ok(root) = std::env::var(ROOT) {
        return be_the_coordinator(Path::new(&root)).await;
    }
    let root = tempfile::tempdir().unwrap();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let mut coordinator = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ROOT, root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(coordinator.stdout.take().unwrap()).lines();
    let port = loop {
        let line = said.next_line().await.unwrap().expect("the coordinator starts");
        if let Some(port) = line.strip_prefix("listens ") {
            break port.parse().unwrap();
        }
    };
    let pid = coordinator.id().unwrap();
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
    assert!(coordinator.try_wait().unwrap().is_none(), "it lives");
    assert!(highest > idle, "nothing was taken in");
    assert!(highest < allowed / 2, "{} MiB of {} MiB", highest >> 20, allowed >> 20);
}
