//! How this machine becomes a node and is reached by its coordinator: identity, the connection that it opens, and the service on it.

pub mod connection;
pub mod dial;
pub mod enrol;
pub mod facts;
pub mod identity;
pub mod service;
pub mod settings;
pub mod unit;
