//! `coordinator journal -o json`, a line: what all events have in common. Their one definition is `muster_proto::event`; this
//! is what a script may rely on, and is held against the events themselves by a test.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::words;

words! {
    /// What happened.
    EventWord: "event" {
        /// Sent to the node's agent.
        Dispatched = "dispatched",
        /// An attempt began.
        Started = "started",
        /// A change is about to be made: what stood before is in it.
        Intended = "intended",
        Made = "made",
        NotMade = "not-made",
        /// The agent was ended in the middle of the change.
        EndUnknown = "end-unknown",
        Waiting = "waiting",
        /// While a program ran, a cause was seen that keeps it from its end.
        Noticed = "noticed",
        /// The step leaves something as it is.
        Left = "left",
        Done = "done",
        Blocked = "blocked",
        Failed = "failed",
        /// Somebody was refused at the door.
        Refused = "refused",
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct JournalEvent {
    /// In this journal, from 1, without gaps.
    pub sequence: u64,
    /// RFC 3339.
    pub time: String,
    /// The run's id.
    pub run: String,
    /// NODE/STEP.
    pub step: String,
    pub event: EventWord,
    /// What belongs to the kind of event.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}
