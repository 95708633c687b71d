//! What every host would see of a plan: its agent looks, with the code that a run uses, and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use muster_proto::agent::{self, check_step_reply};
use muster_proto::cause::chain;
use muster_proto::event::Complaint;
use muster_proto::names::StepId;
use muster_proto::step_kind::StepKind;

use crate::doors::fleet::Fleet;
use crate::plans::PlannedStep;

/// An agent that is just connecting gets this time.
const CONNECTION: Duration = Duration::from_secs(15);

/// What looking at one step says.
#[derive(Debug, Clone)]
pub enum Preview {
    Done,
    Todo(Vec<agent::PlannedChange>),
    /// It is blocked or waits now, and may not be once this step before it is done.
    Later(StepId),
    Blocked(Complaint),
}

/// Looks at all steps at once; the answers in their order.
pub async fn preview(fleet: &Fleet, steps: &[PlannedStep]) -> Vec<Preview> {
    let looked = join_all(steps.iter().map(|step| look(fleet, step))).await;
    let found: BTreeMap<&StepId, &Preview> = steps.iter().map(|step| &step.id).zip(&looked).collect();
    let before = |step: &PlannedStep| {
        let open = |id: &&StepId| found.get(id).is_some_and(|found| !matches!(found, Preview::Done));
        // What an earlier step yields is there only in a run; of others the last one is the nearest.
        step.input_from.first().or(step.after.iter().rev().find(open)).cloned()
    };
    let is_final = |step: &PlannedStep| step.id.kind().is_some_and(StepKind::is_final_from_the_start);
    let said = |(step, preview): (&PlannedStep, &Preview)| match (preview, before(step)) {
        (Preview::Blocked(_), Some(first)) if !is_final(step) => Preview::Later(first),
        (Preview::Todo(changes), Some(first)) if changes.is_empty() => Preview::Later(first),
        _ => preview.clone(),
    };
    steps.iter().zip(&looked).map(said).collect()
}

async fn look(fleet: &Fleet, step: &PlannedStep) -> Preview {
    let blocked = |cause: String| {
        Preview::Blocked(Complaint::new(
            cause,
            "",
            format!("on {}: `systemctl status muster-agent`", step.node),
        ))
    };
    let agent = match fleet.agent(&step.node, CONNECTION).await {
        Ok(agent) => agent,
        Err(error) => return blocked(chain(&error)),
    };
    match agent.check_step(&step.id, &step.step).await.map(|reply| reply.finding) {
        Ok(Some(check_step_reply::Finding::Done(_))) => Preview::Done,
        Ok(Some(check_step_reply::Finding::Todo(todo))) => Preview::Todo(todo.changes),
        Ok(Some(check_step_reply::Finding::Blocked(complaint))) => Preview::Blocked(complaint.into()),
        Ok(None) => blocked("the agent gave no finding that this version knows".to_owned()),
        Err(unusable) => blocked(unusable.to_string()),
    }
}
