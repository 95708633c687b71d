//! What holds of requests that come again, come beside each other, or come after the agent died.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use muster_proto::agent::step::Kind;
use muster_proto::agent::{PodAddress, StepInput};
use muster_proto::event::{Event, EventKind};

use super::*;
use crate::cluster::control_plane::tests::message;
use crate::host::change::ProgramName;
use crate::host::fake::{FakeCluster, FakeHost, Moment};

/// A host on which kubeadm init would begin.
pub(super) fn prepared() -> FakeHost {
    let host = FakeHost::debian("m1", FakeCluster::default());
    host.with(|state| {
        state.swaps.clear();
        state.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    });
    host
}

/// A life of the agent over this host.
pub(super) fn life(host: &FakeHost, folder: &Path) -> Engine<FakeHost> {
    let journal = Journal::open(&folder.join("journal.db")).unwrap();
    Engine::new(host.clone(), journal, Allowed::default())
}

pub(super) fn request(run: &str, name: &str, kind: Kind) -> RunStepRequest {
    RunStepRequest {
        run_id: run.into(),
        step_id: format!("m1/{name}"),
        step: Some(agent::Step { kind: Some(kind) }),
        ..RunStepRequest::default()
    }
}

pub(super) fn init(run: &str) -> RunStepRequest {
    request(run, "kubeadm-init", Kind::KubeadmInit(message()))
}

/// The same step with another content.
fn other_init(run: &str) -> RunStepRequest {
    let other = agent::KubeadmInit { bind_port: 6444, ..message() };
    request(run, "kubeadm-init", Kind::KubeadmInit(other))
}

pub(super) fn reset(run: &str) -> RunStepRequest {
    request(run, "kubeadm-reset", Kind::KubeadmReset(agent::KubeadmReset {}))
}

pub(super) fn rename(run: &str, name: &str) -> RunStepRequest {
    request(run, "hostname", Kind::Hostname(agent::Hostname { name: name.into() }))
}

/// Whether the request is refused because the step was begun with another content.
fn is_refused(engine: &Engine<FakeHost>, request: RunStepRequest) -> bool {
    matches!(engine.run(request).err(), Some(Refused::OtherContent(_)))
}

/// The events of a request to its end.
pub(super) async fn events(engine: &Engine<FakeHost>, request: RunStepRequest) -> Vec<EventKind> {
    let replies = engine.run(request).unwrap();
    let event = async |reply: Result<RunStepReply, Refused>| match reply.unwrap().item {
        Some(agent::run_step_reply::Item::Event(event)) => {
            Some(serde_json::from_str::<Event>(&event.body).unwrap().kind)
        }
        _ => None,
    };
    replies.filter_map(event).collect().await
}

/// The verbs that kubeadm was run with, in order.
fn verbs(host: &FakeHost) -> Vec<String> {
    let log = host.run_log();
    let verb = |line: &String| Some(line.strip_prefix("kubeadm ")?.split(' ').next()?.to_owned());
    log.iter().filter_map(verb).collect()
}

fn nothing_of_kubeadm(host: &FakeHost) -> bool {
    host.with(|state| !state.files.keys().any(|path| path.starts_with("/etc/kubernetes")))
}

pub(super) fn is_done(events: &[EventKind]) -> bool {
    matches!(events.last(), Some(EventKind::Done { .. }))
}

#[tokio::test]
async fn the_same_step_attaches_whatever_its_input_and_another_content_is_refused_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(400));
    let engine = life(&host, folder.path());
    let pod = PodAddress { pod: "p".into(), node: "m1".into(), address: "10.244.0.2".into() };
    let with_input =
        RunStepRequest { input: Some(StepInput { ticket: None, pods: vec![pod] }), ..init("r1") };
    let refused = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        [is_refused(&engine, other_init("r1")), is_refused(&engine, other_init("r2"))]
    };
    let (first, second, refused) =
        tokio::join!(events(&engine, init("r1")), events(&engine, with_input), refused);
    assert!(is_done(&first) && first == second, "{first:?}\n{second:?}");
    assert_eq!(refused, [true, true], "in the same run, and in another one while it runs");
    assert_eq!(host.runs(ProgramName::Kubeadm), 1);
}

#[tokio::test]
async fn another_content_is_refused_in_the_run_in_which_the_step_ended_and_not_in_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    let first = life(&host, folder.path());
    let renamed = events(&first, rename("r1", "a")).await;
    assert!(is_done(&renamed), "{renamed:?}");
    // In the life that ran it, and in one that knows it from the journal alone.
    for engine in [first, life(&host, folder.path())] {
        assert!(is_refused(&engine, rename("r1", "b")));
        assert_eq!(events(&engine, rename("r1", "a")).await, renamed, "the same content re-attaches");
        assert_eq!(host.applied(), 1);
    }
    let next = events(&life(&host, folder.path()), rename("r2", "b")).await;
    assert!(is_done(&next), "{next:?}");
    assert_eq!(host.applied(), 2);
}

#[tokio::test]
async fn another_content_is_refused_in_the_run_in_which_the_agent_died_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(300));
    host.crash_at(2, Moment::WhileRunning);
    let first = life(&host, folder.path());
    let _running = first.run(init("r1")).unwrap();
    host.died().await;
    let second = life(&host, folder.path());
    assert!(is_refused(&second, other_init("r1")));
    let events = events(&second, init("r1")).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!((host.runs(ProgramName::Kubeadm), host.overlaps()), (1, 0));
}

#[tokio::test]
async fn an_init_of_another_content_is_waited_for_and_its_failure_is_not_the_one_of_this() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(300));
    host.fail_next(ProgramName::Kubeadm, 1, "error: port 6443 is taken");
    host.crash_at(2, Moment::WhileRunning);
    let first = life(&host, folder.path());
    let _running = first.run(init("r1")).unwrap();
    host.died().await;
    let events = events(&life(&host, folder.path()), other_init("r2")).await;
    assert!(is_done(&events), "{events:?}");
    let not_made = events.iter().position(|event| matches!(event, EventKind::NotMade { .. }));
    // The first one takes the program of the earlier run over.
    let of_its_own = events.iter().rposition(|event| matches!(event, EventKind::Intended { .. }));
    assert!(not_made.is_some() && not_made < of_its_own, "its end is recorded first: {events:?}");
    assert_eq!((host.runs(ProgramName::Kubeadm), host.overlaps()), (2, 0));
}

#[tokio::test]
async fn two_steps_change_one_after_the_other_and_one_that_waits_keeps_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(100));
    let engine = life(&host, folder.path());
    let kernel =
        agent::Kernel { modules: vec!["overlay".into(), "br_netfilter".into()], sysctls: Vec::new() };
    let kernel = request("r1", "kernel", Kind::Kernel(kernel));
    let (first, second) = tokio::join!(events(&engine, init("r1")), events(&engine, kernel));
    assert!(is_done(&first) && is_done(&second), "{first:?}\n{second:?}");
    assert_eq!(host.overlaps(), 0, "both run programs");

    host.cluster.with(|cluster| cluster.unreachable = true);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let renamed = events(&engine, rename("r2", "renamed-m1")).await;
        assert!(is_done(&renamed), "{renamed:?}");
        host.cluster.with(|cluster| cluster.unreachable = false);
    };
    let ((), waited) = tokio::join!(meanwhile, events(&engine, init("r2")));
    assert!(waited.iter().any(|event| matches!(event, EventKind::Waiting { .. })), "{waited:?}");
    assert!(is_done(&waited), "{waited:?}");
}

#[tokio::test]
async fn an_init_that_runs_is_waited_for_also_by_the_run_after_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(500));
    // The first change writes the configuration.
    host.crash_at(2, Moment::WhileRunning);
    let first = life(&host, folder.path());
    let _running = first.run(init("r1")).unwrap();
    host.died().await;
    // The second life died before it knew more than that it had begun.
    let begun = EventKind::Started { content: String::new(), attempt: 1 };
    life(&host, folder.path())
        .inner
        .journal
        .append("r2", &"m1/kubeadm-init".parse().unwrap(), begun)
        .unwrap();
    let allowed = agent::KubeadmInit { redo_half_done: true, ..message() };
    let third = request("r3", "kubeadm-init", Kind::KubeadmInit(allowed));
    let events = events(&life(&host, folder.path()), third).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!((host.runs(ProgramName::Kubeadm), host.overlaps()), (1, 0));
}

#[tokio::test]
async fn a_redone_init_is_reset_once_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    let engine = life(&host, folder.path());
    host.fail_next(ProgramName::Kubeadm, 1, "error: it was cut off");
    assert!(!is_done(&events(&engine, init("r1")).await));
    host.put_file("/etc/kubernetes/pki/ca.crt", "left by an init that was cut off");
    let blocked = events(&engine, init("r2")).await;
    assert!(matches!(blocked.last(), Some(EventKind::Blocked { .. })), "{blocked:?}");
    let allowed = agent::KubeadmInit { redo_half_done: true, ..message() };
    let events = events(&engine, request("r3", "kubeadm-init", Kind::KubeadmInit(allowed))).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!(verbs(&host), ["init", "reset", "init"]);
}

#[tokio::test]
async fn an_init_that_ended_is_never_run_again_in_its_run_whatever_life_is_asked_and_whatever_the_host_says()
{
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.fail_next(ProgramName::Kubeadm, 1, "error: port 6443 is taken");
    let failed = events(&life(&host, folder.path()), init("r1")).await;
    assert!(matches!(failed.last(), Some(EventKind::Failed { .. })), "{failed:?}");
    assert_eq!(events(&life(&host, folder.path()), init("r1")).await, failed);
    assert_eq!(verbs(&host), ["init"], "the same run is told how it ended");

    let done = events(&life(&host, folder.path()), init("r2")).await;
    assert!(is_done(&done), "another run is the retry: {done:?}");
    host.with(|state| state.files.retain(|path, _| !path.starts_with("/etc/kubernetes")));
    assert_eq!(events(&life(&host, folder.path()), init("r2")).await, done);
    assert_eq!(verbs(&host), ["init", "init"], "somebody took its files away");
}

#[tokio::test]
async fn a_reset_waits_for_the_init_of_another_run_and_leaves_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(400));
    let engine = life(&host, folder.path());
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        events(&engine, reset("r2")).await
    };
    let (made, undone) = tokio::join!(events(&engine, init("r1")), later);
    assert!(is_done(&made) && is_done(&undone), "{made:?}\n{undone:?}");
    assert_eq!((verbs(&host), host.overlaps()), (vec!["init".to_owned(), "reset".to_owned()], 0));
    assert!(nothing_of_kubeadm(&host));
}

#[tokio::test]
async fn a_reset_waits_for_an_init_that_outlived_its_agent_and_its_end_is_recorded_where_it_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.programs_take(Duration::from_millis(400));
    host.crash_at(2, Moment::WhileRunning);
    let first = life(&host, folder.path());
    let _running = first.run(init("r1")).unwrap();
    host.died().await;
    let second = life(&host, folder.path());
    let undone = events(&second, reset("r2")).await;
    assert!(is_done(&undone), "{undone:?}");
    assert_eq!((verbs(&host), host.overlaps()), (vec!["init".to_owned(), "reset".to_owned()], 0));
    assert!(nothing_of_kubeadm(&host));
    let journal = &second.inner.journal;
    let of_init = journal.of_step("r1", &"m1/kubeadm-init".parse().unwrap()).unwrap();
    assert!(matches!(of_init.last().unwrap().kind, EventKind::Made { index: 1, .. }), "{of_init:?}");
    let reset_begun = journal.of_step("r2", &"m1/kubeadm-reset".parse().unwrap()).unwrap();
    let intended = reset_begun.iter().find(|event| matches!(event.kind, EventKind::Intended { .. }));
    assert!(of_init.last().unwrap().sequence < intended.unwrap().sequence);
    journal.whole().unwrap();
}

#[tokio::test]
async fn an_init_that_only_waits_does_not_begin_again_after_a_reset_that_was_asked_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let host = prepared();
    host.cluster.with(|cluster| cluster.unreachable = true);
    host.crash_at(2, Moment::AfterEffect);
    let first = life(&host, folder.path());
    let _running = first.run(init("r1")).unwrap();
    host.died().await;
    let second = life(&host, folder.path());
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        events(&second, reset("r2")).await
    };
    let (waited, undone) = tokio::join!(events(&second, init("r1")), later);
    assert!(waited.iter().any(|event| matches!(event, EventKind::Waiting { .. })), "{waited:?}");
    assert!(is_done(&undone), "{undone:?}");
    let Some(EventKind::Failed { complaint }) = waited.last() else { panic!("{waited:?}") };
    assert!(complaint.cause.contains("r2") && complaint.cause.contains("kubeadm-reset"), "{complaint}");
    assert_eq!(verbs(&host), ["init", "reset"]);
    assert!(nothing_of_kubeadm(&host));
}
