//! The runs of this coordinator: one at a time, started, attached to and reported here. A run belongs to the daemon;
//! whoever asked for it may go away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use muster_proto::agent::{CheckStepRequest, HostFacts, check_step_reply::Finding};
use muster_proto::cause::chain;
use muster_proto::coordinator::{
    ChangePlan, ClusterFiles, ClusterStatus, NodePlan, PlanReply, Progress, ResetRequest, RunEnd, StepPlan,
    progress,
};
use muster_proto::event::Complaint;
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, NodeName, StepId};
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use crate::executor::Executor;
use crate::fleet::Fleet;
use crate::plan::{self, Plan, PlannedStep};
use crate::progress::fold;
use crate::record::{Record, RecordError, Run, RunPhase};
use crate::reset;
use crate::spec::ClusterSpec;

/// How long a bootstrap waits for agents that are just connecting.
const FIRST_CONNECTION: Duration = Duration::from_secs(15);

/// Progress is sent at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(150);

/// Why the record of runs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<RunsError> for Status {
    fn from(error: RunsError) -> Self {
        Status::internal(chain(&error))
    }
}

/// The runs; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Runs {
    fleet: Fleet,
    journal: Journal,
    record: Record,
    active: Arc<Mutex<Option<Active>>>,
}

/// The run that is under way.
#[derive(Clone)]
struct Active {
    plan_digest: String,
    /// Turns true when it has ended and the record says how.
    ended: watch::Receiver<bool>,
}

impl Runs {
    /// Opens journal and record in the state folder.
    pub fn open(journal: &Path, record: &Path, fleet: Fleet) -> Result<Self, RunsError> {
        let (journal, record) = (Journal::open(journal)?, Record::open(record)?);
        Ok(Self { fleet, journal, record, active: Arc::default() })
    }

    /// What bootstrap would change on every host: the agents look, with the same code, and change nothing.
    pub async fn plan(&self, files: ClusterFiles) -> Result<PlanReply, Status> {
        let plan = self.without_done_once(self.make_plan(&files).await?)?;
        let looked = join_all(plan.steps.iter().map(|step| self.look(step))).await;
        let findings: BTreeMap<&StepId, &StepPlan> =
            plan.steps.iter().map(|step| &step.id).zip(&looked).collect();
        let mut nodes: Vec<NodePlan> = Vec::new();
        for step in &plan.steps {
            let mut found = findings[&step.id].clone();
            let waits_for = step.after.iter().find(|id| findings[id].finding != "done");
            // What an earlier step yields is there only in a run.
            if let (Some(first), "blocked") = (waits_for.or(step.input_from.as_ref()), found.finding.as_str())
            {
                // It cannot be looked at before the steps in front of it have run.
                found = StepPlan { finding: "later".into(), complaint: format!("after {first}"), ..found };
            }
            match nodes.iter_mut().find(|node| node.node == step.node.as_str()) {
                Some(node) => node.steps.push(found),
                None => nodes.push(NodePlan { node: step.node.to_string(), steps: vec![found] }),
            }
        }
        Ok(PlanReply { nodes })
    }

    async fn look(&self, step: &PlannedStep) -> StepPlan {
        let mut plan =
            StepPlan { step_id: step.id.to_string(), finding: "blocked".into(), ..StepPlan::default() };
        let agent = match self.fleet.agent(&step.node, FIRST_CONNECTION).await {
            Ok(agent) => agent,
            Err(error) => return StepPlan { complaint: chain(&error), ..plan },
        };
        let request = CheckStepRequest { step_id: step.id.to_string(), step: Some(step.step.clone()) };
        match agent.client.clone().check_step(request).await.map(|reply| reply.into_inner().finding) {
            Ok(Some(Finding::Done(_))) => plan.finding = "done".into(),
            Ok(Some(Finding::Todo(todo))) => {
                plan.finding = "todo".into();
                let change = |change: muster_proto::agent::PlannedChange| ChangePlan {
                    summary: change.summary,
                    difference: change.difference,
                };
                plan.changes = todo.changes.into_iter().map(change).collect();
            }
            Ok(Some(Finding::Blocked(complaint))) => plan.complaint = Complaint::from(complaint).to_string(),
            Ok(None) => plan.complaint = "the agent gave no finding that this version knows".into(),
            Err(status) => plan.complaint = status.message().to_owned(),
        }
        plan
    }

    /// Starts the run, or attaches to it when the same is under way.
    pub async fn bootstrap(
        &self,
        files: ClusterFiles,
    ) -> Result<BoxStream<'static, Result<Progress, Status>>, Status> {
        let plan = self.make_plan(&files).await?;
        let digest = plan.digest();
        self.record.remember_pod_subnet(&plan.cluster, &plan.pod_subnet).map_err(RunsError::from)?;
        let active = self.begin(self.without_done_once(plan)?, digest)?;
        Ok(Box::pin(self.clone().progress(active)))
    }

    /// Undoes what bootstrap did, or attaches to the run that does. Refused without the cluster's name.
    pub async fn reset(
        &self,
        request: ResetRequest,
    ) -> Result<BoxStream<'static, Result<Progress, Status>>, Status> {
        let Some(bootstrap) = self.record.last_bootstrap().map_err(RunsError::from)? else {
            return Err(Status::failed_precondition(
                "there is nothing to reset: no bootstrap was run from this coordinator",
            ));
        };
        let subnet = self.record.pod_subnet(&bootstrap.cluster).map_err(RunsError::from)?;
        let known = reset::Known::of(&bootstrap, subnet);
        let mut nodes = Vec::new();
        for name in &request.nodes {
            nodes.push(name.parse().map_err(|error: Malformed| Status::invalid_argument(error.to_string()))?);
        }
        if nodes.is_empty() {
            nodes.clone_from(&known.nodes);
        }
        if let Some(refusal) = known.refusal(&nodes, &request.confirm) {
            return Err(Status::failed_precondition(refusal));
        }
        let plan = reset::plan(&known, &nodes, request.remove)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let digest = plan.digest();
        Ok(Box::pin(self.clone().progress(self.begin(plan, digest)?)))
    }

    /// Leaves out what is not repeated once this very plan was done.
    fn without_done_once(&self, mut plan: Plan) -> Result<Plan, RunsError> {
        if self.record.was_done(&plan.digest())? {
            plan.steps.retain(|step| !step.once);
        }
        Ok(plan)
    }

    fn begin(&self, plan: Plan, plan_digest: String) -> Result<Active, Status> {
        let mut slot = self.active.lock().expect("no holder of the lock panics");
        if let Some(active) = slot.as_ref().filter(|active| !*active.ended.borrow()) {
            if active.plan_digest == plan_digest {
                return Ok(active.clone());
            }
            return Err(Status::failed_precondition(
                "another run, of another cluster.yaml or a reset, is under way: `coordinator status` shows it; wait for its end, then run this again",
            ));
        }
        let run = Run {
            id: Uuid::new_v4().to_string(),
            cluster: plan.cluster.clone(),
            plan_digest: plan_digest.clone(),
            steps: plan.steps.iter().map(|step| step.id.clone()).collect(),
            started: Timestamp::now(),
            finished: None,
            phase: RunPhase::Running,
        };
        self.record.begin(&run).map_err(RunsError::from)?;
        let (ended, end) = watch::channel(false);
        let active = Active { plan_digest, ended: end };
        *slot = Some(active.clone());
        let executor =
            Executor { fleet: self.fleet.clone(), journal: self.journal.clone(), run: run.id.clone() };
        let record = self.record.clone();
        tokio::spawn(async move {
            tracing::info!(run = run.id, cluster = %run.cluster, "the run begins");
            let outcome = executor.execute(&plan).await;
            let phase =
                if outcome.done.len() == plan.steps.len() { RunPhase::Done } else { RunPhase::Failed };
            tracing::info!(run = run.id, phase = phase.word(), "the run ended");
            if let Err(error) = record.finish(&run.id, phase) {
                tracing::error!(error = chain(&error), "the end of the run could not be recorded");
            }
            ended.send_replace(true);
        });
        Ok(active)
    }

    /// The status whenever the journal grows, and the end.
    fn progress(
        self,
        mut active: Active,
    ) -> impl futures_util::Stream<Item = Result<Progress, Status>> + Send {
        async_stream::stream! {
            let mut news = self.journal.follow();
            loop {
                let over = *active.ended.borrow_and_update();
                news.borrow_and_update();
                let status = self.status()?;
                let end = over.then(|| end_of(&status));
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

    /// Where the newest run stands.
    pub fn status(&self) -> Result<ClusterStatus, Status> {
        let Some(run) = self.record.last().map_err(RunsError::from)? else {
            return Ok(ClusterStatus {
                phase: "none".into(),
                coordinator_version: muster_proto::version::VERSION.to_owned(),
                ..ClusterStatus::default()
            });
        };
        let events = self.journal.of_run(&run.id).map_err(RunsError::from)?;
        let mut status = fold(&run, &events);
        for agent in self.fleet.connected() {
            if let Some(node) = status.nodes.iter_mut().find(|node| node.name == agent.node.as_str()) {
                node.connected = true;
                node.address = agent.facts.address;
            }
        }
        Ok(status)
    }

    /// Wakes whoever shows the status: the journal grew, or an agent came or went.
    pub fn news(&self) -> (watch::Receiver<u64>, watch::Receiver<u64>) {
        (self.journal.follow(), self.fleet.changes())
    }

    async fn make_plan(&self, files: &ClusterFiles) -> Result<Plan, Status> {
        let spec =
            ClusterSpec::parse(files).map_err(|problems| Status::invalid_argument(problems.to_string()))?;
        let nodes: Vec<NodeName> = spec.nodes().cloned().collect();
        let agents = join_all(nodes.iter().map(|node| self.fleet.agent(node, FIRST_CONNECTION))).await;
        let facts: BTreeMap<NodeName, HostFacts> =
            agents.into_iter().flatten().map(|agent| (agent.node, agent.facts)).collect();
        plan::plan(&spec, &facts).map_err(|complaints| {
            let texts: Vec<String> = complaints.iter().map(ToString::to_string).collect();
            Status::failed_precondition(texts.join("\n"))
        })
    }
}

fn end_of(status: &ClusterStatus) -> RunEnd {
    let changed = status.steps.iter().filter(|step| step.changes > 0).count();
    RunEnd { phase: status.phase.clone(), changed_steps: changed as u32, failures: status.failures.clone() }
}
