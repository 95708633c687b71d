//! Afterwards: every named node runs a Ready pod of a small web server with an address of the pod network, which proves that
//! images, pod network, scheduler and kubelet work there. Replicas alone would prove nothing: the scheduler may put all of
//! them on one node, so the pods keep apart. Each pod's page is its own name, so that an answer tells who gave it. Pods whose
//! addresses are wrong, from before this attempt, are made anew. A crash in the middle only means applying the same
//! Deployment again.

use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::{ImageReference, NodeName};
use serde_json::{Value, json};

use crate::cluster::kubectl::apply;
use crate::cluster::smoke_pods::{DEPLOYMENT, SELECTOR, SmokePods, Standing};
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::{ObjectKind, Observe, name_of};
use crate::steps::{BadStep, Finding, Input};

/// The image may have to be fetched.
pub const SETTLE: Duration = Duration::from_secs(180);

/// The folder that nginx's own images, of every version, serve at /. The pod's name is laid over it by the kubelet (a volume
/// of the downward API, which every version has): no program of the image has to write it, not even a shell.
const PAGES: &str = "/usr/share/nginx/html";

#[derive(Debug, Clone)]
pub struct SmokeTest {
    image: ImageReference,
    wanted: SmokePods,
}

impl SmokeTest {
    pub fn parse(message: &agent::SmokeTest) -> Result<Self, BadStep> {
        let (nodes, subnet) = (&message.nodes, &message.pod_subnet);
        let wanted = SmokePods::parse(("smoke_test.nodes", nodes), ("smoke_test.pod_subnet", subnet))?;
        let image = message.image.parse().map_err(BadStep::field("smoke_test.image"))?;
        Ok(Self { image, wanted })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let (kind, namespace) = (ObjectKind::Deployment, "default");
        let wanted = self.deployment();
        let found = host.object(kind, namespace, DEPLOYMENT).await?;
        if found.is_none() {
            let old = host.objects(ObjectKind::Pod, namespace, SELECTOR).await?;
            if !old.is_empty() {
                let names: Vec<&str> = old.iter().map(name_of).collect();
                return Ok(Finding::Wait(format!("the end of earlier pods: {}", names.join(", "))));
            }
        }
        if !found.is_some_and(|found| holds(&found, &wanted)) {
            return Ok(Finding::Todo(vec![apply(wanted.to_string())]));
        }
        Ok(match self.wanted.look(host).await? {
            Standing::Ready(_) => Finding::DONE,
            Standing::Lacking(what) => Finding::Wait(what),
            // What gave them their addresses may be gone by now; a pod keeps its address all the same.
            Standing::Misplaced { made: Some(made), .. } if input.began.is_some_and(|began| made < began) => {
                let (namespace, name) = (namespace.to_owned(), DEPLOYMENT.to_owned());
                Finding::Todo(vec![Change::DeleteObject { kind, namespace, name }])
            }
            Standing::Misplaced { complaint, .. } => Finding::Blocked(complaint),
        })
    }

    fn deployment(&self) -> Value {
        let labels = json!({"app": DEPLOYMENT});
        let on = |nodes: &[NodeName]| json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}]);
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": DEPLOYMENT, "namespace": "default", "labels": labels},
            "spec": {
                "replicas": self.wanted.nodes.len(),
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "affinity": {
                            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [{"matchExpressions": on(&self.wanted.nodes)}],
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
                            "volumeMounts": [{"name": "pages", "mountPath": PAGES}],
                        }],
                        "volumes": [{"name": "pages", "downwardAPI": {"items": [
                            {"path": "index.html", "fieldRef": {"fieldPath": "metadata.name"}},
                        ]}}],
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use jiff::{SignedDuration, Timestamp};
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::cluster::cni;
    use crate::host::fake::FakeHost;
    use crate::steps::rehearsal::{carry_out, cause_of, ready_cluster, smoke, step, waits_for};

    /// Lets the pods of these nodes have that address from now on.
    fn move_pods(host: &FakeHost, nodes: &[&str], address: &str) {
        host.cluster.with(|cluster| {
            for node in nodes {
                let pod = cluster.get_mut("Pod", "default", &format!("{DEPLOYMENT}-{node}")).unwrap();
                pod["status"]["podIP"] = json!(address);
            }
        });
    }

    async fn tested() -> (FakeHost, crate::steps::Step) {
        let (host, _) = ready_cluster().await;
        let test = step(Kind::SmokeTest(smoke(&["m1", "w1"])));
        let finding = carry_out(&host, &test, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        (host, test)
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

    #[tokio::test]
    async fn it_waits_for_a_ready_pod_on_every_node() {
        let (host, _) = tested().await;
        let finding =
            carry_out(&host, &step(Kind::SmokeTest(smoke(&["m1", "w2"]))), &mut Input::default()).await;
        assert_eq!(waits_for(finding), "a Ready pod on w2 (no pod was made for it yet)");
    }

    #[tokio::test]
    async fn a_pod_outside_the_pod_subnet_fails_it_and_the_file_that_sorts_first_is_named() {
        let (host, test) = tested().await;
        host.put_file(
            format!("{}/10-containerd-net.conflist", cni::FOLDER),
            "{\"plugins\": [{\"type\": \"bridge\"}]}",
        );
        move_pods(&host, &["m1", "w1"], "10.22.0.2");
        let finding = test.check(&host, &Input::default()).await.unwrap();
        let Finding::Blocked(complaint) = finding else { panic!("{finding:?}") };
        assert_eq!(
            complaint.cause,
            "pod muster-smoke-test-m1 on m1 has the address 10.22.0.2, which is not in the pod subnet 10.244.0.0/16"
        );
        for expected in [
            "-w1 on w1 has the address",
            "have the same address 10.22.0.2",
            "/etc/cni/net.d/10-containerd-net.conflist",
        ] {
            assert!(complaint.evidence.contains(expected), "{complaint}");
        }
    }

    #[tokio::test]
    async fn an_address_that_another_pod_or_a_node_has_too_fails_it() {
        let (host, test) = tested().await;
        let other = "10.244.1.77".parse::<IpAddr>().unwrap().to_string();
        move_pods(&host, &["w1"], &other);
        host.cluster.with(|cluster| {
            cluster.put(json!({"kind": "Pod", "metadata": {"name": "coredns", "namespace": "kube-system"},
                "spec": {"nodeName": "m1"}, "status": {"phase": "Running", "podIP": other}}))
        });
        let cause = cause_of(test.check(&host, &Input::default()).await.unwrap());
        assert_eq!(
            cause,
            "pod muster-smoke-test-w1 on w1 and pod coredns on m1 have the same address 10.244.1.77"
        );
        host.cluster.with(|cluster| {
            cluster.delete("Pod", "kube-system", "coredns");
            let node = cluster.get_mut("Node", "", "m1").unwrap();
            node["status"]["addresses"][0]["address"] = json!(other);
        });
        let cause = cause_of(test.check(&host, &Input::default()).await.unwrap());
        assert_eq!(cause, "pod muster-smoke-test-w1 on w1 and node m1 have the same address 10.244.1.77");
    }

    #[tokio::test]
    async fn pods_with_wrong_addresses_from_before_this_attempt_are_made_anew() {
        let (host, test) = tested().await;
        move_pods(&host, &["m1", "w1"], "10.22.0.2");
        let now = Timestamp::now();
        host.cluster.with(|cluster| {
            for node in ["m1", "w1"] {
                let pod = cluster.get_mut("Pod", "default", &format!("{DEPLOYMENT}-{node}")).unwrap();
                pod["metadata"]["creationTimestamp"] = json!(now.to_string());
            }
        });
        let at =
            |seconds| Input { began: Some(now + SignedDuration::from_secs(seconds)), ..Input::default() };
        let finding = test.check(&host, &at(-5)).await.unwrap();
        assert!(matches!(finding, Finding::Blocked(_)), "made in this attempt, and wrong: {finding:?}");
        let mut later = at(5);
        let finding = carry_out(&host, &test, &mut later).await;
        let Finding::Todo(changes) = finding else { panic!("{finding:?}") };
        assert!(changes[0].to_string().contains("kubectl apply"), "{changes:?}");
        let finding = carry_out(&host, &test, &mut later).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
    }

    #[tokio::test]
    async fn earlier_pods_are_gone_before_new_ones_are_made() {
        let (host, test) = tested().await;
        host.cluster.with(|cluster| {
            cluster.delete("Deployment", "default", DEPLOYMENT);
            cluster.put(json!({"kind": "Pod", "metadata": {"name": "old", "labels": {"app": DEPLOYMENT}}}));
        });
        let what = waits_for(test.check(&host, &Input::default()).await.unwrap());
        assert_eq!(what, "the end of earlier pods: old");
    }
}
