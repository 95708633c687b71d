//! Which step runs on which node, after which others: one file for each verb that makes or undoes something. Pure.

pub mod bootstrap;
pub mod reset;
