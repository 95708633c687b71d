//! Afterwards: the kubelet is healthy and knows the pod network of its node, whose pod writes its configuration into
//! /etc/cni/net.d some seconds after the node joined. The first file there by name is the network's own: with another one the
//! node is Ready as well, and its pods get addresses that mean nothing elsewhere. A kubelet with dockershim looks there every
//! five seconds and tells the API server every ten; one that is started anew does both at once, and the node is Ready so much
//! earlier (seen with 1.20.2).

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use muster_proto::agent;
use muster_proto::names::Malformed;
use muster_proto::pod_network::is_configuration_file;

use crate::cluster::cni::{self, Configuration};
use crate::cluster::kubelet::{self, Kubelet};
use crate::diagnosis::restarting;
use crate::host::HostError;
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input};

/// The pod network's image may have to be fetched first.
pub const SETTLE: Duration = Duration::from_secs(300);

/// What the kubelet says of a node that has no pod network yet, from 1.13 on.
const NOT_READY: &str = "NetworkReady=false";

#[derive(Debug, Clone)]
pub struct NodeNetwork {
    pod_subnet: IpNet,
    /// The names that the network gives its configuration; none: not known.
    files: BTreeSet<String>,
}

impl NodeNetwork {
    pub fn parse(message: &agent::NodeNetwork) -> Result<Self, BadStep> {
        let pod_subnet = BadStep::parsed("node_network.pod_subnet", &message.pod_subnet, "a subnet")?;
        let files = message.files.iter().map(|file| match is_configuration_file(file) {
            true => Ok(file.clone()),
            false => Err(BadStep::field("node_network.files")(Malformed::new(
                file,
                "a name of a CNI configuration",
            ))),
        });
        Ok(Self { pod_subnet, files: files.collect::<Result<_, _>>()? })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let mut taken = cni::taken(host).await?;
        if let Some(foreign) = taken.take_if(|taken| self.is_foreign(taken, input))
            && !self.comes_before(&foreign)
        {
            return Ok(self.complaint(&foreign));
        }
        // What the kubelet cannot call, no start of it anew would bring.
        let missing = match &taken {
            Some(taken) => cni::missing_programs(host, taken).await?,
            None => Vec::new(),
        };
        if let (Some(taken), false) = (&taken, missing.is_empty()) {
            return Ok(lacks_programs(taken, &missing));
        }
        let look = kubelet::look(host, NOT_READY).await?;
        let healthy = host.kubelet_healthy().await?;
        if !healthy && let Some(complaint) = restarting::complaint(host, "").await? {
            return Ok(Finding::Blocked(complaint));
        }
        Ok(match look {
            Kubelet::Stands(state) => Finding::Wait(format!("the kubelet to run; it is {state}")),
            Kubelet::Runs { .. } if taken.is_none() => Finding::Wait(format!(
                "the pod network to write its configuration into {}; its pod on this node has not done so",
                cni::FOLDER
            )),
            Kubelet::Runs { says_so: true } => Finding::Todo(vec![kubelet::restart()]),
            Kubelet::Runs { says_so: false } if !healthy => Finding::Wait(
                "the kubelet to be healthy; it runs, and http://127.0.0.1:10248/healthz does not say ok"
                    .to_owned(),
            ),
            Kubelet::Runs { says_so: false } => Finding::DONE,
        })
    }

    /// Neither of a name that the network writes, nor possibly the network's all the same: it stood there before the cluster,
    /// or gives addresses that are no pod's.
    fn is_foreign(&self, taken: &Configuration, input: &Input) -> bool {
        let stood_before = input.ledger.networks.as_ref().is_some_and(|stood| stood.contains(&taken.file));
        let elsewhere =
            !taken.ranges.is_empty() && !taken.ranges.iter().any(|range| self.pod_subnet.contains(range));
        !self.files.contains(&taken.file) && (elsewhere || (stood_before && !self.files.is_empty()))
    }

    /// Whether the network's own configuration, which its pod has not written yet, will be the one that is taken.
    fn comes_before(&self, foreign: &Configuration) -> bool {
        !self.files.is_empty() && self.files.iter().all(|own| *own < foreign.file)
    }

    fn complaint(&self, foreign: &Configuration) -> Finding {
        let path = format!("{}/{}", cni::FOLDER, foreign.file);
        let ranges: Vec<String> = foreign.ranges.iter().map(ToString::to_string).collect();
        let addresses = (!ranges.is_empty()).then(|| {
            format!("it gives pods addresses of {}; the pod subnet is {}", ranges.join(", "), self.pod_subnet)
        });
        let own = (!self.files.is_empty()).then(|| {
            let files: Vec<&str> = self.files.iter().map(String::as_str).collect();
            format!("the pod network's own: {}", files.join(", "))
        });
        let evidence: Vec<String> = addresses.into_iter().chain(own).collect();
        Finding::blocked(
            format!(
                "{path} is taken instead of the pod network's configuration: the kubelet takes the first by name"
            ),
            evidence.join("\n"),
            format!("on this node: `sudo mv {path} /root/`; then run the same command again"),
        )
    }
}

fn lacks_programs(taken: &Configuration, missing: &[String]) -> Finding {
    let path = format!("{}/{}", cni::FOLDER, taken.file);
    Finding::blocked(
        format!("{path} calls {}, which no folder of network programs holds", missing.join(", ")),
        "looked for in /opt/cni/bin and /usr/lib/cni",
        "on this node: `sudo apt-get install --reinstall kubernetes-cni`, or unpack the archive of containernetworking/plugins into \
         /opt/cni/bin; then run the same command again",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::FakeHost;
    use crate::host::query::JournalLine;
    use crate::steps::Step;
    use crate::steps::rehearsal::{carry_out, cause_of, master_and_worker, step, waits_for};
    use crate::undo::ledger::Ledger;

    const OWN: &str = "/etc/cni/net.d/10-flannel.conflist";
    const CONTAINERD: &str = "{\"name\": \"containerd-net\", \"plugins\": [{\"type\": \"bridge\", \"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"10.22.0.0/16\"}]]}}]}";

    fn network(files: &[&str]) -> Step {
        let files = files.iter().map(|&file| file.to_owned()).collect();
        step(Kind::NodeNetwork(agent::NodeNetwork { pod_subnet: "10.244.0.0/16".into(), files }))
    }

    async fn look(worker: &FakeHost, network: &Step, stood_before: &[&str]) -> Finding {
        let networks = Some(stood_before.iter().map(|&name| name.to_owned()).collect());
        let input = Input { ledger: Ledger { networks, ..Ledger::default() }, ..Input::default() };
        network.check(worker, &input).await.unwrap()
    }

    #[tokio::test]
    async fn a_kubelet_that_does_not_know_of_the_network_yet_is_started_anew_once_it_is_there() {
        let network = network(&["10-flannel.conflist"]);
        let (_, worker) = master_and_worker().await;
        let content = worker.file(OWN).unwrap();
        worker.with(|state| state.files.remove(Path::new(OWN)));
        worker.put_file("/etc/cni/net.d/.new", "half");
        let what = waits_for(network.check(&worker, &Input::default()).await.unwrap());
        assert!(what.starts_with("the pod network to write its configuration into /etc/cni/net.d"), "{what}");
        worker.put_file(OWN, &content[..content.len() / 2]);
        let what = waits_for(network.check(&worker, &Input::default()).await.unwrap());
        assert!(what.starts_with("the pod network to write"), "half of it is none: {what}");
        worker.put_file(OWN, content);
        let finding = network.check(&worker, &Input::default()).await;
        assert!(matches!(finding, Ok(Finding::Done(_))), "it knows already: {finding:?}");
        let message = "E1125 10:36:40.602105     508 kubelet.go:2163] Container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:docker: network plugin is not ready: cni config uninitialized".to_owned();
        worker.with(|state| state.kubelet_journal.push(JournalLine { time: Timestamp::now(), message }));
        let finding = carry_out(&worker, &network, &mut Input::default()).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
    }

    #[tokio::test]
    async fn a_missing_network_program_is_named_and_no_kubelet_is_started_anew_for_it() {
        let (_, worker) = master_and_worker().await;
        for name in ["flannel", "bridge", "host-local", "loopback"] {
            worker.put_file(format!("/opt/cni/bin/{name}"), "");
        }
        worker.put_file(OWN, "{\"plugins\": [{\"type\": \"flannel\"}, {\"type\": \"portmap\"}]}");
        let network = network(&["10-flannel.conflist"]);
        let cause = cause_of(look(&worker, &network, &[]).await);
        assert_eq!(cause, format!("{OWN} calls portmap, which no folder of network programs holds"));
        worker.put_file("/usr/lib/cni/portmap", "");
        assert!(matches!(look(&worker, &network, &[]).await, Finding::Done(_)));
    }

    #[tokio::test]
    async fn a_kubelet_that_ends_as_often_as_it_is_started_is_waited_for_by_nobody() {
        let (_, worker) = master_and_worker().await;
        let message = "kubelet.service: Main process exited, code=exited, status=1/FAILURE".to_owned();
        worker.with(|state| {
            state.kubelet_healthy = false;
            state.units.get_mut("kubelet.service").unwrap().state = "activating (auto-restart)".into();
            state.kubelet_journal = vec![JournalLine { time: Timestamp::now(), message }; 3];
        });
        let cause = cause_of(look(&worker, &network(&["10-flannel.conflist"]), &[]).await);
        assert!(cause.starts_with("the kubelet ends as often as it is started"), "{cause}");
    }

    #[tokio::test]
    async fn a_kubelet_that_runs_and_is_not_healthy_is_waited_for() {
        let (_, worker) = master_and_worker().await;
        worker.with(|state| state.kubelet_healthy = false);
        let what = waits_for(look(&worker, &network(&["10-flannel.conflist"]), &[]).await);
        assert!(what.starts_with("the kubelet to be healthy"), "{what}");
    }

    #[tokio::test]
    async fn a_foreign_configuration_that_sorts_first_is_told_and_one_that_sorts_later_is_not() {
        let (_, worker) = master_and_worker().await;
        let known = network(&["10-flannel.conflist"]);
        for later in ["87-podman-bridge.conflist", "100-crio-bridge.conf"] {
            worker.put_file(format!("/etc/cni/net.d/{later}"), CONTAINERD);
        }
        let stood_before = ["10-containerd-net.conflist", "87-podman-bridge.conflist", "05-cilium.conf"];
        assert!(matches!(look(&worker, &known, &stood_before).await, Finding::Done(_)));

        let own = worker.with(|state| state.files.remove(Path::new(OWN))).unwrap();
        let what = waits_for(look(&worker, &known, &stood_before).await);
        assert!(what.starts_with("the pod network to write"), "its own will come first: {what}");
        worker.with(|state| state.files.insert(OWN.into(), own));

        worker.put_file("/etc/cni/net.d/10-containerd-net.conflist", CONTAINERD);
        // With what stood there before, with something installed since, and with a network of which no file is known.
        for (network, stood_before) in [(&known, &stood_before[..]), (&known, &[]), (&network(&[]), &[])] {
            let Finding::Blocked(complaint) = look(&worker, network, stood_before).await else { panic!() };
            assert!(
                complaint.cause.starts_with("/etc/cni/net.d/10-containerd-net.conflist is taken instead"),
                "{complaint}"
            );
            assert!(complaint.evidence.contains("10.22.0.0/16"), "{complaint}");
            assert!(
                complaint.remedy.contains("sudo mv /etc/cni/net.d/10-containerd-net.conflist"),
                "{complaint}"
            );
        }
        worker.with(|state| state.files.remove(Path::new("/etc/cni/net.d/10-containerd-net.conflist")));
        assert!(matches!(look(&worker, &known, &stood_before).await, Finding::Done(_)), "the remedy is one");

        worker.put_file("/etc/cni/net.d/05-cilium.conf", "{\"type\": \"cilium-cni\"}");
        let cause = cause_of(look(&worker, &known, &stood_before).await);
        assert!(
            cause.starts_with("/etc/cni/net.d/05-cilium.conf is taken"),
            "left of another network: {cause}"
        );
    }

    #[tokio::test]
    async fn a_network_that_names_no_file_is_known_by_its_addresses() {
        let (_, worker) = master_and_worker().await;
        worker.put_file("/etc/cni/net.d/10-a.conflist", CONTAINERD.replace("10.22.0.0/16", "10.244.1.0/24"));
        assert!(matches!(look(&worker, &network(&[]), &["10-a.conflist"]).await, Finding::Done(_)));
    }
}
