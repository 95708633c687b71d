//! Afterwards: every named node runs a Ready pod of a small web server, which proves that images, pod network, scheduler
//! and kubelet work there. Replicas alone would prove nothing: the scheduler may put all of them on one node, so the pods
//! keep apart. A crash in the middle only means applying the same Deployment again.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::{ImageReference, NodeName};
use serde_json::{Value, json};

use crate::cluster::kubectl::apply;
use crate::host::HostError;
use crate::host::query::{ObjectKind, Observe, is_ready, name_of};
use crate::steps::{BadStep, Finding, Input, Yield};

pub const NAME: &str = "smoke-test";
/// The image may have to be fetched.
pub const SETTLE: Duration = Duration::from_secs(180);

/// Name and label of the Deployment in the namespace `default`.
pub const DEPLOYMENT: &str = "muster-smoke-test";
/// Selects its pods.
pub const SELECTOR: &str = "app=muster-smoke-test";

#[derive(Debug, Clone)]
pub struct SmokeTest {
    image: ImageReference,
    nodes: Vec<NodeName>,
}

impl SmokeTest {
    pub fn parse(message: &agent::SmokeTest) -> Result<Self, BadStep> {
        let nodes = message.nodes.iter().map(|name| name.parse().map_err(BadStep::field("smoke_test.nodes")));
        let nodes: Vec<NodeName> = nodes.collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            let problem = "no node: nothing would be proved".to_owned();
            return Err(BadStep::Value { field: "smoke_test.nodes", problem });
        }
        let image = message.image.parse().map_err(BadStep::field("smoke_test.image"))?;
        Ok(Self { image, nodes })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let wanted = self.deployment();
        let found = host.object(ObjectKind::Deployment, "default", DEPLOYMENT).await?;
        if !found.is_some_and(|found| holds(&found, &wanted)) {
            return Ok(Finding::Todo(vec![apply(wanted.to_string())]));
        }
        let mut pods = host.objects(ObjectKind::Pod, "default", SELECTOR).await?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let (mut ready, mut lacking) = (Vec::new(), Vec::new());
        for node in &self.nodes {
            match pods.iter().find_map(|pod| ready_on(pod, node)) {
                Some(address) => ready.push(address),
                None => lacking.push(format!("a Ready pod on {node} ({})", why_not(&pods, node))),
            }
        }
        if lacking.is_empty() {
            return Ok(Finding::Done(Yield::Pods(ready)));
        }
        Ok(Finding::Wait(lacking.join("; ")))
    }

    fn deployment(&self) -> Value {
        let labels = json!({"app": DEPLOYMENT});
        let on = |nodes: &[NodeName]| json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}]);
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": DEPLOYMENT, "namespace": "default", "labels": labels},
            "spec": {
                "replicas": self.nodes.len(),
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "affinity": {
                            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [{"matchExpressions": on(&self.nodes)}],
                            }},
                            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                                "labelSelector": {"matchLabels": labels},
                                "topologyKey": "kubernetes.io/hostname",
                            }]},
                        },
                        "containers": [{
                            "name": "web",
                            "image": self.image,
                            "imagePullPolicy": "IfNotPresent",
                            "ports": [{"containerPort": 80}],
                            "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                        }],
                        "terminationGracePeriodSeconds": 2,
                    },
                },
            },
        })
    }
}

/// Whether all that is wanted stands in the object; the API server adds what it defaults.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| holds(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| holds(found, wanted))
        }
        _ => found == wanted,
    }
}

/// Where the pod answers, when it runs Ready on this node.
fn ready_on(pod: &Value, node: &NodeName) -> Option<agent::PodAddress> {
    let address = pod["status"]["podIP"].as_str().filter(|address| !address.is_empty())?;
    (pod["spec"]["nodeName"] == node.as_str() && is_ready(pod)).then(|| agent::PodAddress {
        pod: name_of(pod).to_owned(),
        node: node.to_string(),
        address: address.to_owned(),
    })
}

/// What keeps the node without a Ready pod: the waiting container's reason, the scheduler's message, or the phase.
fn why_not(pods: &[Value], node: &NodeName) -> String {
    let on_node = pods.iter().find(|pod| pod["spec"]["nodeName"] == node.as_str());
    let Some(pod) = on_node.or_else(|| pods.iter().find(|pod| pod["spec"]["nodeName"].is_null())) else {
        return "no pod was made for it yet".to_owned();
    };
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let unscheduled =
        conditions.into_iter().find(|one| one["type"] == "PodScheduled" && one["status"] == "False");
    let container = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    let said = [container, unscheduled.unwrap_or(&Value::Null)].into_iter().find_map(|said| {
        let reason = said["reason"].as_str()?;
        Some(said["message"].as_str().map_or(reason.to_owned(), |message| format!("{reason}: {message}")))
    });
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    format!("pod {} is {}", name_of(pod), said.as_deref().unwrap_or(phase))
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::steps::rehearsal::{carry_out, ready_cluster, step, waits_for};

    fn smoke(nodes: &[&str]) -> agent::SmokeTest {
        let nodes = nodes.iter().map(|&name| name.to_owned()).collect();
        agent::SmokeTest { image: "nginx:1.22".into(), nodes }
    }

    #[test]
    fn what_the_server_adds_is_no_difference_and_what_it_lacks_is() {
        let wanted = SmokeTest::parse(&smoke(&["m1", "w1"])).unwrap().deployment();
        let mut found = wanted.clone();
        found["status"] = json!({"replicas": 2});
        found["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = json!("TCP");
        assert!(holds(&found, &wanted));
        found["spec"]["replicas"] = json!(1);
        assert!(!holds(&found, &wanted) && !holds(&json!({}), &wanted));
    }

    #[test]
    fn a_node_without_a_ready_pod_says_why() {
        let node: NodeName = "w1".parse().unwrap();
        let pod = |node: Value, status: Value| json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}, "status": status});
        let waiting = |reason: &str, message: Value| json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]});
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/2 nodes are available"}]});
        for (pods, expected) in [
            (vec![], "no pod was made for it yet"),
            (vec![pod(json!("m1"), json!({"phase": "Running"}))], "no pod was made for it yet"),
            (vec![pod(json!("w1"), json!({"phase": "Running"}))], "pod p is Running"),
            (vec![pod(json!("w1"), waiting("ContainerCreating", Value::Null))], "pod p is ContainerCreating"),
            (
                vec![pod(json!("w1"), waiting("ImagePullBackOff", json!("Back-off pulling image \"x\"")))],
                "pod p is ImagePullBackOff: Back-off pulling image \"x\"",
            ),
            (vec![pod(Value::Null, unscheduled)], "pod p is Unschedulable: 0/2 nodes are available"),
        ] {
            assert_eq!(why_not(&pods, &node), expected);
        }
    }

    #[tokio::test]
    async fn it_yields_one_ready_pod_of_every_node_and_waits_for_the_others() {
        let (host, _) = ready_cluster().await;
        let test = step(Kind::SmokeTest(smoke(&["m1", "w1"])));
        let finding = carry_out(&host, &test, &mut Input::default()).await;
        let Finding::Done(Yield::Pods(pods)) = finding else { panic!("{finding:?}") };
        assert_eq!(pods.iter().map(|pod| pod.node.as_str()).collect::<Vec<_>>(), ["m1", "w1"]);
        assert!(pods.iter().all(|pod| pod.address.starts_with("10.244.")), "{pods:?}");
        let finding =
            carry_out(&host, &step(Kind::SmokeTest(smoke(&["m1", "w2"]))), &mut Input::default()).await;
        assert_eq!(waits_for(finding), "a Ready pod on w2 (no pod was made for it yet)");
    }
}
