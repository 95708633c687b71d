//! What holds when the agent's own code panics: in a look, in a change, in whatever it is asked.

use muster_proto::agent::step::Kind;
use muster_proto::agent::{self, CheckStepRequest};
use muster_proto::event::EventKind;
use tonic::Code;

use super::asked_again::{events, init, is_done, life, prepared, request};
use crate::connect::service::Steps;
use crate::host::change::ProgramName;
use crate::host::fake::Moment;

fn kubeconfig() -> Kind {
    Kind::Kubeconfig(agent::Kubeconfig { user: "student".into(), completion: false })
}

/// The evidence of the failure that these events end with.
fn evidence(events: &[EventKind]) -> &str {
    match events.last() {
        Some(EventKind::Failed { complaint }) => &complaint.evidence,
        _ => panic!("{events:?}"),
    }
}

#[tokio::test]
async fn a_panic_in_a_look_is_the_failure_of_the_attempt_with_its_place_and_the_next_run_goes_on() {
    let (folder, host) = (tempfile::tempdir().unwrap(), prepared());
    let engine = life(&host, folder.path());
    assert!(is_done(&events(&engine, init("r1")).await));
    host.panic_when_looking_for_users(true);
    let found = events(&engine, request("r1", "kubeconfig.student", kubeconfig())).await;
    let evidence = evidence(&found);
    assert!(
        evidence.contains("observe.rs:") && evidence.contains("a flaw of the test's, in a look"),
        "{evidence}"
    );
    host.panic_when_looking_for_users(false);
    assert!(is_done(&events(&engine, request("r2", "kubeconfig.student", kubeconfig())).await));
}

#[tokio::test]
async fn a_panic_in_a_change_leaves_it_open_and_the_same_agent_goes_on_with_the_next_attempt() {
    let (folder, host) = (tempfile::tempdir().unwrap(), prepared());
    let engine = life(&host, folder.path());
    host.crash_at(2, Moment::Panic);
    let found = events(&engine, init("r1")).await;
    assert!(evidence(&found).contains("in a change"), "{found:?}");
    assert_eq!(host.runs(ProgramName::Kubeadm), 0);
    assert!(is_done(&events(&engine, init("r2")).await), "nobody holds the node's turn any more");
    assert!(engine.inner.journal.whole().is_ok());
}

#[tokio::test]
async fn a_panic_in_what_the_coordinator_asks_is_its_answer() {
    let (folder, host) = (tempfile::tempdir().unwrap(), prepared());
    let engine = life(&host, folder.path());
    host.panic_when_looking_for_users(true);
    let step = Some(agent::Step { kind: Some(kubeconfig()) });
    let asked =
        CheckStepRequest { step_id: "m1/kubeconfig.student".into(), step, ..CheckStepRequest::default() };
    let status = Steps::check(&engine, asked).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("observe.rs:"), "{status}");
}
