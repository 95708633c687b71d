use super::*;
use crate::plans::PlannedStep;
use crate::plans::cluster::{ClusterFacts, NO_CLUSTER};
use crate::plans::observed::{Member, Role};
use crate::plans::{remove, restore};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}
fn lab() -> Observed {
    let member = |text: &str| Member {
        node: name(text),
        role: if text.starts_with('m') { Role::ControlPlane } else { Role::Worker },
        kubernetes_version: None,
    };
    let cluster = ClusterFacts {
        pod_subnet: Some("10.244.0.0/16".parse().unwrap()),
        control_planes: vec![name("m1")],
        ..ClusterFacts::named(name("lab"))
    };
    Observed { cluster, made: true, members: ["m1", "w1", "w2"].map(member).to_vec() }
}
fn everybody() -> Vec<NodeName> {
    ["m1", "w1", "w2"].map(name).to_vec()
}
fn enrolled() -> BTreeSet<NodeName> {
    everybody().into_iter().collect()
}
fn after(plan: &Plan, id: &str) -> Vec<String> {
    let step = plan.steps.iter().find(|step| step.id.as_str() == id).unwrap_or_else(|| panic!("no {id}"));
    step.after.iter().map(ToString::to_string).collect()
}

#[test]
fn workers_are_reset_beside_each_other_and_the_control_plane_comes_last() {
    let plan = plan(&lab(), &everybody(), &enrolled()).unwrap();
    assert!(after(&plan, "w1/kubeadm-reset").is_empty() && after(&plan, "w2/kubeadm-reset").is_empty());
    assert_eq!(after(&plan, "m1/kubeadm-reset"), ["w1/restore", "w2/restore"]);
    assert_eq!(plan.steps.len(), 9, "a control plane that goes drains and forgets nobody");
}

#[test]
fn a_control_plane_that_stays_drains_and_forgets_the_worker() {
    let plan = remove::plan(&lab(), &["w1".parse().unwrap()], &enrolled()).unwrap();
    assert_eq!(after(&plan, "w1/kubeadm-reset"), ["m1/drain-node.w1"]);
    assert_eq!(after(&plan, "m1/forget-node.w1"), ["w1/kubeadm-reset"]);
}

#[test]
fn a_worker_that_is_not_enrolled_any_more_is_forgotten_and_holds_nothing_up() {
    let mut enrolled = enrolled();
    enrolled.remove(&"w1".parse().unwrap());
    let ids = |plan: &Plan| plan.steps.iter().map(|step| step.id.to_string()).collect::<Vec<_>>();
    let removal = remove::plan(&lab(), &["w1".parse().unwrap()], &enrolled).unwrap();
    assert_eq!(
        (ids(&removal), after(&removal, "m1/forget-node.w1")),
        (vec!["m1/forget-node.w1".into()], vec![])
    );
    let all = plan(&lab(), &everybody(), &enrolled).unwrap();
    assert_eq!(all.steps.len(), 6);
    assert_eq!(after(&all, "m1/kubeadm-reset"), ["w2/restore"]);
    let workers = ["w1", "w2"].map(|name| name.parse().unwrap()).into();
    let without_master = plan(&lab(), &everybody(), &workers).unwrap();
    assert_eq!(without_master.steps.len(), 6, "nor does a control plane that is not enrolled any more");
    let told = lab().strangers(&everybody(), &enrolled).unwrap().unwrap();
    assert!(told.ends_with("nothing is undone there: w1"), "{told}");
    assert_eq!(lab().strangers(&["w2".parse().unwrap()], &enrolled), Ok(None));
    assert!(lab().strangers(&["w9".parse().unwrap()], &enrolled).unwrap_err().contains("nodes list"));
}

#[test]
fn a_reset_says_whether_nodes_stay_that_dial_this_coordinator() {
    let stay = |plan: Plan| {
        let of = |step: &PlannedStep| match &step.step.kind {
            Some(Kind::Restore(restore)) => Some(restore.nodes_stay),
            _ => None,
        };
        plan.steps.iter().filter_map(of).collect::<Vec<bool>>()
    };
    let (all, master) = (everybody(), ["m1".parse().unwrap()]);
    assert_eq!(stay(plan(&lab(), &all, &enrolled()).unwrap()), [false; 3]);
    assert_eq!(stay(plan(&lab(), &master, &enrolled()).unwrap()), [true]);
    let alone = [master[0].clone()].into();
    assert_eq!(stay(plan(&lab(), &master, &alone).unwrap()), [false], "nobody else can dial in");
    let before = restore::plan(&all, &enrolled()).unwrap();
    assert_eq!((before.steps.len(), before.cluster.name.as_str()), (3, NO_CLUSTER));
    assert_eq!(stay(before), [false; 3]);
    assert_eq!(stay(restore::plan(&master, &enrolled()).unwrap()), [true]);
}

#[test]
fn without_the_clusters_name_it_is_refused_with_what_would_be_lost() {
    let all = lab().refusal(&everybody(), "").unwrap();
    assert!(all.contains("every Kubernetes object") && all.contains("m1, w1, w2"), "{all}");
    let one = lab().refusal(&["w1".parse().unwrap()], "prod").unwrap();
    assert!(one.contains("takes w1 out") && one.contains("--confirm lab (the name"), "{one}");
    assert!(lab().refusal(&everybody(), "lab").is_none());
}
