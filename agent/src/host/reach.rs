//! Trying, before a cluster is made, whether nodes get through to each other on the ports that Kubernetes and its network
//! will use. Ports are open while a test lasts and closed with it; nothing on the host changes.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};

pub use muster_proto::agent::ReachOutcome;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::HostError;

/// The secret-free password of one test: whatever does not begin with it is none of ours and gets no answer.
pub type Word = [u8; 16];

/// A port, and whether datagrams (UDP) or connections (TCP) go through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door {
    pub datagrams: bool,
    pub port: u16,
}

/// Doors that are held open; dropping this closes them.
#[derive(Debug)]
pub struct Listening {
    pub open: Vec<Door>,
    /// Where another program listens already.
    pub taken: Vec<Door>,
    /// One message for each try that came through; ends when the doors close by themselves.
    pub heard: mpsc::Receiver<(Door, IpAddr)>,
    pub tasks: JoinSet<()>,
}

/// A door of another node.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub datagrams: bool,
    /// Packets as large as the network card sends have to come through as well.
    pub large: bool,
    /// Another program listens there: a connection that opens is enough.
    pub foreign: bool,
}

/// How a try ended, and what the system said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub outcome: ReachOutcome,
    pub said: String,
}

/// Both sides of the test.
pub trait Reach: Send + Sync {
    /// Opens the doors on this address of the host, for a minute at most.
    fn listen(
        &self,
        address: IpAddr,
        doors: &[Door],
        word: Word,
    ) -> impl Future<Output = Result<Listening, HostError>> + Send;

    /// Tries to get through; an answer comes within 4 s.
    fn reach(&self, target: &Target, word: Word) -> impl Future<Output = Reached> + Send;
}
