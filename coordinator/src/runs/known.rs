//! What the record and the journal tell of the cluster that stands, for a reset to undo all of it.

use std::collections::BTreeSet;

use muster_proto::agent::step::Kind;
use muster_proto::event::EventKind;
use muster_proto::names::{NodeName, StepId};

use super::{Runs, RunsError};
use crate::plans::bootstrap::{Plan, PlannedStep};
use crate::plans::reset;
use crate::record::Run;

impl Runs {
    /// The pods' range, which a reset wants to know, of a cluster that is about to be made. One that stands keeps the range
    /// that it was made with, whatever the file says by now.
    pub(super) fn remember_pod_subnet(&self, plan: &Plan) -> Result<(), RunsError> {
        let is_init = |step: &&PlannedStep| matches!(step.step.kind, Some(Kind::KubeadmInit(_)));
        let Some(init) = plan.steps.iter().find(is_init) else { return Ok(()) };
        let known = self.record.pod_subnet(&plan.cluster)?;
        if known.is_empty() || !self.is_made(&init.node, &init.id)? {
            self.record.remember_pod_subnet(&plan.cluster, &plan.pod_subnet)?;
        }
        Ok(())
    }

    /// Whether a control plane was made on the node and not reset since.
    fn is_made(&self, node: &NodeName, init: &StepId) -> Result<bool, RunsError> {
        let last_done = |id: &StepId| -> Result<Option<u64>, RunsError> {
            let events = self.journal.ever_of_step(id)?;
            let done = events.iter().filter(|event| matches!(event.kind, EventKind::Done { .. }));
            Ok(done.map(|event| event.sequence).max())
        };
        let reset = StepId::new(node, "kubeadm-reset").map(|reset| last_done(&reset)).unwrap_or(Ok(None))?;
        Ok(last_done(init)? > reset)
    }

    /// What the record tells of the cluster that is to be undone.
    pub(super) fn known(
        &self,
        bootstrap: &Run,
        pod_subnet: String,
        enrolled: &BTreeSet<NodeName>,
    ) -> Result<reset::Known, RunsError> {
        let known = reset::Known::of(bootstrap, pod_subnet);
        let Some(control_plane) = &known.control_plane else { return Ok(known) };
        let earlier = self.record.bootstraps_since_reset(&known.cluster, control_plane)?;
        Ok(known.with_earlier(&earlier, enrolled))
    }
}
