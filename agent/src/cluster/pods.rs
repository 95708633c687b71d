//! Pods as the API server shows them: which of them count, where they answer, and why one is not ready.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::Value;

use crate::host::HostError;
use crate::host::query::{Observe, name_of};

/// Neither ended nor on its way out.
pub(crate) fn lives(pod: &Value) -> bool {
    let ended = ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase);
    pod["metadata"]["deletionTimestamp"].is_null() && !ended
}

/// The node that the scheduler gave it to; empty before.
pub(crate) fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// Its address; none before it has one.
pub(crate) fn address_of(pod: &Value) -> Option<IpAddr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}

/// When it was made, by the API server's clock, in whole seconds.
pub(crate) fn made_at(pod: &Value) -> Option<Timestamp> {
    pod["metadata"]["creationTimestamp"].as_str()?.parse().ok()
}

/// A pod that lives with its node's own address.
pub(crate) fn has_its_nodes_address(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] == true
}

/// `pod X on w1`
pub(crate) fn called(pod: &Value) -> String {
    format!("pod {} on {}", name_of(pod), node_of(pod))
}

/// `pod X on w1 has the address 10.22.0.2, which is not in the pod subnet 10.244.0.0/16`; none where it is.
pub(crate) fn outside(pod: &Value, subnet: &IpNet) -> Option<String> {
    let address = address_of(pod).filter(|address| !subnet.contains(address))?;
    Some(format!("{} has the address {address}, which is not in the pod subnet {subnet}", called(pod)))
}

/// What keeps a pod from being ready: a container's reason, the scheduler's message, or the phase.
pub(crate) fn why_not_ready(pod: &Value) -> String {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let unscheduled =
        conditions.into_iter().find(|one| one["type"] == "PodScheduled" && one["status"] == "False");
    let waiting = containers(pod).map(|container| &container["state"]["waiting"]);
    let ended = containers(pod).map(|container| &container["state"]["terminated"]);
    let said = waiting.chain(unscheduled).chain(ended).find_map(|said| {
        let reason = said["reason"].as_str()?;
        Some(said["message"].as_str().map_or(reason.to_owned(), |message| format!("{reason}: {message}")))
    });
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    format!("pod {} is {}", name_of(pod), said.as_deref().unwrap_or(phase))
}

/// The same, and of a container that ends again and again the last line that it wrote.
pub(crate) async fn why_not_ready_with_last_line<H: Observe>(
    host: &H,
    pod: &Value,
) -> Result<String, HostError> {
    let why = why_not_ready(pod);
    let ends = |container: &&Value| container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let Some(container) = containers(pod).find(ends).and_then(|container| container["name"].as_str()) else {
        return Ok(why);
    };
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default");
    let line = host.last_line_of_ended_container(namespace, name_of(pod), container).await?;
    Ok(line.map_or_else(|| why.clone(), |line| format!("{why}; its last line: {line}")))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |list: &str| pod["status"][list].as_array().map(Vec::as_slice).unwrap_or_default();
    of("initContainerStatuses").iter().chain(of("containerStatuses"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_keeps_a_pod_from_being_ready_is_said_in_the_words_of_who_knows_it() {
        let pod = |status: Value| json!({"metadata": {"name": "p"}, "status": status});
        let container = |state: Value| json!({"phase": "Pending", "containerStatuses": [{"state": {}}, {"state": state}]});
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/2 nodes are available"}]});
        for (status, expected) in [
            (json!({"phase": "Running"}), "pod p is Running"),
            (container(json!({"waiting": {"reason": "ContainerCreating"}})), "pod p is ContainerCreating"),
            (
                container(
                    json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}),
                ),
                "pod p is ImagePullBackOff: Back-off pulling image \"x\"",
            ),
            (container(json!({"terminated": {"reason": "Error", "exitCode": 1}})), "pod p is Error"),
            (unscheduled, "pod p is Unschedulable: 0/2 nodes are available"),
        ] {
            assert_eq!(why_not_ready(&pod(status)), expected);
        }
    }

    #[test]
    fn what_ended_or_is_going_does_not_count() {
        for gone in [
            json!({"metadata": {"deletionTimestamp": "2026-11-30T10:00:00Z"}, "status": {"phase": "Running"}}),
            json!({"metadata": {}, "status": {"phase": "Succeeded"}}),
            json!({"metadata": {}, "status": {"phase": "Failed"}}),
        ] {
            assert!(!lives(&gone), "{gone}");
        }
        assert!(lives(&json!({"metadata": {}, "status": {"phase": "Pending"}})));
    }
}
