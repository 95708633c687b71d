//! Undoing: which steps a reset takes on which node, and what a person has to confirm before. Pure.

use std::collections::BTreeSet;

use muster_proto::agent::{self, step::Kind};
use muster_proto::names::{Malformed, NodeName, StepId};

use crate::plans::bootstrap::{Plan, PlannedStep};
use crate::record::Run;

/// Stands for the cluster's name in the run that undoes what was changed before there was one.
pub const NO_CLUSTER: &str = "no-cluster";

/// What the record tells of the cluster that is to be undone.
#[derive(Debug, Clone)]
pub struct Known {
    pub cluster: NodeName,
    /// The nodes of the newest bootstrap, and those of the ones before it that are still enrolled: a node that was only left
    /// out of the file is a node of the cluster all the same.
    pub nodes: Vec<NodeName>,
    pub control_plane: Option<NodeName>,
    /// The pods' range of addresses; empty when it was never recorded.
    pub pod_subnet: String,
}

impl Known {
    /// From the newest bootstrap.
    pub fn of(bootstrap: &Run, pod_subnet: String) -> Self {
        let init = bootstrap.steps.iter().find(|id| id.step() == "kubeadm-init");
        let control_plane = init.and_then(|id| id.node().parse().ok());
        Self { cluster: bootstrap.cluster.clone(), nodes: nodes_of(bootstrap), control_plane, pod_subnet }
    }

    /// With the nodes of the cluster's earlier bootstraps that are still enrolled.
    pub fn with_earlier(mut self, bootstraps: &[Run], enrolled: &BTreeSet<NodeName>) -> Self {
        let earlier = bootstraps.iter().flat_map(nodes_of).filter(|node| enrolled.contains(node));
        self.nodes = each_once(self.nodes.into_iter().chain(earlier));
        self
    }

    /// What is said of the nodes that are not enrolled any more; none when all are. An error: a name that nobody knows.
    pub fn strangers(
        &self,
        nodes: &[NodeName],
        enrolled: &BTreeSet<NodeName>,
    ) -> Result<Option<String>, String> {
        let mut gone: Vec<&str> = Vec::new();
        for node in nodes.iter().filter(|node| !enrolled.contains(*node)) {
            if !self.nodes.contains(node) {
                return Err(format!(
                    "{node} is neither enrolled nor a node of the cluster {}: `sudo coordinator nodes list` shows who is",
                    self.cluster
                ));
            }
            gone.push(node.as_str());
        }
        let names = gone.join(", ");
        Ok((!gone.is_empty()).then(|| format!("not enrolled any more, so nothing is undone there: {names}")))
    }

    /// The sentence that refuses a reset that was not confirmed with the cluster's name; none when it was.
    pub fn refusal(&self, nodes: &[NodeName], confirm: &str) -> Option<String> {
        if confirm == self.cluster.as_str() {
            return None;
        }
        let names = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let all = self.control_plane.as_ref().is_some_and(|control_plane| nodes.contains(control_plane));
        let lost = if all {
            format!(
                "this destroys the cluster {}: etcd's data with every Kubernetes object, and every pod on {names}",
                self.cluster
            )
        } else {
            format!(
                "this takes {names} out of the cluster {}: the pods there end, and what lies only there is lost",
                self.cluster
            )
        };
        let wrong = if confirm.is_empty() { "" } else { " (the name given is another one)" };
        Some(format!(
            "{lost}. What Muster changed on these machines is put back. To do it, run the same command with --confirm {}{wrong}",
            self.cluster
        ))
    }
}

fn nodes_of(bootstrap: &Run) -> Vec<NodeName> {
    each_once(bootstrap.steps.iter().filter_map(|id| id.node().parse().ok()))
}

/// In their order; a second time says nothing new.
pub(crate) fn each_once(named: impl IntoIterator<Item = NodeName>) -> Vec<NodeName> {
    let mut nodes: Vec<NodeName> = Vec::new();
    for node in named {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// Workers beside each other, then the control plane. A control plane that stays forgets the workers that go, and drains
/// them first when that is asked for. On a worker that is not enrolled any more nothing can be undone: it is only forgotten.
pub fn plan(
    known: &Known,
    nodes: &[NodeName],
    enrolled: &BTreeSet<NodeName>,
    drain: bool,
) -> Result<Plan, Malformed> {
    let nodes_stay = known.nodes.iter().any(|node| enrolled.contains(node) && !nodes.contains(node));
    let mut planner = Planner { pod_subnet: &known.pod_subnet, nodes_stay, steps: Vec::new() };
    let control_plane = known.control_plane.as_ref();
    let staying = control_plane.filter(|control_plane| !nodes.contains(control_plane));
    let mut workers_restored = Vec::new();
    for worker in nodes.iter().filter(|node| Some(*node) != control_plane) {
        if !enrolled.contains(worker) {
            if let Some(control_plane) = staying {
                planner.forget(control_plane, worker, &[])?;
            }
            continue;
        }
        let mut after = Vec::new();
        if let (Some(control_plane), true) = (staying, drain) {
            let message = Kind::DrainNode(agent::DrainNode { node: worker.to_string() });
            after.push(planner.add(control_plane, &format!("drain-node.{worker}"), message, &[])?);
        }
        let (reset, restored) = planner.undo(worker, &after)?;
        if let Some(control_plane) = staying {
            planner.forget(control_plane, worker, &[reset])?;
        }
        workers_restored.push(restored);
    }
    let goes = |control_plane: &&NodeName| nodes.contains(control_plane) && enrolled.contains(*control_plane);
    if let Some(control_plane) = control_plane.filter(goes) {
        planner.undo(control_plane, &workers_restored)?;
    }
    Ok(Plan { cluster: known.cluster.clone(), steps: planner.steps, pod_subnet: known.pod_subnet.clone() })
}

/// Before there ever was a cluster: only what Muster itself changed goes, on these of the enrolled nodes.
pub fn plan_without_cluster(enrolled: &[NodeName], nodes: &[NodeName]) -> Result<Plan, Malformed> {
    let nodes_stay = enrolled.iter().any(|node| !nodes.contains(node));
    let mut planner = Planner { pod_subnet: "", nodes_stay, steps: Vec::new() };
    for node in nodes {
        planner.restore(node, &[])?;
    }
    Ok(Plan { cluster: NO_CLUSTER.parse()?, steps: planner.steps, pod_subnet: String::new() })
}

struct Planner<'a> {
    pod_subnet: &'a str,
    /// Whether a node of the cluster is not reset.
    nodes_stay: bool,
    steps: Vec<PlannedStep>,
}

impl Planner<'_> {
    /// The ids of the first and the last step that undo a node.
    fn undo(&mut self, node: &NodeName, after: &[StepId]) -> Result<(StepId, StepId), Malformed> {
        let leftovers = agent::NetworkLeftovers { pod_subnet: self.pod_subnet.to_owned() };
        let reset = self.add(node, "kubeadm-reset", Kind::KubeadmReset(agent::KubeadmReset {}), after)?;
        let leftovers = Kind::NetworkLeftovers(leftovers);
        let network = self.add(node, "network-leftovers", leftovers, std::slice::from_ref(&reset))?;
        let restored = self.restore(node, &[network])?;
        Ok((reset, restored))
    }

    fn forget(
        &mut self,
        control_plane: &NodeName,
        worker: &NodeName,
        after: &[StepId],
    ) -> Result<StepId, Malformed> {
        let message = Kind::ForgetNode(agent::ForgetNode { node: worker.to_string() });
        self.add(control_plane, &format!("forget-node.{worker}"), message, after)
    }

    fn restore(&mut self, node: &NodeName, after: &[StepId]) -> Result<StepId, Malformed> {
        self.add(node, "restore", Kind::Restore(agent::Restore { nodes_stay: self.nodes_stay }), after)
    }

    fn add(
        &mut self,
        node: &NodeName,
        name: &str,
        kind: Kind,
        after: &[StepId],
    ) -> Result<StepId, Malformed> {
        let step = PlannedStep::new(node, name, kind, after)?;
        let id = step.id.clone();
        self.steps.push(step);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let name = |text: &str| text.parse().unwrap();
        Known {
            cluster: name("lab"),
            nodes: ["m1", "w1", "w2"].map(name).to_vec(),
            control_plane: Some(name("m1")),
            pod_subnet: "10.244.0.0/16".into(),
        }
    }
    fn enrolled() -> BTreeSet<NodeName> {
        known().nodes.into_iter().collect()
    }
    fn after(plan: &Plan, id: &str) -> Vec<String> {
        let step = plan.steps.iter().find(|step| step.id.as_str() == id).unwrap_or_else(|| panic!("no {id}"));
        step.after.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn workers_are_reset_beside_each_other_and_the_control_plane_comes_last() {
        let plan = plan(&known(), &known().nodes, &enrolled(), false).unwrap();
        assert!(after(&plan, "w1/kubeadm-reset").is_empty() && after(&plan, "w2/kubeadm-reset").is_empty());
        assert_eq!(after(&plan, "m1/kubeadm-reset"), ["w1/restore", "w2/restore"]);
        assert_eq!(plan.steps.len(), 9, "a control plane that goes drains and forgets nobody");
    }

    #[test]
    fn a_control_plane_that_stays_drains_and_forgets_the_worker() {
        let plan = plan(&known(), &["w1".parse().unwrap()], &enrolled(), true).unwrap();
        assert_eq!(after(&plan, "w1/kubeadm-reset"), ["m1/drain-node.w1"]);
        assert_eq!(after(&plan, "m1/forget-node.w1"), ["w1/kubeadm-reset"]);
    }

    #[test]
    fn a_worker_that_is_not_enrolled_any_more_is_forgotten_and_holds_nothing_up() {
        let mut enrolled = enrolled();
        enrolled.remove(&"w1".parse().unwrap());
        let ids = |plan: &Plan| plan.steps.iter().map(|step| step.id.to_string()).collect::<Vec<_>>();
        let removal = plan(&known(), &["w1".parse().unwrap()], &enrolled, true).unwrap();
        assert_eq!(
            (ids(&removal), after(&removal, "m1/forget-node.w1")),
            (vec!["m1/forget-node.w1".into()], vec![])
        );
        let all = plan(&known(), &known().nodes, &enrolled, false).unwrap();
        assert_eq!(all.steps.len(), 6);
        assert_eq!(after(&all, "m1/kubeadm-reset"), ["w2/restore"]);
        let workers = ["w1", "w2"].map(|name| name.parse().unwrap()).into();
        let without_master = plan(&known(), &known().nodes, &workers, false).unwrap();
        assert_eq!(without_master.steps.len(), 6, "nor does a control plane that is not enrolled any more");
        let told = known().strangers(&known().nodes, &enrolled).unwrap().unwrap();
        assert!(told.ends_with("nothing is undone there: w1"), "{told}");
        assert_eq!(known().strangers(&["w2".parse().unwrap()], &enrolled), Ok(None));
        assert!(known().strangers(&["w9".parse().unwrap()], &enrolled).unwrap_err().contains("nodes list"));
    }

    #[test]
    fn a_reset_says_whether_nodes_stay_that_dial_this_coordinator() {
        let stay = |plan: Plan| {
            let of = |step: &PlannedStep| match step.step.kind {
                Some(Kind::Restore(restore)) => Some(restore.nodes_stay),
                _ => None,
            };
            plan.steps.iter().filter_map(of).collect::<Vec<bool>>()
        };
        let (all, master) = (known().nodes, ["m1".parse().unwrap()]);
        assert_eq!(stay(plan(&known(), &all, &enrolled(), false).unwrap()), [false; 3]);
        assert_eq!(stay(plan(&known(), &master, &enrolled(), false).unwrap()), [true]);
        let alone = [master[0].clone()].into();
        assert_eq!(stay(plan(&known(), &master, &alone, false).unwrap()), [false], "nobody else can dial in");
        let before = plan_without_cluster(&all, &all).unwrap();
        assert_eq!((before.steps.len(), before.cluster.as_str()), (3, NO_CLUSTER));
        assert_eq!(stay(before), [false; 3]);
        assert_eq!(stay(plan_without_cluster(&all, &master).unwrap()), [true]);
    }

    #[test]
    fn without_the_clusters_name_it_is_refused_with_what_would_be_lost() {
        let all = known().refusal(&known().nodes, "").unwrap();
        assert!(all.contains("every Kubernetes object") && all.contains("m1, w1, w2"), "{all}");
        let one = known().refusal(&["w1".parse().unwrap()], "prod").unwrap();
        assert!(one.contains("takes w1 out") && one.contains("--confirm lab (the name"), "{one}");
        assert!(known().refusal(&known().nodes, "lab").is_none());
    }
}
