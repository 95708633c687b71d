//! The kubelet that runs on this host, and what it lacked of late by its own words.

use jiff::{SignedDuration, Timestamp};

use crate::host::HostError;
use crate::host::change::{Change, UnitAction};
use crate::host::query::Observe;

pub const UNIT: &str = "kubelet.service";

/// It says every five seconds what its runtime lacks, and puts off questions to the API server for up to ten.
const LATELY: SignedDuration = SignedDuration::from_secs(15);

/// How the kubelet stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kubelet {
    /// It does not run; its unit's state.
    Stands(String),
    /// It runs; whether a line of the last seconds, and of its present life, holds the words.
    Runs { says_so: bool },
}

/// Looks at the unit and its journal.
pub async fn look<H: Observe>(host: &H, words: &str) -> Result<Kubelet, HostError> {
    let unit = host.unit(UNIT).await?;
    if !unit.active {
        return Ok(Kubelet::Stands(unit.state));
    }
    let lately = Timestamp::now() - LATELY;
    let since = unit.inactive_at.map_or(lately, |end| end.max(lately));
    let lines = host.kubelet_journal(since).await?;
    // The journal is asked in whole seconds. A clock that was ahead and was put right leaves lines of times that are still to
    // come: those are not of late.
    let of_late = since..=Timestamp::now();
    let says_so = lines.iter().any(|line| of_late.contains(&line.time) && line.message.contains(words));
    Ok(Kubelet::Runs { says_so })
}

/// Starts it anew; its containers go on meanwhile.
pub fn restart() -> Change {
    Change::Unit { unit: UNIT.to_owned(), action: UnitAction::Restart }
}
