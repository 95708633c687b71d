//! Afterwards: the kubelet knows the pod network of its node, whose pod writes its configuration into /etc/cni/net.d some
//! seconds after the node joined. A kubelet with dockershim looks there every five seconds and tells the API server every
//! ten; one that is started anew does both at once, and the node is Ready so much earlier (seen with 1.20.2).

use std::path::Path;
use std::time::Duration;

use muster_proto::agent;

use crate::cluster::kubelet::{self, Kubelet};
use crate::host::HostError;
use crate::host::query::Observe;
use crate::steps::leave::network_leftovers::CNI_FOLDER;
use crate::steps::{BadStep, Finding, Input};

pub const NAME: &str = "node-network";
/// The pod network's image may have to be fetched first.
pub const SETTLE: Duration = Duration::from_secs(300);

/// What the kubelet says of a node that has no pod network yet, from 1.13 on.
const NOT_READY: &str = "NetworkReady=false";

/// The endings of the files that CNI's library reads.
const ENDINGS: [&str; 3] = [".conf", ".conflist", ".json"];

#[derive(Debug, Clone)]
pub struct NodeNetwork;

impl NodeNetwork {
    pub fn parse(_: &agent::NodeNetwork) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let files = host.list_folder(Path::new(CNI_FOLDER)).await?;
        let configured = files.iter().any(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)));
        Ok(match kubelet::look(host, NOT_READY).await? {
            Kubelet::Stands(state) => Finding::Wait(format!("the kubelet to run; it is {state}")),
            Kubelet::Runs { .. } if !configured => Finding::Wait(format!(
                "the pod network to write its configuration into {CNI_FOLDER}; its pod on this node has not done so"
            )),
            Kubelet::Runs { says_so: true } => Finding::Todo(vec![kubelet::restart()]),
            Kubelet::Runs { says_so: false } => Finding::DONE,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::query::JournalLine;
    use crate::steps::rehearsal::{carry_out, master_and_worker, step, waits_for};

    #[tokio::test]
    async fn a_kubelet_that_does_not_know_of_the_network_yet_is_started_anew_once_it_is_there() {
        let network = step(Kind::NodeNetwork(agent::NodeNetwork {}));
        let (_, worker) = master_and_worker().await;
        let file = format!("{CNI_FOLDER}/10-flannel.conflist");
        let content = worker.file(&file).unwrap();
        worker.with(|state| state.files.remove(Path::new(&file)));
        worker.put_file(format!("{CNI_FOLDER}/.new"), "half");
        let what = waits_for(network.check(&worker, &Input::default()).await.unwrap());
        assert!(what.starts_with("the pod network to write its configuration into /etc/cni/net.d"), "{what}");
        worker.put_file(&file, content);
        let finding = network.check(&worker, &Input::default()).await;
        assert!(matches!(finding, Ok(Finding::Done(_))), "it knows already: {finding:?}");
        let message = "E1125 10:36:40.602105     508 kubelet.go:2163] Container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:docker: network plugin is not ready: cni config uninitialized".to_owned();
        worker.with(|state| state.kubelet_journal.push(JournalLine { time: Timestamp::now(), message }));
        let finding = carry_out(&worker, &network, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
    }
}
