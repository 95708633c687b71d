//! `coordinator nodes`: who is enrolled, and taking somebody off that list.

use clap::Subcommand;
use muster_proto::coordinator::{ListNodesRequest, NodeRow, ResetRequest, RevokeNodeRequest};
use muster_proto::names::NodeName;

use super::follow::Followed;
use super::reattach::Patience;
use super::reset::reset;
use super::{ClientError, Failure, admin, print_table};
use crate::settings::Paths;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the enrolled nodes
    List,
    /// Take a node out of the cluster: drain it, reset it, forget it, and take it off the list
    Remove {
        /// The node's name
        node: NodeName,
        /// The cluster's name (metadata.name), so that nobody removes a node of the wrong one
        #[arg(long, value_name = "CLUSTER", default_value = "", hide_default_value = true)]
        confirm: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Take a node off the list and close its connection at once
    Revoke {
        /// The node's name
        node: NodeName,
    },
}

/// Does what the command says.
pub async fn run(paths: &Paths, command: Command) -> Result<(), Failure> {
    let mut client = admin(paths).await?;
    match command {
        Command::List => {
            let reply = client.list_nodes(ListNodesRequest {}).await.map_err(ClientError::from)?.into_inner();
            let row = |node: NodeRow| {
                let connected = if node.connected { "yes" } else { "no" };
                vec![node.name, connected.to_owned(), node.address, node.agent_version, node.enrolled]
            };
            let rows: Vec<_> = reply.nodes.into_iter().map(row).collect();
            print_table(&["NAME", "CONNECTED", "ADDRESS", "AGENT", "ENROLLED"], &rows);
        }
        Command::Remove { node, confirm, patience } => {
            let request = ResetRequest { nodes: vec![node.to_string()], confirm, remove: true };
            // The coordinator itself revokes the identity at the end of the run, whoever looks on.
            if reset(paths, request, &patience).await? == Followed::Done {
                anstream::println!(
                    "{node} is removed; take it out of cluster.yaml. It may come back with a new token: `coordinator token create --node {node}`"
                );
            }
        }
        Command::Revoke { node } => {
            client.revoke_node(RevokeNodeRequest { name: node.into() }).await.map_err(ClientError::from)?;
        }
    }
    Ok(())
}
