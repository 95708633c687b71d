//! `coordinator plan -f cluster.yaml`: what bootstrap would change on every host. Changes nothing.

use std::path::PathBuf;

use muster_proto::coordinator::StepPlan;
use muster_proto::redaction::printable;

use super::exit::WouldBlock;
use super::{ClientError, Failure, admin, cluster_file};
use crate::settings::Paths;
use crate::spec::Problems;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cluster that is wanted
    #[arg(short, long, value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let files = cluster_file::read(&arguments.file)?;
    let plan = admin(paths).await?.plan(files).await.map_err(ClientError::from)?.into_inner();
    if let Some(problems) = plan.problems {
        return Err(Problems::from(problems).into());
    }
    let mut counts = [0_usize; 4];
    for node in &plan.nodes {
        anstream::println!("{}", node.node);
        for step in &node.steps {
            counts[match step.finding.as_str() {
                "done" => 0,
                "todo" => 1,
                "later" => 2,
                _ => 3,
            }] += 1;
            print(step);
        }
    }
    let [done, todo, later, blocked] = counts;
    anstream::println!(
        "{done} steps hold already, {todo} would change something, {later} can be looked at later, {blocked} are blocked; nothing was changed"
    );
    if blocked > 0 { Err(WouldBlock::Steps.into()) } else { Ok(()) }
}

fn print(step: &StepPlan) {
    let name = step.step_id.split_once('/').map_or(step.step_id.as_str(), |(_, name)| name);
    let complaint = printable(&step.complaint).replace('\n', "\n      ");
    anstream::println!("  {:<8} {name}  {complaint}", step.finding);
    for change in &step.changes {
        anstream::println!("      {}", printable(&change.summary));
        for line in printable(&change.difference).lines() {
            anstream::println!("        {line}");
        }
    }
}
