//! The record to hand in: what `coordinator report` prints, made of the record of runs and the journal, or of copies of them.
//! Nothing need run for it, and no text gets into it without going through `clean`.

mod change;
pub mod html;
pub mod markdown;
mod past;
mod rendering;
mod step;
mod timeline;
pub mod words;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use muster_proto::cause::chain;
use muster_proto::event::Event;
use muster_proto::journal::{Journal, JournalError};
use muster_proto::redaction::{printable, redact};

use self::past::Past;
use crate::account::Account;
use crate::progress;
use crate::record::{Record, RecordError, Run};
use crate::view::report::{Cluster, ClusterFile, Host, Node, Report, Run as RunView};
use crate::view::status::Status;
use crate::view::{Failure, UnknownWord};

/// Which runs are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Newest,
    All,
    /// The one of this id.
    Named(String),
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Word(#[from] UnknownWord),
    #[error("there was no run yet: `sudo coordinator bootstrap -f cluster.yaml` begins one")]
    NoRun,
    #[error("there is no run {asked}; these are known: {known}")]
    Unknown { asked: String, known: String },
}

/// The files that a report is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    pub journal: PathBuf,
    /// Where it is missing, the runs are told as far as the journal knows them.
    pub record: PathBuf,
}

impl Sources {
    /// The files in this folder; or this journal, with the record beside it.
    pub fn at(path: &Path) -> Self {
        let (folder, journal) = match path.is_dir() {
            true => (path, path.join("journal.db")),
            false => (path.parent().unwrap_or(Path::new(".")), path.to_owned()),
        };
        Self { journal, record: folder.join("runs.db") }
    }
}

/// The report of these runs.
pub fn report(sources: &Sources, which: &Which) -> Result<Report, ReportError> {
    let journal = Journal::read_only(&sources.journal)?;
    let events = journal.after(0)?;
    let damage = journal.whole().err().map(|error| clean(&chain(&error)));
    let recorded = match sources.record.exists() {
        true => Record::history(&sources.record)?,
        false => None,
    };
    let all = recorded.unwrap_or_else(|| past::runs_of(&events));
    let chosen: Vec<&(Run, Account)> = match which {
        Which::All => all.iter().collect(),
        Which::Newest => all.last().into_iter().collect(),
        Which::Named(id) => all.iter().filter(|(run, _)| run.id == *id).collect(),
    };
    if let (true, Which::Named(asked)) = (chosen.is_empty(), which) {
        let known: Vec<&str> = all.iter().map(|(run, _)| run.id.as_str()).collect();
        return Err(ReportError::Unknown { asked: clean(asked), known: clean(&known.join(", ")) });
    }
    if chosen.is_empty() {
        return Err(ReportError::NoRun);
    }
    let past = Past::of(&events);
    let runs = chosen.into_iter().map(|(run, account)| run_view(run, account, &past));
    Ok(Report {
        made: precise(Timestamp::now()),
        coordinator_version: muster_proto::version::VERSION.to_owned(),
        damage,
        runs: runs.collect::<Result<_, _>>()?,
    })
}

fn run_view(run: &Run, account: &Account, past: &Past<'_>) -> Result<RunView, UnknownWord> {
    let events = past.of_run(&run.id);
    let owned: Vec<Event> = events.iter().map(|event| (*event).clone()).collect();
    let status = Status::try_from(progress::fold(run, &owned))?;
    let last = run.finished.or(events.last().map(|event| event.time)).unwrap_or(run.started);
    let steps = run.steps.iter().enumerate().map(|(index, id)| {
        let after = account.after(index).iter().filter_map(|before| run.steps.get(*before));
        let after = after.map(|id| clean(id.as_str())).collect();
        step::fold(id, after, (run.started, last), past.of_step(&run.id, id).iter().copied())
    });
    let steps = steps.collect::<Vec<_>>();
    let nodes = status.nodes.iter().map(|node| Node {
        name: clean(&node.name),
        state: node.state,
        steps_done: node.steps_done,
        steps: node.steps,
        changes: steps
            .iter()
            .filter(|step| step.node == node.name)
            .map(|step| step.changes.len() as u32)
            .sum(),
    });
    let nodes = nodes.collect();
    Ok(RunView {
        id: clean(&run.id),
        kind: status.kind,
        phase: status.phase,
        started: precise(run.started),
        finished: run.finished.map(precise).unwrap_or_default(),
        duration_ms: milliseconds(run.started, last),
        cluster: cluster(run),
        cluster_file: account
            .cluster_file
            .as_ref()
            .map(|file| ClusterFile { path: clean(&file.path), text: clean(&file.text) }),
        hosts: account.hosts.iter().map(host).collect(),
        troubles: past.troubles(run, &events),
        seen: past::seen(&events),
        steps,
        nodes,
    })
}

fn cluster(run: &Run) -> Cluster {
    let facts = &run.cluster;
    let text = |value: Option<String>| value.map(|text| clean(&text)).unwrap_or_default();
    Cluster {
        name: clean(facts.name.as_str()),
        kubernetes_version: text(facts.kubernetes_version.as_ref().map(ToString::to_string)),
        pod_subnet: text(facts.pod_subnet.as_ref().map(ToString::to_string)),
        service_subnet: text(facts.service_subnet.as_ref().map(ToString::to_string)),
        endpoint: text(facts.endpoint.as_ref().map(ToString::to_string)),
        control_planes: facts.control_planes.iter().map(|node| clean(node.as_str())).collect(),
    }
}

fn host(host: &crate::account::Host) -> Host {
    Host {
        node: clean(&host.node),
        address: clean(&host.address),
        hostname: clean(&host.hostname),
        operating_system: clean(&host.operating_system),
        kernel: clean(&host.kernel),
        processors: host.processors,
        memory_bytes: host.memory_bytes,
        kubeadm_version: clean(&host.kubeadm_version),
    }
}

fn cleaned(failure: Failure) -> Failure {
    Failure {
        node: clean(&failure.node),
        step: clean(&failure.step),
        cause: clean(&failure.cause),
        evidence: clean(&failure.evidence),
        remedy: clean(&failure.remedy),
        ..failure
    }
}

/// The text without secrets, and without what steers a terminal: an agent did that before, and an agent may be anybody.
fn clean(text: &str) -> String {
    printable(&redact(&printable(text)))
}

/// From one moment to a later one; 0 where a clock was set back.
fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

fn precise(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
