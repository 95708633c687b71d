//! Looks at the status all the time, as a script would, and remembers when it went backwards.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use muster_coordinator::cli::connect;
use muster_proto::coordinator::status_client::StatusClient;
use muster_proto::coordinator::{ClusterStatus, GetStatusRequest};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const FINAL: [&str; 3] = ["done", "blocked", "failed"];

pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub looks: u32,
    pub backwards: Vec<String>,
    last: ClusterStatus,
}

impl Watcher {
    /// `socket` is asked for anew at every look: the machine may be another one after a power cut.
    pub fn start(socket: impl Fn() -> PathBuf + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return seen;
            };
            runtime.block_on(async {
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(channel) = connect(&socket()).await {
                        let mut client = StatusClient::new(channel);
                        while !stopped.load(Ordering::Relaxed) {
                            let asked = client.get(GetStatusRequest {});
                            let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(2), asked).await
                            else {
                                break;
                            };
                            seen.take(answer.into_inner());
                            tokio::time::sleep(LOOK_EVERY).await;
                        }
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            });
            seen
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

impl Seen {
    fn take(&mut self, status: ClusterStatus) {
        self.looks += 1;
        if status.sequence < self.last.sequence {
            self.backwards
                .push(format!("the sequence went from {} to {}", self.last.sequence, status.sequence));
        }
        if status.run_id == self.last.run_id {
            let now: BTreeMap<&str, &str> =
                status.steps.iter().map(|step| (step.id.as_str(), step.state.as_str())).collect();
            for step in &self.last.steps {
                let state = now.get(step.id.as_str()).copied().unwrap_or("gone");
                if FINAL.contains(&step.state.as_str()) && state != step.state {
                    self.backwards.push(format!("{} went from {} to {state}", step.id, step.state));
                }
            }
        }
        self.last = status;
    }
}
