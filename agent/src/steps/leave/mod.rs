//! What takes a node, or all of them, out again.

pub mod drain_node;
pub mod forget_node;
pub mod kubeadm_reset;
pub mod network_leftovers;
pub mod restore;
