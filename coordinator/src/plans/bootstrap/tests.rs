use std::collections::BTreeSet;

use super::*;
use crate::doors::fleet::FleetError;
use crate::plans::observed::{Member, Role};
use crate::plans::{PlannedStep, let_nodes_in, remove};
use muster_proto::agent::HostFacts;
use muster_proto::coordinator::ClusterFiles;
use muster_proto::names::StepId;

fn spec(workers: usize, runs_pods: bool, keep: bool) -> ClusterSpec {
    let nodes: String = (1..=workers).map(|n| format!("    - {{name: w{n}, role: worker}}\n")).collect();
    let text = format!(
        "apiVersion: muster/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesVersion: v1.20.2\n  nodes:\n    - {{name: m1, role: control-plane}}\n{nodes}  controlPlane: {{runsPods: {runs_pods}}}\n  networking: {{podSubnet: 10.244.0.0/16, manifest: n}}\n  kubectlUsers: [student]\n  smokeTest: {{keep: {keep}}}\n"
    );
    let files = ClusterFiles {
        spec: text,
        spec_path: String::new(),
        files: [("n".into(), "kind: X".into())].into(),
        ..ClusterFiles::default()
    };
    let enrolled = ["m1", "w1", "w2", "w3"].map(|name| name.parse().unwrap());
    ClusterSpec::parse(&files, &enrolled.into()).unwrap()
}
fn hosts(spec: &ClusterSpec, first: u8) -> Hosts {
    let facts = |n| HostFacts { address: format!("10.88.0.{}", first + n), ..HostFacts::default() };
    spec.nodes().zip(0..).map(|(node, n)| (node.clone(), Ok(facts(n)))).collect()
}
fn planned(workers: usize, runs_pods: bool, keep: bool) -> Plan {
    let spec = spec(workers, runs_pods, keep);
    plan(&spec, &hosts(&spec, 11), None).unwrap()
}
fn step<'a>(plan: &'a Plan, id: &str) -> &'a PlannedStep {
    plan.steps.iter().find(|step| step.id.as_str() == id).unwrap_or_else(|| panic!("{id} is planned"))
}

#[test]
fn every_user_has_a_step_of_its_own_whatever_the_name() {
    let labels = |names: &[&str]| -> Vec<String> {
        names.iter().zip(1..).map(|(name, place)| label_of(&name.parse().unwrap(), place)).collect()
    };
    assert_eq!(
        labels(&["student", "a-b", "a_b", "web-", "_", "_x"]),
        ["student", "a-b", "3-a-b", "4-web", "5", "6-x"]
    );
    let node: NodeName = "m1".parse().unwrap();
    for label in labels(&["a_b", "web-", "_"]) {
        StepId::labelled(&node, K::Kubeconfig, &label).unwrap();
    }
}

#[test]
fn every_kind_of_step_is_planned_by_some_verb_under_an_id_of_its_kind() {
    let node = |text: &str| text.parse::<NodeName>().unwrap();
    let member = |text: &str, role| Member { node: node(text), role, kubernetes_version: None };
    let bootstrap = planned(1, true, false);
    let members = vec![member("m1", Role::ControlPlane), member("w1", Role::Worker)];
    let observed = Observed { cluster: bootstrap.cluster.clone(), made: true, members };
    let leaves = [node("w1")];
    let removal = remove::plan(&observed, &leaves, &["m1", "w1"].map(node).into()).unwrap();
    let door = let_nodes_in::plan(&node("m1"), "10.88.0.11:7443".parse().unwrap()).unwrap();
    let mut found = BTreeSet::new();
    for step in bootstrap.steps.iter().chain(&removal.steps).chain(&door.steps) {
        let kind = K::of(step.step.kind.as_ref().unwrap());
        assert_eq!(step.id.kind(), Some(kind), "{}", step.id);
        found.insert(kind);
    }
    let nowhere: Vec<&K> = K::ALL.iter().filter(|kind| !found.contains(kind)).collect();
    assert!(nowhere.is_empty(), "no verb plans {nowhere:?}");
}

#[test]
fn every_step_comes_after_steps_that_stand_before_it() {
    let plan = planned(3, true, false);
    for (index, step) in plan.steps.iter().enumerate() {
        for before in step.after.iter().chain(&step.input_from) {
            assert!(
                plan.steps[..index].iter().any(|other| other.id == *before),
                "{} after {before}",
                step.id
            );
        }
    }
}

#[test]
fn workers_are_prepared_and_join_beside_each_other_while_the_network_goes_on() {
    let plan = planned(2, true, true);
    let init = step(&plan, "m1/kubeadm-init");
    assert!(init.after.iter().all(|id| id.node() == "m1"));
    for worker in ["w1", "w2"] {
        let join = step(&plan, &format!("{worker}/kubeadm-join"));
        assert!(
            join.after.iter().all(|id| id.node() == worker || id.step() == "join-ticket"),
            "{:?}",
            join.after
        );
    }
    assert!(!step(&plan, "m1/pod-network").after.iter().any(|id| id.step() == "kubeadm-join"));
}

#[test]
fn no_node_waits_for_a_pod_network_that_was_not_applied() {
    let plan = planned(2, true, true);
    for node in ["m1", "w1", "w2"] {
        let network = step(&plan, &format!("{node}/node-network"));
        assert!(
            network.after.iter().any(|id| id.as_str() == "m1/pod-network"),
            "{node}: {:?}",
            network.after
        );
    }
}

#[test]
fn a_master_alone_gets_no_ticket_and_runs_the_pods() {
    let plan = planned(0, true, true);
    assert!(
        !plan.steps.iter().any(|step| step.id.step() == "join-ticket" || step.id.step() == "kubeadm-join")
    );
    let Some(Kind::SmokeTest(test)) = &step(&plan, "m1/smoke-test").step.kind else { panic!() };
    assert_eq!(test.nodes, ["m1"]);
}

#[test]
fn a_smoke_test_that_is_removed_is_not_repeated() {
    let once = |plan: &Plan| {
        plan.steps.iter().filter(|step| step.once).map(|step| step.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        once(&planned(1, false, false)),
        ["m1/smoke-test", "m1/smoke-answer", "w1/smoke-answer", "m1/smoke-cleanup"]
    );
    assert!(once(&planned(1, false, true)).is_empty());
}

#[test]
fn what_the_hosts_say_against_the_file_is_said_all_at_once_with_its_line() {
    let mut spec = spec(3, true, true);
    spec.service_subnet = "10.88.0.0/24".parse().unwrap();
    let mut hosts = hosts(&spec, 11);
    let gone = FleetError::Refused { node: "w1".parse().unwrap(), reason: "too old".into() };
    hosts.insert("w1".parse().unwrap(), Err(gone));
    hosts.insert("w3".parse().unwrap(), hosts[&"w2".parse().unwrap()].clone());
    let problems = plan(&spec, &hosts, None).unwrap_err();
    let said = |line: u64, text: &str| {
        problems.iter().any(|problem| problem.line == line && problem.what.contains(text))
    };
    assert!(said(8, "w1 was refused: too old"), "{problems:?}");
    assert!(said(10, "w3 and w2 have the same address 10.88.0.13"), "{problems:?}");
    assert!(said(12, "10.88.0.0/24 holds the address 10.88.0.11 of m1"), "{problems:?}");
}

#[test]
fn the_digest_is_the_contents_and_nothing_elses() {
    assert_eq!(planned(2, true, true).digest(), planned(2, true, true).digest());
    assert_ne!(planned(2, true, true).digest(), planned(2, false, true).digest());
}

#[test]
fn what_is_told_to_all_nodes_is_held_once() {
    let plan = planned(3, true, true);
    let held = |word: &str| {
        let steps: Vec<_> = plan.steps.iter().filter(|step| step.id.step() == word).collect();
        assert_eq!(steps.len(), 4);
        steps.iter().all(|step| std::sync::Arc::ptr_eq(&step.step, &steps[0].step))
    };
    assert!(held("hosts") && held("kernel") && !held("hostname"));
}

#[test]
fn the_plan_knows_its_cluster_and_one_that_stands_keeps_its_ranges() {
    let spec = spec(1, true, true);
    let fresh = plan(&spec, &hosts(&spec, 11), None).unwrap().cluster;
    assert_eq!(fresh.endpoint.as_ref().unwrap().as_str(), "10.88.0.11:6443");
    assert_eq!((fresh.name.as_str(), fresh.pod_subnet_text().as_str()), ("lab", "10.244.0.0/16"));
    assert_eq!(fresh.control_planes, vec![spec.control_plane.clone()]);
    let cluster = ClusterFacts { pod_subnet: Some("10.55.0.0/16".parse().unwrap()), ..fresh };
    let master =
        Member { node: spec.control_plane.clone(), role: Role::ControlPlane, kubernetes_version: None };
    let mut stands = Observed { cluster, made: true, members: vec![master] };
    let kept =
        |stands: &Observed| plan(&spec, &hosts(&spec, 11), Some(stands)).unwrap().cluster.pod_subnet_text();
    assert_eq!(kept(&stands), "10.55.0.0/16");
    stands.made = false;
    assert_eq!(kept(&stands), "10.244.0.0/16", "what was reset is made anew");
    stands = Observed {
        cluster: ClusterFacts { name: "other".parse().unwrap(), ..stands.cluster },
        made: true,
        ..stands
    };
    assert_eq!(kept(&stands), "10.244.0.0/16", "another cluster's range is its own");
}

#[test]
fn the_control_plane_asks_the_pods_first_and_hands_on_where_they_answered() {
    let plan = planned(2, true, true);
    let Some(Kind::SmokeAnswer(first)) = &step(&plan, "m1/smoke-answer").step.kind else { panic!() };
    assert_eq!((first.nodes.join(" "), first.pod_subnet.as_str()), ("m1 w1 w2".to_owned(), "10.244.0.0/16"));
    for worker in ["w1/smoke-answer", "w2/smoke-answer"] {
        let given: Vec<&str> = step(&plan, worker).input_from.iter().map(StepId::as_str).collect();
        assert_eq!(given, ["m1/smoke-answer"], "{worker}");
    }
}

#[test]
fn what_the_file_leaves_out_of_kubeadms_add_ons_is_not_waited_for() {
    let addons = |skip: &[&str]| {
        let mut spec = spec(1, true, true);
        spec.skip_phases = skip.iter().map(|&phase| phase.to_owned()).collect();
        let plan = plan(&spec, &hosts(&spec, 11), None).unwrap();
        let found = plan.steps.iter().find(|step| step.id.as_str() == "m1/addons")?;
        let Some(Kind::Addons(addons)) = &found.step.kind else { panic!() };
        Some((addons.kube_proxy, addons.coredns))
    };
    assert_eq!(addons(&[]), Some((true, true)));
    assert_eq!(addons(&["addon/coredns"]), Some((true, false)));
    assert_eq!(addons(&["addon/kube-proxy"]), Some((false, true)));
    assert_eq!([addons(&["addon"]), addons(&["addon/coredns", "addon/kube-proxy"])], [None, None]);
}
