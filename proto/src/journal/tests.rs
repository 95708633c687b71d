use super::*;
use crate::change::Change;
use crate::event::Outcome;

fn step() -> StepId {
    "node-1/swap".parse().unwrap()
}
fn started() -> EventKind {
    EventKind::Started { content: "c".into(), attempt: 1 }
}

#[test]
fn events_are_numbered_without_gaps_and_survive_a_new_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = Journal::open(&path).unwrap();
    journal.append("r1", &step(), started()).unwrap();
    journal.append("r1", &step(), EventKind::Done { changes: 0 }).unwrap();
    drop(journal);
    let again = Journal::open(&path).unwrap();
    let third = again.append("r2", &step(), started()).unwrap();
    assert_eq!(third.sequence, 3);
    assert_eq!(again.state("r1", &step()).unwrap(), StepState::Done);
    assert_eq!(Journal::read_only(&path).unwrap().after(0).unwrap().len(), 3);
}

#[test]
fn an_event_that_may_not_follow_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let error =
        journal.append("r1", &step(), EventKind::Made { index: 0, outcome: Outcome::default() }).unwrap_err();
    assert!(matches!(error, JournalError::Illegal(_)), "{error}");
    assert_eq!(journal.last_sequence(), 0);
}

#[test]
fn an_event_of_a_node_is_adopted_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = Journal::open(&folder.path().join("theirs.db")).unwrap();
    let ours = Journal::open(&folder.path().join("ours.db")).unwrap();
    ours.append("r1", &step(), EventKind::Dispatched).unwrap();
    let event = theirs.append("r1", &step(), started()).unwrap();
    assert!(ours.adopt("node-1", &event).unwrap());
    assert!(!ours.adopt("node-1", &event).unwrap());
    assert_eq!(ours.adopted_from("node-1", "r1", &step()).unwrap(), 1);
    assert_eq!(ours.last_sequence(), 2);
}

#[test]
fn many_writers_at_once_leave_no_gap_and_no_number_twice() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let journal = journal.clone();
            scope.spawn(move || {
                for n in 0..20 {
                    let step = format!("node-{writer}/step-{n}").parse().unwrap();
                    journal.append("r1", &step, started()).unwrap();
                }
            });
        }
    });
    let numbers: Vec<u64> = journal.after(0).unwrap().iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=160).collect::<Vec<_>>());
}

#[test]
fn two_processes_on_one_file_do_not_take_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let (one, other) = (Journal::open(&path).unwrap(), Journal::open(&path).unwrap());
    one.append("r1", &step(), started()).unwrap();
    let event = other.append("r1", &step(), EventKind::Done { changes: 0 }).unwrap();
    assert_eq!(event.sequence, 2);
}

#[test]
fn a_journal_of_a_newer_version_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA.version + 1).unwrap();
    for opened in [Journal::open(&path), Journal::read_only(&path)] {
        let error = opened.err().unwrap().to_string();
        assert!(error.contains("newer Muster"), "{error}");
    }
}

#[test]
fn a_journal_with_a_gap_or_an_event_that_may_not_follow_is_not_called_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = Journal::open(&path).unwrap();
    for run in ["r1", "r2"] {
        journal.append(run, &step(), started()).unwrap();
        journal.append(run, &step(), EventKind::Done { changes: 0 }).unwrap();
    }
    assert_eq!(journal.whole().unwrap().len(), 4);
    let spoil = |change: &str| {
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        journal.whole().unwrap_err().to_string()
    };
    let error =
        spoil("UPDATE event SET run = 'r1', body = replace(body, '\"r2\"', '\"r1\"') WHERE sequence = 3");
    assert!(error.contains("event 3 of node-1/swap") && error.contains("may not follow done"), "{error}");
    let error = spoil("DELETE FROM event WHERE sequence = 2");
    assert!(error.contains("event 2 is missing") && error.contains("move "), "{error}");
    let error = spoil("UPDATE event SET body = 'x' WHERE sequence = 1");
    assert!(error.contains("event 1 cannot be read"), "{error}");
}

#[test]
fn events_of_a_machine_that_was_installed_anew_are_adopted_although_its_numbers_begin_again() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Journal::open(&folder.path().join("ours.db")).unwrap();
    for life in ["first.db", "second.db"] {
        let theirs = Journal::open(&folder.path().join(life)).unwrap();
        let event = theirs.append(life, &step(), started()).unwrap();
        assert!(ours.adopt("node-1", &event).unwrap(), "{life}");
        assert!(!ours.adopt("node-1", &event).unwrap(), "{life}");
    }
    // Also in the middle of one and the same step.
    let theirs = Journal::open(&folder.path().join("third.db")).unwrap();
    assert!(ours.adopt("node-1", &theirs.append("first.db", &step(), started()).unwrap()).unwrap());
    assert_eq!(ours.whole().unwrap().len(), 3);
}

#[test]
fn a_journal_of_the_first_schema_is_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    Journal::open(&path).unwrap().append("r1", &step(), started()).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch("DROP INDEX event_origin; DROP INDEX event_of_step; CREATE UNIQUE INDEX old ON event (origin, origin_sequence); PRAGMA user_version = 1;").unwrap();
    old.close().unwrap();
    let journal = Journal::open(&path).unwrap();
    journal.append("r1", &step(), EventKind::Done { changes: 0 }).unwrap();
    assert_eq!(journal.whole().unwrap().len(), 2);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a person copies the file")]
fn a_copy_of_the_file_alone_of_a_journal_that_is_written_holds_every_step_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("journal.db"), folder.path().join("copy.db"));
    let journal = Journal::open(&path).unwrap();
    let other: StepId = "m1/hosts".parse().unwrap();
    for kind in [started(), EventKind::Done { changes: 0 }] {
        journal.append("r", &step(), kind).unwrap();
    }
    journal.append("r", &other, started()).unwrap();
    std::fs::copy(&path, &copy).unwrap();
    let copied = Journal::read_only(&copy).unwrap().whole().unwrap();
    assert_eq!(copied.len(), 2, "of a step that goes on the log tells, which was not copied");
    journal.adopt("w1", &Event { sequence: 1, ..journal.append("s", &other, started()).unwrap() }).unwrap();
    let end = Event { sequence: 2, kind: EventKind::Done { changes: 0 }, ..copied[0].clone() };
    journal.adopt("w1", &Event { run: "s".into(), step: other, ..end }).unwrap();
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(Journal::read_only(&copy).unwrap().whole().unwrap().len() as u64, journal.last_sequence());
}

#[test]
fn a_node_whose_journal_was_moved_away_in_the_middle_of_a_change_goes_on_and_the_change_is_closed_here() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let intended = |index| EventKind::Intended {
        index,
        change: Change::ReloadUnits.record(),
        summary: String::new(),
        before: None,
    };
    let event = |sequence, kind| Event {
        sequence,
        time: format!("2026-11-26T10:00:0{sequence}Z").parse().unwrap(),
        run: "r".into(),
        step: step(),
        kind,
    };
    for (sequence, kind) in [(1, started()), (2, intended(3))] {
        journal.adopt("w1", &event(sequence, kind)).unwrap();
    }
    let made = EventKind::Made { index: 0, outcome: Outcome::default() };
    let ends = [(3, started()), (4, intended(0)), (5, made), (6, EventKind::Done { changes: 1 })];
    for (sequence, kind) in ends {
        journal.adopt("w1", &event(sequence, kind)).unwrap();
    }
    let events = journal.whole().unwrap();
    assert_eq!(events[3].kind, EventKind::EndUnknown { index: 3 });
    assert_eq!((events.len(), journal.last_sequence()), (7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_together_are_written_together_each_durable_before_its_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = Journal::open(&path).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..200 {
        let (journal, path) = (journal.clone(), path.clone());
        writers.spawn(async move {
            let step: StepId = format!("node-{writer}/swap").parse().unwrap();
            let event = journal.append_grouped("r1", &step, started()).await.unwrap();
            if writer % 50 == 0 {
                let seen = Journal::read_only(&path).unwrap().of_step("r1", &step).unwrap();
                assert_eq!(seen, [event]);
            }
            journal.append_grouped("r1", &step, EventKind::Done { changes: 0 }).await.unwrap()
        });
    }
    writers.join_all().await;
    assert_eq!(journal.last_sequence(), 400);
    assert_eq!(Journal::open(&path).unwrap().whole().unwrap().len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_may_not_follow_is_refused_alone_and_the_others_of_its_group_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = Journal::open(&folder.path().join("theirs.db")).unwrap();
    let ours = Journal::open(&folder.path().join("ours.db")).unwrap();
    let events: Vec<Event> = (0..60)
        .map(|n| theirs.append("r1", &format!("n{n}/swap").parse().unwrap(), started()).unwrap())
        .collect();
    let mut writers = tokio::task::JoinSet::new();
    for (n, event) in events.into_iter().enumerate() {
        let ours = ours.clone();
        writers.spawn(async move {
            let step = event.step.clone();
            if n % 3 == 0 {
                let kind = EventKind::Made { index: 0, outcome: Outcome::default() };
                let refused = ours.append_grouped("r1", &step, kind).await.unwrap_err();
                assert!(matches!(refused, JournalError::Illegal(_)), "{refused}");
            }
            assert!(ours.adopt_grouped("n", event.clone()).await.unwrap());
            assert!(!ours.adopt_grouped("n", event).await.unwrap(), "it is held already");
        });
    }
    writers.join_all().await;
    assert_eq!(ours.whole().unwrap().len(), 60);
}
