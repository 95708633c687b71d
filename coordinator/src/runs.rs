//! The runs of this coordinator: one at a time, started, attached to and reported here. A run belongs to the daemon;
//! whoever asked for it may go away.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use muster_proto::agent::{self, PlannedChange};
use muster_proto::cause::chain;
use muster_proto::coordinator::{
    ChangePlan, ClusterFiles, ClusterStatus, Failure, NodePlan, PlanReply, PreflightReply, Progress,
    ResetRequest, RunEnd, StepPlan, progress,
};
use muster_proto::event::{Event, EventKind};
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, NodeName};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use uuid::Uuid;

use crate::executor::{AGENT_PATIENCE, Executor};
use crate::fleet::{ConnectedAgent, Fleet};
use crate::outlook::{Outlook, outlook};
use crate::plan::{self, Hosts, Plan, PlannedStep};
use crate::preflight::{Check, preflight};
use crate::progress::{failure, fold};
use crate::record::{Record, RecordError, Run, RunPhase};
use crate::spec::{ClusterSpec, Problems, named_nodes};
use crate::store::Store;
use crate::{removal, reset, resume};

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
    /// Who is enrolled.
    store: Store,
    journal: Journal,
    record: Record,
    active: Arc<Mutex<Option<Active>>>,
    /// How long a step waits for its node's agent to come back.
    patience: Duration,
}

/// The run that is under way.
#[derive(Clone)]
struct Active {
    plan_digest: String,
    run: String,
    began: Timestamp,
    /// Turns true when it has ended and the record says how.
    ended: watch::Receiver<bool>,
    /// Failures that the journal could not take; told with the end.
    unrecorded: Arc<Mutex<Vec<Failure>>>,
}

impl Runs {
    /// Over the coordinator's journal, with the record of runs that is, or is made, at this path.
    pub fn open(journal: Journal, record: &Path, fleet: Fleet, store: Store) -> Result<Self, RunsError> {
        let record = Record::open(record)?;
        Ok(Self { fleet, store, journal, record, active: Arc::default(), patience: AGENT_PATIENCE })
    }

    /// With another patience for agents that are away.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// What bootstrap would change on every host: the agents look, with the same code, and change nothing.
    pub async fn plan(&self, files: ClusterFiles) -> Result<PlanReply, Status> {
        let plan = match self.make_plan(&files).await? {
            Ok((_, plan)) => self.without_done_once(plan)?,
            Err(problems) => {
                return Ok(PlanReply { problems: Some(problems.into()), ..PlanReply::default() });
            }
        };
        let mut nodes: Vec<NodePlan> = Vec::new();
        for (step, found) in plan.steps.iter().zip(outlook(&self.fleet, &plan.steps).await) {
            let found = step_plan(step, found, &plan.cluster);
            match nodes.iter_mut().find(|node| node.node == step.node.as_str()) {
                Some(node) => node.steps.push(found),
                None => nodes.push(NodePlan { node: step.node.to_string(), steps: vec![found] }),
            }
        }
        Ok(PlanReply { nodes, problems: None })
    }

    /// All that would stop a bootstrap. Changes nothing.
    pub async fn preflight(&self, files: ClusterFiles) -> Result<PreflightReply, Status> {
        let ignored = ignored_checks(&files)?;
        match self.make_plan(&files).await? {
            Ok((spec, plan)) => Ok(preflight(&self.fleet, &spec, &plan, &ignored).await.into()),
            Err(problems) => {
                Ok(PreflightReply { problems: Some(problems.into()), ..PreflightReply::default() })
            }
        }
    }

    /// Starts the run, or attaches to it when the same is under way. A file that cannot be used is the one thing said then.
    pub async fn bootstrap(
        &self,
        files: ClusterFiles,
    ) -> Result<BoxStream<'static, Result<Progress, Status>>, Status> {
        let ignored = ignored_checks(&files)?;
        let (spec, plan) = match self.make_plan(&files).await? {
            Ok(planned) => planned,
            Err(problems) => {
                let refused = Progress { item: Some(progress::Item::Problems(problems.into())) };
                return Ok(Box::pin(stream::once(async { Ok(refused) })));
            }
        };
        let digest = plan.digest();
        let mut found = PreflightReply::default();
        if !self.is_under_way(&digest) {
            found = preflight(&self.fleet, &spec, &plan, &ignored).await.into();
            if !found.complaints.is_empty() {
                tracing::info!(cluster = %plan.cluster, complaints = found.complaints.len(), "the run does not begin");
                return Ok(Box::pin(stream::iter([Ok(told(found))])));
            }
        }
        self.record.remember_pod_subnet(&plan.cluster, &plan.pod_subnet).map_err(RunsError::from)?;
        let (active, before) = self.begin(self.without_done_once(plan)?, digest, Vec::new())?;
        let notes = (!found.notes.is_empty()).then(|| told(found));
        let first = before.into_iter().chain(notes).map(Ok);
        Ok(Box::pin(stream::iter(first).chain(self.clone().progress(active))))
    }

    /// Undoes what bootstrap did, or attaches to the run that does. Refused without the cluster's name. A removal that ends
    /// well takes the nodes off the list, whoever listens.
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
        // A removal may take the very steps of a reset, and is another run: only its nodes leave the list.
        let (digest, leaving) = match request.remove {
            true => (format!("{} remove", plan.digest()), nodes),
            false => (plan.digest(), Vec::new()),
        };
        let (active, before) = self.begin(plan, digest, leaving)?;
        Ok(Box::pin(stream::iter(before.map(Ok)).chain(self.clone().progress(active))))
    }

    /// Lets the nodes dial in through the ufw of this machine: a step of its own agent, so that the rule is in that agent's
    /// journal and a reset takes it back. The name of that agent's node, and whether anything was changed.
    pub async fn let_nodes_in(&self, dialled: SocketAddr) -> Result<(NodeName, bool), Status> {
        let node = self.own_agent(dialled.ip()).await.ok_or_else(|| {
            Status::failed_precondition(
                "this machine's own agent is not connected: `sudo coordinator init --node NAME` enrols it",
            )
        })?;
        let port = agent::CoordinatorPort { address: dialled.ip().to_string(), port: dialled.port().into() };
        let malformed = |error: Malformed| Status::internal(error.to_string());
        let kind = agent::step::Kind::CoordinatorPort(port);
        let step = PlannedStep::new(&node, "coordinator-port", kind, &[]).map_err(malformed)?;
        let id = step.id.clone();
        // No run of a cluster, so that none is recorded: status goes on to show the cluster's.
        let run = Uuid::new_v4().to_string();
        let executor = self.executor(&run);
        let plan = Plan { cluster: node.clone(), steps: vec![step], pod_subnet: String::new() };
        executor.execute(&plan).await;
        match self.journal.of_step(&run, &id).map_err(RunsError::from)?.into_iter().next_back() {
            Some(Event { kind: EventKind::Done { changes }, .. }) => Ok((node, changes > 0)),
            Some(Event {
                kind: EventKind::Blocked { complaint } | EventKind::Failed { complaint }, ..
            }) => Err(Status::failed_precondition(complaint.to_string())),
            _ => Err(Status::internal("the agent of this machine did not say how the step ended")),
        }
    }

    /// The node whose agent runs on this machine: it dialled the address that is its own.
    async fn own_agent(&self, address: IpAddr) -> Option<NodeName> {
        // Not what an agent says of itself alone: only a connection from here comes from this address.
        let own =
            |agent: &ConnectedAgent| agent.peer == address && agent.facts.address.parse() == Ok(address);
        let mut changes = self.fleet.changes();
        let found = timeout(FIRST_CONNECTION, async {
            loop {
                changes.mark_unchanged();
                if let Some(agent) = self.fleet.connected().into_iter().find(own) {
                    return Some(agent.node);
                }
                changes.changed().await.ok()?;
            }
        });
        found.await.ok().flatten()
    }

    /// Leaves out what is not repeated once this very plan was done.
    fn without_done_once(&self, mut plan: Plan) -> Result<Plan, RunsError> {
        if self.record.was_done(&plan.digest())? {
            plan.steps.retain(|step| !step.once);
        }
        Ok(plan)
    }

    fn is_active(&self, run: &str) -> bool {
        let slot = self.active.lock().expect("no holder of the lock panics");
        slot.as_ref().is_some_and(|active| !*active.ended.borrow() && active.run == run)
    }

    fn executor(&self, run: &str) -> Executor {
        Executor {
            fleet: self.fleet.clone(),
            journal: self.journal.clone(),
            run: run.to_owned(),
            patience: self.patience,
        }
    }

    /// Whether the run of this very plan goes on now.
    fn is_under_way(&self, plan_digest: &str) -> bool {
        let slot = self.active.lock().expect("no holder of the lock panics");
        slot.as_ref().is_some_and(|active| !*active.ended.borrow() && active.plan_digest == plan_digest)
    }

    /// The run, and what is to be said of the one before or of this one, when it goes on already. The nodes that leave are
    /// taken off the list once all is done.
    fn begin(
        &self,
        plan: Plan,
        plan_digest: String,
        leaving: Vec<NodeName>,
    ) -> Result<(Active, Option<Progress>), Status> {
        let said = |text| Progress { item: Some(progress::Item::Found(text)) };
        let mut slot = self.active.lock().expect("no holder of the lock panics");
        if let Some(active) = slot.as_ref().filter(|active| !*active.ended.borrow()) {
            if active.plan_digest == plan_digest {
                return Ok((active.clone(), Some(said(resume::attached(active.began)))));
            }
            return Err(Status::failed_precondition(
                "another run, of another cluster.yaml or a reset, is under way: `coordinator status` shows it; wait for its end, then run this again",
            ));
        }
        let before = match self.record.last().map_err(RunsError::from)? {
            Some(last) => {
                let events = self.journal.of_run(&last.id).map_err(RunsError::from)?;
                resume::unfinished(&last, &events, &plan).map(said)
            }
            None => None,
        };
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
        let unrecorded = Arc::default();
        let active = Active { plan_digest, run: run.id.clone(), began: run.started, ended: end, unrecorded };
        *slot = Some(active.clone());
        let executor = self.executor(&run.id);
        let unrecorded = active.unrecorded.clone();
        let (record, store, fleet) = (self.record.clone(), self.store.clone(), self.fleet.clone());
        tokio::spawn(async move {
            tracing::info!(run = run.id, cluster = %run.cluster, "the run begins");
            let outcome = executor.execute(&plan).await;
            let phase =
                if outcome.done.len() == plan.steps.len() { RunPhase::Done } else { RunPhase::Failed };
            tracing::info!(run = run.id, phase = phase.word(), "the run ended");
            let told =
                outcome.unrecorded.iter().map(|(step, complaint)| failure(step, complaint, &run.cluster));
            let mut told: Vec<Failure> = told.collect();
            let finish = |phase| {
                if let Err(error) = record.finish(&run.id, phase) {
                    tracing::error!(error = chain(&error), "the end of the run could not be recorded");
                }
            };
            finish(phase);
            if phase == RunPhase::Done {
                // After its end is recorded: a coordinator that dies in between can still reach the nodes when it is asked again.
                let stayed = removal::leave(&store, &fleet, &leaving);
                if !stayed.is_empty() {
                    finish(RunPhase::Failed);
                }
                told.extend(stayed);
            }
            *unrecorded.lock().expect("no holder of the lock panics") = told;
            ended.send_replace(true);
        });
        Ok((active, before))
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

    /// Where the newest run stands.
    pub fn status(&self) -> Result<ClusterStatus, Status> {
        let Some(mut run) = self.record.last().map_err(RunsError::from)? else {
            return Ok(ClusterStatus {
                phase: "none".into(),
                coordinator_version: muster_proto::version::VERSION.to_owned(),
                ..ClusterStatus::default()
            });
        };
        if run.phase == RunPhase::Running && !self.is_active(&run.id) {
            // Its end could not be recorded.
            run.phase = RunPhase::Interrupted;
        }
        // Taken first: what comes while the events are read counts the next time. A run without events stands after all others.
        let sequence = self.journal.last_sequence();
        let events = self.journal.of_run(&run.id).map_err(RunsError::from)?;
        let mut status = fold(&run, &events);
        status.sequence = status.sequence.max(sequence);
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

    /// What the agents of these nodes say of themselves.
    async fn hosts(&self, nodes: impl Iterator<Item = &NodeName>) -> Hosts {
        let hosts = nodes.map(async |node| {
            let agent = self.fleet.agent(node, FIRST_CONNECTION).await;
            (node.clone(), agent.map(|agent| agent.facts))
        });
        join_all(hosts).await.into_iter().collect()
    }

    /// The plan, or everything that is wrong with the file and with what it says of the hosts.
    async fn make_plan(&self, files: &ClusterFiles) -> Result<Result<(ClusterSpec, Plan), Problems>, Status> {
        let nodes = self.store.nodes().map_err(|error| Status::internal(chain(&error)))?;
        let enrolled = nodes.iter().filter_map(|node| node.name.parse().ok()).collect();
        let spec = match ClusterSpec::parse(files, &enrolled) {
            Ok(spec) => spec,
            Err(problems) => {
                let named = named_nodes(files, &enrolled);
                let hosts = self.hosts(named.keys()).await;
                let away = hosts
                    .iter()
                    .filter_map(|(node, host)| Some(named[node].problem(host.as_ref().err()?.to_string())));
                return Ok(Err(problems.and(away.collect())));
            }
        };
        let hosts = self.hosts(spec.nodes()).await;
        let plan = plan::plan(&spec, &hosts).map_err(|problems| Problems::new(files, problems));
        Ok(plan.map(|plan| (spec, plan)))
    }
}

fn ignored_checks(files: &ClusterFiles) -> Result<BTreeSet<Check>, Status> {
    files.ignored_checks.iter().map(|word| word.parse().map_err(Status::invalid_argument)).collect()
}

fn told(found: PreflightReply) -> Progress {
    Progress { item: Some(progress::Item::Preflight(found)) }
}

fn step_plan(step: &PlannedStep, found: Outlook, cluster: &NodeName) -> StepPlan {
    let plan = StepPlan { step_id: step.id.to_string(), ..StepPlan::default() };
    match found {
        Outlook::Done => StepPlan { finding: "done".into(), ..plan },
        Outlook::Todo(changes) => {
            let change =
                |change: PlannedChange| ChangePlan { summary: change.summary, difference: change.difference };
            let changes = changes.into_iter().map(change).collect();
            StepPlan { finding: "todo".into(), changes, ..plan }
        }
        Outlook::Later(first, _) => StepPlan { finding: "later".into(), after: first.to_string(), ..plan },
        Outlook::Blocked(complaint) => StepPlan {
            finding: "blocked".into(),
            complaint: Some(failure(&step.id, &complaint, cluster)),
            ..plan
        },
    }
}

/// How the run ended, with what the journal could not take any more.
fn end_of(status: &ClusterStatus, active: &Active) -> RunEnd {
    let changed = status.steps.iter().filter(|step| step.changes > 0).count();
    let mut failures = status.failures.clone();
    let unrecorded = active.unrecorded.lock().expect("no holder of the lock panics");
    failures.extend(unrecorded.iter().cloned());
    RunEnd { phase: status.phase.clone(), changed_steps: changed as u32, failures }
}
