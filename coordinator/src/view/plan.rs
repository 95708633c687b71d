//! `coordinator plan`: what bootstrap would change.

use muster_proto::coordinator as proto;
use muster_proto::redaction::printable;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, Problem, UnknownWord, line, problems, words};

words! {
    /// What looking at a step says.
    Finding: "finding" {
        /// It holds already.
        Done = "done",
        /// It would change something.
        Todo = "todo",
        /// It can be looked at once the step that it comes after is done.
        Later = "later",
        /// A person has to change the node first.
        Blocked = "blocked",
    }
}

/// What bootstrap would change on every host.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Plan {
    /// Set: the file cannot be used, and there is no plan.
    pub problems: Vec<Problem>,
    pub nodes: Vec<Node>,
    /// How many steps of each finding there are.
    pub steps: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Node {
    pub name: String,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// NODE/STEP.
    pub id: String,
    pub finding: Finding,
    /// Of what can only be looked at later: the step before it; empty otherwise.
    pub after: String,
    pub changes: Vec<Change>,
    /// Why it is blocked; null otherwise.
    pub complaint: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    pub summary: String,
    /// Of a file, line by line; may be empty.
    pub difference: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    pub done: usize,
    pub todo: usize,
    pub later: usize,
    pub blocked: usize,
}

impl Plan {
    /// Whether a bootstrap would change something, as far as can be seen now.
    pub fn would_change(&self) -> bool {
        self.steps.todo + self.steps.later > 0
    }
}

impl TryFrom<&proto::PlanReply> for Plan {
    type Error = UnknownWord;

    fn try_from(reply: &proto::PlanReply) -> Result<Self, UnknownWord> {
        let nodes: Vec<Node> = reply.nodes.iter().map(Node::try_from).collect::<Result<_, _>>()?;
        let mut steps = Counts::default();
        for step in nodes.iter().flat_map(|node| &node.steps) {
            *match step.finding {
                Finding::Done => &mut steps.done,
                Finding::Todo => &mut steps.todo,
                Finding::Later => &mut steps.later,
                Finding::Blocked => &mut steps.blocked,
            } += 1;
        }
        Ok(Self { problems: problems(reply.problems.as_ref()), nodes, steps })
    }
}

impl TryFrom<&proto::NodePlan> for Node {
    type Error = UnknownWord;

    fn try_from(node: &proto::NodePlan) -> Result<Self, UnknownWord> {
        let steps = node.steps.iter().map(Step::try_from).collect::<Result<_, _>>()?;
        Ok(Self { name: line(&node.node), steps })
    }
}

impl TryFrom<&proto::StepPlan> for Step {
    type Error = UnknownWord;

    fn try_from(step: &proto::StepPlan) -> Result<Self, UnknownWord> {
        let change = |change: &proto::ChangePlan| Change {
            summary: line(&change.summary),
            difference: printable(&change.difference),
        };
        Ok(Self {
            id: line(&step.step_id),
            finding: step.finding.parse()?,
            after: line(&step.after),
            changes: step.changes.iter().map(change).collect(),
            complaint: step.complaint.clone().map(Failure::from),
        })
    }
}
