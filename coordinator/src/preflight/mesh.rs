//! The mesh test: each node listens where Kubernetes and its network will, and the others try to get through. Afterwards all
//! is closed again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use muster_proto::agent::{
    Door, Heard, ListenReply, ListenRequest, Listening, ReachOutcome, ReachRequest, Target,
    listen_reply::Item,
};
use muster_proto::kubernetes::network::{self, Carrier};
use muster_proto::names::NodeName;
use muster_proto::redaction::one_line;
use tonic::Streaming;

use super::Host;
use crate::doors::fleet::ConnectedAgent;
use crate::spec::ClusterSpec;

/// What came through a door is told at once; this is for the way.
const NEWS: Duration = Duration::from_millis(300);
/// Whoever goes on telling is not listened to any longer: every try has ended before, and each is told once.
const ALL_NEWS: Duration = Duration::from_secs(2);

/// Characters of the system's own words on a try.
const SAID: usize = 200;

/// A port that nodes must reach on others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Passage {
    pub(super) door: DoorOf,
    pub(super) what: &'static str,
    pub(super) on: Who,
    pub(super) from: Who,
}

/// `Door` of the messages, in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DoorOf {
    pub(super) datagrams: bool,
    pub(super) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    All,
    ControlPlane,
}

impl Who {
    fn holds(self, host: &Host) -> bool {
        self == Self::All || host.control_plane
    }
}

/// How one try ended.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) from: NodeName,
    pub(super) to: NodeName,
    pub(super) door: DoorOf,
    pub(super) what: &'static str,
    pub(super) outcome: ReachOutcome,
    pub(super) said: String,
    /// Something of it came through, although no answer came back.
    pub(super) heard: bool,
}

impl std::fmt::Display for DoorOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", if self.datagrams { "UDP" } else { "TCP" }, self.port)
    }
}

impl From<DoorOf> for Door {
    fn from(door: DoorOf) -> Self {
        Self { datagrams: door.datagrams, port: door.port.into() }
    }
}

/// What has to be reachable (kubernetes.io, "Ports and Protocols"), and what the pod network of the manifest needs.
pub(super) fn doors(spec: &ClusterSpec) -> Vec<Passage> {
    let passage =
        |datagrams, port, what, on, from| Passage { door: DoorOf { datagrams, port }, what, on, from };
    let mut passages = vec![
        passage(false, spec.bind_port, "the API server", Who::ControlPlane, Who::All),
        passage(false, 10250, "the kubelet", Who::All, Who::ControlPlane),
    ];
    for Carrier { datagrams, port, what } in network::carriers(&spec.network_manifest) {
        passages.push(passage(datagrams, port, what, Who::All, Who::All));
    }
    passages
}

/// Opens all doors, tries all of them, and closes them by going away. Pairs of settled nodes are left out.
pub(super) async fn try_doors(
    hosts: &[Host],
    agents: &[ConnectedAgent],
    passages: &[Passage],
    bind_port: u16,
) -> Vec<Try> {
    let word: [u8; 16] = *uuid::Uuid::new_v4().as_bytes();
    let agent = |host: &Host| agents.iter().find(|agent| agent.node == host.name).cloned();
    let listened = join_all(hosts.iter().map(|host| {
        let wanted: BTreeSet<DoorOf> =
            passages.iter().filter(|passage| passage.on.holds(host)).map(|passage| passage.door).collect();
        listen(agent(host), wanted, word)
    }))
    .await;
    let mut open: BTreeMap<&NodeName, Open> = hosts.iter().map(|host| &host.name).zip(listened).collect();

    let mut tried = Vec::new();
    for from in hosts {
        let mut asked = Vec::new();
        for to in hosts.iter().filter(|to| to.name != from.name && !(to.settled && from.settled)) {
            for passage in passages.iter().filter(|passage| passage.on.holds(to) && passage.from.holds(from))
            {
                let door = passage.door;
                let open = &open[&to.name];
                // A settled node's own programs answer; only a connection tells that they are reached.
                let foreign = to.settled && !door.datagrams && open.taken.contains(&door);
                let serving = foreign && (door.port == bind_port || door.port == 10250);
                if open.open.contains(&door) || serving {
                    let target = Target {
                        address: to.address.to_string(),
                        door: Some(door.into()),
                        large: !foreign,
                        foreign,
                    };
                    asked.push((to.name.clone(), *passage, target));
                }
            }
        }
        tried.push(reach(agent(from), from.name.clone(), asked, word));
    }
    let mut tries: Vec<Try> = join_all(tried).await.into_iter().flatten().collect();
    if tries.iter().any(|tried| tried.outcome != ReachOutcome::Through) {
        let news = open.iter_mut().map(async |(node, open)| (*node, open.news(hosts).await));
        for (node, heard) in join_all(news).await {
            for tried in tries.iter_mut().filter(|tried| tried.to == *node) {
                let from = hosts.iter().find(|host| host.name == tried.from).map(|host| host.address);
                tried.heard = from.is_some_and(|from| heard.contains(&(tried.door, from)));
            }
        }
    }
    tries
}

/// The doors that a node holds open, as long as this lives.
#[derive(Default)]
struct Open {
    open: BTreeSet<DoorOf>,
    taken: BTreeSet<DoorOf>,
    stream: Option<Streaming<ListenReply>>,
}

impl Open {
    /// What came through until now: the door, and which of the hosts came. A node that tells without end is not waited for.
    async fn news(&mut self, hosts: &[Host]) -> BTreeSet<(DoorOf, IpAddr)> {
        let mut heard = BTreeSet::new();
        let Some(stream) = &mut self.stream else { return heard };
        // Each host through each door, and again where a try is repeated.
        let most = 4 * hosts.len() * self.open.len();
        let listening = async {
            for _ in 0..most {
                let Ok(Ok(Some(reply))) = tokio::time::timeout(NEWS, stream.message()).await else { return };
                let Some(Item::Heard(Heard { door: Some(door), from })) = reply.item else { continue };
                let from: Option<IpAddr> = from.parse().ok();
                let door = of_message(door).filter(|door| self.open.contains(door));
                if let (Some(door), Some(from)) = (door, from)
                    && hosts.iter().any(|host| host.address == from)
                {
                    heard.insert((door, from));
                }
            }
        };
        // What was heard until then stands.
        let _ = tokio::time::timeout(ALL_NEWS, listening).await;
        heard
    }
}

fn of_message(door: Door) -> Option<DoorOf> {
    Some(DoorOf { datagrams: door.datagrams, port: door.port.try_into().ok()? })
}

/// A node that cannot listen has no open door: then nothing is tried there, and its other checks say what is wrong.
async fn listen(agent: Option<ConnectedAgent>, doors: BTreeSet<DoorOf>, word: [u8; 16]) -> Open {
    let Some(agent) = agent else { return Open::default() };
    let request = ListenRequest { doors: doors.into_iter().map(Door::from).collect(), word: word.to_vec() };
    let wanted = request.doors.clone();
    let doors = |told: Vec<Door>| -> BTreeSet<DoorOf> {
        // Of what was not asked nothing is believed.
        told.into_iter().filter(|door| wanted.contains(door)).filter_map(of_message).collect()
    };
    match agent.listen(request).await {
        Ok((Some(Item::Listening(Listening { open, taken })), stream)) => {
            Open { open: doors(open), taken: doors(taken), stream: Some(stream) }
        }
        Ok(_) => Open::default(),
        Err(unusable) => {
            tracing::warn!(node = %agent.node, "no doors were opened: {unusable}");
            Open::default()
        }
    }
}

async fn reach(
    agent: Option<ConnectedAgent>,
    from: NodeName,
    asked: Vec<(NodeName, Passage, Target)>,
    word: [u8; 16],
) -> Vec<Try> {
    let Some(agent) = agent.filter(|_| !asked.is_empty()) else { return Vec::new() };
    let targets = asked.iter().map(|(.., target)| target.clone()).collect();
    let answer = match agent.reach(ReachRequest { targets, word: word.to_vec() }).await {
        Ok(answer) => answer.reached,
        Err(unusable) => {
            tracing::warn!(node = %from, "the mesh was not tried: {unusable}");
            return Vec::new();
        }
    };
    let tried =
        |((to, passage, _), reached): ((NodeName, Passage, Target), muster_proto::agent::Reached)| Try {
            from: from.clone(),
            to,
            door: passage.door,
            what: passage.what,
            outcome: reached.outcome(),
            said: one_line(&reached.said, SAID),
            heard: false,
        };
    asked.into_iter().zip(answer).map(tried).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    #[test]
    fn what_has_to_be_reachable_follows_from_the_manifest() {
        let words = |manifest: &str| {
            let mut spec = spec("v1.20.2", true);
            spec.network_manifest = manifest.to_owned();
            doors(&spec).iter().map(|passage| passage.door.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(words("{\"Backend\": {\n\"Type\": \"vxlan\"}}"), ["TCP 6443", "TCP 10250", "UDP 8472"]);
        assert_eq!(words("{\"Backend\": {\"Type\": \"host-gw\"}}"), ["TCP 6443", "TCP 10250"]);
        assert_eq!(words("name: weave-net"), ["TCP 6443", "TCP 10250", "TCP 6783", "UDP 6783"]);
    }
}
