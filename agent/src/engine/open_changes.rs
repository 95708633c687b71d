//! Changes that an earlier life of the agent began and whose end it never wrote. A program is waited for and its result
//! taken, never started a second time; of every other change the journal says that its end is not known.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use muster_proto::cause::chain;
use muster_proto::event::{Complaint, Event, EventKind};
use muster_proto::journal::JournalError;
use muster_proto::names::{NodeName, StepId};
use muster_proto::step_kind::StepKind;

use super::attempt::{Attempt, Stop, Yields};
use crate::diagnosis;
use crate::host::HostError;
use crate::host::change::{Applied, Change, ChangeId, Host, Recorded};

/// Who waits longer than this for another step's program says so.
const SOON: Duration = Duration::from_secs(1);

/// A change whose end the journal does not hold.
struct Open<'a> {
    index: u32,
    run: &'a str,
    change: &'a Recorded,
    summary: &'a str,
    since: Timestamp,
    /// The content that its step was begun with.
    content: &'a str,
}

impl Open<'_> {
    fn is_program(&self) -> bool {
        matches!(**self.change, Change::Run(_))
    }
}

/// Those of one step, of whose events the oldest come first; and the changes of its last run that ended, whose units may
/// still be there.
fn open_of<'a>(events: &[&'a Event]) -> (Vec<Open<'a>>, Vec<u32>) {
    let mut open = BTreeMap::new();
    let mut content = "";
    let mut ended = Vec::new();
    let last_run = events.last().map(|event| event.run.as_str());
    for event in events {
        match &event.kind {
            EventKind::Started { content: begun_with, .. } => content = begun_with,
            EventKind::Intended { index, change, summary, .. } => {
                let (index, run, since) = (*index, event.run.as_str(), event.time);
                open.insert(index, Open { index, run, change, summary, since, content });
            }
            EventKind::EndUnknown { index } => drop(open.remove(index)),
            EventKind::Made { index, .. } | EventKind::NotMade { index, .. } => {
                let closed = open.remove(index).filter(|_| Some(event.run.as_str()) == last_run);
                ended.extend(closed.map(|open| open.index));
            }
            _ => {}
        }
    }
    (open.into_values().collect(), ended)
}

impl<H: Host> Attempt<H> {
    /// This step's own changes, of whatever run. Without its unit, looking at the host decides; so it does when the program
    /// belongs to another content: its end is recorded, and is not this attempt's. `started` is where this attempt began.
    /// A step that does not look in its turn takes it for this: the program that is waited for changes the host.
    pub(super) async fn settle_own(&self, started: &Event) -> Result<(), Stop> {
        let events = self.inner.journal.ever_of_step(&self.id)?;
        let before: Vec<&Event> = events.iter().filter(|event| event.sequence != started.sequence).collect();
        let (open, ended) = open_of(&before);
        for index in ended {
            self.forget(&ChangeId { step: self.id.clone(), index }).await;
        }
        let programs = open.iter().any(Open::is_program);
        let _turn = match programs && !self.step.kind().is_of_membership() {
            true => Some(self.inner.changing.lock().await),
            false => None,
        };
        for one in open {
            let Open { index, run, change: record, summary, since, content } = one;
            let Change::Run(program) = &**record else {
                self.end_unknown(run, index)?;
                continue;
            };
            if run != self.run {
                // From here on it is this run's, which tells how it ended.
                let (change, summary) = (record.clone(), summary.to_owned());
                self.record(EventKind::Intended { index, change, summary, before: None })?;
            }
            let same_content = content == self.content;
            let id = ChangeId { step: self.id.clone(), index };
            let mut watch = self.watch_over(record, since);
            let attached = self.watched(self.inner.host.attach(&id), watch.as_mut(), index).await?;
            let Some(applied) = attached.map_err(|error| not_attached(&error))? else {
                self.end_unknown(&self.run, index)?;
                continue;
            };
            let yields = Yields { ticket: same_content && program.yields_ticket };
            let failed = self.conclude(&id, Some(yields), applied).await?;
            let Some(outcome) = failed.filter(|_| same_content) else { continue };
            if let Some(found) = self.look_back(watch).await {
                let complaint = diagnosis::of_kubeadm(&program.arguments, &outcome, self.id.node(), &found);
                return Err(Stop::Failed(complaint));
            }
            let said = outcome.output.lines().last().unwrap_or_default().to_owned();
            let ended = outcome.error.unwrap_or_else(|| format!("exit code {:?}", outcome.exit_code));
            let cause = format!("the program that went on while the agent was away failed: {ended}");
            return Err(Stop::Failed(Complaint::new(
                cause,
                said,
                "look at `sudo agent journal` on that node, then run the same command again",
            )));
        }
        Ok(())
    }

    fn end_unknown(&self, run: &str, index: u32) -> Result<(), Stop> {
        match self.inner.journal.append(run, &self.id, EventKind::EndUnknown { index }) {
            // That run said already how its step ended.
            Ok(_) | Err(JournalError::Illegal(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes of whatever step that no unit with an id makes: two at once would be in each other's way.
    pub(super) async fn settle_errands(&self) -> Result<(), Stop> {
        let for_what = "for a change to end that this node's agent began before it was ended";
        self.waited_for(self.inner.host.earlier_ended(), for_what).await
    }

    /// Waits, and says what for when it takes longer.
    async fn waited_for<T>(&self, end: impl Future<Output = T>, for_what: &str) -> Result<T, Stop> {
        let mut end = pin!(end);
        if let Ok(ended) = tokio::time::timeout(SOON, end.as_mut()).await {
            return Ok(ended);
        }
        self.record(EventKind::Waiting { for_what: for_what.to_owned() })?;
        Ok(end.await)
    }

    /// The programs of the other steps of membership, which nobody may have asked for since the agent died. Their ends are
    /// recorded under the run and step that began them, and are not this attempt's.
    pub(super) async fn settle_others(&self) -> Result<(), Stop> {
        for other in self.others_of_membership() {
            let events = self.inner.journal.ever_of_step(&other)?;
            let open = open_of(&events.iter().collect::<Vec<_>>()).0;
            for open in open.into_iter().filter(Open::is_program) {
                let id = ChangeId { step: other.clone(), index: open.index };
                let Some(Applied { made, outcome, .. }) = self.end_of(&id).await? else { continue };
                let index = open.index;
                let end = match made {
                    true => EventKind::Made { index, outcome },
                    false => EventKind::NotMade { index, outcome },
                };
                match self.inner.journal.append(open.run, &other, end) {
                    Ok(_) => self.forget(&id).await,
                    // Its step failed before its program ended: the next attempt at that very step takes the result.
                    Err(JournalError::Illegal(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn end_of(&self, id: &ChangeId) -> Result<Option<Applied>, Stop> {
        let for_what = format!("for the end of {}, which an earlier run began", id.step);
        self.waited_for(self.inner.host.attach(id), &for_what).await?.map_err(|error| not_attached(&error))
    }

    /// Of the steps of membership the one that was asked for last counts: after a reset, an init of an earlier run that only
    /// waited does not begin again.
    pub(super) fn still_asked_for(&self, started: &Event) -> Result<(), Stop> {
        for other in self.others_of_membership() {
            let events = self.inner.journal.of_step_after(&other, started.sequence)?;
            let later = events
                .into_iter()
                .rev()
                .find(|event| event.run != self.run && matches!(event.kind, EventKind::Started { .. }));
            if let Some(later) = later {
                return Err(Stop::Failed(Complaint::new(
                    format!("the run {} began {other} meanwhile, and this step goes no further", later.run),
                    "",
                    "run the same command again when the other one has ended",
                )));
            }
        }
        Ok(())
    }

    fn others_of_membership(&self) -> impl Iterator<Item = StepId> + use<H> {
        let (node, own) = (self.id.node().parse::<NodeName>().ok(), self.step.kind());
        let others = StepKind::all_of_membership().filter(move |kind| *kind != own);
        others.filter_map(move |kind| Some(StepId::of(node.as_ref()?, kind)))
    }
}

fn not_attached(error: &HostError) -> Stop {
    Stop::Failed(Complaint::new(chain(error), "", "run the same command again"))
}

#[cfg(test)]
mod tests;
