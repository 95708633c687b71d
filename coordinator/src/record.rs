//! The runs: which plan was executed when, and how it ended. What happened in a run is in the journal.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use muster_proto::database::{DatabaseError, Schema};
use muster_proto::names::{NodeName, StepId};
use muster_proto::step_kind::StepKind;
use rusqlite::{Connection, Params, Row, params};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::plans::cluster::ClusterFacts;
use crate::plans::kind::RunKind;

const SCHEMA: Schema = Schema {
    what: "record of runs",
    version: 3,
    tables: "CREATE TABLE run (
                 number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, cluster TEXT NOT NULL,
                 plan_digest TEXT NOT NULL, steps TEXT NOT NULL, started TEXT NOT NULL, finished TEXT,
                 phase TEXT NOT NULL, account TEXT) STRICT;",
    upgrades: &[
        // Runs told what they were for by their steps alone, of the cluster only its name, and the pods' range stood beside.
        "ALTER TABLE run RENAME TO run_of_schema_1;
         CREATE TABLE run (
             number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, cluster TEXT NOT NULL,
             plan_digest TEXT NOT NULL, steps TEXT NOT NULL, started TEXT NOT NULL, finished TEXT,
             phase TEXT NOT NULL) STRICT;
         INSERT INTO run
             SELECT number, id,
                 CASE WHEN EXISTS (SELECT 1 FROM json_each(old.steps) WHERE value LIKE '%/kubeadm-init') THEN 'bootstrap'
                      WHEN plan_digest LIKE '% remove' THEN 'remove' ELSE 'reset' END,
                 json_patch(
                     json_object('name', cluster, 'controlPlanes', json((
                         SELECT json_group_array(substr(value, 1, instr(value, '/') - 1))
                         FROM json_each(old.steps) WHERE value LIKE '%/kubeadm-init'))),
                     json_object('podSubnet', (
                         SELECT subnet FROM pod_network
                         WHERE pod_network.cluster = old.cluster AND subnet != ''))),
                 plan_digest, steps, started, finished, phase
             FROM run_of_schema_1 AS old;
         DROP TABLE run_of_schema_1;
         DROP TABLE pod_network;",
        // What a report tells of a run was not kept.
        "ALTER TABLE run ADD COLUMN account TEXT;",
    ],
    remedy: "move {} and {}-wal away, keep them, and restart muster-coordinator; then the same bootstrap goes on by looking at \
             the machines",
};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunPhase {
    Running,
    Done,
    Failed,
    /// The coordinator died while it ran; the same bootstrap command goes on.
    Interrupted,
}

impl RunPhase {
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Running, Self::Done, Self::Failed, Self::Interrupted]
            .into_iter()
            .find(|phase| phase.word() == word)
    }
}

/// One execution of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: String,
    pub kind: RunKind,
    pub cluster: ClusterFacts,
    pub plan_digest: String,
    /// The plan's steps in their order.
    pub steps: Vec<StepId>,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub phase: RunPhase,
}

impl Run {
    fn is_bootstrap(&self) -> bool {
        self.kind == RunKind::Bootstrap
    }

    /// Whether it resets this node.
    fn resets(&self, node: &NodeName) -> bool {
        self.steps.contains(&StepId::of(node, StepKind::KubeadmReset))
    }
}

#[cfg(test)]
impl Run {
    /// A run of these steps that tests reason about.
    pub(crate) fn of_test(kind: RunKind, steps: &[&str], phase: RunPhase) -> Self {
        Self {
            id: "r1".into(),
            kind,
            cluster: ClusterFacts::named("lab".parse().unwrap()),
            plan_digest: String::new(),
            steps: steps.iter().map(|id| id.parse().unwrap()).collect(),
            started: Timestamp::UNIX_EPOCH,
            finished: None,
            phase,
        }
    }
}

/// The record cannot do its work.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RecordError(#[from] DatabaseError);

/// The table of runs. Cheap to clone.
#[derive(Clone)]
pub struct Record {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Record {
    /// Opens or makes the record. A run that was under way when the last coordinator died is marked interrupted.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let connection = SCHEMA.open(path)?;
        connection
            .execute("UPDATE run SET phase = 'interrupted' WHERE phase = 'running'", [])
            .map_err(|source| SCHEMA.error(path, source))?;
        Ok(Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// All runs of a record, or of a copy of one, oldest first, for reading only; nothing is marked. None of a record whose form
    /// is too old to be read without being changed.
    pub fn history(path: &Path) -> Result<Option<Vec<(Run, Account)>>, RecordError> {
        let connection = SCHEMA.read_only(path)?;
        let failed = |source| SCHEMA.error(path, source);
        let version: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        let account = match version {
            ..2 => return Ok(None),
            2 => "NULL",
            _ => "account",
        };
        let query = format!("SELECT {COLUMNS}, {account} FROM run ORDER BY number");
        let mut statement = connection.prepare(&query).map_err(failed)?;
        let rows = statement.query_map([], |row| Ok(read(row).and_then(|run| Ok((run, read_account(row)?)))));
        let rows: Vec<_> = rows.map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
        let runs: Result<_, String> = rows.into_iter().collect();
        Ok(Some(runs.map_err(|found| SCHEMA.damaged(path, found))?))
    }

    pub fn begin(&self, run: &Run, account: &Account) -> Result<(), RecordError> {
        let account = serde_json::to_string(account).expect("an account has no key that is not text");
        let steps = serde_json::to_string(&run.steps).expect("step ids are text");
        let cluster = serde_json::to_string(&run.cluster).expect("a cluster has no key that is not text");
        let (kind, started, phase) = (run.kind.word(), run.started.to_string(), run.phase.word());
        self.execute(
            "INSERT INTO run (id, kind, cluster, plan_digest, steps, started, phase, account)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![run.id, kind, cluster, run.plan_digest, steps, started, phase, account],
        )
    }

    pub fn finish(&self, id: &str, phase: RunPhase) -> Result<(), RecordError> {
        let now = Timestamp::now().to_string();
        self.execute("UPDATE run SET phase = ?2, finished = ?3 WHERE id = ?1", params![id, phase.word(), now])
    }

    /// The newest run, if there ever was one.
    pub fn last(&self) -> Result<Option<Run>, RecordError> {
        self.newest("", [])
    }

    /// The run of this id.
    pub fn run(&self, id: &str) -> Result<Option<Run>, RecordError> {
        self.newest("WHERE id = ?1", [id])
    }

    /// The newest run that was to make a cluster: this one, or any.
    pub fn last_bootstrap(&self, cluster: Option<&NodeName>) -> Result<Option<Run>, RecordError> {
        let asked = |run: &Run| run.is_bootstrap() && cluster.is_none_or(|name| run.cluster.name == *name);
        Ok(self.newest_first()?.into_iter().find(asked))
    }

    /// The bootstraps of this cluster, newest first, since its control planes were reset and the reset came to its end.
    pub fn bootstraps_since_reset(&self, cluster: &ClusterFacts) -> Result<Vec<Run>, RecordError> {
        let resets = |run: &Run| cluster.control_planes.iter().any(|node| run.resets(node));
        let runs = self.newest_first()?.into_iter();
        let since = runs.take_while(|run| !(run.phase == RunPhase::Done && resets(run)));
        Ok(since.filter(|run| run.cluster.name == cluster.name && run.is_bootstrap()).collect())
    }

    /// Whether a run of this very plan came to its end, and no reset was begun since.
    pub fn was_done(&self, plan_digest: &str) -> Result<bool, RecordError> {
        let resets = |run: &Run| run.steps.iter().any(|id| id.kind() == Some(StepKind::KubeadmReset));
        let mut since = self.newest_first()?.into_iter().take_while(|run| !resets(run));
        Ok(since.any(|run| run.phase == RunPhase::Done && run.plan_digest == plan_digest))
    }

    fn newest(&self, condition: &'static str, values: impl Params) -> Result<Option<Run>, RecordError> {
        let runs = self.select(&format!("{condition} ORDER BY number DESC LIMIT 1"), values)?;
        Ok(runs.into_iter().next())
    }

    /// All of them: people run commands by the dozen, not by the thousand.
    fn newest_first(&self) -> Result<Vec<Run>, RecordError> {
        self.select("ORDER BY number DESC", [])
    }

    fn select(&self, which: &str, values: impl Params) -> Result<Vec<Run>, RecordError> {
        let query = format!("SELECT {COLUMNS} FROM run {which}");
        let found: Vec<Result<Run, String>> = self.with(|connection| {
            connection.prepare_cached(&query)?.query_map(values, |row| Ok(read(row)))?.collect()
        })?;
        let runs: Result<_, String> = found.into_iter().collect();
        runs.map_err(|found| SCHEMA.damaged(&self.path, found).into())
    }

    fn execute(&self, statement: &str, values: impl Params) -> Result<(), RecordError> {
        self.with(|connection| connection.execute(statement, values)).map(|_| ())
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, RecordError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        work(&connection).map_err(|source| SCHEMA.error(&self.path, source).into())
    }
}

/// What `read` reads. The account is large, and read for a report alone.
const COLUMNS: &str = "id, kind, cluster, plan_digest, steps, started, finished, phase";

/// Empty where none was kept.
fn read_account(row: &Row<'_>) -> Result<Account, String> {
    match row.get::<_, Option<String>>(8).map_err(|error| error.to_string())? {
        Some(account) => serde_json::from_str(&account).map_err(|error| error.to_string()),
        None => Ok(Account::default()),
    }
}

/// The run; otherwise what of it cannot be read.
fn read(row: &Row<'_>) -> Result<Run, String> {
    let text = |index| row.get::<_, String>(index).map_err(|error| error.to_string());
    let time = |text: String| text.parse::<Timestamp>().map_err(|error| error.to_string());
    let finished = row.get::<_, Option<String>>(6).map_err(|error| error.to_string())?;
    let (kind, phase) = (text(1)?, text(7)?);
    Ok(Run {
        id: text(0)?,
        kind: RunKind::from_word(&kind).ok_or_else(|| format!("there is no kind of run `{kind}`"))?,
        cluster: serde_json::from_str(&text(2)?).map_err(|error| error.to_string())?,
        plan_digest: text(3)?,
        steps: serde_json::from_str(&text(4)?).map_err(|error| error.to_string())?,
        started: time(text(5)?)?,
        finished: finished.map(time).transpose()?,
        phase: RunPhase::from_word(&phase).ok_or_else(|| format!("there is no phase `{phase}`"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_the_coordinator_did_not_finish_is_interrupted_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        let record = Record::open(&path).unwrap();
        let run = Run {
            plan_digest: "d".into(),
            started: Timestamp::now(),
            ..Run::of_test(RunKind::Bootstrap, &["m1/swap"], RunPhase::Running)
        };
        record.begin(&run, &Account::default()).unwrap();
        assert_eq!(record.last().unwrap().unwrap(), run);
        drop(record);
        let again = Record::open(&path).unwrap();
        assert_eq!(again.last().unwrap().unwrap().phase, RunPhase::Interrupted);
        assert!(!again.was_done("d").unwrap());
        again.finish("r1", RunPhase::Done).unwrap();
        assert!(again.was_done("d").unwrap());
        let steps = vec!["m1/kubeadm-reset".parse().unwrap()];
        let reset = Run { id: "r2".into(), kind: RunKind::Reset, steps, ..run };
        again.begin(&reset, &Account::default()).unwrap();
        assert!(!again.was_done("d").unwrap(), "what was reset is not done any more");
        assert_eq!(again.last_bootstrap(None).unwrap().unwrap().id, "r1");
        assert_eq!(again.last_bootstrap(Some(&"other".parse().unwrap())).unwrap(), None);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_damage_with_its_file_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        let record = Record::open(&path).unwrap();
        let line = "INSERT INTO run (id, kind, cluster, plan_digest, steps, started, phase)
                    VALUES ('r1', 'reset', '{\"name\": \"lab\"}', 'd', '[]', '2026-11-25T00:00:00Z', 'lost')";
        record.execute(line, []).unwrap();
        let error = record.last().unwrap_err().to_string();
        for expected in [path.to_str().unwrap(), "no phase `lost`", "keep them"] {
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_record_of_the_first_schema_tells_what_its_runs_were_for_and_of_which_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE run (
                 number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, cluster TEXT NOT NULL, plan_digest TEXT NOT NULL,
                 steps TEXT NOT NULL, started TEXT NOT NULL, finished TEXT, phase TEXT NOT NULL) STRICT;
             CREATE TABLE pod_network (cluster TEXT PRIMARY KEY, subnet TEXT NOT NULL) STRICT;
             INSERT INTO pod_network VALUES ('lab', '10.244.0.0/16');
             INSERT INTO run VALUES
                 (1, 'r1', 'lab', 'd', '[\"m1/swap\",\"m1/kubeadm-init\",\"w1/kubeadm-join\"]', '2026-11-25T00:00:00Z', '2026-11-25T00:01:00Z', 'done'),
                 (2, 'r2', 'lab', 'd remove', '[\"m1/forget-node.w1\"]', '2026-11-25T00:02:00Z', NULL, 'running'),
                 (3, 'r3', 'no-cluster', 'e', '[\"w1/restore\"]', '2026-11-25T00:03:00Z', NULL, 'failed');
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        let record = Record::open(&path).unwrap();
        let run = |id: &str| record.run(id).unwrap().unwrap();
        let (made, removed, reset) = (run("r1"), run("r2"), run("r3"));
        assert_eq!(
            (made.kind, removed.kind, reset.kind),
            (RunKind::Bootstrap, RunKind::Remove, RunKind::Reset)
        );
        let lab = ClusterFacts {
            pod_subnet: Some("10.244.0.0/16".parse().unwrap()),
            ..ClusterFacts::named("lab".parse().unwrap())
        };
        assert_eq!(removed.cluster, lab, "of a run that makes no control plane none is known");
        assert_eq!(made.cluster, ClusterFacts { control_planes: vec!["m1".parse().unwrap()], ..lab });
        assert_eq!(reset.cluster, ClusterFacts::none());
        assert_eq!((made.steps.len(), removed.phase), (3, RunPhase::Interrupted));
        assert!(record.was_done("d").unwrap());
    }
}
