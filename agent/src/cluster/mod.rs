//! What kubeadm and Kubernetes are on this node: the wanted cluster and the one that is there, kubeadm's file formats, membership, tickets, kubeconfigs, the API server.

pub(crate) mod cni;
pub mod control_plane;
pub mod kubeadm;
pub(crate) mod kubeconfig_form;
pub mod kubeconfig_marks;
pub mod kubeconfig_merge;
pub mod kubectl;
pub mod kubelet;
pub(crate) mod kubelet_flags;
pub mod kubernetes;
pub mod membership;
pub(crate) mod pods;
pub(crate) mod proxies;
pub(crate) mod smoke_pods;
pub mod ticket;
