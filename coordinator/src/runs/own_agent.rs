//! What is asked of the agent on the coordinator's own machine, which is the master's: today the one rule of ufw.

use std::net::{IpAddr, SocketAddr};

use muster_proto::event::{Event, EventKind};
use muster_proto::names::{Malformed, NodeName};
use tokio::time::timeout;
use tonic::Status;
use uuid::Uuid;

use super::{FIRST_CONNECTION, Runs, RunsError};
use crate::doors::fleet::ConnectedAgent;
use crate::plans::let_nodes_in;

impl Runs {
    /// Lets the nodes dial in through the ufw of this machine: a step of its own agent, so that the rule is in that agent's
    /// journal and a reset takes it back. The name of that agent's node, and whether anything was changed.
    pub async fn let_nodes_in(&self, dialled: SocketAddr) -> Result<(NodeName, bool), Status> {
        let node = self.own_agent(dialled.ip()).await.ok_or_else(|| {
            Status::failed_precondition(
                "this machine's own agent is not connected: `sudo coordinator init --node NAME` enrols it",
            )
        })?;
        let plan = let_nodes_in::plan(&node, dialled)
            .map_err(|error: Malformed| Status::internal(error.to_string()))?;
        let id = plan.steps[0].id.clone();
        // No run of a cluster, so that none is recorded: status goes on to show the cluster's.
        let run = Uuid::new_v4().to_string();
        self.executor(&run).execute(&plan).await;
        match self.journal.of_step(&run, &id).map_err(RunsError::from)?.into_iter().next_back() {
            Some(Event { kind: EventKind::Done { changes }, .. }) => Ok((node, changes > 0)),
            Some(Event {
                kind: EventKind::Blocked { complaint } | EventKind::Failed { complaint }, ..
            }) => Err(Status::failed_precondition(complaint.to_string())),
            _ => Err(Status::internal("the agent of this machine did not say how the step ended")),
        }
    }

    /// The node whose agent runs on this machine: it dialled the address that is its own.
    async fn own_agent(&self, address: IpAddr) -> Option<NodeName> {
        // Not what an agent says of itself alone: only a connection from here comes from this address.
        let own =
            |agent: &ConnectedAgent| agent.peer == address && agent.facts.address.parse() == Ok(address);
        let mut changes = self.fleet.changes();
        let found = timeout(FIRST_CONNECTION, async {
            loop {
                changes.mark_unchanged();
                if let Some(agent) = self.fleet.connected().into_iter().find(own) {
                    return Some(agent.node);
                }
                changes.changed().await.ok()?;
            }
        });
        found.await.ok().flatten()
    }
}
