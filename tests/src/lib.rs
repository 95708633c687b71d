//! The harness of the tests that need both sides: a coordinator's runs and agents over fake hosts, in one process.

pub mod cluster;
pub mod trust;
