//! `coordinator plan -f cluster.yaml`: what bootstrap would change on every host. Changes nothing.

use std::path::PathBuf;

use muster_proto::coordinator::PlanReply;

use super::exit::{WouldBlock, WouldChange};
use super::{ClientError, Failure, Output, admin, cluster_file};
use crate::settings::Paths;
use crate::spec::Problems;
use crate::view;
use crate::view::plan::{Counts, Plan, Step};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cluster that is wanted
    #[arg(short, long, value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// End with 6 when bootstrap would change something, and with 0 only when it would not
    #[arg(long)]
    exit_code: bool,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let files = cluster_file::read(&arguments.file)?;
    let reply = admin(paths).await?.plan(files).await.map_err(ClientError::from)?.into_inner();
    let plan = Plan::try_from(&reply)?;
    match arguments.output {
        Output::Json => anstream::println!("{}", view::json(&plan)),
        Output::Text if plan.problems.is_empty() => print(&plan),
        Output::Text => {}
    }
    verdict(reply, &plan, arguments.exit_code)
}

/// How the command ends, however it printed: the file cannot be used, a step is blocked, something would change and that was
/// asked for, or none of these.
fn verdict(reply: PlanReply, plan: &Plan, tells_changes: bool) -> Result<(), Failure> {
    match reply.problems {
        Some(problems) => Err(Problems::from(problems).into()),
        None if plan.steps.blocked > 0 => Err(WouldBlock::Steps.into()),
        None if tells_changes && plan.would_change() => Err(WouldChange.into()),
        None => Ok(()),
    }
}

fn print(plan: &Plan) {
    for node in &plan.nodes {
        anstream::println!("{}", node.name);
        node.steps.iter().for_each(print_step);
    }
    let Counts { done, todo, later, blocked } = plan.steps;
    anstream::println!(
        "{done} steps hold already, {todo} would change something, {later} can be looked at later, {blocked} are blocked; nothing was changed"
    );
}

fn print_step(step: &Step) {
    let name = step.id.split_once('/').map_or(step.id.as_str(), |(_, name)| name);
    let why = match &step.complaint {
        Some(complaint) => complaint.cause.clone(),
        None if step.after.is_empty() => String::new(),
        None => format!("after {}", step.after),
    };
    anstream::println!("  {:<8} {name}  {}", step.finding.word(), why.replace('\n', " "));
    if let Some(complaint) = &step.complaint {
        for (label, text) in [("seen", &complaint.evidence), ("to do", &complaint.remedy)] {
            if !text.is_empty() {
                anstream::println!("      {label}: {}", view::quoted(text, 12));
            }
        }
    }
    for change in &step.changes {
        anstream::println!("      {}", change.summary);
        for line in change.difference.lines() {
            anstream::println!("        {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::coordinator::{
        ChangePlan, Failure as Told, NodePlan, Problem, Problems as Found, StepPlan,
    };

    use serde_json::{Value, json};

    use super::super::exit::Outcome;
    use super::*;

    fn to_json(plan: &PlanReply) -> Value {
        serde_json::from_str(&view::json(&Plan::try_from(plan).unwrap())).unwrap()
    }
    fn ends(reply: PlanReply, tells_changes: bool) -> Outcome {
        let plan = Plan::try_from(&reply).unwrap();
        verdict(reply, &plan, tells_changes).map_or_else(|failure| Outcome::of(&failure), |()| Outcome::Done)
    }

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
        assert_eq!(ends(plan.clone(), false), Outcome::Blocked);
        assert_eq!(ends(plan, true), Outcome::Blocked, "what is blocked says more than what would change");
    }

    #[test]
    fn whether_something_would_change_is_told_by_the_code_where_that_is_asked_for() {
        let of = |finding: &str| plan_of(vec![step("m1/hostname", "done"), step("m1/hosts", finding)]);
        assert_eq!(ends(of("done"), true), Outcome::Done);
        for finding in ["todo", "later"] {
            assert_eq!(ends(of(finding), true), Outcome::WouldChange, "{finding}");
            assert_eq!(ends(of(finding), false), Outcome::Done, "{finding}");
        }
    }

    #[test]
    fn a_finding_of_another_version_is_refused_by_its_word() {
        let error = Plan::try_from(&plan_of(vec![step("m1/hosts", "perhaps")])).unwrap_err().to_string();
        assert!(error.contains("\"perhaps\"") && error.contains("restart"), "{error}");
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
        assert_eq!(ends(plan, true), Outcome::Usage);
    }

    #[test]
    fn nothing_in_the_machine_form_steers_a_terminal() {
        let change = ChangePlan { summary: "\u{1b}[2J".into(), difference: String::new() };
        let reply = plan_of(vec![StepPlan { changes: vec![change], ..step("m1/x", "todo") }]);
        let text = view::json(&Plan::try_from(&reply).unwrap());
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
