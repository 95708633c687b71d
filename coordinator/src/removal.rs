//! Taking machines off the list: their identities are worth nothing from then on, and their connections end at once.

use muster_proto::cause::chain;
use muster_proto::coordinator::Failure;
use muster_proto::names::NodeName;

use crate::doors::fleet::Fleet;
use crate::doors::store::{Store, StoreError};

/// Takes the node off the list and closes its connection; false when it was not on the list.
pub fn revoke(store: &Store, fleet: &Fleet, node: &NodeName) -> Result<bool, StoreError> {
    let revoked = store.revoke_node(node)?;
    // In this order: whoever connects in between is not on the list any more.
    fleet.disconnect(node);
    if revoked {
        tracing::info!("{node} was revoked and its connection closed");
    }
    Ok(revoked)
}

/// The end of a removal whose every step was done: the nodes are off the list. What could not be written.
pub(crate) fn leave(store: &Store, fleet: &Fleet, nodes: &[NodeName]) -> Vec<Failure> {
    let left = |node: &NodeName| match revoke(store, fleet, node) {
        // Somebody took it off the list already.
        Ok(_) => None,
        Err(error) => {
            let cause =
                format!("the node was reset, but its identity could not be revoked: {}", chain(&error));
            tracing::error!(%node, "{cause}");
            let remedy =
                format!("remove the cause, then on the master: `sudo coordinator nodes revoke {node}`");
            let (node, step) = (node.to_string(), "revoke".to_owned());
            Some(Failure { node, step, cause, remedy, ..Failure::default() })
        }
    };
    nodes.iter().filter_map(left).collect()
}
