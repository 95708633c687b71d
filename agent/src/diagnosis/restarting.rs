//! A kubelet that ends as often as systemd starts it: whoever waits for it to be healthy waits in vain, and its journal says why.

use jiff::{SignedDuration, Timestamp};
use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::RuntimeName;

use super::kubelet::{is_error, is_unconfigured, signs};
use super::repeats::Repeats;
use super::sign::{Surroundings, first};
use crate::cluster::kubelet::UNIT;
use crate::host::HostError;
use crate::host::query::Observe;

/// systemd starts it again after 10 s.
const LATELY: SignedDuration = SignedDuration::from_secs(90);
/// One that ended once or twice may have met a runtime that was just being started.
const ENDS: usize = 3;
/// systemd's words for each of its ends.
const ENDED: &str = "Main process exited";

/// Why the kubelet of this node does not come up; none while it runs, rests, or may still come up.
pub(crate) async fn complaint<H: Observe>(host: &H, node: &str) -> Result<Option<Complaint>, HostError> {
    let unit = host.unit(UNIT).await?;
    let gave_up = unit.state.starts_with("failed");
    if !gave_up && !unit.state.contains("auto-restart") {
        return Ok(None);
    }
    let mut lines = host.kubelet_journal(Timestamp::now() - LATELY).await?;
    // Before kubeadm wrote its configuration it always ends so.
    if let Some(last) = lines.iter().rposition(|line| is_unconfigured(&line.message)) {
        lines.drain(..=last);
    }
    let ends = lines.iter().filter(|line| line.message.contains(ENDED)).count();
    if ends < ENDS && !gave_up {
        return Ok(None);
    }
    let on_this_node = if node.is_empty() { "this node" } else { node };
    let known = RuntimeName::ALL.into_iter().find_map(|runtime| {
        let found = first(&signs(&lines, runtime))?.clone();
        let place = Surroundings { node: on_this_node, endpoint: None, runtime };
        Some(Complaint::new(found.sentence.clone(), found.evidence(), found.cause.remedy(&place)))
    });
    let mut repeats = Repeats::default();
    lines.iter().filter(|line| is_error(&line.message)).for_each(|line| repeats.count(&line.message));
    let complaint = known.unwrap_or_else(|| {
        let said = repeats.first(node).map(|(_, text)| format!(": {text}")).unwrap_or_default();
        Complaint::new(
            format!("the kubelet ends as often as it is started{said}"),
            repeats.lines(node, 4).join("\n"),
            format!("on {on_this_node}: `sudo journalctl -u kubelet` says more; remove what it complains of, then run the same command again"),
        )
    });
    let state =
        format!("{UNIT} is {}, and ended {ends} times in the last {} s", unit.state, LATELY.as_secs());
    let evidence = format!("{state}\n{}", complaint.evidence);
    Ok(Some(Complaint::new(complaint.cause, evidence, complaint.remedy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::host::query::JournalLine;

    fn host(state: &str, lines: &[&str]) -> FakeHost {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.with(|host| {
            host.units.get_mut(UNIT).unwrap().state = state.into();
            let line = |text: &&str| JournalLine { time: Timestamp::now(), message: (*text).to_owned() };
            host.kubelet_journal = lines.iter().map(line).collect();
        });
        host
    }

    const END: &str = "kubelet.service: Main process exited, code=exited, status=1/FAILURE";
    const LOOP: &str = "activating (auto-restart)";
    const SWAP: &str = "E1122 1 run.go:72] \"command failed\" err=\"failed to run Kubelet: running with swap on is not supported, please disable swap\"";

    #[tokio::test]
    async fn one_that_ends_again_and_again_is_told_with_what_it_says() {
        let complaint =
            complaint(&host(LOOP, &[SWAP, END, SWAP, END, SWAP, END]), "m1").await.unwrap().unwrap();
        assert_eq!(complaint.cause, "swap is on, and the kubelet refuses to run with it");
        assert!(
            complaint.evidence.starts_with("kubelet.service is activating (auto-restart), and ended 3 times"),
            "{complaint}"
        );
        let odd = "E1122 1 run.go:72] something that no rule knows";
        let told =
            super::complaint(&host(LOOP, &[odd, END, odd, END, odd, END]), "m1").await.unwrap().unwrap();
        assert_eq!(told.cause, "the kubelet ends as often as it is started: something that no rule knows");
        let gave_up = super::complaint(&host("failed (failed)", &[SWAP, END]), "m1").await.unwrap();
        assert!(gave_up.is_some(), "nobody starts it again");
    }

    #[tokio::test]
    async fn one_that_runs_ended_once_or_waited_for_kubeadm_is_not() {
        let unconfigured =
            "F1122 server.go:198] failed to load Kubelet config file /var/lib/kubelet/config.yaml";
        for (state, lines) in [
            ("active (running)", &[SWAP, END, SWAP, END, SWAP, END][..]),
            (LOOP, &[SWAP, END]),
            (LOOP, &[unconfigured, END, unconfigured, END, unconfigured, END]),
            ("inactive (dead)", &[SWAP, END, END, END]),
        ] {
            assert_eq!(complaint(&host(state, lines), "m1").await.unwrap(), None, "{state} {lines:?}");
        }
    }
}
