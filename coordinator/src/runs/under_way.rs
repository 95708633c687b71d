//! The one run that is under way: begun, attached to, followed to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use muster_proto::cause::chain;
use muster_proto::coordinator::{ClusterFiles, ClusterStatus, Failure, Progress, RunEnd, progress};
use muster_proto::names::NodeName;
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use super::{Runs, RunsError};
use crate::account::Account;
use crate::plans::{Plan, digest_of};
use crate::progress::failure;
use crate::record::{Run, RunPhase};
use crate::{removal, resume};

/// Progress is sent at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(150);

/// The run that is under way.
#[derive(Clone)]
pub(super) struct Active {
    /// The files that a bootstrap was asked for with; empty for a reset.
    asked: String,
    plan_digest: String,
    run: String,
    began: Timestamp,
    /// Turns true when it has ended and the record says how.
    ended: watch::Receiver<bool>,
    /// Failures that the journal could not take; told with the end.
    unrecorded: Arc<Mutex<Vec<Failure>>>,
}

impl Runs {
    /// The run that goes on now, if it is this one.
    fn going_on(&self, is_this: impl FnOnce(&Active) -> bool) -> Option<Active> {
        let slot = self.active.lock().expect("no holder of the lock panics");
        slot.as_ref().filter(|active| !*active.ended.borrow() && is_this(active)).cloned()
    }

    pub(super) fn is_active(&self, run: &str) -> bool {
        self.going_on(|active| active.run == run).is_some()
    }

    /// Whether the run of this very plan goes on now.
    pub(super) fn is_under_way(&self, plan_digest: &str) -> bool {
        self.going_on(|active| active.plan_digest == plan_digest).is_some()
    }

    /// Refuses while another run than that of this plan goes on: its steps change what the checks would look at, and the checks open ports
    /// that its kubeadm wants.
    pub(super) fn refuse_beside(&self, plan_digest: Option<&str>) -> Result<(), Status> {
        match self.going_on(|active| plan_digest != Some(active.plan_digest.as_str())) {
            Some(_) => Err(another_is_under_way()),
            None => Ok(()),
        }
    }

    /// The run of a bootstrap with these very files, and what is to be said of it. Asked before anything is asked of the hosts:
    /// one of them may just be away.
    pub(super) fn attached(&self, asked: &str) -> Option<BoxStream<'static, Result<Progress, Status>>> {
        let active = self.going_on(|active| active.asked == asked)?;
        let found = stream::iter([Ok(said(resume::attached(active.began)))]);
        Some(Box::pin(found.chain(self.clone().progress(active))))
    }

    /// The run, and what is to be said of the one before or of this one, when it goes on already. The nodes that leave are
    /// taken off the list once all is done.
    pub(super) fn begin(
        &self,
        plan: Plan,
        account: Account,
        asked: String,
        plan_digest: String,
        leaving: Vec<NodeName>,
    ) -> Result<(Active, Option<Progress>), Status> {
        let mut slot = self.active.lock().expect("no holder of the lock panics");
        if let Some(active) = slot.as_ref().filter(|active| !*active.ended.borrow()) {
            if active.plan_digest == plan_digest {
                return Ok((active.clone(), Some(said(resume::attached(active.began)))));
            }
            return Err(another_is_under_way());
        }
        let before = match self.record.last().map_err(RunsError::from)? {
            Some(last) => {
                let steps = self.folded(&last).map_err(RunsError::from)?.steps;
                resume::unfinished(&last, &steps, &plan).map(said)
            }
            None => None,
        };
        let run = Run {
            id: Uuid::new_v4().to_string(),
            kind: plan.kind,
            cluster: plan.cluster.clone(),
            plan_digest: plan_digest.clone(),
            steps: plan.steps.iter().map(|step| step.id.clone()).collect(),
            started: Timestamp::now(),
            finished: None,
            phase: RunPhase::Running,
        };
        self.record.begin(&run, &account).map_err(RunsError::from)?;
        let (ended, end) = watch::channel(false);
        let unrecorded = Arc::default();
        let active =
            Active { asked, plan_digest, run: run.id.clone(), began: run.started, ended: end, unrecorded };
        *slot = Some(active.clone());
        let executor = self.executor(&run.id);
        let unrecorded = active.unrecorded.clone();
        let (record, store, fleet) = (self.record.clone(), self.store.clone(), self.fleet.clone());
        let ends = self.ends.clone();
        tokio::spawn(async move {
            tracing::info!(run = run.id, cluster = %run.cluster.name, "the run begins");
            let outcome = executor.execute(&plan).await;
            let all_done = plan.steps.iter().all(|step| outcome.done.contains(&step.id));
            let told = outcome
                .unrecorded
                .iter()
                .map(|(step, complaint)| failure(step, complaint, &run.cluster.name));
            let mut told: Vec<Failure> = told.collect();
            // Before its end is recorded, which so is said once. A coordinator that dies in between is asked again for nodes
            // that left: of them it only has the cluster's objects looked at.
            let stayed = if all_done { removal::leave(&store, &fleet, &leaving) } else { Vec::new() };
            let phase = if all_done && stayed.is_empty() { RunPhase::Done } else { RunPhase::Failed };
            told.extend(stayed);
            tracing::info!(run = run.id, phase = phase.word(), "the run ended");
            if let Err(error) = record.finish(&run.id, phase) {
                tracing::error!(error = chain(&error), "the end of the run could not be recorded");
            }
            *unrecorded.lock().expect("no holder of the lock panics") = told;
            ended.send_replace(true);
            // After that: until then a run whose end could not be recorded is shown as one that goes on.
            ends.send_modify(|count| *count += 1);
        });
        Ok((active, before))
    }

    /// The status whenever the journal grows, and the end.
    pub(super) fn progress(
        self,
        mut active: Active,
    ) -> impl futures_util::Stream<Item = Result<Progress, Status>> + Send {
        async_stream::stream! {
            let mut news = self.journal.follow();
            loop {
                let over = *active.ended.borrow_and_update();
                news.borrow_and_update();
                // Not of the newest run: another one may have begun since this one ended.
                let status = self.status_of(self.record.run(&active.run).map_err(RunsError::from)?)?;
                let end = over.then(|| end_of(&status, &active));
                yield Ok(Progress { item: Some(progress::Item::Status(status)) });
                if let Some(end) = end {
                    yield Ok(Progress { item: Some(progress::Item::End(end)) });
                    return;
                }
                tokio::select! {
                    _ = news.changed() => {}
                    _ = active.ended.changed() => {}
                }
                if !*active.ended.borrow() {
                    tokio::time::sleep(PROGRESS_INTERVAL).await;
                }
            }
        }
    }
}

fn another_is_under_way() -> Status {
    Status::failed_precondition(
        "another run, of another cluster.yaml or a reset, is under way: `coordinator status` shows it; wait for its end, then run this again",
    )
}

/// What tells the files of a bootstrap from others: the cluster file and what it names.
pub(super) fn asked(files: &ClusterFiles) -> String {
    let mut named: Vec<(&String, &String)> = files.files.iter().collect();
    named.sort_unstable();
    let parts = named.into_iter().flat_map(|(path, content)| [path.as_bytes(), content.as_bytes()]);
    digest_of(std::iter::once(files.spec.as_bytes()).chain(parts))
}

fn said(text: String) -> Progress {
    Progress { item: Some(progress::Item::Found(text)) }
}

/// How the run ended, with what the journal could not take any more.
fn end_of(status: &ClusterStatus, active: &Active) -> RunEnd {
    let changed = status.steps.iter().filter(|step| step.changes > 0).count();
    let mut failures = status.failures.clone();
    let unrecorded = active.unrecorded.lock().expect("no holder of the lock panics");
    failures.extend(unrecorded.iter().cloned());
    RunEnd { phase: status.phase.clone(), changed_steps: changed as u32, failures }
}
