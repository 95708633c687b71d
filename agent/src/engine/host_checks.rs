//! What the coordinator asks before a run: how this host looks, and whether nodes get through to each other. Every field
//! is parsed here; nothing of it changes the host.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use muster_proto::agent::{
    self, Heard, HostReport, InspectRequest, ListenReply, ListenRequest, ReachReply, ReachRequest,
    listen_reply::Item,
};
use muster_proto::bounds::MOST_ASKED;
use muster_proto::event::StepState;
use muster_proto::names::{Malformed, NodeName, StepId};
use muster_proto::step_kind::StepKind;

use super::{Engine, Refused};
use crate::engine::inspect::inspect;
use crate::host::change::Host;
use crate::host::reach::{Door, Listening, Reach, Target, Word};
use crate::undo::ledger::{Ledger, Progress};

/// Below are the ports of the system's own services, which no part of Kubernetes takes.
const LOWEST_PORT: u32 = 1024;

impl<H: Host + Reach + 'static> Engine<H> {
    pub(super) async fn inspect(&self, request: InspectRequest) -> Result<HostReport, Refused> {
        let node: NodeName = request.node.parse()?;
        let names: Vec<NodeName> = request
            .names
            .iter()
            .take(MOST_ASKED)
            .map(|name| name.parse())
            .collect::<Result<_, Malformed>>()?;
        let mut report = inspect(&self.inner.host, &names).await?;
        // Not by the events of the steps: one that was blocked or only looked has made nothing here.
        let ledger = Ledger::of(&self.inner.journal.after(0)?);
        report.begun_here = [ledger.init, ledger.join].iter().any(|progress| *progress != Progress::Never);
        if let (true, Some(stood_before)) = (report.begun_here, &ledger.networks) {
            report.foreign_networks.retain(|name| stood_before.contains(name));
        } else if report.begun_here {
            report.foreign_networks.clear();
        }
        let last = |kind| -> Result<(u64, StepState, StepId), Refused> {
            let id = StepId::of(&node, kind);
            let events = self.inner.journal.last_of_step(&id)?;
            let Some(event) = events.last() else { return Ok((0, StepState::Pending, id)) };
            Ok((event.sequence, self.inner.journal.state(&event.run, &id)?, id))
        };
        let (reset, ..) = last(StepKind::KubeadmReset)?;
        for kind in [StepKind::KubeadmInit, StepKind::KubeadmJoin] {
            let (sequence, state, id) = last(kind)?;
            if sequence > reset && !state.is_final() {
                report.under_way = id.to_string();
            }
        }
        Ok(report)
    }

    /// `address`: the node's own end of its connection to the coordinator; at no other one is listened.
    pub(super) async fn listen(
        &self,
        request: ListenRequest,
        address: IpAddr,
    ) -> Result<impl Stream<Item = ListenReply> + Send + use<H>, Refused> {
        let word = word(&request.word)?;
        let doors: Vec<Door> = request.doors.iter().take(MOST_ASKED).map(door).collect::<Result<_, _>>()?;
        let Listening { open, taken, heard, tasks } = self.inner.host.listen(address, &doors, word).await?;
        let message = |doors: Vec<Door>| doors.into_iter().map(message_of).collect();
        let first = Item::Listening(agent::Listening { open: message(open), taken: message(taken) });
        // The tasks go with the stream: when nobody listens to it any more, the doors close.
        let news = stream::unfold((heard, tasks), |(mut heard, tasks)| async move {
            let (door, from) = heard.recv().await?;
            let item = Item::Heard(Heard { door: Some(message_of(door)), from: from.to_string() });
            Some((item, (heard, tasks)))
        });
        Ok(stream::iter([first]).chain(news).map(|item| ListenReply { item: Some(item) }))
    }

    pub(super) async fn reach(&self, request: ReachRequest) -> Result<ReachReply, Refused> {
        let word = word(&request.word)?;
        let targets: Vec<Target> =
            request.targets.iter().take(MOST_ASKED).map(target).collect::<Result<_, _>>()?;
        let reached = join_all(targets.iter().map(|target| self.inner.host.reach(target, word))).await;
        let message = |reached: crate::host::reach::Reached| agent::Reached {
            outcome: reached.outcome.into(),
            said: reached.said,
        };
        Ok(ReachReply { reached: reached.into_iter().map(message).collect() })
    }
}

fn word(bytes: &[u8]) -> Result<Word, Refused> {
    bytes.try_into().map_err(|_| Refused::Asked(format!("the word has {} bytes and not 16", bytes.len())))
}

fn door(message: &agent::Door) -> Result<Door, Refused> {
    let port = u16::try_from(message.port).ok().filter(|port| u32::from(*port) >= LOWEST_PORT);
    let port = port.ok_or_else(|| Refused::Asked(format!("{} is no port of Kubernetes", message.port)))?;
    Ok(Door { datagrams: message.datagrams, port })
}

fn message_of(door: Door) -> agent::Door {
    agent::Door { datagrams: door.datagrams, port: door.port.into() }
}

fn target(message: &agent::Target) -> Result<Target, Refused> {
    let address: IpAddr = message
        .address
        .parse()
        .map_err(|_| Refused::Asked(format!("{:?} is not an IP address", message.address)))?;
    let door = door(&message.door.unwrap_or_default())?;
    Ok(Target {
        address: SocketAddr::new(address, door.port),
        datagrams: door.datagrams,
        large: message.large,
        foreign: message.foreign,
    })
}

#[cfg(test)]
mod tests {
    use muster_proto::event::{Complaint, EventKind};
    use muster_proto::journal::Journal;

    use super::*;
    use crate::engine::Allowed;
    use crate::host::change::{Change, Program, ProgramName};
    use crate::host::fake::{FakeCluster, FakeHost};

    fn engine() -> (tempfile::TempDir, Engine<FakeHost>) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let host = FakeHost::debian("m1", FakeCluster::default());
        (folder, Engine::new(host, journal, Allowed::default()))
    }

    #[tokio::test]
    async fn what_is_no_word_no_port_and_no_address_is_refused() {
        let (_folder, engine) = engine();
        let address = "10.88.0.11".parse().unwrap();
        let doors = |port| vec![agent::Door { datagrams: false, port }];
        for (doors, word) in
            [(doors(6443), vec![0; 15]), (doors(22), vec![0; 16]), (doors(65_536), vec![0; 16])]
        {
            let refused = engine.listen(ListenRequest { doors, word }, address).await;
            assert!(matches!(refused.err(), Some(Refused::Asked(_))));
        }
        let target = agent::Target { address: "m1; reboot".into(), ..agent::Target::default() };
        let refused = engine.reach(ReachRequest { targets: vec![target], word: vec![0; 16] }).await;
        assert!(matches!(refused, Err(Refused::Asked(_))));
    }

    #[tokio::test]
    async fn a_kubeadm_that_was_begun_here_is_told_from_one_that_nobody_knows() {
        let (_folder, engine) = engine();
        let request = InspectRequest { node: "m1".into(), names: Vec::new() };
        let report = engine.inspect(request.clone()).await.unwrap();
        assert!(!report.begun_here && report.under_way.is_empty());
        let record = |step: &str, kind| {
            let id: StepId = format!("m1/{step}").parse().unwrap();
            engine.inner.journal.append("run", &id, kind).unwrap();
        };
        let started = || EventKind::Started { content: String::new(), attempt: 1 };
        record("kubeadm-join", started());
        record("kubeadm-join", EventKind::Blocked { complaint: Complaint::new("half done", "", "") });
        record("kubeadm-init", started());
        let report = engine.inspect(request.clone()).await.unwrap();
        assert!(!report.begun_here, "no program was begun, so what is there is somebody else's");
        assert_eq!(report.under_way, "m1/kubeadm-init");
        let limit = std::time::Duration::from_secs(1);
        let init = Change::Run(Program::new(ProgramName::Kubeadm, ["init"], limit));
        let (change, summary) = (init.record(), init.to_string());
        record("kubeadm-init", EventKind::Intended { index: 0, change, summary, before: None });
        assert!(engine.inspect(request.clone()).await.unwrap().begun_here);
        record("kubeadm-reset", started());
        record("kubeadm-reset", EventKind::Done { changes: 0 });
        assert!(!engine.inspect(request).await.unwrap().begun_here);
    }
}
