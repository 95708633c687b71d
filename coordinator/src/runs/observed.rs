//! What the record and the journal tell of the cluster that stands.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::names::{NodeName, StepId};
use muster_proto::step_kind::StepKind;

use super::{Runs, RunsError};
use crate::plans::cluster::ClusterFacts;
use crate::plans::observed::{Member, Observed, Role};
use crate::record::Run;

impl Runs {
    /// The cluster of this name, or of the newest bootstrap; none when there never was one.
    pub(super) fn observed(
        &self,
        cluster: Option<&NodeName>,
        enrolled: &BTreeSet<NodeName>,
    ) -> Result<Option<Observed>, RunsError> {
        let Some(newest) = self.record.last_bootstrap(cluster)? else { return Ok(None) };
        let mut members = BTreeMap::new();
        let mut order: Vec<NodeName> = Vec::new();
        let mut take = |run: &Run, only_enrolled: bool| {
            let nodes = run.steps.iter().filter_map(|id| id.node().parse::<NodeName>().ok());
            for node in nodes.filter(|node| !only_enrolled || enrolled.contains(node)) {
                members.entry(node.clone()).or_insert_with(|| {
                    order.push(node.clone());
                    let is_control_plane = newest.cluster.control_planes.contains(&node);
                    let role = if is_control_plane { Role::ControlPlane } else { Role::Worker };
                    Member { node, role, kubernetes_version: run.cluster.kubernetes_version }
                });
            }
        };
        take(&newest, false);
        for earlier in self.record.bootstraps_since_reset(&newest.cluster)? {
            take(&earlier, true);
        }
        let members = order.iter().filter_map(|node| members.remove(node)).collect();
        let made = self.is_made(&newest.cluster)?;
        Ok(Some(Observed { cluster: newest.cluster, made, members }))
    }

    /// Whether its control plane was made and not reset since.
    fn is_made(&self, cluster: &ClusterFacts) -> Result<bool, RunsError> {
        let Some(node) = cluster.control_planes.first() else { return Ok(false) };
        let last_done = |kind| self.journal.last_done(&StepId::of(node, kind));
        Ok(last_done(StepKind::KubeadmInit)? > last_done(StepKind::KubeadmReset)?)
    }
}
