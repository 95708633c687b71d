//! `coordinator status`: where the newest run stands; any user, any script.

use muster_proto::coordinator::status_client::StatusClient;
use muster_proto::coordinator::{self as proto, ClusterStatus, GetStatusRequest};
use muster_proto::redaction::printable;
use serde_json::{Value, json};

use super::{ClientError, Failure, Output, connect, print_table};
use crate::plans::kind::RunKind;
use crate::settings::Paths;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) async fn run(paths: &Paths, arguments: Arguments) -> Result<(), Failure> {
    let channel = connect(&paths.status_socket()).await?;
    let status =
        StatusClient::new(channel).get(GetStatusRequest {}).await.map_err(ClientError::from)?.into_inner();
    match arguments.output {
        // JSON escapes only the oldest control characters.
        Output::Json => anstream::println!("{}", printable(&format!("{:#}", to_json(&status)))),
        Output::Text => print(&status),
    }
    Ok(())
}

fn print(status: &ClusterStatus) {
    if status.cluster.is_empty() {
        anstream::println!("no cluster yet: `sudo coordinator bootstrap -f cluster.yaml` makes one");
        return;
    }
    anstream::println!("{}", headline(status));
    if status.phase == "interrupted" {
        anstream::println!(
            "the coordinator stopped in the middle of it; the same command goes on from there (see `coordinator journal`)"
        );
    }
    let rows = status.nodes.iter().map(|node| {
        let agent = if node.connected { node.address.clone() } else { "not connected".to_owned() };
        vec![
            node.name.clone(),
            node.state.clone(),
            format!("{}/{}", node.steps_done, node.steps),
            agent,
            node.current.clone(),
        ]
    });
    print_table(&["NODE", "STATE", "STEPS", "AGENT", "NOW"], &rows.collect::<Vec<_>>());
    for failure in &status.failures {
        anstream::println!("{} / {}: {}", failure.node, failure.step, printable(&failure.cause));
        anstream::println!("    to do: {}", printable(&failure.remedy).replace('\n', "\n           "));
    }
}

fn headline(status: &ClusterStatus) -> String {
    let ended =
        if status.finished.is_empty() { String::new() } else { format!(", ended {}", status.finished) };
    // A reset that is done is no cluster that stands.
    let what = match RunKind::from_word(&status.kind) {
        Some(RunKind::Reset) => "reset of",
        Some(RunKind::Remove) => "removal from",
        _ => "cluster",
    };
    format!("{what} {}: {} (began {}{ended})", status.cluster, status.phase, status.started)
}

/// The form that scripts rely on: names stay, new ones may come.
fn to_json(status: &ClusterStatus) -> Value {
    let nodes = status.nodes.iter().map(|node| {
        json!({ "name": node.name, "state": node.state, "connected": node.connected, "address": node.address,
                "stepsDone": node.steps_done, "steps": node.steps, "current": node.current })
    });
    let steps = status.steps.iter().map(|step| {
        json!({ "id": step.id, "node": step.node, "state": step.state, "detail": step.detail,
                "started": step.started, "finished": step.finished, "changes": step.changes })
    });
    let failures = status.failures.iter().map(failure_to_json);
    json!({
        "cluster": status.cluster, "kind": status.kind, "phase": status.phase, "runId": status.run_id,
        "started": status.started, "finished": status.finished,
        "nodes": nodes.collect::<Value>(), "steps": steps.collect::<Value>(), "failures": failures.collect::<Value>(),
        "coordinatorVersion": status.coordinator_version, "sequence": status.sequence,
    })
}

/// A failure or a complaint, wherever a command prints JSON.
pub(super) fn failure_to_json(failure: &proto::Failure) -> Value {
    json!({ "node": failure.node, "step": failure.step, "cause": failure.cause,
            "evidence": failure.evidence, "remedy": failure.remedy, "attempt": failure.attempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_that_is_done_is_not_told_as_a_cluster_that_stands() {
        let of = |kind: &str| ClusterStatus {
            kind: kind.to_owned(),
            cluster: "lab".to_owned(),
            phase: "done".to_owned(),
            started: "2026-11-25T12:36:23Z".to_owned(),
            ..ClusterStatus::default()
        };
        assert_eq!(headline(&of("reset")), "reset of lab: done (began 2026-11-25T12:36:23Z)");
        assert_eq!(headline(&of("bootstrap")), "cluster lab: done (began 2026-11-25T12:36:23Z)");
        assert_eq!(to_json(&of("reset"))["kind"], "reset");
    }
}
