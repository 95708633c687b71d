//! A coordinator in a process of its own, so that what is measured of it is what its unit would count: the test's own program,
//! started again for the one test that asks for it.

#![allow(
    clippy::disallowed_methods,
    reason = "a test starts a coordinator and reads what the kernel says of it"
)]

use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use muster_coordinator::daemon::Daemon;
use muster_coordinator::settings::{Limits, Paths, Settings};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const ROOT: &str = "MUSTER_TEST_COORDINATOR_UNDER";

/// First thing in the test: whether this process is the coordinator, which it then was, until its input ended.
pub(crate) async fn is_the_coordinator(limits: Limits) -> bool {
    let Ok(root) = std::env::var(ROOT) else { return false };
    let paths = Paths::under(Path::new(&root));
    std::fs::create_dir_all(&paths.runtime).unwrap();
    let (address, admin_group) = (IpAddr::from([127, 0, 0, 1]), "no-such-group".to_owned());
    let settings = Settings { address, port: 0, paths, limits, admin_group };
    let daemon = Daemon::start(settings).await.unwrap();
    // The harness prints without a line's end before it.
    println!("\nlistens {}", daemon.address.port());
    let _ = BufReader::new(tokio::io::stdin()).lines().next_line().await;
    true
}

/// The process; it ends when this is dropped.
pub(crate) struct Coordinator {
    process: Child,
    pub(crate) port: u16,
    /// Read no more, and open, so that nothing that it prints fails.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Coordinator {
    /// A coordinator with its state under this root; the test that calls this asks `is_the_coordinator` first.
    pub(crate) async fn start(root: &Path) -> Self {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(ROOT, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = loop {
            let line = said.next_line().await.unwrap().expect("the coordinator starts");
            if let Some(port) = line.strip_prefix("listens ") {
                break port.parse().unwrap();
            }
        };
        Self { process, port, _said: said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Ends it as a kill does.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// A line of /proc/PID/status that counts KiB, in bytes.
pub(crate) fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
    found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What the unit lets the coordinator have, in bytes.
pub(crate) fn memory_max() -> u64 {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/muster-coordinator.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let megabytes = unit.lines().find_map(|line| line.strip_prefix("MemoryMax=")?.strip_suffix('M')).unwrap();
    megabytes.parse::<u64>().unwrap() << 20
}
