//! The runs of this coordinator: one at a time, started, attached to and reported here. A run belongs to the daemon;
//! whoever asked for it may go away.

mod observed;
mod own_agent;
mod under_way;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use muster_proto::agent::PlannedChange;
use muster_proto::cause::chain;
use muster_proto::coordinator::{
    ChangePlan, ClusterFiles, ClusterStatus, Failure, NodePlan, PlanReply, PreflightReply, Progress,
    ResetRequest, StepPlan, progress,
};
use muster_proto::journal::{Journal, JournalError};
use muster_proto::names::{Malformed, NodeName};
use tokio::sync::watch;
use tonic::Status;

use self::under_way::Active;
use crate::account::Account;
use crate::doors::fleet::Fleet;
use crate::doors::store::Store;
use crate::executor::{AGENT_PATIENCE, Executor};
use crate::plans::observed::each_once;
use crate::plans::{Hosts, Plan, PlannedStep, bootstrap, remove, reset, restore};
use crate::preflight::{Check, preflight};
use crate::preview::{Preview, preview};
use crate::progress::{Folded, failure};
use crate::record::{Record, RecordError, Run, RunPhase};
use crate::spec::{ClusterSpec, Problems, named_nodes};

/// How long a bootstrap waits for agents that are just connecting.
const FIRST_CONNECTION: Duration = Duration::from_secs(15);

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
    /// Held while the hosts are checked: two that check at once would take each other's open ports for a program's.
    checking: Arc<tokio::sync::Mutex<()>>,
    /// What is folded already of the events of one run: the one of this id.
    folded: Arc<Mutex<Option<(String, Folded)>>>,
    /// How many runs ended.
    ends: watch::Sender<u64>,
    /// How long a step waits for its node's agent to come back.
    patience: Duration,
}

impl Runs {
    /// Over the coordinator's journal, with the record of runs that is, or is made, at this path.
    pub fn open(journal: Journal, record: &Path, fleet: Fleet, store: Store) -> Result<Self, RunsError> {
        let record = Record::open(record)?;
        let (active, checking, folded) = (Arc::default(), Arc::default(), Arc::default());
        let ends = watch::Sender::new(0);
        Ok(Self { fleet, store, journal, record, active, checking, folded, ends, patience: AGENT_PATIENCE })
    }

    /// With another patience for agents that are away.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// What bootstrap would change on every host: the agents look, with the same code, and change nothing.
    pub async fn plan(&self, files: ClusterFiles) -> Result<PlanReply, Status> {
        let plan = match self.make_plan(&files).await? {
            Ok((_, plan, _)) => self.without_done_once(plan)?,
            Err(problems) => {
                return Ok(PlanReply { problems: Some(problems.into()), ..PlanReply::default() });
            }
        };
        let mut nodes: Vec<NodePlan> = Vec::new();
        for (step, found) in plan.steps.iter().zip(preview(&self.fleet, &plan.steps).await) {
            let found = step_plan(step, found, &plan.cluster.name);
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
            Ok((spec, plan, _)) => {
                let _checking = self.checking.lock().await;
                self.refuse_beside(None)?;
                Ok(preflight(&self.fleet, &spec, &plan, &ignored).await.into())
            }
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
        let asked = under_way::asked(&files);
        if let Some(attached) = self.attached(&asked) {
            return Ok(attached);
        }
        let (spec, plan, hosts) = match self.make_plan(&files).await? {
            Ok(planned) => planned,
            Err(problems) => {
                let refused = Progress { item: Some(progress::Item::Problems(problems.into())) };
                return Ok(Box::pin(stream::once(async { Ok(refused) })));
            }
        };
        let _checking = self.checking.lock().await;
        // The same command, given twice at once: the other one was quicker.
        if let Some(attached) = self.attached(&asked) {
            return Ok(attached);
        }
        let digest = plan.digest();
        self.refuse_beside(Some(&digest))?;
        let mut found = PreflightReply::default();
        if !self.is_under_way(&digest) {
            found = preflight(&self.fleet, &spec, &plan, &ignored).await.into();
            if !found.complaints.is_empty() {
                tracing::info!(cluster = %plan.cluster.name, complaints = found.complaints.len(), "the run does not begin");
                return Ok(Box::pin(stream::iter([Ok(told(found))])));
            }
        }
        let plan = self.without_done_once(plan)?;
        let account = Account::of(&plan).with(&files, &hosts);
        let (active, before) = self.begin(plan, account, asked, digest, Vec::new())?;
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
        let refused = |error: Malformed| Status::invalid_argument(error.to_string());
        let named: Result<Vec<NodeName>, _> = request.nodes.iter().map(|name| name.parse()).collect();
        let mut nodes = each_once(named.map_err(refused)?);
        let enrolled = self.enrolled()?;
        let mut gone = None;
        let plan = match self.observed(None, &enrolled)? {
            Some(observed) => {
                if nodes.is_empty() {
                    nodes.extend(observed.nodes().cloned());
                }
                if let Some(refusal) = observed.refusal(&nodes, &request.confirm) {
                    return Err(Status::failed_precondition(refusal));
                }
                gone = observed.strangers(&nodes, &enrolled).map_err(Status::failed_precondition)?;
                let plan = if request.remove { remove::plan } else { reset::plan };
                plan(&observed, &nodes, &enrolled)
            }
            None if request.remove => {
                return Err(Status::failed_precondition(
                    "there is no cluster to take it out of: no bootstrap was run from this coordinator; `sudo coordinator nodes revoke NAME` takes a node off the list",
                ));
            }
            None => {
                if nodes.is_empty() {
                    nodes.extend(enrolled.iter().cloned());
                } else if let Some(unknown) = nodes.iter().find(|node| !enrolled.contains(node)) {
                    return Err(Status::failed_precondition(format!(
                        "{unknown} is not enrolled: `sudo coordinator nodes list` shows who is"
                    )));
                }
                restore::plan(&nodes, &enrolled)
            }
        };
        let plan = plan.map_err(refused)?;
        let leaving = if request.remove { nodes } else { Vec::new() };
        let digest = plan.digest();
        let account = Account::of(&plan);
        let (active, before) = self.begin(plan, account, String::new(), digest, leaving)?;
        let gone = gone.map(|text| Progress { item: Some(progress::Item::Found(text)) });
        let first = before.into_iter().chain(gone).map(Ok);
        Ok(Box::pin(stream::iter(first).chain(self.clone().progress(active))))
    }

    /// Leaves out what is not repeated once this very plan was done.
    fn without_done_once(&self, mut plan: Plan) -> Result<Plan, RunsError> {
        if self.record.was_done(&plan.digest())? {
            plan.steps.retain(|step| !step.once);
        }
        Ok(plan)
    }

    fn executor(&self, run: &str) -> Executor {
        Executor {
            fleet: self.fleet.clone(),
            journal: self.journal.clone(),
            run: run.to_owned(),
            patience: self.patience,
        }
    }

    /// Where the newest run stands.
    pub fn status(&self) -> Result<ClusterStatus, Status> {
        self.status_of(self.record.last().map_err(RunsError::from)?)
    }

    /// Where the run of this id stands, or stood at its end.
    pub fn status_of_run(&self, id: &str) -> Result<ClusterStatus, Status> {
        let run = self.record.run(id).map_err(RunsError::from)?;
        match run {
            Some(run) => self.status_of(Some(run)),
            None => Err(Status::not_found("there is no run of this id: `coordinator journal` shows the ids")),
        }
    }

    fn status_of(&self, run: Option<Run>) -> Result<ClusterStatus, Status> {
        let Some(mut run) = run else {
            return Ok(ClusterStatus {
                phase: "none".into(),
                coordinator_version: muster_proto::version::VERSION.to_owned(),
                ..ClusterStatus::default()
            });
        };
        if run.phase == RunPhase::Running && !self.is_active(&run.id) {
            // It may have ended since it was read: its end is recorded before it counts as over.
            run = self.record.run(&run.id).map_err(RunsError::from)?.unwrap_or(run);
            if run.phase == RunPhase::Running {
                // Its end could not be recorded.
                run.phase = RunPhase::Interrupted;
            }
        }
        // Taken first: what comes while the events are read counts the next time. A run without events stands after all others.
        let sequence = self.journal.last_sequence();
        let mut status = self.folded(&run).map_err(RunsError::from)?;
        status.sequence = status.sequence.max(sequence);
        for agent in self.fleet.connected() {
            if let Some(node) = status.nodes.iter_mut().find(|node| node.name == agent.node.as_str()) {
                node.connected = true;
                node.address = agent.facts.address;
            }
        }
        Ok(status)
    }

    /// The run's status from its events: of the run that was asked for last only those that came since then are read, and one
    /// by one.
    fn folded(&self, run: &Run) -> Result<ClusterStatus, JournalError> {
        let mut kept = self.folded.lock().expect("no holder of the lock panics");
        let folded = match kept.take() {
            Some((id, folded)) if id == run.id => folded,
            _ => Folded::of(run),
        };
        let (_, folded) = kept.insert((run.id.clone(), folded));
        self.journal.each_of_run(&run.id, folded.sequence(), |event| folded.take(&event))?;
        Ok(folded.status(run))
    }

    /// Wakes whoever shows the status: the journal grew, an agent came or went, or a run ended, which is no event of the journal.
    pub fn news(&self) -> [watch::Receiver<u64>; 3] {
        [self.journal.follow(), self.fleet.changes(), self.ends.subscribe()]
    }

    /// What the agents of these nodes say of themselves.
    async fn hosts(&self, nodes: impl Iterator<Item = &NodeName>) -> Hosts {
        let hosts = nodes.map(async |node| {
            let agent = self.fleet.agent(node, FIRST_CONNECTION).await;
            (node.clone(), agent.map(|agent| agent.facts))
        });
        join_all(hosts).await.into_iter().collect()
    }

    fn enrolled(&self) -> Result<BTreeSet<NodeName>, Status> {
        let nodes = self.store.nodes().map_err(|error| Status::internal(chain(&error)))?;
        Ok(nodes.iter().filter_map(|node| node.name.parse().ok()).collect())
    }

    /// The plan, or everything that is wrong with the file and with what it says of the hosts.
    async fn make_plan(
        &self,
        files: &ClusterFiles,
    ) -> Result<Result<(ClusterSpec, Plan, Hosts), Problems>, Status> {
        let enrolled = self.enrolled()?;
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
        let observed = self.observed(Some(&spec.name), &enrolled)?;
        let plan = bootstrap::plan(&spec, &hosts, observed.as_ref())
            .map_err(|problems| Problems::new(files, problems));
        Ok(plan.map(|plan| (spec, plan, hosts)))
    }
}

fn ignored_checks(files: &ClusterFiles) -> Result<BTreeSet<Check>, Status> {
    files.ignored_checks.iter().map(|word| word.parse().map_err(Status::invalid_argument)).collect()
}

fn told(found: PreflightReply) -> Progress {
    Progress { item: Some(progress::Item::Preflight(found)) }
}

fn step_plan(step: &PlannedStep, found: Preview, cluster: &NodeName) -> StepPlan {
    let plan = StepPlan { step_id: step.id.to_string(), ..StepPlan::default() };
    match found {
        Preview::Done => StepPlan { finding: "done".into(), ..plan },
        Preview::Todo(changes) => {
            let change =
                |change: PlannedChange| ChangePlan { summary: change.summary, difference: change.difference };
            let changes = changes.into_iter().map(change).collect();
            StepPlan { finding: "todo".into(), changes, ..plan }
        }
        Preview::Later(first) => StepPlan { finding: "later".into(), after: first.to_string(), ..plan },
        Preview::Blocked(complaint) => StepPlan {
            finding: "blocked".into(),
            complaint: Some(Failure { blocked: true, ..failure(&step.id, &complaint, cluster) }),
            ..plan
        },
    }
}
