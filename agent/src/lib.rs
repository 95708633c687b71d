//! The agent of one node: looks at the host, changes it step by step as the coordinator asks, and keeps a journal.

pub mod diagnosis;
pub mod difference;
pub mod docker_settings;
pub mod engine;
pub mod host;
pub mod kubeconfig_merge;
pub mod marked_block;
pub mod steps;
pub mod ticket;
