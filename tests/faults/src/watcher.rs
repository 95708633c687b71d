//! Looks at the status all the time, as a script would, and remembers when it went backwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use muster_coordinator::cli::connect;
use muster_proto::coordinator::status_client::StatusClient;
use muster_proto::coordinator::{ClusterStatus, GetStatusRequest};

use crate::backwards::Past;

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub looks: u32,
    pub backwards: Vec<String>,
    past: Past,
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
                            let asked = client.get(GetStatusRequest::default());
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
        self.backwards.extend(self.past.take(status));
    }
}
