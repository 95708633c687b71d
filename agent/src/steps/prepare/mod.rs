//! What a machine needs before kubeadm may come.

pub mod coordinator_port;
pub mod firewall;
pub mod hostname;
pub mod hosts;
pub mod images;
pub mod kernel;
pub mod kubelet;
pub mod packages;
pub mod runtime;
pub mod swap;
