//! The coordinator: decides what is done, where and in which order, keeps the record, and answers questions.

pub mod account;
pub mod admin;
pub mod cli;
pub mod daemon;
pub mod doors;
pub mod executor;
pub mod plans;
pub mod preflight;
pub mod preview;
pub mod progress;
pub mod record;
pub mod removal;
pub mod report;
pub mod resume;
pub mod runs;
pub mod settings;
pub mod spec;
pub mod status;
pub mod view;
