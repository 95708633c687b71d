//! What people and scripts see, once: the commands' text and their JSON print these values, and `coordinator schema NAME`
//! prints their JSON Schemas. Names stay; new ones may come. No text in them steers a terminal, whoever said it.

pub mod findings;
pub mod journal;
pub mod plan;
pub mod report;
pub mod status;

use muster_proto::coordinator as proto;
use muster_proto::redaction::{one_line, printable};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

use self::findings::Findings;
use self::journal::JournalEvent;
use self::plan::Plan;
use self::report::Report;
use self::status::Status;

/// What `coordinator schema` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SchemaName {
    /// The cluster file
    #[default]
    Cluster,
    /// `status -o json`
    Status,
    /// `plan -o json`
    Plan,
    /// `preflight -o json`
    Findings,
    /// A line of `journal -o json`
    Journal,
    /// `report -o json`
    Report,
}

/// The JSON Schema (draft 2020-12) of this name.
pub fn schema(name: SchemaName) -> Value {
    match name {
        SchemaName::Cluster => crate::spec::schema(),
        SchemaName::Status => of::<Status>(),
        SchemaName::Plan => of::<Plan>(),
        SchemaName::Findings => of::<Findings>(),
        SchemaName::Journal => of::<JournalEvent>(),
        SchemaName::Report => of::<Report>(),
    }
}

fn of<T: JsonSchema>() -> Value {
    // As it is written, not as it would be read.
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value()
}

/// The value as JSON for a script, many lines.
pub fn json(view: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(view).expect("a view has no key that is not text");
    // JSON escapes only the oldest control characters.
    printable(&text)
}

/// A word that this version does not know: the daemon is of another one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the coordinator that runs speaks of the {what} {word:?}, which this command does not know: `systemctl restart muster-coordinator` after an upgrade"
)]
pub struct UnknownWord {
    pub what: &'static str,
    pub word: String,
}

/// An enum of words, each as it travels, is printed and stands in the schema.
macro_rules! words {
    ($(#[$about:meta])* $name:ident: $what:literal { $($(#[$note:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$note])* #[serde(rename = $word)] $variant),* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::view::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                let unknown = || $crate::view::UnknownWord {
                    what: $what,
                    word: muster_proto::redaction::printable(word),
                };
                Self::ALL.iter().copied().find(|known| known.word() == word).ok_or_else(unknown)
            }
        }
    };
}
pub(crate) use words;

/// Why a step did not do what it is for, or what a check complains of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    pub node: String,
    /// The step, or the check.
    pub step: String,
    pub cause: String,
    /// How one sees it; may be empty.
    pub evidence: String,
    /// What to do.
    pub remedy: String,
    /// Of the step in its run, from 1; 0: it was not begun.
    pub attempt: u32,
    /// Nothing was tried: a person has to change the node first.
    pub blocked: bool,
}

/// Of what a node says in one line so many characters are shown.
const LINE: usize = 1000;
/// Of what it says in many lines so many bytes.
const LINES: usize = 64 << 10;

/// What a node says, as one line: it cannot begin a line of another node, nor a row of a table.
pub(crate) fn line(text: &str) -> String {
    one_line(text, LINE)
}

/// What a node says in many lines, as much of it as is shown.
pub(crate) fn lines(text: &str) -> String {
    let most = (0..=LINES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    printable(&text[..most])
}

/// Lines under a label, so that none of them can be taken for a label, a remedy or another node's: the first stands behind the
/// label, and each later one behind this margin and a stroke.
pub(crate) fn quoted(text: &str, margin: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{}| ", " ".repeat(margin)))
}

impl From<proto::Failure> for Failure {
    fn from(failure: proto::Failure) -> Self {
        Self {
            node: line(&failure.node),
            step: line(&failure.step),
            cause: line(&failure.cause),
            evidence: lines(&failure.evidence),
            remedy: lines(&failure.remedy),
            attempt: failure.attempt,
            blocked: failure.blocked,
        }
    }
}

/// A mistake in the cluster file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: u64,
    /// For instance spec.nodes[1].name; empty: the whole file.
    pub field: String,
    /// What is wrong, and what to write or do instead.
    pub what: String,
}

/// All mistakes of a file that cannot be used; none when it can.
fn problems(problems: Option<&proto::Problems>) -> Vec<Problem> {
    let all = problems.into_iter().flat_map(|problems| {
        problems.list.iter().map(|problem| Problem {
            file: printable(&problems.file),
            line: problem.line,
            field: printable(&problem.field),
            what: printable(&problem.what),
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::event::StepState;

    use super::*;
    use crate::plans::kind::RunKind;
    use crate::record::RunPhase;

    #[test]
    fn every_word_that_a_status_is_made_of_is_known_here() {
        for phase in [RunPhase::Running, RunPhase::Done, RunPhase::Failed, RunPhase::Interrupted] {
            assert!(phase.word().parse::<status::Phase>().is_ok(), "{phase:?}");
        }
        for kind in RunKind::ALL.into_iter().filter(|kind| *kind != RunKind::LetNodesIn) {
            assert_eq!(kind.word().parse::<status::Kind>().unwrap().word(), kind.word());
        }
        let states = [
            StepState::Pending,
            StepState::Running,
            StepState::Changing(0),
            StepState::Resumed(0),
            StepState::Waiting,
            StepState::Done,
            StepState::Blocked,
            StepState::Failed,
        ];
        for state in states {
            assert!(state.word().parse::<status::StepState>().is_ok(), "{state:?}");
        }
    }

    #[test]
    fn a_word_that_nobody_knows_is_refused_with_what_to_do_and_steers_no_terminal() {
        let error = "\u{1b}[2Jgone".parse::<status::Phase>().unwrap_err().to_string();
        assert!(error.contains("phase") && error.contains("restart") && !error.contains('\u{1b}'), "{error}");
    }
}
