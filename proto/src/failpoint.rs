//! The points at which the fault matrix (tests/faults) makes this very process die, wait or be cut off. Without the feature
//! `failpoints` every call is nothing; a release build with it does not compile, so no package can hold one.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints are for the fault matrix alone and never part of a release build");

/// Where a fault can strike. The matrix takes every one of them for every step that has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Agent: the change is known, nothing of it is in the journal.
    BeforeIntent,
    /// Agent: the intent is in the journal, the change not begun.
    AfterIntent,
    /// Agent: the change is under way; of a program: its unit runs.
    MidEffect,
    /// Agent: the change has its effect, the journal not yet its result.
    EffectDone,
    /// Agent: the result is in the journal, the coordinator does not have it.
    ResultRecorded,
    /// Coordinator: the step may begin; the journal does not say so.
    BeforeDispatch,
    /// Coordinator: the journal says so, the agent does not know.
    Dispatched,
    /// Coordinator: the agent has the step and answers.
    Sent,
    /// Coordinator: a result has come and is not stored.
    BeforeStored,
}

impl Point {
    pub const OF_THE_AGENT: [Self; 5] =
        [Self::BeforeIntent, Self::AfterIntent, Self::MidEffect, Self::EffectDone, Self::ResultRecorded];
    pub const OF_THE_COORDINATOR: [Self; 4] =
        [Self::BeforeDispatch, Self::Dispatched, Self::Sent, Self::BeforeStored];

    pub fn word(self) -> &'static str {
        match self {
            Self::BeforeIntent => "before-intent",
            Self::AfterIntent => "after-intent",
            Self::MidEffect => "mid-effect",
            Self::EffectDone => "effect-done",
            Self::ResultRecorded => "result-recorded",
            Self::BeforeDispatch => "before-dispatch",
            Self::Dispatched => "dispatched",
            Self::Sent => "sent",
            Self::BeforeStored => "before-stored",
        }
    }
}

/// What the caller has to do itself after a point was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    GoOn,
    /// The same request is to be sent a second time.
    Replay,
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub async fn reach(_: Point, _: &crate::names::StepId) -> Then {
    Then::GoOn
}

/// The time limit of a program: the given one, or a shorter one that the matrix wants.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn limit(given: std::time::Duration) -> std::time::Duration {
    given
}

/// The connection that the action `cut` closes.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn connected(_: &std::sync::Arc<crate::transport::Cord>) {}

#[cfg(feature = "failpoints")]
pub use armed::{connected, limit, reach};

#[cfg(feature = "failpoints")]
mod armed {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex, PoisonError, Weak};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use serde::Deserialize;

    use super::{Point, Then};
    use crate::names::StepId;
    use crate::transport::Cord;

    /// What `armed.json` says: one fault.
    #[derive(Deserialize)]
    struct Fault {
        point: String,
        step: String,
        /// The how manieth time that the point is reached for this step in this life of the process.
        nth: u32,
        action: String,
        /// So much later than the point, while everything goes on.
        #[serde(default)]
        delay_ms: u64,
    }

    static REACHED: Mutex<Vec<(Point, StepId)>> = Mutex::new(Vec::new());
    static CORD: Mutex<Weak<Cord>> = Mutex::new(Weak::new());

    /// The folder through which a test speaks to this process; none outside of the matrix.
    fn folder() -> Option<PathBuf> {
        std::env::var_os("MUSTER_FAULTS").map(PathBuf::from)
    }

    #[allow(clippy::disallowed_methods, reason = "a file of the test's own, and exactly one who renames it")]
    pub async fn reach(point: Point, step: &StepId) -> Then {
        let Some(folder) = folder() else { return Then::GoOn };
        let count = {
            let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
            reached.push((point, step.clone()));
            reached.iter().filter(|(other, id)| *other == point && id == step).count()
        };
        let armed = folder.join("armed.json");
        let Ok(text) = std::fs::read_to_string(&armed) else { return Then::GoOn };
        let Ok(fault) = serde_json::from_str::<Fault>(&text) else { return Then::GoOn };
        let here = fault.point == point.word() && fault.step == step.as_str() && fault.nth as usize == count;
        // The renaming is the durable word that it struck, and disarms it for every later life.
        if !here || std::fs::rename(&armed, folder.join("fired.json")).is_err() {
            return Then::GoOn;
        }
        if fault.delay_ms == 0 {
            return strike(fault.action, folder).await;
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
            strike(fault.action, folder).await
        });
        Then::GoOn
    }

    async fn strike(action: String, folder: PathBuf) -> Then {
        match action.as_str() {
            "kill" => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            "stop" => {
                let _ = kill_process(getpid(), Signal::STOP);
            }
            "hold" => {
                while !folder.join("release").exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            "cut" => {
                let cord = CORD.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                if let Some(cord) = cord {
                    cord.cut();
                }
            }
            "replay" => return Then::Replay,
            _ => {}
        }
        Then::GoOn
    }

    pub fn connected(cord: &Arc<Cord>) {
        *CORD.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(cord);
    }

    pub fn limit(given: Duration) -> Duration {
        let wanted = folder().and_then(|folder| std::fs::read_to_string(folder.join("limit-ms")).ok());
        wanted.and_then(|text| text.trim().parse().ok()).map_or(given, Duration::from_millis)
    }
}
