//! The events of the journals, and the one function that says which may follow which.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::Recorded;
use crate::names::StepId;

/// One line of a journal. The sequence is the journal's own: gap-free, from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub sequence: u64,
    pub time: Timestamp,
    /// The run of the plan that the event belongs to.
    pub run: String,
    pub step: StepId,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// Coordinator: the step is about to be sent to its agent.
    Dispatched,
    /// The agent begins, or begins again after it died; `content` is the digest of the step's part of the spec.
    Started {
        content: String,
        attempt: u32,
    },
    /// Written before the change is made, with what stood there before.
    Intended {
        index: u32,
        change: Recorded,
        summary: String,
        before: Option<serde_json::Value>,
    },
    /// The change was made (a program ended with 0).
    Made {
        index: u32,
        outcome: Outcome,
    },
    /// The change was tried and failed (a program ended with another code, or was ended by its time limit).
    NotMade {
        index: u32,
        outcome: Outcome,
    },
    /// The agent was ended in the middle of the change, and nothing is left that tells how it went: the look that follows
    /// does.
    EndUnknown {
        index: u32,
    },
    /// Nothing to change, but the state is not there yet.
    Waiting {
        for_what: String,
    },
    /// While the program of the change with this index runs: what keeps it from its end, as far as the host tells.
    Noticed {
        index: u32,
        what: String,
    },
    /// The step is about to end well and leaves something as it is; a sentence: what, and why.
    Left {
        what: String,
    },
    Done {
        changes: u32,
    },
    Blocked {
        complaint: Complaint,
    },
    Failed {
        complaint: Complaint,
    },
    /// Coordinator, outside of any run of a plan: somebody was not let in under this node's name. A later attempt may be.
    Refused {
        why: String,
        /// The address that it came from.
        source: String,
    },
}

/// How one change ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// A program's exit code; none for a change that is not a program, or one that was killed.
    pub exit_code: Option<i32>,
    /// What the program said, redacted, head and tail kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Bytes that were left out of the middle of `output`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_cut: u64,
    pub duration_ms: u64,
    /// Why it failed, when it was not the program that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What went wrong, how one sees it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    pub cause: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    pub remedy: String,
}

impl Complaint {
    pub fn new(cause: impl Into<String>, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), evidence: evidence.into(), remedy: remedy.into() }
    }
}

/// Stands for the confirmation in the command that resets a node: agents do not know the cluster's name.
const CONFIRMATION: &str = "--confirm CLUSTER";

/// The command, to be run on the master, that resets this node; `Complaint::in_cluster` puts the cluster's name into it.
pub fn reset_command(node: &str) -> String {
    format!("sudo coordinator reset --node {node} {CONFIRMATION}")
}

/// The command, to be run on the master, that undoes the whole cluster; like `reset_command` without the cluster's name.
pub fn reset_everything_command() -> String {
    format!("sudo coordinator reset --all {CONFIRMATION}")
}

impl Complaint {
    /// With the name of the cluster where the agent could not know it.
    pub fn in_cluster(&self, cluster: &str) -> Self {
        let remedy = self.remedy.replace(CONFIRMATION, &format!("--confirm {cluster}"));
        Self { remedy, ..self.clone() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if !self.evidence.is_empty() {
            write!(f, "\n  seen: {}", self.evidence.trim_end().replace('\n', "\n        "))?;
        }
        write!(f, "\n  to do: {}", self.remedy.replace('\n', "\n         "))
    }
}

impl From<Complaint> for crate::agent::Complaint {
    fn from(complaint: Complaint) -> Self {
        Self { cause: complaint.cause, evidence: complaint.evidence, remedy: complaint.remedy }
    }
}

impl From<crate::agent::Complaint> for Complaint {
    fn from(complaint: crate::agent::Complaint) -> Self {
        Self { cause: complaint.cause, evidence: complaint.evidence, remedy: complaint.remedy }
    }
}

/// Where a step stands: the fold of its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    #[default]
    Pending,
    /// Sent to the agent, or checked there.
    Running,
    /// The change with this index is under way.
    Changing(u32),
    /// Begun again while the end of this change was not in the journal: that comes before anything else.
    Resumed(u32),
    Waiting,
    Done,
    Blocked,
    Failed,
}

impl StepState {
    /// The word that screens and scripts see.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running | Self::Resumed(_) => "running",
            Self::Changing(_) => "changing",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more happens to the step in this run.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Blocked | Self::Failed)
    }
}

/// An event that may not follow what the journal already holds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the journal is not legal: {event} may not follow {state}", state = .state.word())]
pub struct IllegalEvent {
    pub state: StepState,
    pub event: String,
}

/// The one transition function. A crash may come between any two events, so `Started` may follow every state that is not
/// final; a change whose result was never written gets its end, or the word that nobody knows it, before the next one.
pub fn transition(state: StepState, event: &EventKind) -> Result<StepState, IllegalEvent> {
    use EventKind as E;
    use StepState as S;
    match (state, event) {
        (S::Pending | S::Running | S::Waiting, E::Dispatched | E::Started { .. }) => Ok(S::Running),
        (S::Changing(open) | S::Resumed(open), E::Dispatched | E::Started { .. }) => Ok(S::Resumed(open)),
        (S::Running | S::Waiting, E::Intended { index, .. }) => Ok(S::Changing(*index)),
        (
            S::Changing(open) | S::Resumed(open),
            E::Made { index, .. } | E::NotMade { index, .. } | E::EndUnknown { index },
        ) if open == *index => Ok(S::Running),
        (S::Running | S::Waiting, E::Waiting { .. }) => Ok(S::Waiting),
        // Also of a program that outlived its agent.
        (S::Changing(open) | S::Resumed(open), E::Noticed { index, .. }) if open == *index => Ok(state),
        (S::Running | S::Waiting, E::Left { .. }) => Ok(S::Running),
        (S::Running | S::Waiting, E::Done { .. }) => Ok(S::Done),
        (S::Running | S::Waiting, E::Blocked { .. }) => Ok(S::Blocked),
        (S::Pending | S::Running | S::Waiting | S::Changing(_) | S::Resumed(_), E::Failed { .. }) => {
            Ok(S::Failed)
        }
        // Before all others, so that no agent can add one to its step.
        (S::Pending, E::Refused { .. }) => Ok(S::Pending),
        (state, event) => Err(IllegalEvent { state, event: event.word().to_owned() }),
    }
}

impl EventKind {
    /// Whether it tells how a change or a step ended.
    pub fn is_result(&self) -> bool {
        self.is_end_of_step()
            || matches!(self, Self::Made { .. } | Self::NotMade { .. } | Self::EndUnknown { .. })
    }

    /// Whether it tells how a step ended.
    pub fn is_end_of_step(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Blocked { .. } | Self::Failed { .. })
    }

    /// The word under which the event stands in the journal.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Dispatched => "dispatched",
            Self::Started { .. } => "started",
            Self::Intended { .. } => "intended",
            Self::Made { .. } => "made",
            Self::NotMade { .. } => "not-made",
            Self::EndUnknown { .. } => "end-unknown",
            Self::Waiting { .. } => "waiting",
            Self::Noticed { .. } => "noticed",
            Self::Left { .. } => "left",
            Self::Done { .. } => "done",
            Self::Blocked { .. } => "blocked",
            Self::Failed { .. } => "failed",
            Self::Refused { .. } => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;

    fn intended(index: u32) -> EventKind {
        EventKind::Intended {
            index,
            change: Change::ReloadUnits.record(),
            summary: String::new(),
            before: None,
        }
    }
    fn made(index: u32) -> EventKind {
        EventKind::Made { index, outcome: Outcome::default() }
    }
    fn started() -> EventKind {
        EventKind::Started { content: "c".into(), attempt: 1 }
    }
    fn fold(events: &[EventKind]) -> Result<StepState, IllegalEvent> {
        events.iter().try_fold(StepState::Pending, transition)
    }

    #[test]
    fn a_step_goes_from_pending_over_its_changes_to_done() {
        let events = [
            EventKind::Dispatched,
            started(),
            intended(0),
            made(0),
            intended(1),
            made(1),
            EventKind::Done { changes: 2 },
        ];
        assert_eq!(fold(&events), Ok(StepState::Done));
    }

    #[test]
    fn nothing_follows_a_final_state() {
        for event in [started(), EventKind::Dispatched, intended(0), EventKind::Done { changes: 0 }] {
            assert!(transition(StepState::Done, &event).is_err(), "{}", event.word());
        }
    }

    #[test]
    fn a_change_is_never_made_without_its_intent() {
        assert!(transition(StepState::Pending, &made(0)).is_err());
        assert!(transition(StepState::Changing(0), &made(1)).is_err());
        assert!(transition(StepState::Changing(0), &intended(1)).is_err());
        assert!(fold(&[started(), made(0)]).is_err(), "of a change that was never intended");
        assert!(fold(&[started(), intended(0), made(0), made(0)]).is_err(), "twice");
        assert!(fold(&[started(), intended(0), started(), made(1)]).is_err(), "of another one");
    }

    #[test]
    fn a_change_that_a_crash_left_open_is_closed_before_anything_else_happens_to_its_step() {
        let left_open = [started(), intended(0), EventKind::Dispatched, started()];
        assert_eq!(fold(&left_open), Ok(StepState::Resumed(0)));
        let waiting = EventKind::Waiting { for_what: String::new() };
        let done = EventKind::Done { changes: 0 };
        for early in [intended(1), waiting, done, EventKind::EndUnknown { index: 1 }] {
            assert!(transition(StepState::Resumed(0), &early).is_err(), "{}", early.word());
        }
        for end in [made(0), EventKind::EndUnknown { index: 0 }] {
            assert_eq!(transition(StepState::Resumed(0), &end), Ok(StepState::Running));
        }
        let failed = EventKind::Failed { complaint: Complaint::new("a", "", "b") };
        assert_eq!(transition(StepState::Resumed(0), &failed), Ok(StepState::Failed));
    }

    #[test]
    fn a_step_may_start_again_after_a_crash_in_the_middle_of_a_change() {
        assert_eq!(fold(&[started(), intended(0), started(), made(0)]), Ok(StepState::Running));
    }

    #[test]
    fn what_is_noticed_belongs_to_the_change_that_runs_and_changes_no_state() {
        let noticed = |index| EventKind::Noticed { index, what: "swap is on".into() };
        assert_eq!(fold(&[started(), intended(0), noticed(0), noticed(0)]), Ok(StepState::Changing(0)));
        assert_eq!(fold(&[started(), intended(0), noticed(0), made(0)]), Ok(StepState::Running));
        assert_eq!(fold(&[started(), intended(0), started(), noticed(0), made(0)]), Ok(StepState::Running));
        assert!(fold(&[started(), intended(0), noticed(1)]).is_err());
        assert!(fold(&[noticed(0)]).is_err());
    }

    #[test]
    fn what_a_step_leaves_as_it_is_is_told_before_its_end_and_is_none() {
        let left = || EventKind::Left { what: "swap on /dev/zram0".into() };
        let waiting = EventKind::Waiting { for_what: String::new() };
        assert_eq!(fold(&[started(), waiting, left(), left()]), Ok(StepState::Running));
        assert_eq!(fold(&[started(), left(), EventKind::Done { changes: 0 }]), Ok(StepState::Done));
        assert!(fold(&[started(), intended(0), left()]).is_err() && fold(&[left()]).is_err());
    }

    #[test]
    fn refusals_follow_each_other_and_are_no_part_of_a_step_that_runs() {
        let refused = || EventKind::Refused { why: "a second key".into(), source: "10.0.0.9:4".into() };
        assert_eq!(fold(&[refused(), refused()]), Ok(StepState::Pending));
        for begun in [started(), EventKind::Dispatched] {
            assert!(fold(&[begun, refused()]).is_err());
        }
    }

    #[test]
    fn an_event_survives_its_journal_form() {
        let event = Event {
            sequence: 7,
            time: "2026-11-22T10:00:00Z".parse().unwrap(),
            run: "r1".into(),
            step: "node-1/swap".parse().unwrap(),
            kind: EventKind::Blocked { complaint: Complaint::new("a", "", "b") },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        assert!(text.contains("\"event\":\"blocked\""), "{text}");
    }
}
