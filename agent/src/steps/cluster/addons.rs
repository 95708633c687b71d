//! Afterwards: the add-ons that `kubeadm init` brings run, those that the cluster file does not leave out: kube-proxy on every
//! node, without which no Service has an address, and all replicas of CoreDNS, without which no Service has a name. It waits,
//! and says of each pod why it is not ready. A pod of CoreDNS that began before the pod network was there, and got its address
//! from another one, is deleted; its Deployment makes it anew. A crash in the middle only means looking again.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use muster_proto::agent;
use muster_proto::kubernetes::files::ADMIN_CONF;
use muster_proto::names::NodeName;
use serde_json::Value;

use crate::cluster::cni;
use crate::cluster::pods::{lives, made_at, node_of, outside, why_not_ready_with_last_line};
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::{ObjectKind, Observe, is_ready, name_of};
use crate::steps::{BadStep, Finding, Input};

/// Images are there already; a scheduler and a readiness probe have their turn every few seconds.
pub const SETTLE: Duration = Duration::from_secs(180);

const NAMESPACE: &str = "kube-system";
/// The labels that kubeadm gives them, from 1.13 on.
const KUBE_PROXY: &str = "k8s-app=kube-proxy";
const COREDNS: &str = "k8s-app=kube-dns";

#[derive(Debug, Clone)]
pub struct Addons {
    kube_proxy: bool,
    coredns: bool,
    nodes: Vec<NodeName>,
    pod_subnet: IpNet,
}

impl Addons {
    pub fn parse(message: &agent::Addons) -> Result<Self, BadStep> {
        let nodes = message.nodes.iter().map(|name| name.parse().map_err(BadStep::field("addons.nodes")));
        let pod_subnet = BadStep::parsed("addons.pod_subnet", &message.pod_subnet, "a subnet")?;
        let (kube_proxy, coredns) = (message.kube_proxy, message.coredns);
        Ok(Self { kube_proxy, coredns, nodes: nodes.collect::<Result<_, _>>()?, pod_subnet })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let mut waits = Vec::new();
        if self.kube_proxy {
            if host.object(ObjectKind::DaemonSet, NAMESPACE, "kube-proxy").await?.is_none() {
                return Ok(absent("kube-proxy", "DaemonSet"));
            }
            let pods = living(host, KUBE_PROXY).await?;
            let mut pods_of: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
            for pod in &pods {
                pods_of.entry(node_of(pod)).or_default().push(pod);
            }
            for node in &self.nodes {
                let here = pods_of.remove(node.as_str()).unwrap_or_default();
                if here.iter().any(|pod| is_ready(pod)) {
                    continue;
                }
                let why = match here.first() {
                    Some(pod) => why_not_ready_with_last_line(host, pod).await?,
                    None => "no pod was made for it yet".to_owned(),
                };
                waits.push(format!("kube-proxy on {node} ({why})"));
            }
        }
        if self.coredns {
            let Some(deployment) = host.object(ObjectKind::Deployment, NAMESPACE, "coredns").await? else {
                return Ok(absent("coredns", "Deployment"));
            };
            let pods = living(host, COREDNS).await?;
            let misplaced: Vec<&Value> =
                pods.iter().filter(|pod| outside(pod, &self.pod_subnet).is_some()).collect();
            if let Some(new) = misplaced.iter().find(|pod| !made_before(pod, input)) {
                return Ok(misplaced_anew(new, &self.pod_subnet));
            }
            if !misplaced.is_empty() {
                return Ok(Finding::Todo(misplaced.into_iter().map(delete).collect()));
            }
            let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
            let ready = pods.iter().filter(|pod| is_ready(pod)).count() as u64;
            if ready < wanted {
                let mut why = Vec::new();
                for pod in pods.iter().filter(|pod| !is_ready(pod)) {
                    why.push(why_not_ready_with_last_line(host, pod).await?);
                }
                if why.is_empty() {
                    why.push("no pod was made for it yet".to_owned());
                }
                waits.push(format!("CoreDNS, of which {ready} of {wanted} are ready ({})", why.join("; ")));
            }
        }
        if waits.is_empty() { Ok(Finding::DONE) } else { Ok(Finding::Wait(waits.join("; "))) }
    }
}

async fn living<H: Observe>(host: &H, selector: &str) -> Result<Vec<Value>, HostError> {
    let mut pods = host.objects(ObjectKind::Pod, NAMESPACE, selector).await?;
    pods.retain(lives);
    Ok(pods)
}

/// `kubeadm init` made it; it does not come back by itself.
fn absent(name: &str, kind: &str) -> Finding {
    Finding::blocked(
        format!("{name} is not there any more: the cluster has no {kind} {name} in {NAMESPACE}"),
        "",
        format!(
            "put it back: `sudo kubectl --kubeconfig {ADMIN_CONF} -n {NAMESPACE} get configmap kubeadm-config \
             -o jsonpath='{{.data.ClusterConfiguration}}' > /tmp/kubeadm.yaml`, then `sudo kubeadm init phase addon {name} --config \
             /tmp/kubeadm.yaml`; or, if something else does its work, leave it out: skipPhases: [addon/{name}] in the cluster file"
        ),
    )
}

/// Whether the pod is older than this attempt, which began when every node had the pod network's configuration.
fn made_before(pod: &Value, input: &Input) -> bool {
    made_at(pod).zip(input.began).is_some_and(|(made, began)| made < began)
}

fn delete(pod: &Value) -> Change {
    let (kind, namespace) = (ObjectKind::Pod, NAMESPACE.to_owned());
    Change::DeleteObject { kind, namespace, name: name_of(pod).to_owned() }
}

/// It was made in this attempt, and another network's configuration was taken all the same.
fn misplaced_anew(pod: &Value, subnet: &IpNet) -> Finding {
    Finding::blocked(
        outside(pod, subnet).unwrap_or_default(),
        "a pod keeps the address that it got when it was started",
        format!(
            "something else than the pod network gives the pods of {} their addresses: move the file away that sorts first in {} there and \
             is not the pod network's (`sudo mv {1}/FILE /root/`), then run the same command again: it makes the pod anew",
            node_of(pod),
            cni::FOLDER
        ),
    )
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use muster_proto::agent::step::Kind;
    use serde_json::json;

    use super::*;
    use crate::host::fake::FakeHost;
    use crate::steps::Step;
    use crate::steps::rehearsal::{carry_out, cause_of, ready_cluster, step, waits_for};

    fn addons(kube_proxy: bool, coredns: bool) -> Step {
        let message = agent::Addons {
            kube_proxy,
            coredns,
            nodes: vec!["m1".into(), "w1".into()],
            pod_subnet: "10.244.0.0/16".into(),
        };
        step(Kind::Addons(message))
    }

    async fn look(host: &FakeHost, kube_proxy: bool, coredns: bool) -> Finding {
        addons(kube_proxy, coredns).check(host, &Input::default()).await.unwrap()
    }

    fn strike(host: &FakeHost, pod: &str, reason: &str, message: &str) {
        host.cluster.with(|cluster| {
            let pod = cluster.get_mut("Pod", "kube-system", pod).unwrap();
            pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
            let waiting = json!({"reason": reason, "message": message});
            pod["status"]["containerStatuses"] = json!([{"name": "c", "state": {"waiting": waiting}}]);
        });
    }

    #[tokio::test]
    async fn they_are_waited_for_with_the_pod_and_its_reason_and_the_last_line_of_one_that_crashes() {
        let (host, _) = ready_cluster().await;
        assert!(matches!(look(&host, true, true).await, Finding::Done(_)));
        strike(
            &host,
            "kube-proxy-w1",
            "ImagePullBackOff",
            "Back-off pulling image \"k8s.gcr.io/kube-proxy:v1.20.2\"",
        );
        strike(&host, "coredns-m1", "CrashLoopBackOff", "back-off 5m0s restarting failed container");
        host.cluster.with(|cluster| {
            let line = "[FATAL] plugin/loop: Loop (127.0.0.1:53 -> :53) detected for zone \".\"";
            cluster.last_lines.insert("coredns-m1".into(), line.into());
        });
        let what = waits_for(look(&host, true, true).await);
        for expected in [
            "kube-proxy on w1 (pod kube-proxy-w1 is ImagePullBackOff: Back-off pulling image",
            "CoreDNS, of which 1 of 2 are ready (pod coredns-m1 is CrashLoopBackOff: back-off 5m0s",
            "its last line: [FATAL] plugin/loop: Loop",
        ] {
            assert!(what.contains(expected), "{what}");
        }
        assert!(matches!(look(&host, false, false).await, Finding::Done(_)), "left out");
    }

    #[tokio::test]
    async fn one_that_somebody_deleted_is_told_with_the_way_back() {
        let (host, _) = ready_cluster().await;
        host.cluster.with(|cluster| cluster.delete("Deployment", "kube-system", "coredns"));
        let cause = cause_of(look(&host, true, true).await);
        assert!(cause.starts_with("coredns is not there any more"), "{cause}");
        assert!(matches!(look(&host, true, false).await, Finding::Done(_)), "left out");
    }

    #[tokio::test]
    async fn a_coredns_with_an_address_of_another_network_is_made_anew_and_told_when_that_does_not_help() {
        let (host, _) = ready_cluster().await;
        let made = Timestamp::now();
        host.cluster.with(|cluster| {
            let pod = cluster.get_mut("Pod", "kube-system", "coredns-w1").unwrap();
            pod["metadata"]["creationTimestamp"] = json!(made.to_string());
            pod["status"]["podIP"] = json!("10.22.0.3");
        });
        let at =
            |seconds| Input { began: Some(made + SignedDuration::from_secs(seconds)), ..Input::default() };
        let cause = cause_of(addons(true, true).check(&host, &at(-5)).await.unwrap());
        assert!(
            cause.starts_with("pod coredns-w1 on w1 has the address 10.22.0.3, which is not in"),
            "{cause}"
        );
        let finding = carry_out(&host, &addons(true, true), &mut at(5)).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
    }
}
