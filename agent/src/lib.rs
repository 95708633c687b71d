//! The agent of one node: looks at the host, changes it step by step as the coordinator asks, and keeps a journal.

pub mod bad_step;
pub mod cli;
pub mod cluster;
pub mod connect;
pub mod diagnosis;
pub mod engine;
pub mod files;
pub mod host;
pub mod steps;
pub mod undo;
