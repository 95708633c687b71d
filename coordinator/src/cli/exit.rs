//! How the commands end: one code for each kind of outcome, so that a script need not read texts. README.md has the table.

use std::process::ExitCode;

use muster_proto::coordinator::{self as proto, ClusterStatus};

use super::cluster_file::FileError;
use super::{ClientError, Failure};
use crate::spec::Problems;

/// A run that did not come to its end; its failures were shown already.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not finish; once the cause is gone, the same command goes on from here")]
pub(super) struct NotFinished {
    /// For instance `the bootstrap`.
    pub(super) what: &'static str,
    pub(super) outcome: Outcome,
}

/// What looking found stands in the way; nothing was begun and nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WouldBlock {
    #[error("bootstrap would stop at the blocked steps above")]
    Steps,
    #[error("the preflight checks found {0} thing(s) that have to be mended first; nothing was changed")]
    Preflight(usize),
}

/// A bootstrap would change something, and the command was asked to tell that by its code.
#[derive(Debug, thiserror::Error)]
#[error("bootstrap would change something")]
pub(super) struct WouldChange;

/// The kinds of outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or nothing to do.
    Done,
    /// Something that has no kind of its own: the message says what.
    Unexpected,
    /// The arguments or the cluster file are wrong; nothing was begun.
    Usage,
    /// A node is not as it must be, and a person has to change that; the step changed nothing.
    Blocked,
    /// A step was tried and failed.
    Failed,
    /// The coordinator cannot be reached, refuses, or may not be used by this user.
    Unavailable,
    /// Bootstrap would change something, and `plan --exit-code` asked for that.
    WouldChange,
}

impl Outcome {
    /// Every kind, by its code.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Unexpected,
        Self::Usage,
        Self::Blocked,
        Self::Failed,
        Self::Unavailable,
        Self::WouldChange,
    ];

    /// The exit code, which scripts rely on.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unexpected => 1,
            // clap ends with the same for arguments that it does not understand.
            Self::Usage => 2,
            Self::Blocked => 3,
            Self::Failed => 4,
            Self::Unavailable => 5,
            Self::WouldChange => 6,
        }
    }

    /// The kind of a command's failure.
    pub fn of(failure: &Failure) -> Self {
        if let Some(error) = failure.downcast_ref::<ClientError>() {
            return match error {
                ClientError::Invalid(_) => Self::Usage,
                ClientError::Lost(_)
                | ClientError::NotRunning { .. }
                | ClientError::Away { .. }
                | ClientError::NotAllowed { .. }
                | ClientError::Transport { .. }
                | ClientError::Refused(_) => Self::Unavailable,
            };
        }
        if let Some(NotFinished { outcome, .. }) = failure.downcast_ref() {
            return *outcome;
        }
        match () {
            () if failure.is::<FileError>() || failure.is::<Problems>() => Self::Usage,
            () if failure.is::<WouldBlock>() => Self::Blocked,
            () if failure.is::<WouldChange>() => Self::WouldChange,
            () => Self::Unexpected,
        }
    }

    /// The kind of a run that did not come to its end: blocked only when nothing failed. A failure that a full disk kept out of
    /// the journal stands among those of the end alone.
    pub fn of_run(status: &ClusterStatus, failures: &[proto::Failure]) -> Self {
        let any = |state: &str| status.steps.iter().any(|step| step.state == state);
        match (any("failed"), any("blocked")) {
            (false, true) => Self::Blocked,
            (true, _) => Self::Failed,
            (false, false) if !failures.is_empty() => Self::Failed,
            (false, false) => Self::Unexpected,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::coordinator::StepStatus;

    use super::*;

    fn run(states: &[&str]) -> ClusterStatus {
        let step = |state: &&str| StepStatus { state: (*state).to_owned(), ..StepStatus::default() };
        ClusterStatus { steps: states.iter().map(step).collect(), ..ClusterStatus::default() }
    }

    /// The rows of the table under `| code | |`: the code, and what it means.
    fn table_of_the_readme() -> Vec<(u8, String)> {
        let readme = include_str!("../../../README.md");
        let (_, table) =
            readme.split_once("\n| code | |\n| --- | --- |\n").expect("the README has the table");
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.splitn(2, " | ");
            Some((cells.next()?.parse().ok()?, cells.next()?.to_owned()))
        };
        table.lines().map_while(row).collect()
    }

    #[test]
    fn the_table_in_the_readme_is_the_list_of_the_codes() {
        let words = |outcome: Outcome| match outcome {
            Outcome::Done => "done, or nothing to do",
            Outcome::Unexpected => "unexpected",
            Outcome::Usage => "wrong",
            Outcome::Blocked => "blocked",
            Outcome::Failed => "failed",
            Outcome::Unavailable => "cannot be reached",
            Outcome::WouldChange => "would change",
        };
        let table = table_of_the_readme();
        let codes: Vec<u8> = table.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, Outcome::ALL.map(Outcome::code), "{table:?}");
        for (outcome, (_, meaning)) in Outcome::ALL.into_iter().zip(&table) {
            assert!(meaning.contains(words(outcome)), "{outcome:?}: {meaning}");
        }
    }

    #[test]
    fn arguments_that_clap_refuses_end_with_the_code_of_wrong_arguments() {
        use clap::Parser;
        let refused =
            super::super::Arguments::try_parse_from(["coordinator", "plan", "--no-such"]).unwrap_err();
        assert_eq!(refused.exit_code(), i32::from(Outcome::Usage.code()));
    }

    #[test]
    fn a_refusal_of_the_file_is_the_callers_and_other_refusals_are_the_coordinators() {
        let of = |status: tonic::Status| Outcome::of(&ClientError::from(status).into());
        assert_eq!(of(tonic::Status::invalid_argument("cluster.yaml:3: ...")), Outcome::Usage);
        assert_eq!(of(tonic::Status::failed_precondition("a run is under way")), Outcome::Unavailable);
        let not_allowed = ClientError::NotAllowed { path: "/run/admin.sock".into() };
        assert_eq!(Outcome::of(&not_allowed.into()), Outcome::Unavailable);
        assert_eq!(Outcome::of(&"anything else".into()), Outcome::Unexpected);
    }

    #[test]
    fn a_run_is_blocked_only_when_nothing_failed() {
        let (told, untold) = ([], [proto::Failure::default()]);
        assert_eq!(Outcome::of_run(&run(&["done", "blocked", "pending"]), &told), Outcome::Blocked);
        assert_eq!(Outcome::of_run(&run(&["blocked", "failed"]), &told), Outcome::Failed);
        assert_eq!(Outcome::of_run(&run(&["done", "running"]), &told), Outcome::Unexpected);
        assert_eq!(
            Outcome::of_run(&run(&["done", "running"]), &untold),
            Outcome::Failed,
            "the journal could not take it"
        );
        let not_finished = NotFinished { what: "the bootstrap", outcome: Outcome::Failed };
        assert_eq!(Outcome::of(&not_finished.into()), Outcome::Failed);
        assert_eq!(Outcome::of(&WouldBlock::Steps.into()), Outcome::Blocked);
    }
}
