//! Afterwards: every pod of the smoke test answered an HTTP request from this node with its own name: pods of other nodes
//! through the pod network, the own one through the bridge. Changes nothing. The control plane looks up the pods' addresses
//! at every look, since a pod has another one after its node was started anew, and hands on those that answered it a moment
//! ago; the other nodes ask these.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use muster_proto::agent;
use muster_proto::redaction::printable;

use crate::cluster::smoke_pods::{DEPLOYMENT, SmokePods, Standing};
use crate::host::HostError;
use crate::host::query::{Observe, Page};
use crate::steps::{BadStep, Finding, Input, Yield};

/// Routes to a node that joined a moment ago may still be on their way.
pub const SETTLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct SmokeAnswer {
    /// Whose pods are looked up here; none: the pods that were sent are asked.
    looked_up: Option<SmokePods>,
}

impl SmokeAnswer {
    pub fn parse(message: &agent::SmokeAnswer) -> Result<Self, BadStep> {
        let (nodes, subnet) = (&message.nodes, &message.pod_subnet);
        let wanted = || SmokePods::parse(("smoke_answer.nodes", nodes), ("smoke_answer.pod_subnet", subnet));
        let looked_up = if nodes.is_empty() { None } else { Some(wanted()?) };
        Ok(Self { looked_up })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let pods = match &self.looked_up {
            None => input.pods.clone(),
            Some(wanted) => match wanted.look(host).await? {
                Standing::Ready(pods) => pods,
                Standing::Lacking(what) => return Ok(Finding::Wait(what)),
                Standing::Misplaced { complaint, .. } => return Ok(Finding::Blocked(complaint)),
            },
        };
        if pods.is_empty() {
            return Ok(Finding::blocked(
                "no pods of the smoke test were sent",
                "",
                "run bootstrap again: the smoke test finds them afresh",
            ));
        }
        let wrong: Vec<Option<String>> = join_all(pods.iter().map(|pod| wrong_answer(host, pod)))
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        if wrong.is_empty() {
            Ok(Finding::Done(Yield::Pods(pods)))
        } else {
            Ok(Finding::Wait(wrong.join("; ")))
        }
    }
}

/// How the pod fails to answer; none when it answers as it must.
async fn wrong_answer<H: Observe>(host: &H, pod: &agent::PodAddress) -> Result<Option<String>, HostError> {
    let agent::PodAddress { pod, node, address } = pod;
    let Ok(address) = address.parse::<IpAddr>() else {
        return Ok(Some(format!("pod {pod} on {node} has {address:?}, which is no IP address")));
    };
    let address = SocketAddr::new(address, 80);
    Ok(match host.http_page(address).await? {
        None => Some(format!("pod {pod} on {node} does not answer http://{address}/")),
        Some(Page { status, .. }) if status != 200 => {
            Some(format!("pod {pod} on {node} answers http://{address}/ with {status}, not 200"))
        }
        // A line of it: a server may send its page in chunks, each after a line with its length.
        Some(Page { text, .. }) if text.lines().any(|line| line.trim() == pod) => None,
        Some(Page { text, .. }) => Some(match text.lines().find(|line| line.starts_with(DEPLOYMENT)) {
            Some(other) => {
                format!(
                    "http://{address}/ is answered by pod {}, not by pod {pod} on {node}",
                    shortened(other)
                )
            }
            None => format!(
                "http://{address}/ is answered, but not by pod {pod} on {node}, whose page is its name \
                 (the image must serve /usr/share/nginx/html, as nginx's own do): {}",
                shortened(text.trim())
            ),
        }),
    })
}

fn shortened(text: &str) -> String {
    printable(&text.chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::FakeHost;
    use crate::steps::Step;
    use crate::steps::rehearsal::{carry_out, cause_of, ready_cluster, smoke, step, waits_for};

    /// The master with the smoke test's pods, the worker, and the two steps that ask them.
    async fn tested() -> (FakeHost, FakeHost, Step, Step) {
        let (master, worker) = ready_cluster().await;
        let smoke = smoke(&["m1", "w1"]);
        let looks_up =
            agent::SmokeAnswer { nodes: smoke.nodes.clone(), pod_subnet: smoke.pod_subnet.clone() };
        let finding = carry_out(&master, &step(Kind::SmokeTest(smoke)), &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let is_sent = agent::SmokeAnswer::default();
        (master, worker, step(Kind::SmokeAnswer(looks_up)), step(Kind::SmokeAnswer(is_sent)))
    }

    fn yielded(finding: Finding) -> Input {
        let Finding::Done(Yield::Pods(pods)) = finding else { panic!("{finding:?}") };
        Input { pods, ..Input::default() }
    }

    #[tokio::test]
    async fn every_pod_must_answer_from_this_node_and_those_that_do_not_are_named() {
        let (master, worker, looks_up, is_sent) = tested().await;
        let input = yielded(looks_up.check(&master, &Input::default()).await.unwrap());
        assert_eq!(input.pods.iter().map(|pod| pod.node.as_str()).collect::<Vec<_>>(), ["m1", "w1"]);
        assert!(matches!(is_sent.check(&worker, &input).await.unwrap(), Finding::Done(_)));

        let address = SocketAddr::new(input.pods[0].address.parse().unwrap(), 80);
        worker.with(|state| state.silent.insert(address));
        let what = waits_for(is_sent.check(&worker, &input).await.unwrap());
        assert_eq!(what, format!("pod muster-smoke-test-m1 on m1 does not answer http://{address}/"));
        let cause = cause_of(is_sent.check(&worker, &Input::default()).await.unwrap());
        assert_eq!(cause, "no pods of the smoke test were sent");
    }

    #[tokio::test]
    async fn another_pods_answer_is_not_taken_for_the_pods_own() {
        let (master, worker, looks_up, is_sent) = tested().await;
        let input = yielded(looks_up.check(&master, &Input::default()).await.unwrap());
        let address = SocketAddr::new(input.pods[0].address.parse().unwrap(), 80);
        let says = |page: &str| worker.with(|state| state.pages.insert(address, page.to_owned()));
        says("muster-smoke-test-w1");
        let what = waits_for(is_sent.check(&worker, &input).await.unwrap());
        let pods = "pod muster-smoke-test-w1, not by pod muster-smoke-test-m1 on m1";
        assert_eq!(what, format!("http://{address}/ is answered by {pods}"));
        says("Welcome to nginx!");
        let what = waits_for(is_sent.check(&worker, &input).await.unwrap());
        assert!(what.contains("whose page is its name") && what.ends_with(": Welcome to nginx!"), "{what}");
        says("14\r\nmuster-smoke-test-m1\r\n0\r\n\r\n");
        assert!(matches!(is_sent.check(&worker, &input).await.unwrap(), Finding::Done(_)), "in chunks");
    }

    #[tokio::test]
    async fn the_addresses_are_those_that_the_pods_have_now() {
        let (master, _, looks_up, _) = tested().await;
        let before = yielded(looks_up.check(&master, &Input::default()).await.unwrap());
        master.cluster.with(|cluster| {
            let pod = cluster.get_mut("Pod", "default", "muster-smoke-test-w1").unwrap();
            pod["status"]["podIP"] = "10.244.1.99".into();
        });
        let after = yielded(looks_up.check(&master, &before).await.unwrap());
        assert_eq!(after.pods[1].address, "10.244.1.99");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_not_asked() {
        let (_, worker, _, is_sent) = tested().await;
        let pod = agent::PodAddress { pod: "p".into(), node: "m1".into(), address: "127.0.0.1:22/".into() };
        let input = Input { pods: vec![pod], ..Input::default() };
        let what = waits_for(is_sent.check(&worker, &input).await.unwrap());
        assert_eq!(what, "pod p on m1 has \"127.0.0.1:22/\", which is no IP address");
    }
}
