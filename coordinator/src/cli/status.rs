//! `coordinator status`: where a run stands, the newest one if none is named; any user, any script.

use muster_proto::coordinator::GetStatusRequest;
use muster_proto::coordinator::status_client::StatusClient;

use super::{ClientError, Failure, Output, connected, print_table};
use crate::settings::Paths;
use crate::view;
use crate::view::status::{Kind, Phase, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Of this run; of the newest one if none is given
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    run: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let channel = connected(paths, &paths.status_socket()).await?;
    let request = GetStatusRequest { run_id: arguments.run };
    let status = StatusClient::new(channel).get(request).await.map_err(ClientError::from)?.into_inner();
    let status = Status::try_from(status)?;
    match arguments.output {
        Output::Json => anstream::println!("{}", view::json(&status)),
        Output::Text => print(&status),
    }
    Ok(())
}

fn print(status: &Status) {
    if status.phase == Phase::None {
        anstream::println!("no cluster yet: `sudo coordinator bootstrap -f cluster.yaml` makes one");
        return;
    }
    anstream::println!("{}", headline(status));
    if status.phase == Phase::Interrupted {
        anstream::println!(
            "the coordinator stopped in the middle of it; the same command goes on from there (see `coordinator journal`)"
        );
    }
    let rows = status.nodes.iter().map(|node| {
        let agent = if node.connected { node.address.clone() } else { "not connected".to_owned() };
        let steps = format!("{}/{}", node.steps_done, node.steps);
        vec![node.name.clone(), node.state.word().to_owned(), steps, agent, node.current.clone()]
    });
    print_table(&["NODE", "STATE", "STEPS", "AGENT", "NOW"], &rows.collect::<Vec<_>>());
    for failure in &status.failures {
        anstream::println!("{} / {}: {}", failure.node, failure.step, failure.cause);
        anstream::println!("    to do: {}", view::quoted(&failure.remedy, 11));
    }
}

fn headline(status: &Status) -> String {
    let ended =
        if status.finished.is_empty() { String::new() } else { format!(", ended {}", status.finished) };
    // A reset that is done is no cluster that stands.
    let what = match status.kind {
        Kind::Reset => "reset of",
        Kind::Remove => "removal from",
        Kind::Bootstrap | Kind::None => "cluster",
    };
    format!("{what} {}: {} (began {}{ended})", status.cluster, status.phase.word(), status.started)
}

#[cfg(test)]
mod tests {
    use muster_proto::coordinator::ClusterStatus;

    use super::*;

    #[test]
    fn a_reset_that_is_done_is_not_told_as_a_cluster_that_stands() {
        let of = |kind: &str| {
            let status = ClusterStatus {
                kind: kind.to_owned(),
                cluster: "lab".to_owned(),
                phase: "done".to_owned(),
                started: "2026-11-25T12:36:23Z".to_owned(),
                ..ClusterStatus::default()
            };
            Status::try_from(status).unwrap()
        };
        assert_eq!(headline(&of("reset")), "reset of lab: done (began 2026-11-25T12:36:23Z)");
        assert_eq!(headline(&of("remove")), "removal from lab: done (began 2026-11-25T12:36:23Z)");
        assert_eq!(headline(&of("bootstrap")), "cluster lab: done (began 2026-11-25T12:36:23Z)");
        assert_eq!(serde_json::to_value(of("reset")).unwrap()["kind"], "reset");
    }
}
