//! `coordinator reset`: undoes what bootstrap did, on one node or on all, shown live. Refused without the cluster's name.

use muster_proto::coordinator::ResetRequest;
use muster_proto::coordinator::admin_client::AdminClient;
use muster_proto::names::NodeName;
use tonic::transport::Channel;

use super::Failure;
use super::follow::{Followed, Words};
use super::reattach::{Patience, follow_to_the_end};
use crate::settings::Paths;

const WORDS: Words =
    Words { nothing: "nothing to do: nothing of the cluster is left there", name: "the reset" };

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The cluster's name (metadata.name), so that nobody resets the wrong one
    #[arg(long, value_name = "CLUSTER", default_value = "", hide_default_value = true)]
    confirm: String,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// This node; may be given several times
    #[arg(long, value_name = "NAME")]
    node: Vec<NodeName>,
    /// Every node of the cluster: the workers first, then the control plane
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    // None are all of them.
    let nodes = arguments.which.node.iter().map(ToString::to_string).collect();
    let request = ResetRequest { nodes, confirm: arguments.confirm, remove: false };
    reset(paths, request, &arguments.patience).await.map(|_| ())
}

/// Asks for the reset and shows it to its end.
pub(super) async fn reset(
    paths: &Paths,
    request: ResetRequest,
    patience: &Patience,
) -> Result<Followed, Failure> {
    let ask = async |mut client: AdminClient<Channel>| client.reset(request.clone()).await;
    follow_to_the_end(paths, patience, &WORDS, ask).await
}
