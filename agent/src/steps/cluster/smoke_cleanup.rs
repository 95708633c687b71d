//! Afterwards: the smoke test's Deployment is deleted and its pods are gone. A crash in the middle only means waiting for
//! the rest of them again.

use std::time::Duration;

use muster_proto::agent;

use crate::cluster::smoke_pods::{DEPLOYMENT, SELECTOR};
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::{ObjectKind, Observe, name_of};
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub struct SmokeCleanup;

impl SmokeCleanup {
    pub fn parse(_: &agent::SmokeCleanup) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let (kind, namespace) = (ObjectKind::Deployment, "default");
        if host.object(kind, namespace, DEPLOYMENT).await?.is_some() {
            let (namespace, name) = (namespace.to_owned(), DEPLOYMENT.to_owned());
            return Ok(Finding::Todo(vec![Change::DeleteObject { kind, namespace, name }]));
        }
        let pods = host.objects(ObjectKind::Pod, namespace, SELECTOR).await?;
        if pods.is_empty() {
            return Ok(Finding::DONE);
        }
        let names: Vec<&str> = pods.iter().map(name_of).collect();
        Ok(Finding::Wait(format!("the end of the pods {}", names.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;
    use serde_json::json;

    use super::*;
    use crate::steps::rehearsal::{carry_out, ready_cluster, smoke, step, waits_for};

    #[tokio::test]
    async fn the_deployment_is_deleted_and_its_last_pods_are_waited_for() {
        let (host, _) = ready_cluster().await;
        let test = step(Kind::SmokeTest(smoke(&["m1", "w1"])));
        carry_out(&host, &test, &mut Input::default()).await;
        let cleanup = step(Kind::SmokeCleanup(agent::SmokeCleanup {}));
        let finding = carry_out(&host, &cleanup, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        host.cluster.with(|cluster| {
            cluster.put(json!({"kind": "Pod", "metadata": {"name": "last", "labels": {"app": DEPLOYMENT}}}))
        });
        let what = waits_for(cleanup.check(&host, &Input::default()).await.unwrap());
        assert_eq!(what, "the end of the pods last");
    }
}
