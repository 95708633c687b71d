//! The one door to the host. Looking (`query`) and doing (`change`) are two closed lists in two files:
//! reading them is the security review. Only `system` touches the real host; clippy forbids it elsewhere.

mod before;
pub mod change;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub(crate) mod foreseen;
pub mod obstacle;
pub(crate) mod owner;
pub mod query;
pub mod reach;
pub mod system;
mod text;
pub(crate) mod ufw;

use std::path::PathBuf;
use std::time::Duration;

/// What can go wrong on the way to the host. `Display` names the cause; what the host itself said is the source.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("{path}: {action} failed")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A link, device or folder where a plain file was expected: never followed, never replaced.
    #[error(
        "{path} is {what}, not a plain file: Muster does not follow or replace it; put a plain file there or remove it"
    )]
    NotPlain { path: PathBuf, what: &'static str },
    /// A link or file where a folder was expected: never followed, never removed.
    #[error("{path} is {what}, not a folder: Muster does not follow or remove it")]
    NoFolder { path: PathBuf, what: &'static str },
    #[error("{program} could not be started")]
    NotStarted { program: String, source: std::io::Error },
    #[error("{program} ended with {status}: {message}")]
    ProgramFailed { program: String, status: String, message: String },
    #[error("{what} did not answer within {} s", limit.as_secs())]
    TimedOut { what: String, limit: Duration },
    /// A part of an answer would be taken for the whole of it: a file written back without its end.
    #[error("{program} printed more than {} MiB, which is more than Muster reads", limit / 1024 / 1024)]
    TooLong { program: String, limit: u64 },
    /// The program was asked for and perhaps runs: nobody may take it for one that was not started.
    #[error("how {unit} ended is not known, and it may still run")]
    EndUnknown { unit: String, source: Box<HostError> },
    #[error("systemd refused {what}: {message}")]
    Systemd { what: String, message: String },
    #[error("the API server at {server}: {message}")]
    Kubernetes { server: String, message: String, transient: bool },
    #[error("{what} answered something unexpected: {message}")]
    Unexpected { what: String, message: String },
}

impl HostError {
    /// Whether looking again a moment later may succeed: an API server that is restarting, a slow answer.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Kubernetes { transient: true, .. })
    }
}
