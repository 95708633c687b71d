//! What the tests of the Kubernetes steps share: fake hosts on the way to a cluster, and carrying out what a step wants.

use muster_proto::agent::{self, step::Kind};

use super::{Finding, Input, Step, Yield};
use crate::cluster::control_plane;
use crate::cluster::ticket::Ticket;
use crate::host::change::{Change, ChangeId, Host};
use crate::host::fake::{FakeCluster, FakeHost};

/// A host that kubeadm's preflight checks accept.
pub(super) fn prepared(name: &str, cluster: &FakeCluster) -> FakeHost {
    let host = FakeHost::debian(name, cluster.clone());
    host.with(|state| {
        state.swaps.clear();
        state.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    });
    host
}

/// The step of a message.
pub(super) fn step(kind: Kind) -> Step {
    Step::parse(&agent::Step { kind: Some(kind) }).unwrap()
}

/// Makes what the step wants changed and looks again; the ticket that a program yielded is kept in `input`.
pub(super) async fn carry_out(host: &FakeHost, step: &Step, input: &mut Input) -> Finding {
    let Finding::Todo(changes) = step.check(host, input).await.unwrap() else {
        panic!("{} has nothing to change", step.kind())
    };
    for (index, change) in changes.iter().enumerate() {
        let id = ChangeId {
            step: format!("n/{}", step.kind()).parse().unwrap(),
            index: u32::try_from(index).unwrap(),
        };
        let applied = host.apply(change, &id).await.unwrap();
        assert!(applied.made, "{change}: {}", applied.outcome.output);
        host.forget(&id).await.unwrap();
        if matches!(change, Change::Run(program) if program.yields_ticket) {
            use secrecy::ExposeSecret;
            input.ticket = Some(Ticket::parse(applied.standard_output.expose_secret()).unwrap());
        }
    }
    step.check(host, input).await.unwrap()
}

/// A node m1 after `kubeadm init`, and the input that holds the ticket which that printed.
pub(super) async fn master() -> (FakeHost, Input) {
    let host = prepared("m1", &FakeCluster::default());
    let mut input = Input::default();
    let init = step(Kind::KubeadmInit(control_plane::tests::message()));
    let finding = carry_out(&host, &init, &mut input).await;
    assert!(matches!(finding, Finding::Done(Yield::Nothing)), "{finding:?}");
    (host, input)
}

/// Nodes m1 and w1 of one cluster, without a pod network.
pub(super) async fn master_and_worker() -> (FakeHost, FakeHost) {
    let (master, mut input) = master_with_ticket().await;
    let worker = prepared("w1", &master.cluster);
    let finding = carry_out(&worker, &step(Kind::KubeadmJoin(join_of_w1())), &mut input).await;
    assert!(matches!(finding, Finding::Done(Yield::Nothing)), "{finding:?}");
    (master, worker)
}

/// A node m1 after `kubeadm init`, and the input that holds the ticket which its step `join-ticket` handed on.
pub(super) async fn master_with_ticket() -> (FakeHost, Input) {
    let (host, input) = master().await;
    let ticket = step(Kind::JoinTicket(agent::JoinTicket { nodes: vec!["w1".into()] }));
    match ticket.check(&host, &input).await.unwrap() {
        Finding::Done(Yield::Ticket(ticket)) => (host, Input { ticket: Some(ticket), ..Input::default() }),
        other => panic!("no ticket: {other:?}"),
    }
}

/// The join of w1 to m1.
pub(super) fn join_of_w1() -> agent::KubeadmJoin {
    agent::KubeadmJoin {
        cgroup_v1: false,
        node: "w1".into(),
        kubernetes_version: "v1.20.2".into(),
        address: "10.88.0.12".into(),
        endpoint: "10.88.0.11:6443".into(),
        runtime: "docker".into(),
    }
}

/// A pod network whose net-conf.json names this range.
pub(super) fn network(range: &str) -> agent::PodNetwork {
    let manifest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-flannel-cfg, namespace: kube-system}}\ndata:\n  net-conf.json: |\n    {{\"Network\": \"{range}\", \"Backend\": {{\"Type\": \"vxlan\"}}}}\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: kube-flannel-ds, namespace: kube-system}}\nspec: {{template: {{metadata: {{labels: {{app: flannel}}}}, spec: {{hostNetwork: true}}}}}}\n"
    );
    agent::PodNetwork { manifest, pod_subnet: "10.244.0.0/16".into() }
}

/// Nodes m1 and w1, Ready, both open for pods.
pub(super) async fn ready_cluster() -> (FakeHost, FakeHost) {
    let (master, worker) = master_and_worker().await;
    for kind in
        [Kind::PodNetwork(network("10.244.0.0/16")), Kind::Untaint(agent::Untaint { node: "m1".into() })]
    {
        let finding = carry_out(&master, &step(kind), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(Yield::Nothing)), "{finding:?}");
    }
    (master, worker)
}

/// The smoke test of these nodes.
pub(super) fn smoke(nodes: &[&str]) -> agent::SmokeTest {
    let nodes = nodes.iter().map(|&name| name.to_owned()).collect();
    agent::SmokeTest { image: "nginx:1.22".into(), nodes, pod_subnet: "10.244.0.0/16".into() }
}

/// The cause of a `Blocked`.
pub(super) fn cause_of(finding: Finding) -> String {
    match finding {
        Finding::Blocked(complaint) => complaint.cause,
        other => panic!("not blocked: {other:?}"),
    }
}

/// What a `Wait` waits for.
pub(super) fn waits_for(finding: Finding) -> String {
    match finding {
        Finding::Wait(what) => what,
        other => panic!("does not wait: {other:?}"),
    }
}
