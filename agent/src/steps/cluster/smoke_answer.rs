//! Afterwards: every pod of the smoke test answered an HTTP request from this node: pods of other nodes through the pod
//! network, the own one through the bridge. Changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use muster_proto::agent;

use crate::host::HostError;
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input};

pub const NAME: &str = "smoke-answer";
/// Routes to a node that joined a moment ago may still be on their way.
pub const SETTLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct SmokeAnswer;

impl SmokeAnswer {
    pub fn parse(_: &agent::SmokeAnswer) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        if input.pods.is_empty() {
            return Ok(Finding::blocked(
                "no pods of the smoke test were sent",
                "",
                "run bootstrap again: the smoke test finds them afresh",
            ));
        }
        let silent: Vec<Option<String>> = join_all(input.pods.iter().map(|pod| silence(host, pod)))
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        let silent: Vec<String> = silent.into_iter().flatten().collect();
        if silent.is_empty() { Ok(Finding::DONE) } else { Ok(Finding::Wait(silent.join("; "))) }
    }
}

/// How the pod fails to answer; none when it answers as it must.
async fn silence<H: Observe>(host: &H, pod: &agent::PodAddress) -> Result<Option<String>, HostError> {
    let agent::PodAddress { pod, node, address } = pod;
    let Ok(address) = address.parse::<IpAddr>() else {
        return Ok(Some(format!("pod {pod} on {node} has {address:?}, which is no IP address")));
    };
    let address = SocketAddr::new(address, 80);
    Ok(match host.http_status(address).await? {
        Some(200) => None,
        Some(status) => Some(format!("pod {pod} on {node} answers http://{address}/ with {status}, not 200")),
        None => Some(format!("pod {pod} on {node} does not answer http://{address}/")),
    })
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::steps::Yield;
    use crate::steps::rehearsal::{carry_out, cause_of, ready_cluster, step, waits_for};

    #[tokio::test]
    async fn every_pod_must_answer_from_this_node_and_those_that_do_not_are_named() {
        let (master, worker) = ready_cluster().await;
        let nodes = vec!["m1".into(), "w1".into()];
        let test = step(Kind::SmokeTest(agent::SmokeTest { image: "nginx:1.22".into(), nodes }));
        let finding = carry_out(&master, &test, &mut Input::default()).await;
        let Finding::Done(Yield::Pods(pods)) = finding else { panic!("{finding:?}") };
        let input = Input { pods, ..Input::default() };
        let answer = step(Kind::SmokeAnswer(agent::SmokeAnswer {}));
        assert!(matches!(answer.check(&worker, &input).await.unwrap(), Finding::Done(_)));

        let address = SocketAddr::new(input.pods[0].address.parse().unwrap(), 80);
        worker.with(|state| state.silent.insert(address));
        let what = waits_for(answer.check(&worker, &input).await.unwrap());
        assert_eq!(what, format!("pod muster-smoke-test-m1 on m1 does not answer http://{address}/"));
        let cause = cause_of(answer.check(&worker, &Input::default()).await.unwrap());
        assert_eq!(cause, "no pods of the smoke test were sent");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_not_asked() {
        let (_, worker) = ready_cluster().await;
        let pod = agent::PodAddress { pod: "p".into(), node: "m1".into(), address: "127.0.0.1:22/".into() };
        let what = waits_for(
            SmokeAnswer.check(&worker, &Input { pods: vec![pod], ..Input::default() }).await.unwrap(),
        );
        assert_eq!(what, "pod p on m1 has \"127.0.0.1:22/\", which is no IP address");
    }
}
