//! `coordinator preflight`: all that the checks before a run found.

use muster_proto::coordinator::PreflightReply;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, Problem, problems};

/// All that was found, at once.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Findings {
    /// Set: the file cannot be used, and nothing was looked at.
    pub problems: Vec<Problem>,
    /// Each stops a bootstrap; `step` is the name of the check.
    pub complaints: Vec<Failure>,
    /// Worth knowing; none stops a bootstrap.
    pub notes: Vec<Failure>,
}

impl From<&PreflightReply> for Findings {
    fn from(found: &PreflightReply) -> Self {
        Self {
            problems: problems(found.problems.as_ref()),
            complaints: found.complaints.iter().cloned().map(Failure::from).collect(),
            notes: found.notes.iter().cloned().map(Failure::from).collect(),
        }
    }
}
