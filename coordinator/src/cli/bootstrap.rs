//! `coordinator bootstrap -f cluster.yaml`: starts the run, or attaches to it, and shows it live. Ctrl-C detaches.

use std::path::PathBuf;

use muster_proto::coordinator::{ClusterStatus, RunEnd, progress};
use muster_proto::redaction::printable;

use super::exit::{NotFinished, Outcome};
use super::screen::Screen;
use super::{ClientError, Failure, admin, cluster_file};
use crate::settings::Paths;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The cluster that is wanted
    #[arg(short, long, value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let files = cluster_file::read(&arguments.file)?;
    let mut client = admin(paths).await?;
    let mut stream = client.bootstrap(files).await.map_err(ClientError::from)?.into_inner();
    let mut screen = Screen::new();
    let mut last = ClusterStatus::default();
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = tokio::signal::ctrl_c() => {
                screen.clear();
                anstream::println!("detached; the work goes on. The same command attaches again, `coordinator status` shows where it stands.");
                return Ok(());
            }
        };
        match message {
            Ok(Some(progress)) => match progress.item {
                Some(progress::Item::Status(status)) => {
                    screen.show(&status);
                    last = status;
                }
                Some(progress::Item::End(end)) => {
                    screen.clear();
                    return report(&end, &last);
                }
                None => {}
            },
            Ok(None) => {
                return Err(ClientError::Lost("it ended the connection".into()).into());
            }
            Err(status) => {
                screen.clear();
                return Err(ClientError::Lost(printable(status.message())).into());
            }
        }
    }
}

fn report(end: &RunEnd, last: &ClusterStatus) -> Result<(), Failure> {
    for (index, failure) in end.failures.iter().enumerate() {
        let lead = if index == 0 { "FAILED" } else { "also" };
        anstream::eprintln!("{lead}  {} / {}: {}", failure.node, failure.step, printable(&failure.cause));
        let block = |label: &str, text: &str| {
            if !text.is_empty() {
                anstream::eprintln!(
                    "    {label}: {}",
                    printable(text).trim_end().replace('\n', "\n          ")
                );
            }
        };
        block("seen", &failure.evidence);
        block("to do", &failure.remedy);
    }
    match (end.phase.as_str(), end.changed_steps) {
        ("done", 0) => anstream::println!("nothing to do: the cluster is as the file says"),
        ("done", 1) => anstream::println!("done: 1 step changed something"),
        ("done", count) => anstream::println!("done: {count} steps changed something"),
        _ => return Err(NotFinished { what: "the bootstrap", outcome: Outcome::of_run(last) }.into()),
    }
    Ok(())
}
