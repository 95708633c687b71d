//! `coordinator plan -f cluster.yaml`: what bootstrap would change on every host. Changes nothing.

use std::path::PathBuf;

use muster_proto::coordinator::{PlanReply, StepPlan};
use muster_proto::redaction::printable;
use serde_json::{Value, json};

use super::exit::WouldBlock;
use super::status::failure_to_json;
use super::{ClientError, Failure, Output, admin, cluster_file};
use crate::settings::Paths;
use crate::spec::Problems;

/// What looking at a step can say; the order of the last line.
const FINDINGS: [&str; 4] = ["done", "todo", "later", "blocked"];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cluster that is wanted
    #[arg(short, long, value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let files = cluster_file::read(&arguments.file)?;
    let plan = admin(paths).await?.plan(files).await.map_err(ClientError::from)?.into_inner();
    match arguments.output {
        // JSON escapes only the oldest control characters.
        Output::Json => anstream::println!("{}", printable(&format!("{:#}", to_json(&plan)))),
        Output::Text if plan.problems.is_none() => print(&plan),
        Output::Text => {}
    }
    verdict(plan)
}

/// How the command ends, however it printed: the file cannot be used, a step is blocked, or neither.
fn verdict(plan: PlanReply) -> Result<(), Failure> {
    let [.., blocked] = counts(&plan);
    match plan.problems {
        Some(problems) => Err(Problems::from(problems).into()),
        None if blocked > 0 => Err(WouldBlock::Steps.into()),
        None => Ok(()),
    }
}

fn counts(plan: &PlanReply) -> [usize; 4] {
    let steps = || plan.nodes.iter().flat_map(|node| &node.steps);
    FINDINGS.map(|finding| steps().filter(|step| step.finding == finding).count())
}

fn print(plan: &PlanReply) {
    for node in &plan.nodes {
        anstream::println!("{}", node.node);
        node.steps.iter().for_each(print_step);
    }
    let [done, todo, later, blocked] = counts(plan);
    anstream::println!(
        "{done} steps hold already, {todo} would change something, {later} can be looked at later, {blocked} are blocked; nothing was changed"
    );
}

fn print_step(step: &StepPlan) {
    let name = step.step_id.split_once('/').map_or(step.step_id.as_str(), |(_, name)| name);
    let why = match &step.complaint {
        Some(complaint) => complaint.cause.clone(),
        None if step.after.is_empty() => String::new(),
        None => format!("after {}", step.after),
    };
    anstream::println!("  {:<8} {name}  {}", step.finding, printable(&why).replace('\n', " "));
    if let Some(complaint) = &step.complaint {
        for (label, text) in [("seen", &complaint.evidence), ("to do", &complaint.remedy)] {
            let text = printable(text);
            if !text.is_empty() {
                anstream::println!("      {label}: {}", text.trim_end().replace('\n', "\n            "));
            }
        }
    }
    for change in &step.changes {
        anstream::println!("      {}", printable(&change.summary));
        for line in printable(&change.difference).lines() {
            anstream::println!("        {line}");
        }
    }
}

/// The form that scripts rely on: names stay, new ones may come. All texts are as the nodes sent them.
fn to_json(plan: &PlanReply) -> Value {
    let problems = plan.problems.iter().flat_map(|problems| {
        problems.list.iter().map(|problem| {
            json!({ "file": problems.file, "line": problem.line, "field": problem.field, "what": problem.what })
        })
    });
    let step = |step: &StepPlan| {
        let changes = step
            .changes
            .iter()
            .map(|change| json!({ "summary": change.summary, "difference": change.difference }));
        json!({ "id": step.step_id, "finding": step.finding, "after": step.after,
                "changes": changes.collect::<Value>(), "complaint": step.complaint.as_ref().map(failure_to_json) })
    };
    let nodes = plan
        .nodes
        .iter()
        .map(|node| json!({ "name": node.node, "steps": node.steps.iter().map(step).collect::<Value>() }));
    let [done, todo, later, blocked] = counts(plan);
    json!({
        "problems": problems.collect::<Value>(),
        "nodes": nodes.collect::<Value>(),
        "steps": { "done": done, "todo": todo, "later": later, "blocked": blocked },
    })
}

#[cfg(test)]
mod tests {
    use muster_proto::coordinator::{ChangePlan, Failure as Told, NodePlan, Problem, Problems as Found};

    use super::super::exit::Outcome;
    use super::*;

    fn step(id: &str, finding: &str) -> StepPlan {
        StepPlan { step_id: id.into(), finding: finding.into(), ..StepPlan::default() }
    }
    fn plan_of(steps: Vec<StepPlan>) -> PlanReply {
        PlanReply { nodes: vec![NodePlan { node: "m1".into(), steps }], problems: None }
    }

    #[test]
    fn the_machine_form_holds_every_change_with_its_difference_and_every_complaint() {
        let change = ChangePlan { summary: "write /etc/hosts".into(), difference: "+10.88.0.11 m1\n".into() };
        let complaint = Told { cause: "no image".into(), remedy: "bring it".into(), ..Told::default() };
        let plan = plan_of(vec![
            step("m1/hostname", "done"),
            StepPlan { changes: vec![change], ..step("m1/hosts", "todo") },
            StepPlan { complaint: Some(complaint), ..step("m1/images", "blocked") },
            StepPlan { after: "m1/images".into(), ..step("m1/kubeadm-init", "later") },
        ]);
        let json = to_json(&plan);
        let steps = &json["nodes"][0]["steps"];
        assert_eq!(json["nodes"][0]["name"], "m1");
        assert_eq!(steps[1]["changes"][0]["difference"], "+10.88.0.11 m1\n");
        assert_eq!(steps[2]["complaint"]["cause"], "no image");
        assert_eq!((&steps[3]["after"], &steps[3]["complaint"]), (&json!("m1/images"), &Value::Null));
        assert_eq!(json["steps"], json!({ "done": 1, "todo": 1, "later": 1, "blocked": 1 }));
        assert_eq!(json["problems"], json!([]));
        assert_eq!(Outcome::of(&verdict(plan).unwrap_err()), Outcome::Blocked);
        assert!(verdict(plan_of(vec![step("m1/hosts", "todo")])).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_in_the_machine_form_too_and_ends_as_usage() {
        let problem = Problem { line: 7, field: "spec.nodes".into(), what: "no control plane".into() };
        let found = Found { file: "cluster.yaml".into(), list: vec![problem] };
        let plan = PlanReply { problems: Some(found), ..PlanReply::default() };
        assert_eq!(
            to_json(&plan)["problems"],
            json!([{ "file": "cluster.yaml", "line": 7, "field": "spec.nodes", "what": "no control plane" }])
        );
        assert_eq!(Outcome::of(&verdict(plan).unwrap_err()), Outcome::Usage);
    }

    #[test]
    fn nothing_in_the_machine_form_steers_a_terminal() {
        let change = ChangePlan { summary: "\u{1b}[2J".into(), difference: String::new() };
        let text = format!(
            "{:#}",
            to_json(&plan_of(vec![StepPlan { changes: vec![change], ..step("m1/x", "todo") }]))
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
