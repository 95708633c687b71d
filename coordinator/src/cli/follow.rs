//! Showing a run live to its end. Ctrl-C detaches; the run belongs to the daemon and goes on.

use muster_proto::coordinator::{self as proto, ClusterStatus, Progress, RunEnd, progress};
use muster_proto::redaction::printable;
use tonic::Streaming;

use super::exit::{NotFinished, Outcome, WouldBlock};
use super::findings::{show_failures, show_findings};
use super::screen::Screen;
use super::{ClientError, Failure};
use crate::progress::NOTHING_TO_CHANGE;
use crate::spec::Problems;
use crate::view;
use crate::view::findings::Findings;

/// What a command says of its run.
pub(super) struct Words {
    /// When every step found that it holds already.
    pub(super) nothing: &'static str,
    /// What did not finish, for instance `the bootstrap`.
    pub(super) name: &'static str,
}

/// Whether the run was followed to its end, which was good.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    Done,
    Detached,
}

pub(super) async fn follow(mut stream: Streaming<Progress>, words: &Words) -> Result<Followed, Failure> {
    let mut screen = Screen::new();
    let mut last = ClusterStatus::default();
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = tokio::signal::ctrl_c() => {
                screen.clear();
                anstream::println!("detached; the work goes on. The same command attaches again, `coordinator status` shows where it stands.");
                return Ok(Followed::Detached);
            }
        };
        match message {
            Ok(Some(progress)) => match progress.item {
                Some(progress::Item::Status(status)) => {
                    // For `coordinator wait --run` and `status --run`.
                    if last.run_id.is_empty() {
                        anstream::println!("run {}", printable(&status.run_id));
                    }
                    screen.show(&status);
                    last = status;
                }
                Some(progress::Item::Preflight(found)) => {
                    show_findings(&Findings::from(&found));
                    if !found.complaints.is_empty() {
                        return Err(WouldBlock::Preflight(found.complaints.len()).into());
                    }
                }
                Some(progress::Item::End(end)) => {
                    screen.clear();
                    return report(&end, &last, words).map(|()| Followed::Done);
                }
                Some(progress::Item::Found(what)) => anstream::println!("{}", printable(&what)),
                Some(progress::Item::Problems(problems)) => return Err(Problems::from(problems).into()),
                None => {}
            },
            Ok(None) => {
                return Err(ClientError::Lost("it ended the connection".into()).into());
            }
            Err(status) => {
                screen.clear();
                return Err(ClientError::from(status).into());
            }
        }
    }
}

fn report(end: &RunEnd, last: &ClusterStatus, words: &Words) -> Result<(), Failure> {
    let failures: Vec<view::Failure> = end.failures.iter().cloned().map(view::Failure::from).collect();
    show_failures(&failures);
    // A line per node that says "done" does not show it.
    anstream::print!("{}", left(last));
    match (end.phase.as_str(), end.changed_steps) {
        ("done", 0) => anstream::println!("{}", words.nothing),
        ("done", 1) => anstream::println!("done: 1 step changed something"),
        ("done", count) => anstream::println!("done: {count} steps changed something"),
        _ => {
            return Err(
                NotFinished { what: words.name, outcome: Outcome::of_run(last, &end.failures) }.into()
            );
        }
    }
    Ok(())
}

/// What the steps that ended well left as it is, as a person reads it.
fn left(status: &ClusterStatus) -> String {
    let told = |step: &&proto::StepStatus| {
        step.state == "done" && !step.detail.is_empty() && step.detail != NOTHING_TO_CHANGE
    };
    let line = |step: &proto::StepStatus| {
        format!("left as it is, {}: {}\n", step.id, printable(&step.detail).replace('\n', "; "))
    };
    status.steps.iter().filter(told).map(line).collect()
}
