//! The agent of one node: looks at the host, changes it step by step as the coordinator asks, and keeps a journal.

pub mod cli;
pub mod connection;
pub mod control_plane;
pub mod diagnosis;
pub mod dial;
pub mod difference;
pub mod docker_settings;
pub mod engine;
pub mod enroll;
pub mod facts;
pub mod host;
pub mod identity;
mod inspect;
pub mod kubeadm;
pub mod kubeconfig_merge;
pub mod kubectl;
pub mod kubernetes;
pub mod ledger;
pub mod line_changes;
pub mod marked_block;
pub mod membership;
pub mod service;
pub mod settings;
pub mod steps;
pub mod ticket;
mod ufw;
pub mod unit;
