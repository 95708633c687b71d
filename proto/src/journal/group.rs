//! Events written in groups: those that come while one group is being written are the next one, with one fsync for all of
//! them. Each is durable before whoever gave it goes on, as with `append` and `adopt`.

use tokio::sync::oneshot;

use super::{Event, EventKind, Journal, JournalError, StepId, into_the_file};

/// What waits to be written, and whether somebody writes now.
#[derive(Default)]
pub(super) struct Waiting {
    entries: Vec<Entry>,
    is_written: bool,
}

/// One event that waits, and whom to tell.
struct Entry {
    what: What,
    told: oneshot::Sender<Written>,
}

enum What {
    Own { run: String, step: StepId, kind: EventKind },
    Theirs { origin: String, event: Event },
}

/// The event as it stands in the journal; none when it was held already.
type Written = Result<Option<Event>, JournalError>;

impl Journal {
    /// As `append`, together with whatever else is to be written at the moment.
    pub async fn append_grouped(
        &self,
        run: &str,
        step: &StepId,
        kind: EventKind,
    ) -> Result<Event, JournalError> {
        let what = What::Own { run: run.to_owned(), step: step.clone(), kind };
        self.grouped(what).await?.ok_or(JournalError::WriterEnded)
    }

    /// As `adopt`, together with whatever else is to be written at the moment.
    pub async fn adopt_grouped(&self, origin: &str, theirs: Event) -> Result<bool, JournalError> {
        let what = What::Theirs { origin: origin.to_owned(), event: theirs };
        Ok(self.grouped(what).await?.is_some())
    }

    async fn grouped(&self, what: What) -> Written {
        let (told, hears) = oneshot::channel();
        let nobody_writes = {
            let mut waiting = self.waiting.lock().expect("no holder of the lock panics");
            waiting.entries.push(Entry { what, told });
            !std::mem::replace(&mut waiting.is_written, true)
        };
        if nobody_writes {
            let journal = self.clone();
            // A disk that is slow keeps nobody else from his work.
            tokio::task::spawn_blocking(move || journal.write_groups());
        }
        hears.await.unwrap_or(Err(JournalError::WriterEnded))
    }

    /// Until nothing waits any more.
    fn write_groups(&self) {
        let writer = Writer(self);
        while let Some(group) = writer.next_group() {
            self.write_group(group);
        }
    }

    /// All of the group in one transaction. Where the disk does not take that, each by itself: so everybody is told of his own.
    fn write_group(&self, group: Vec<Entry>) {
        let together = if group.len() > 1 { self.write_together(&group).ok() } else { None };
        match together {
            Some(written) => {
                for (entry, written) in group.into_iter().zip(written) {
                    let _ = entry.told.send(written);
                }
            }
            None => {
                for Entry { what, told } in group {
                    let _ = told.send(self.write_alone(what));
                }
            }
        }
    }

    fn write_alone(&self, what: What) -> Written {
        match what {
            What::Own { run, step, kind } => self.append(&run, &step, kind).map(Some),
            What::Theirs { origin, event } => Ok(self.adopt(&origin, &event)?.then_some(event)),
        }
    }

    /// What became of each; an error when none of them was written.
    fn write_together(&self, group: &[Entry]) -> Result<Vec<Written>, JournalError> {
        let mut connection = self.connection.lock().expect("no holder of the lock panics");
        let transaction = self.begin(&mut connection)?;
        let mut written = Vec::with_capacity(group.len());
        for entry in group {
            let put = match &entry.what {
                What::Own { run, step, kind } => {
                    self.put_own(&transaction, run, step, kind.clone()).map(Some)
                }
                What::Theirs { origin, event } => self.put_theirs(&transaction, origin, event),
            };
            match put {
                // One that may not follow is refused before anything of it is written, and says nothing of the others.
                Err(refused @ JournalError::Illegal(_)) => written.push(Err(refused)),
                Err(error) => {
                    self.states.forget();
                    return Err(error);
                }
                Ok(event) => written.push(Ok(event)),
            }
        }
        let events = || written.iter().filter_map(|written| written.as_ref().ok()?.as_ref());
        let Some(last) = events().map(|event| event.sequence).max() else { return Ok(written) };
        self.commit(transaction, last)?;
        into_the_file(&connection, events());
        Ok(written)
    }
}

/// Who writes. When it ends, however it ends, the next event finds nobody writing; those that wait still are told.
struct Writer<'a>(&'a Journal);

impl Writer<'_> {
    fn next_group(&self) -> Option<Vec<Entry>> {
        let mut waiting = self.0.waiting.lock().expect("no holder of the lock panics");
        waiting.is_written = !waiting.entries.is_empty();
        waiting.is_written.then(|| std::mem::take(&mut waiting.entries))
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = self.0.waiting.lock().expect("no holder of the lock panics");
            waiting.is_written = false;
            // Whoever waits hears that nobody will tell.
            waiting.entries.clear();
        }
    }
}
