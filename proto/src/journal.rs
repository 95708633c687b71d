//! The durable list of events, the same on both sides: SQLite, every event fsynced before it counts.

mod group;
mod schema;
mod states;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::watch;

use crate::database::DatabaseError;
use crate::event::{Event, EventKind, IllegalEvent, StepState, transition};
use crate::names::StepId;
use schema::SCHEMA;

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    #[error("the event was not written: what writes the journal ended abnormally")]
    WriterEnded,
}

impl JournalError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Database(error) => error.remedy(),
            // No disk is to blame: the two sides do not agree on what may follow.
            Self::Illegal(_) => {
                "install the same version of muster-agent and muster-coordinator, then run the same command again".to_owned()
            }
            Self::WriterEnded => {
                "restart the service that writes it (its log says why), then run the same command again".to_owned()
            }
        }
    }
}

/// A journal; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Journal {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    /// The last sequence written; whoever follows the journal waits on it.
    last: watch::Sender<u64>,
    /// Where steps stood when they were looked up last.
    states: Arc<states::States>,
    /// Events that wait to be written together.
    waiting: Arc<Mutex<group::Waiting>>,
}

impl Journal {
    /// Opens or makes the journal: an event that `append` returned is on the disk.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::with(path, SCHEMA.open(path)?)
    }

    /// Opens a journal, or a copy of one, for reading only; nothing else need be running.
    pub fn read_only(path: &Path) -> Result<Self, JournalError> {
        Self::with(path, SCHEMA.read_only(path)?)
    }

    fn with(path: &Path, connection: Connection) -> Result<Self, JournalError> {
        let last: u64 = connection
            .query_row("SELECT coalesce(max(sequence), 0) FROM event", [], |row| row.get::<_, i64>(0))
            .map_err(|source| SCHEMA.error(path, source))? as u64;
        Ok(Self {
            path: path.to_owned(),
            connection: Arc::new(Mutex::new(connection)),
            last: watch::Sender::new(last),
            states: Arc::default(),
            waiting: Arc::default(),
        })
    }

    /// All events, oldest first, of a journal that is found without a gap and with nothing in it that may not follow.
    pub fn whole(&self) -> Result<Vec<Event>, JournalError> {
        let events = self.after(0)?;
        let mut states: BTreeMap<(&str, &StepId), StepState> = BTreeMap::new();
        for (event, expected) in events.iter().zip(1..) {
            if event.sequence != expected {
                return Err(SCHEMA.damaged(&self.path, format!("event {expected} is missing")).into());
            }
            let state = states.entry((&event.run, &event.step)).or_default();
            *state = transition(*state, &event.kind).map_err(|illegal| {
                SCHEMA.damaged(&self.path, format!("event {expected} of {}: {illegal}", event.step))
            })?;
        }
        Ok(events)
    }

    /// Writes one event of this side's own; it is durable when this returns. An event that may not follow is refused.
    pub fn append(&self, run: &str, step: &StepId, kind: EventKind) -> Result<Event, JournalError> {
        let mut connection = self.connection.lock().expect("no holder of the lock panics");
        let transaction = self.begin(&mut connection)?;
        let event = self.put_own(&transaction, run, step, kind)?;
        self.commit(transaction, event.sequence)?;
        into_the_file(&connection, [&event]);
        Ok(event)
    }

    /// Takes over an event of a node's journal; false when it is held already. The event gets a sequence of this journal.
    pub fn adopt(&self, origin: &str, theirs: &Event) -> Result<bool, JournalError> {
        let mut connection = self.connection.lock().expect("no holder of the lock panics");
        let transaction = self.begin(&mut connection)?;
        let Some(event) = self.put_theirs(&transaction, origin, theirs)? else { return Ok(false) };
        self.commit(transaction, event.sequence)?;
        into_the_file(&connection, [&event]);
        Ok(true)
    }

    /// Puts an event of this side's own behind all others, if it may follow.
    fn put_own(
        &self,
        transaction: &Transaction<'_>,
        run: &str,
        step: &StepId,
        kind: EventKind,
    ) -> Result<Event, JournalError> {
        transition(self.fold(transaction, run, step)?, &kind)?;
        let sequence = self.next(transaction)?;
        let event = Event { sequence, time: Timestamp::now(), run: run.to_owned(), step: step.clone(), kind };
        self.insert(transaction, &event, "self", sequence)?;
        Ok(event)
    }

    /// Puts an event of a node's journal behind all others, if it may follow; none when it is held already.
    fn put_theirs(
        &self,
        transaction: &Transaction<'_>,
        origin: &str,
        theirs: &Event,
    ) -> Result<Option<Event>, JournalError> {
        let held = self.query(
            transaction,
            "SELECT sequence, body FROM event WHERE origin = ?1 AND origin_sequence = ?2",
            params![origin, theirs.sequence as i64],
        )?;
        // The number alone does not tell: a journal that was moved away begins with 1 again.
        let same = |held: &Event| {
            (&held.run, &held.step, held.time, held.kind.word())
                == (&theirs.run, &theirs.step, theirs.time, theirs.kind.word())
        };
        if held.iter().any(same) {
            return Ok(None);
        }
        let mut sequence = self.next(transaction)?;
        let state = self.fold(transaction, &theirs.run, &theirs.step)?;
        if let (StepState::Resumed(index), Err(_)) = (state, transition(state, &theirs.kind)) {
            // A node whose journal was moved away knows nothing of the change that this side saw begin.
            let kind = EventKind::EndUnknown { index };
            transition(transition(state, &kind)?, &theirs.kind)?;
            let (time, run, step) = (theirs.time, theirs.run.clone(), theirs.step.clone());
            self.insert(transaction, &Event { sequence, time, run, step, kind }, "self", sequence)?;
            sequence += 1;
        } else {
            transition(state, &theirs.kind)?;
        }
        let event = Event { sequence, ..theirs.clone() };
        self.insert(transaction, &event, origin, theirs.sequence)?;
        Ok(Some(event))
    }

    /// Events with a sequence above `after`, oldest first.
    pub fn after(&self, after: u64) -> Result<Vec<Event>, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        self.query(
            &connection,
            "SELECT sequence, body FROM event WHERE sequence > ?1 ORDER BY sequence",
            params![after as i64],
        )
    }

    /// Events of one step in one run, oldest first.
    pub fn of_step(&self, run: &str, step: &StepId) -> Result<Vec<Event>, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        self.query(
            &connection,
            "SELECT sequence, body FROM event WHERE run = ?1 AND step = ?2 ORDER BY sequence",
            params![run, step.as_str()],
        )
    }

    /// Gives the events of a run with a sequence above `after` one by one, oldest first.
    pub fn each_of_run(
        &self,
        run: &str,
        after: u64,
        mut take: impl FnMut(Event),
    ) -> Result<(), JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        self.each(
            &connection,
            "SELECT sequence, body FROM event WHERE run = ?1 AND sequence > ?2 ORDER BY sequence",
            params![run, after as i64],
            |event| {
                take(event);
                Ok(())
            },
        )
    }

    /// The sequence of the newest event that says that the step ended well, in whatever run.
    pub fn last_done(&self, step: &StepId) -> Result<Option<u64>, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        let mut last = None;
        self.each(
            &connection,
            "SELECT sequence, body FROM event WHERE step = ?1 ORDER BY sequence",
            params![step.as_str()],
            |event| {
                if matches!(event.kind, EventKind::Done { .. }) {
                    last = Some(event.sequence);
                }
                Ok(())
            },
        )?;
        Ok(last)
    }

    /// The events of the newest run in which this step has any, oldest first: what an earlier life left open.
    pub fn last_of_step(&self, step: &StepId) -> Result<Vec<Event>, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        self.query(
            &connection,
            "SELECT sequence, body FROM event WHERE step = ?1 AND run =
                 (SELECT run FROM event WHERE step = ?1 ORDER BY sequence DESC LIMIT 1) ORDER BY sequence",
            params![step.as_str()],
        )
    }

    /// All events of the step in whatever run, oldest first: what earlier lives left open.
    pub fn ever_of_step(&self, step: &StepId) -> Result<Vec<Event>, JournalError> {
        self.of_step_after(step, 0)
    }

    /// The events of the step in whatever run with a sequence above `after`, oldest first.
    pub fn of_step_after(&self, step: &StepId, after: u64) -> Result<Vec<Event>, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        self.query(
            &connection,
            "SELECT sequence, body FROM event WHERE step = ?1 AND sequence > ?2 ORDER BY sequence",
            params![step.as_str(), after as i64],
        )
    }

    /// The highest sequence of a node's journal that was adopted here for one step of one run. Not of the whole
    /// journal: two steps of a node are streamed side by side, and one may be behind the other.
    pub fn adopted_from(&self, origin: &str, run: &str, step: &StepId) -> Result<u64, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        connection
            .query_row(
                "SELECT coalesce(max(origin_sequence), 0) FROM event WHERE origin = ?1 AND run = ?2 AND step = ?3",
                params![origin, run, step.as_str()],
                |row| row.get::<_, i64>(0),
            )
            .map(|sequence| sequence as u64)
            .map_err(|source| self.storage(source))
    }

    /// Where the step stands in the run.
    pub fn state(&self, run: &str, step: &StepId) -> Result<StepState, JournalError> {
        let connection = self.connection.lock().expect("no holder of the lock panics");
        self.fold(&connection, run, step)
    }

    /// Waits on this to follow the journal; the value is the last sequence.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    pub fn last_sequence(&self) -> u64 {
        *self.last.borrow()
    }

    /// Reading the state, taking the number and writing are one: another process on the same file (an agent that was just
    /// killed, say) cannot come between.
    fn begin<'a>(&self, connection: &'a mut Connection) -> Result<Transaction<'a>, JournalError> {
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.storage(source))
    }

    fn next(&self, connection: &Connection) -> Result<u64, JournalError> {
        connection
            .query_row("SELECT coalesce(max(sequence), 0) + 1 FROM event", [], |row| row.get::<_, i64>(0))
            .map(|sequence| sequence as u64)
            .map_err(|source| self.storage(source))
    }

    fn commit(&self, transaction: Transaction<'_>, sequence: u64) -> Result<(), JournalError> {
        transaction.commit().map_err(|source| self.storage(source))?;
        self.last.send_replace(sequence);
        Ok(())
    }

    fn fold(&self, connection: &Connection, run: &str, step: &StepId) -> Result<StepState, JournalError> {
        let (mut state, mut after) = self.states.of(run, step);
        self.each(
            connection,
            "SELECT sequence, body FROM event WHERE run = ?1 AND step = ?2 AND sequence > ?3 ORDER BY sequence",
            params![run, step.as_str(), after as i64],
            |event| {
                (state, after) = (transition(state, &event.kind)?, event.sequence);
                Ok(())
            },
        )?;
        self.states.keep(run, step, state, after);
        Ok(state)
    }

    fn insert(
        &self,
        connection: &Connection,
        event: &Event,
        origin: &str,
        origin_sequence: u64,
    ) -> Result<(), JournalError> {
        let body = serde_json::to_string(event).expect("an event has no key that is not text");
        connection
            .prepare_cached("INSERT INTO event (sequence, run, step, origin, origin_sequence, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut insert| {
                insert.execute(params![event.sequence as i64, event.run, event.step.as_str(), origin, origin_sequence as i64, body])
            })
            .map(|_| ())
            .map_err(|source| self.storage(source))
    }

    fn query(
        &self,
        connection: &Connection,
        query: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Event>, JournalError> {
        let mut events = Vec::new();
        self.each(connection, query, parameters, |event| {
            events.push(event);
            Ok(())
        })?;
        Ok(events)
    }

    /// One event after the other: no more than one is in memory.
    fn each(
        &self,
        connection: &Connection,
        query: &str,
        parameters: &[&dyn rusqlite::ToSql],
        mut take: impl FnMut(Event) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut statement = connection.prepare_cached(query).map_err(|source| self.storage(source))?;
        let rows = statement
            .query_map(parameters, |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?)))
            .map_err(|source| self.storage(source))?;
        for row in rows {
            let (sequence, body) = row.map_err(|source| self.storage(source))?;
            let event = serde_json::from_str(&body).map_err(|error| {
                SCHEMA.damaged(&self.path, format!("event {sequence} cannot be read: {error}"))
            })?;
            take(event)?;
        }
        Ok(())
    }

    fn storage(&self, source: rusqlite::Error) -> JournalError {
        // What was read within a transaction that is undone by this was never there.
        self.states.forget();
        SCHEMA.error(&self.path, source).into()
    }
}

/// With the end of a step all that was written comes out of SQLite's log into the journal's own file, so that a copy of that
/// file alone, of a journal that is written, holds every step that ended. Who reads meanwhile may put it off to the next end.
fn into_the_file<'a>(connection: &Connection, written: impl IntoIterator<Item = &'a Event>) {
    if written.into_iter().any(|event| event.kind.is_end_of_step()) {
        let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

#[cfg(test)]
mod tests;
