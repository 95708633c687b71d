//! What an agent refuses though its own coordinator asks for it: what the owner of its machine forbade, and what is meant
//! for another machine.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use muster_agent::connect::service::NodeService;
use muster_agent::engine::{Allowed, Engine};
use muster_agent::host::change::{Change, Program, ProgramName};
use muster_agent::host::fake::{FakeCluster, FakeHost, Snapshot};
use muster_proto::agent::node_agent_server::NodeAgent;
use muster_proto::agent::step::Kind;
use muster_proto::agent::{
    CheckStepRequest, Hostname, KubeadmJoin, KubeadmReset, NetworkLeftovers, Restore, RunStepRequest, Step,
    Swap, run_step_reply,
};
use muster_proto::event::{Complaint, EventKind, Outcome};
use muster_proto::journal::Journal;
use muster_proto::step_kind::StepKind;
use tonic::{Code, Request};

struct Machine {
    host: FakeHost,
    service: NodeService<Engine<FakeHost>>,
    journal: Journal,
    _folder: tempfile::TempDir,
}

fn machine(allowed: Allowed) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::debian("w1", FakeCluster::default());
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let engine = Engine::new(host.clone(), journal.clone(), allowed);
    let service = NodeService::new(engine, "w1".parse().unwrap(), IpAddr::from([10, 88, 0, 12]));
    Machine { host, service, journal, _folder: folder }
}

impl Machine {
    /// What is said to looking, and to doing.
    async fn asked(&self, id: &str, kind: Kind) -> [Result<(), (Code, String)>; 2] {
        let step = Some(Step { kind: Some(kind) });
        let check =
            CheckStepRequest { step_id: id.into(), step: step.clone(), ..CheckStepRequest::default() };
        let run =
            RunStepRequest { run_id: "r".into(), step_id: id.into(), step, ..RunStepRequest::default() };
        let told = |status: tonic::Status| (status.code(), status.message().to_owned());
        [
            self.service.check_step(Request::new(check)).await.map(|_| ()).map_err(told),
            self.service.run_step(Request::new(run)).await.map(|_| ()).map_err(told),
        ]
    }

    /// Both are refused, with this word in the sentence, and nothing of the host is touched.
    async fn refuses(&self, id: &str, kind: Kind, word: &str) {
        let before: Snapshot = self.host.snapshot();
        for answer in self.asked(id, kind).await {
            let (code, said) = answer.expect_err(id);
            assert!(code == Code::PermissionDenied && said.contains(word), "{id}: {code:?}: {said}");
        }
        assert!(before == self.host.snapshot(), "{id}");
    }
}

#[tokio::test]
async fn a_step_that_the_machines_owner_did_not_allow_is_refused() {
    let machine = machine(Allowed { steps: Some(vec![StepKind::Hostname]), no_reset: false });
    machine.refuses("w1/swap", Kind::Swap(Swap {}), "agent.toml").await;
    let allowed = machine.asked("w1/hostname", Kind::Hostname(Hostname { name: "w1".into() })).await;
    assert!(allowed.iter().all(Result::is_ok), "{allowed:?}");
}

#[tokio::test]
async fn a_step_whose_id_names_another_kind_is_refused_whatever_label_it_bears() {
    let machine = machine(Allowed::default());
    let before = machine.host.snapshot();
    for id in ["w1/hostname", "w1/hosts", "w1/hostname.swap", "w1/of-tomorrow", "w1/swap-"] {
        for answer in machine.asked(id, Kind::Swap(Swap {})).await {
            let (code, said) = answer.expect_err(id);
            assert_eq!(code, Code::InvalidArgument, "{id}: {said}");
        }
    }
    assert!(before == machine.host.snapshot());
    let allowed = machine.asked("w1/swap.again", Kind::Swap(Swap {})).await;
    assert!(allowed.iter().all(Result::is_ok), "{allowed:?}");
}

#[tokio::test]
async fn no_step_of_a_reset_is_done_where_the_machines_owner_forbids_it() {
    let machine = machine(Allowed { steps: None, no_reset: true });
    for (id, kind) in [
        ("w1/kubeadm-reset", Kind::KubeadmReset(KubeadmReset {})),
        ("w1/network-leftovers", Kind::NetworkLeftovers(NetworkLeftovers::default())),
        ("w1/restore", Kind::Restore(Restore::default())),
    ] {
        machine.refuses(id, kind, "allow_reset").await;
    }
}

#[tokio::test]
async fn nothing_half_done_is_reset_and_done_again_where_the_machines_owner_forbids_a_reset() {
    let machine = machine(Allowed { steps: None, no_reset: true });
    machine.host.put_file("/etc/kubernetes/pki/ca.crt", "left by a join that was cut off");
    // The join was Muster's own: only such a one is reset by itself anywhere.
    let begun = Change::Run(Program::new(ProgramName::Kubeadm, ["join"], Duration::from_secs(1)));
    let (change, summary) = (begun.record(), begun.to_string());
    for kind in [
        EventKind::Started { content: String::new(), attempt: 1 },
        EventKind::Intended { index: 0, change, summary, before: None },
        EventKind::NotMade { index: 0, outcome: Outcome::default() },
        EventKind::Failed { complaint: Complaint::new("it was cut off", "", "") },
    ] {
        machine.journal.append("earlier", &"w1/kubeadm-join".parse().unwrap(), kind).unwrap();
    }
    let before = machine.host.snapshot();
    let join = KubeadmJoin {
        cgroup_v1: false,
        node: "w1".into(),
        kubernetes_version: "v1.20.2".into(),
        address: "10.88.0.12".into(),
        endpoint: "10.88.0.11:6443".into(),
        runtime: "docker".into(),
    };
    let request = RunStepRequest {
        run_id: "r".into(),
        step_id: "w1/kubeadm-join".into(),
        step: Some(Step { kind: Some(Kind::KubeadmJoin(join)) }),
        ..RunStepRequest::default()
    };
    let mut events = machine.service.run_step(Request::new(request)).await.unwrap().into_inner();
    let mut said = Vec::new();
    while let Some(reply) = events.next().await {
        if let Some(run_step_reply::Item::Event(event)) = reply.unwrap().item {
            said.push(event.body);
        }
    }
    let last = said.last().expect("the step has an end");
    assert!(last.contains("\"event\":\"blocked\"") && last.contains("allow_reset = true"), "{said:?}");
    assert!(before == machine.host.snapshot());
}

#[tokio::test]
async fn a_step_for_another_node_or_with_another_nodes_name_in_it_is_refused() {
    let machine = machine(Allowed::default());
    machine.refuses("w2/swap", Kind::Swap(Swap {}), "w2").await;
    machine.refuses("w1/hostname", Kind::Hostname(Hostname { name: "w2".into() }), "w2").await;
    let join = KubeadmJoin {
        cgroup_v1: false,
        node: "w2".into(),
        kubernetes_version: "v1.20.2".into(),
        address: "10.88.0.12".into(),
        endpoint: "10.88.0.11:6443".into(),
        runtime: "docker".into(),
    };
    machine.refuses("w1/kubeadm-join", Kind::KubeadmJoin(join), "w2").await;
}
