//! What is kept of a run for its report, besides its events: the file that it was asked for with, the hosts as they were, and
//! which step came after which.

use std::collections::BTreeMap;

use muster_proto::agent::HostFacts;
use muster_proto::coordinator::ClusterFiles;
use muster_proto::names::StepId;
use muster_proto::redaction::redact;
use serde::{Deserialize, Serialize};

use crate::plans::{Hosts, Plan};

/// The account of one run. What is empty was not kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Account {
    pub cluster_file: Option<ClusterFile>,
    pub hosts: Vec<Host>,
    order: Order,
}

/// The cluster file as it was given, without what looks like a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterFile {
    pub path: String,
    pub text: String,
}

/// What a host said of itself when the run was planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub node: String,
    pub address: String,
    pub hostname: String,
    pub operating_system: String,
    pub kernel: String,
    pub processors: u32,
    pub memory_bytes: u64,
    pub kubeadm_version: String,
}

/// Steps by their index in the plan. Each list is kept once: of a thousand nodes most come after the same steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    lists: Vec<Vec<usize>>,
    /// Of every step of the plan, which list it comes after.
    of_step: Vec<usize>,
}

impl Account {
    /// Of a run of this plan.
    pub fn of(plan: &Plan) -> Self {
        let index: BTreeMap<&StepId, usize> = plan.steps.iter().map(|step| &step.id).zip(0..).collect();
        let mut known: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let of_step = plan.steps.iter().map(|step| {
            let mut list: Vec<usize> = step.after.iter().filter_map(|id| index.get(id).copied()).collect();
            list.sort_unstable();
            list.dedup();
            let next = known.len();
            *known.entry(list).or_insert(next)
        });
        let of_step = of_step.collect();
        let mut lists = vec![Vec::new(); known.len()];
        known.into_iter().for_each(|(list, number)| lists[number] = list);
        Self { order: Order { lists, of_step }, ..Self::default() }
    }

    /// With the file that a bootstrap was asked for with, and the hosts that it was planned for.
    pub fn with(self, files: &ClusterFiles, hosts: &Hosts) -> Self {
        let cluster_file = Some(ClusterFile { path: files.spec_path.clone(), text: redact(&files.spec) });
        let hosts =
            hosts.iter().filter_map(|(node, facts)| Some(Host::of(node.as_str(), facts.as_ref().ok()?)));
        Self { cluster_file, hosts: hosts.collect(), ..self }
    }

    /// The steps that this one of the plan's comes after, by their index.
    pub fn after(&self, step: usize) -> &[usize] {
        let list = self.order.of_step.get(step).and_then(|list| self.order.lists.get(*list));
        list.map(Vec::as_slice).unwrap_or_default()
    }
}

impl Host {
    fn of(node: &str, facts: &HostFacts) -> Self {
        Self {
            node: node.to_owned(),
            address: facts.address.clone(),
            hostname: facts.hostname.clone(),
            operating_system: facts.operating_system.clone(),
            kernel: facts.kernel.clone(),
            processors: facts.processors,
            memory_bytes: facts.memory_bytes,
            kubeadm_version: facts.kubeadm_version.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::in_order;

    #[test]
    fn which_step_came_after_which_is_kept_and_equal_lists_once() {
        let steps: [(&str, &[&str]); 4] = [
            ("a/swap", &[]),
            ("b/swap", &[]),
            ("a/hosts", &["b/swap", "a/swap"]),
            ("b/hosts", &["a/swap", "b/swap"]),
        ];
        let account = Account::of(&in_order(&steps));
        assert_eq!([0, 2, 3, 9].map(|step| account.after(step)), [&[][..], &[0, 1], &[0, 1], &[]]);
        assert_eq!(account.order.lists.len(), 2);
        let kept: Account = serde_json::from_str(&serde_json::to_string(&account).unwrap()).unwrap();
        assert_eq!(kept, account);
    }
}
