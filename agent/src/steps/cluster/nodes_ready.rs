//! Afterwards: every named node has a Node object that is Ready by a fresh word of its kubelet, does not carry the taints of
//! a node that is not, and is known by the address that the plan has for it. Ready alone stands there for 40 s after the last
//! word (the controller manager's node-monitor-grace-period). Changes nothing: it waits, and says of each node what it waits
//! for in the kubelet's own words.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use muster_proto::agent;
use muster_proto::names::NodeName;
use serde_json::Value;

use crate::host::HostError;
use crate::host::query::{ObjectKind, Observe, by_name, is_ready};
use crate::steps::{BadStep, Finding, Input};

/// The pod network's image may have to be fetched on every node first.
pub const SETTLE: Duration = Duration::from_secs(300);

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Where a kubelet's Lease lies, from 1.14 on; an earlier one renews the node's status instead.
const LEASES: &str = "kube-node-lease";

/// A kubelet renews its Lease, or its status, every 10 s, and its clock may be 10 s behind (a limit of the checks before a
/// run). Who was heard of so lately is not waited for.
const FRESH: SignedDuration = SignedDuration::from_secs(25);

#[derive(Debug, Clone)]
pub struct NodesReady {
    nodes: Vec<(NodeName, IpAddr)>,
}

impl NodesReady {
    pub fn parse(message: &agent::NodesReady) -> Result<Self, BadStep> {
        let node = |node: &agent::NodeAddress| {
            let name = node.name.parse().map_err(BadStep::field("nodes_ready.nodes.name"))?;
            let address = BadStep::parsed("nodes_ready.nodes.address", &node.address, "an IP address")?;
            Ok((name, address))
        };
        Ok(Self { nodes: message.nodes.iter().map(node).collect::<Result<_, _>>()? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let nodes = host.objects(ObjectKind::Node, "", "").await?;
        let leases = host.objects(ObjectKind::Lease, LEASES, "").await?;
        let (node_of, lease_of, now) = (by_name(&nodes), by_name(&leases), Timestamp::now());
        let (mut waits, mut elsewhere) = (Vec::new(), Vec::new());
        for (name, address) in &self.nodes {
            let Some(node) = node_of.get(name.as_str()) else {
                waits.push(format!("node {name} has no Node object: it has not joined"));
                continue;
            };
            let lease = lease_of.get(name.as_str()).copied();
            if let Some(why) = not_ready(node) {
                waits.push(format!("node {name} is NotReady: {why}"));
            } else if let Some(why) = not_fresh(node, lease, now) {
                waits.push(format!("node {name} is shown as Ready, but {why}"));
            } else {
                elsewhere.extend(other_addresses(node, *address).map(|others| (name, address, others)));
            }
        }
        Ok(match elsewhere.as_slice() {
            [] if waits.is_empty() => Finding::DONE,
            [] => Finding::Wait(waits.join("; ")),
            all => known_elsewhere(all),
        })
    }
}

/// Why a node is not ready: the message of its Ready condition; none when it is.
fn not_ready(node: &Value) -> Option<String> {
    if is_ready(node) {
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        let mut keys = taints.filter_map(|taint| taint["key"].as_str());
        return keys.find(|key| TAINTS.contains(key)).map(|key| format!("it still carries the taint {key}"));
    }
    let ready = ready_condition(node);
    let text = |key: &str| ready.and_then(|ready| ready[key].as_str()).filter(|text| !text.is_empty());
    Some(text("message").or(text("reason")).unwrap_or("its kubelet has posted no status yet").to_owned())
}

/// Why its Ready may be no longer true: the newest of what its kubelet renews is old. None when it is not.
fn not_fresh(node: &Value, lease: Option<&Value>, now: Timestamp) -> Option<String> {
    let time = |text: &Value| text.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let renewed = lease.and_then(|lease| time(&lease["spec"]["renewTime"]));
    let told = ready_condition(node).and_then(|ready| time(&ready["lastHeartbeatTime"]));
    let Some(last) = renewed.max(told) else { return Some("its kubelet never told when".to_owned()) };
    let age = now.duration_since(last);
    (age > FRESH).then(|| {
        format!(
            "its kubelet was last heard of {} s ago, at {} of its own clock: it does not run, cannot reach the API server, or its clock \
             is behind",
            age.as_secs(),
            last.strftime("%H:%M:%S UTC")
        )
    })
}

fn ready_condition(node: &Value) -> Option<&Value> {
    node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

/// The node's InternalIPs, when the address is none of them.
fn other_addresses(node: &Value, address: IpAddr) -> Option<String> {
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let internal: Vec<&str> = addresses
        .filter(|one| one["type"] == "InternalIP")
        .filter_map(|one| one["address"].as_str())
        .collect();
    let known = internal.iter().any(|one| one.parse() == Ok(address));
    (!known).then(|| if internal.is_empty() { "none".to_owned() } else { internal.join(", ") })
}

fn known_elsewhere(all: &[(&NodeName, &IpAddr, String)]) -> Finding {
    let (name, address, others) = &all[0];
    let evidence: Vec<String> = all
        .iter()
        .map(|(name, address, others)| {
            format!("{name}: InternalIP {others}; its agent's address is {address}")
        })
        .collect();
    Finding::blocked(
        format!("the cluster knows node {name} by another address than {address}: {others}"),
        evidence.join("\n"),
        format!(
            "on {name} something else gives the kubelet its --node-ip: `systemctl cat kubelet`, /etc/default/kubelet and \
             /var/lib/kubelet/kubeadm-flags.env show where; take it away, `sudo systemctl restart kubelet`, then run the same command again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;
    use serde_json::json;

    use super::*;
    use crate::steps::Step;
    use crate::steps::rehearsal::{cause_of, master_and_worker, ready_cluster, step, waits_for};

    fn ready(names: &[&str]) -> Step {
        let address = |name: &str| if name == "m1" { "10.88.0.11".into() } else { "10.88.0.12".into() };
        let node = |&name: &&str| agent::NodeAddress { name: name.to_owned(), address: address(name) };
        step(Kind::NodesReady(agent::NodesReady { nodes: names.iter().map(node).collect() }))
    }

    #[test]
    fn a_node_says_itself_why_it_is_not_ready() {
        let node = |status: &str, message: &str, taint: &str| {
            json!({
                "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]},
                "status": {"conditions": [
                    {"type": "MemoryPressure", "status": "False", "message": "kubelet has sufficient memory available"},
                    {"type": "Ready", "status": status, "message": message, "reason": "KubeletNotReady"},
                ]},
            })
        };
        for (node, expected) in [
            (node("True", "kubelet is posting ready status", "dedicated"), None),
            (node("False", "container runtime is down", ""), Some("container runtime is down")),
            (
                node("Unknown", "Kubelet stopped posting node status.", TAINTS[1]),
                Some("Kubelet stopped posting node status."),
            ),
            (node("False", "", ""), Some("KubeletNotReady")),
            (node("True", "", TAINTS[0]), Some("it still carries the taint node.kubernetes.io/not-ready")),
            (json!({"spec": {}}), Some("its kubelet has posted no status yet")),
        ] {
            assert_eq!(not_ready(&node).as_deref(), expected);
        }
    }

    #[test]
    fn the_newest_of_lease_and_status_tells_when_the_kubelet_was_heard_of() {
        let now: Timestamp = "2026-11-30T10:00:40Z".parse().unwrap();
        let lease = |time: &str| json!({"spec": {"renewTime": format!("2026-11-30T{time}Z")}});
        let node = |time: &str| {
            json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": format!("2026-11-30T{time}Z")}]}})
        };
        let old = |node: &Value, lease: Option<&Value>| not_fresh(node, lease, now);
        // From 1.14 on the status is written every five minutes only; 1.13 has no Lease.
        assert_eq!(old(&node("09:56:00"), Some(&lease("10:00:31.123456"))), None);
        assert_eq!(old(&node("10:00:30"), None), None);
        assert_eq!(old(&node("10:00:00"), Some(&lease("10:00:20"))), None, "so long as between two renewals");
        let said = old(&node("09:56:00"), Some(&lease("10:00:00"))).unwrap();
        assert!(said.starts_with("its kubelet was last heard of 40 s ago, at 10:00:00 UTC"), "{said}");
        assert!(old(&node("10:00:00"), None).is_some() && old(&json!({}), None).is_some());
    }

    #[tokio::test]
    async fn it_waits_for_every_node_by_name_and_is_done_when_all_are_ready() {
        let (host, _) = master_and_worker().await;
        let what = waits_for(ready(&["w1", "w2"]).check(&host, &Input::default()).await.unwrap());
        assert!(what.starts_with("node w1 is NotReady: runtime network not ready"), "{what}");
        assert!(what.ends_with("; node w2 has no Node object: it has not joined"), "{what}");
        let (host, _) = ready_cluster().await;
        let finding = ready(&["m1", "w1"]).check(&host, &Input::default()).await.unwrap();
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
    }

    #[tokio::test]
    async fn a_ready_that_is_as_old_as_a_kubelet_that_died_is_not_believed() {
        let (host, _) = ready_cluster().await;
        for leases in [true, false] {
            host.cluster.with(|cluster| {
                cluster.no_leases = !leases;
                cluster.unheard.clear();
            });
            let finding = ready(&["m1", "w1"]).check(&host, &Input::default()).await.unwrap();
            assert!(matches!(finding, Finding::Done(_)), "with leases: {leases}: {finding:?}");
            host.cluster.with(|cluster| cluster.unheard.insert("w1".into(), SignedDuration::from_secs(35)));
            let what = waits_for(ready(&["m1", "w1"]).check(&host, &Input::default()).await.unwrap());
            assert!(
                what.starts_with("node w1 is shown as Ready, but its kubelet was last heard of 35 s ago"),
                "with leases: {leases}: {what}"
            );
        }
    }

    #[tokio::test]
    async fn a_node_that_the_cluster_knows_by_another_address_is_told() {
        let (host, _) = ready_cluster().await;
        host.cluster.with(|cluster| {
            cluster.get_mut("Node", "", "w1").unwrap()["status"]["addresses"][0]["address"] =
                json!("10.0.2.15");
        });
        let cause = cause_of(ready(&["m1", "w1"]).check(&host, &Input::default()).await.unwrap());
        assert_eq!(cause, "the cluster knows node w1 by another address than 10.88.0.12: 10.0.2.15");
    }
}
