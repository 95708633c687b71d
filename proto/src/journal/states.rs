//! Where steps stood when they were looked up last, so that not every event of a step is read again with its next one. What
//! came since then is read from the file: another process may have written.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::event::StepState;
use crate::names::StepId;

/// More steps are under way in no run.
const MOST: usize = 100_000;

/// By run and step: the state, and the sequence of the event that it stands at.
#[derive(Default)]
pub(super) struct States(Mutex<HashMap<(String, StepId), (StepState, u64)>>);

impl States {
    /// The state at an event; the beginning where nothing is known.
    pub(super) fn of(&self, run: &str, step: &StepId) -> (StepState, u64) {
        self.known().get(&(run.to_owned(), step.clone())).copied().unwrap_or_default()
    }

    pub(super) fn keep(&self, run: &str, step: &StepId, state: StepState, sequence: u64) {
        let mut known = self.known();
        let key = (run.to_owned(), step.clone());
        if state.is_final() {
            known.remove(&key);
            return;
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (state, sequence));
    }

    pub(super) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, StepId), (StepState, u64)>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}
