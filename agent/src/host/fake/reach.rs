//! Whether fake hosts get through to each other: to every door that is open, unless the trying host's `unreachable` says why not.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::FakeHost;
use crate::host::HostError;
use crate::host::reach::{Door, Listening, Reach, ReachOutcome, Reached, Target, Word};

type Doors = Arc<Mutex<std::collections::BTreeSet<(IpAddr, Door)>>>;

/// Closes the doors when the test that opened them is dropped.
struct HeldOpen {
    doors: Doors,
    mine: Vec<(IpAddr, Door)>,
}

impl Drop for HeldOpen {
    fn drop(&mut self) {
        let mut doors = self.doors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.mine.iter().for_each(|door| {
            doors.remove(door);
        });
    }
}

impl FakeHost {
    /// The doors that this host's own agent holds open, as lines of /proc/net/tcp.
    pub(super) fn open_doors(&self) -> String {
        let addresses = self.state().addresses.clone();
        let doors = self.cluster.doors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = doors.iter().filter(|(address, door)| addresses.contains(address) && !door.datagrams);
        own.map(|(_, door)| format!("\n0: 00000000:{:04X} 00000000:0000 0A", door.port)).collect()
    }
}

impl FakeHost {
    /// What its programs listen on, as lines of the same table.
    pub(super) fn taken_ports(&self) -> String {
        let line = |port| format!("\n0: 00000000:{port:04X} 00000000:0000 0A");
        self.state().listeners.iter().map(|listener| line(listener.port)).collect()
    }
}

impl Reach for FakeHost {
    async fn listen(&self, address: IpAddr, doors: &[Door], _: Word) -> Result<Listening, HostError> {
        let (news, heard) = mpsc::channel(1);
        let held = HeldOpen {
            doors: self.cluster.doors.clone(),
            mine: doors.iter().map(|door| (address, *door)).collect(),
        };
        self.cluster.doors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(&held.mine);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _open_as_long_as_this_task = (held, news);
            std::future::pending::<()>().await;
        });
        Ok(Listening { open: doors.to_vec(), taken: Vec::new(), heard, tasks })
    }

    async fn reach(&self, target: &Target, _: Word) -> Reached {
        if let Some(why) = self.state().unreachable.get(&target.address.to_string()) {
            let outcome = if why.contains("refused") { ReachOutcome::Refused } else { ReachOutcome::Silent };
            return Reached { outcome, said: why.clone() };
        }
        let door = (target.address.ip(), Door { datagrams: target.datagrams, port: target.address.port() });
        let open =
            self.cluster.doors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&door);
        match open || target.foreign {
            true => Reached { outcome: ReachOutcome::Through, said: String::new() },
            false => Reached { outcome: ReachOutcome::Refused, said: "Connection refused".to_owned() },
        }
    }
}
