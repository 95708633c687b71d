//! What holds of changes whose end an earlier life of the agent, or a systemd that did not answer, left open.

use std::time::Duration;

use muster_proto::agent::{self, step::Kind};
use muster_proto::event::EventKind;
use muster_proto::journal::Journal;

use super::super::asked_again::{events, init, is_done, life, prepared, rename, request};
use crate::host::change::{Change, ProgramName};
use crate::host::fake::Moment;

fn kernel(run: &str) -> agent::RunStepRequest {
    let kernel =
        agent::Kernel { modules: vec!["overlay".into(), "br_netfilter".into()], sysctls: Vec::new() };
    request(run, "kernel", Kind::Kernel(kernel))
}

fn words(events: &[EventKind]) -> Vec<&str> {
    events.iter().map(EventKind::word).collect()
}

#[tokio::test]
async fn of_a_change_that_a_dying_agent_did_not_see_end_the_journal_says_so_before_the_next() {
    for moment in [Moment::BeforeEffect, Moment::AfterEffect] {
        let folder = tempfile::tempdir().unwrap();
        let host = prepared();
        host.crash_at(1, moment);
        let first = life(&host, folder.path());
        let _running = first.run(rename("r1", "a")).unwrap();
        host.died().await;
        let second = life(&host, folder.path());
        let events = events(&second, rename("r1", "a")).await;
        let told = words(&events);
        assert_eq!(told[..4], ["started", "intended", "started", "end-unknown"], "{moment:?}");
        assert!(is_done(&events), "{moment:?}: {told:?}");
        second.inner.journal.whole().unwrap();
    }
}

#[tokio::test]
async fn of_a_change_of_an_earlier_run_it_is_said_in_that_run() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.crash_at(1, Moment::AfterEffect);
    let first = life(&host, folder.path());
    let _running = first.run(rename("r1", "a")).unwrap();
    host.died().await;
    let second = life(&host, folder.path());
    let events = events(&second, rename("r2", "a")).await;
    assert_eq!(words(&events), ["started", "done"]);
    let journal: &Journal = &second.inner.journal;
    let before = journal.of_step("r1", &"m1/hostname".parse().unwrap()).unwrap();
    assert_eq!(before.last().unwrap().kind.word(), "end-unknown");
    journal.whole().unwrap();
}

#[tokio::test]
async fn a_program_of_an_earlier_run_that_is_gone_is_taken_over_and_its_end_said_to_be_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.crash_at(2, Moment::BeforeEffect);
    let first = life(&host, folder.path());
    let _running = first.run(init("r1")).unwrap();
    host.died().await;
    let second = life(&host, folder.path());
    let events = events(&second, init("r2")).await;
    assert_eq!(words(&events)[..3], ["started", "intended", "end-unknown"]);
    assert!(is_done(&events), "{events:?}");
    assert_eq!(host.runs(ProgramName::Kubeadm), 1);
    second.inner.journal.whole().unwrap();
}

#[tokio::test]
async fn a_program_that_systemd_started_without_an_answer_is_waited_for_and_not_taken_for_one_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(300));
    host.answer_is_lost(ProgramName::Kubeadm);
    let engine = life(&host, folder.path());
    let failed = events(&engine, init("r1")).await;
    let Some(EventKind::Failed { complaint }) = failed.last() else { panic!("{failed:?}") };
    assert!(complaint.cause.contains("it may still run"), "{complaint}");
    assert!(complaint.remedy.contains("the same command again"), "{complaint}");
    let events = events(&engine, init("r2")).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!((host.runs(ProgramName::Kubeadm), host.overlaps()), (1, 0));
    engine.inner.journal.whole().unwrap();
}

#[tokio::test]
async fn a_program_that_outlived_its_agent_is_waited_for_in_the_nodes_turn() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(400));
    host.crash_at(1, Moment::WhileRunning);
    let first = life(&host, folder.path());
    let _running = first.run(kernel("r1")).unwrap();
    host.died().await;
    let second = life(&host, folder.path());
    let later = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        events(&second, init("r1")).await
    };
    let (kernel, init) = tokio::join!(events(&second, kernel("r1")), later);
    assert!(is_done(&kernel) && is_done(&init), "{kernel:?}\n{init:?}");
    assert_eq!(host.overlaps(), 0, "kubeadm did not begin beside it");
}

#[tokio::test]
async fn a_step_that_waited_for_its_turn_looks_again_before_it_changes_anything() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(400));
    let engine = life(&host, folder.path());
    let rename = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let renamed = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            host.put_file("/etc/hostname", "a\n");
            host.with(|state| state.hostname = "a".into());
        };
        tokio::join!(events(&engine, rename("r1", "a")), renamed).0
    };
    let (kernel, rename) = tokio::join!(events(&engine, kernel("r1")), rename);
    assert!(is_done(&kernel), "{kernel:?}");
    assert_eq!(words(&rename), ["started", "done"], "somebody did it while the modules were loaded");
}

#[tokio::test]
async fn a_change_that_goes_on_without_its_agent_is_waited_for_and_not_made_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    let name = "a".parse().unwrap();
    host.errand_goes_on(Change::SetHostname { name }, Duration::from_millis(1_300));
    let engine = life(&host, folder.path());
    let events = events(&engine, rename("r1", "a")).await;
    assert_eq!(words(&events), ["started", "waiting", "done"], "{events:?}");
}
