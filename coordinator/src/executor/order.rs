//! Which steps may begin: every step knows how many of those before it are not done yet, and every step that is done counts
//! down those that come after it. Nobody looks at all steps for that.

use std::collections::HashMap;

use muster_proto::names::StepId;

use crate::plans::Plan;

/// What of a plan is still to be waited for; steps are named by their index in the plan.
pub(super) struct Order {
    index: HashMap<StepId, usize>,
    /// How many steps before this one are not done.
    open: Vec<usize>,
    /// Who comes after this one.
    after: Vec<Vec<usize>>,
}

impl Order {
    pub(super) fn of(plan: &Plan) -> Self {
        let ids = plan.steps.iter().map(|step| step.id.clone());
        let index: HashMap<StepId, usize> = ids.zip(0..).collect();
        let mut open = vec![0; plan.steps.len()];
        let mut after = vec![Vec::new(); plan.steps.len()];
        for (number, step) in plan.steps.iter().enumerate() {
            let mut before: Vec<Option<usize>> = step.after.iter().map(|id| index.get(id).copied()).collect();
            before.sort_unstable();
            before.dedup();
            // A step that is not in the plan is never done: who comes after it does not begin.
            open[number] = before.len();
            before.into_iter().flatten().for_each(|before| after[before].push(number));
        }
        Self { index, open, after }
    }

    /// Those that come after none.
    pub(super) fn first(&self) -> Vec<usize> {
        (0..self.open.len()).filter(|number| self.open[*number] == 0).collect()
    }

    /// This step is done: those that it was the last before.
    pub(super) fn done(&mut self, id: &StepId) -> Vec<usize> {
        let Some(number) = self.index.get(id) else { return Vec::new() };
        let after = std::mem::take(&mut self.after[*number]);
        let begins = |number: &usize| {
            self.open[*number] -= 1;
            self.open[*number] == 0
        };
        after.into_iter().filter(begins).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::in_order;

    fn id(id: &str) -> StepId {
        id.parse().unwrap()
    }

    #[test]
    fn a_step_begins_once_and_when_the_last_one_before_it_is_done() {
        let plan =
            in_order(&[("a/x", &[]), ("b/x", &[]), ("a/y", &["a/x", "b/x", "a/x"]), ("a/z", &["a/y"])]);
        let mut order = Order::of(&plan);
        assert_eq!(order.first(), [0, 1]);
        assert!(order.done(&id("a/x")).is_empty());
        assert!(order.done(&id("a/x")).is_empty(), "nothing is counted twice");
        assert_eq!(order.done(&id("b/x")), [2]);
        assert_eq!(order.done(&id("a/y")), [3]);
    }

    #[test]
    fn what_comes_after_a_step_that_is_not_planned_does_not_begin() {
        let mut order = Order::of(&in_order(&[("a/x", &["a/w"]), ("a/y", &["a/x", "a/w"])]));
        assert!(order.first().is_empty() && order.done(&id("a/x")).is_empty());
    }
}
