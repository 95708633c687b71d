//! The agents that are connected now. An agent opened the connection; here the coordinator is its client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_proto::agent::node_agent_client::NodeAgentClient;
use muster_proto::agent::{HelloRequest, HostFacts};
use muster_proto::bounds::{self, TooMuch};
use muster_proto::names::NodeName;
use muster_proto::redaction::one_line;
use muster_proto::transport::{Cord, MESSAGE_LIMIT, Watched, channel_over};
use muster_proto::version::{Mismatch, PROTOCOL, VERSION};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::contents::Given;

/// Characters of what an agent says is its version: it stands in a row of a table.
const VERSION_SHOWN: usize = 40;

/// Characters of a refusal that are shown.
const REFUSAL: usize = 600;

/// An agent that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    #[error(
        "the agent of {node} is not connected (waited {waited:?}): on {node} look at `systemctl status muster-agent`; \
         if it runs, a firewall on this machine most likely drops the port that agents dial"
    )]
    NotConnected { node: NodeName, waited: Duration },
    #[error("the agent of {node} was refused: {reason}")]
    Refused { node: NodeName, reason: String },
}

/// Why a connection of an enrolled agent is not used.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("the connection cannot carry HTTP/2")]
    Transport(#[from] tonic::transport::Error),
    #[error("the agent gave no answer to Hello within {0:?}")]
    Silent(Duration),
    #[error("the agent refused: {0}")]
    Declined(String),
    #[error("the agent said more than any agent says: {0}")]
    TooMuch(#[from] TooMuch),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("the agent says that it is {0:?}, which is not the name that it enrolled under: enrol it again")]
    OtherName(String),
    #[error("the agent says that its address is {0:?}, which is no IP address")]
    NoAddress(String),
    #[error("the node was revoked while it connected")]
    Revoked,
}

/// An agent that said Hello; calls to it fail once its connection has ended.
#[derive(Clone, Debug)]
pub struct ConnectedAgent {
    pub node: NodeName,
    /// Where its connection came from, as this side sees it; behind a NAT that is not the node's own address.
    pub peer: IpAddr,
    pub facts: HostFacts,
    pub agent_version: String,
    /// Takes no answer that is larger than one to Hello; `answers` says how much else is taken of which.
    pub client: NodeAgentClient<Channel>,
    /// What it was given over this connection.
    pub given: Given,
}

/// The connected agents; cheap to clone, all clones are one.
#[derive(Clone, Default)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    members: Mutex<Members>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Members {
    agents: BTreeMap<NodeName, Member>,
    /// Why a node that is not connected was turned away last.
    refusals: BTreeMap<NodeName, String>,
}

struct Member {
    agent: ConnectedAgent,
    cord: Arc<Cord>,
}

impl Fleet {
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the node's agent is connected and has said Hello.
    pub async fn agent(&self, node: &NodeName, within: Duration) -> Result<ConnectedAgent, FleetError> {
        let mut changes = self.changes();
        let found = tokio::time::timeout(within, async {
            loop {
                changes.mark_unchanged();
                let found = self.members().agents.get(node).map(|member| member.agent.clone());
                if let Some(agent) = found {
                    return agent;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        found.await.map_err(|_| match self.members().refusals.get(node) {
            Some(reason) => FleetError::Refused { node: node.clone(), reason: reason.clone() },
            None => FleetError::NotConnected { node: node.clone(), waited: within },
        })
    }

    /// The agents that are connected now, by name.
    pub fn connected(&self) -> Vec<ConnectedAgent> {
        self.members().agents.values().map(|member| member.agent.clone()).collect()
    }

    /// Closes the node's connection at once, if it has one. Calls in flight fail.
    pub fn disconnect(&self, node: &NodeName) {
        if let Some(member) = self.members().agents.remove(node) {
            member.cord.cut();
        }
        self.bump();
    }

    /// Changes whenever somebody connects or leaves.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Takes over a connection whose other end proved that it is this node, says Hello, and holds it until it ends.
    /// `still_enrolled` is asked before the agent is listed and once it is, so that a revocation at that moment is not missed.
    /// `admitted` is dropped when the agent has answered: it no longer counts as a stranger. `peer` is where the connection
    /// came from, as this side sees it.
    pub async fn adopt<S>(
        &self,
        node: &NodeName,
        peer: IpAddr,
        stream: S,
        first_answer: Duration,
        still_enrolled: impl Fn() -> bool,
        admitted: impl Send,
    ) -> Result<Option<String>, AdoptError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (watched, cord) = Watched::new(stream);
        let cord = Arc::new(cord);
        let greeted = tokio::time::timeout(first_answer, greet(node, peer, watched)).await;
        let agent = match greeted.unwrap_or(Err(AdoptError::Silent(first_answer))) {
            Ok(agent) => agent,
            Err(error) => {
                cord.cut();
                self.members().refusals.insert(node.clone(), error.to_string());
                self.bump();
                return Err(error);
            }
        };
        drop(admitted);
        // Before, so that nobody is commanded who is off the list; and after, so that a revocation in between is not missed.
        if !still_enrolled() {
            cord.cut();
            return Err(AdoptError::Revoked);
        }
        let listed = self.list(agent, cord);
        if !still_enrolled() {
            return Err(AdoptError::Revoked);
        }
        Ok(listed.cord.ended().await)
    }

    /// A new connection of a node replaces its old one: that one's peer is most likely gone.
    fn list(&self, agent: ConnectedAgent, cord: Arc<Cord>) -> Listed {
        let listed = Listed { fleet: self.clone(), node: agent.node.clone(), cord: cord.clone() };
        let mut members = self.members();
        members.refusals.remove(&agent.node);
        if let Some(old) = members.agents.insert(agent.node.clone(), Member { agent, cord }) {
            old.cord.cut();
        }
        drop(members);
        self.bump();
        listed
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.inner.members.lock().expect("no holder of the lock panics")
    }

    fn bump(&self) {
        self.inner.changes.send_modify(|count| *count += 1);
    }
}

/// An agent's place in the fleet. When it is given up, for whatever reason, the connection is closed with it.
struct Listed {
    fleet: Fleet,
    node: NodeName,
    cord: Arc<Cord>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.cord.cut();
        let mut members = self.fleet.members();
        if members.agents.get(&self.node).is_some_and(|member| Arc::ptr_eq(&member.cord, &self.cord)) {
            members.agents.remove(&self.node);
        }
        drop(members);
        self.fleet.bump();
    }
}

async fn greet<S>(node: &NodeName, peer: IpAddr, stream: Watched<S>) -> Result<ConnectedAgent, AdoptError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let channel = channel_over(stream).await?;
    let mut client = NodeAgentClient::new(channel)
        .max_decoding_message_size(bounds::GREETING)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let hello = HelloRequest { coordinator_version: VERSION.to_owned(), protocol: PROTOCOL };
    let reply = client.hello(hello).await.map_err(|status| AdoptError::Declined(said(&status)))?.into_inner();
    let reply = bounds::taken(reply)?;
    if reply.protocol != PROTOCOL {
        return Err(AdoptError::Mismatch(Mismatch {
            node: node.to_string(),
            coordinator: PROTOCOL,
            coordinator_version: VERSION.to_owned(),
            agent: reply.protocol,
            agent_version: one_line(&reply.agent_version, VERSION_SHOWN),
        }));
    }
    let facts = reply.facts.unwrap_or_default();
    if facts.node != node.as_str() {
        return Err(AdoptError::OtherName(facts.node.chars().take(80).collect()));
    }
    if facts.address.parse::<IpAddr>().is_err() {
        return Err(AdoptError::NoAddress(facts.address.chars().take(80).collect()));
    }
    Ok(ConnectedAgent {
        node: node.clone(),
        peer,
        facts,
        agent_version: one_line(&reply.agent_version, VERSION_SHOWN),
        client,
        given: Given::default(),
    })
}

/// What the agent, or this side's own end, says of why there is no answer; one line.
pub(crate) fn said(status: &tonic::Status) -> String {
    one_line(status.message(), REFUSAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_never_answers_hello_is_dropped_and_the_reason_is_told_to_who_waits() {
        let (near, _far) = tokio::io::duplex(4096);
        let (fleet, node) = (Fleet::new(), "node-1".parse::<NodeName>().unwrap());
        let (peer, limit) = (IpAddr::from([10, 88, 0, 12]), Duration::from_millis(50));
        let error = fleet.adopt(&node, peer, near, limit, || true, ()).await.unwrap_err();
        assert!(matches!(error, AdoptError::Silent(_)), "{error}");
        let error = fleet.agent(&node, Duration::from_millis(10)).await.unwrap_err();
        assert!(matches!(error, FleetError::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn waiting_for_an_agent_that_never_came_names_the_firewall() {
        let node = "node-1".parse().unwrap();
        let error = Fleet::new().agent(&node, Duration::from_millis(10)).await.unwrap_err().to_string();
        assert!(error.contains("node-1") && error.contains("firewall"), "{error}");
    }
}
