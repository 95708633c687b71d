//! What makes the machines a cluster and tries it out.

pub mod addons;
pub mod join_ticket;
pub mod kubeadm_init;
pub mod kubeadm_join;
pub mod kubeconfig;
pub mod kubelet_identity;
pub mod node_network;
pub mod nodes_ready;
pub mod pod_network;
pub mod revoke_tickets;
pub mod smoke_answer;
pub mod smoke_cleanup;
pub mod smoke_test;
pub mod untaint;
