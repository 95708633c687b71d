//! Containers of the control plane that ended: their last lines often hold the only word about why nothing answers.

use muster_proto::kubernetes::runtime::RuntimeName;

use super::kubelet;
use super::sign::{Cause, Sign, short};
use crate::host::query::ExitedContainer;

const PLACE: &str = "a container's last lines";

/// The causes that ended containers name. One that only ended is a sign for the end of a failed program, not while it
/// runs: on its way up a control plane ends some containers by itself.
pub(super) fn signs(containers: &[ExitedContainer], runtime: RuntimeName, still_running: bool) -> Vec<Sign> {
    let of_one = |container: &ExitedContainer| {
        let known = container
            .last_lines
            .iter()
            .find_map(|line| kubelet::of_line(line, runtime).map(|known| (known, line)));
        if let Some(((cause @ (Cause::PortTaken | Cause::ClockWrong), sentence), line)) = known {
            let sentence = format!("{sentence}: {} cannot start", container.name);
            return Some(Sign::new(cause, sentence, PLACE, line));
        }
        let last = container.last_lines.last().filter(|_| !still_running && container.exit_code != 0)?;
        let sentence = format!(
            "the container {} ended with exit code {}: {}",
            container.name,
            container.exit_code,
            short(last, 160)
        );
        Some(Sign::new(Cause::ContainerEnds, sentence, PLACE, last))
    };
    containers.iter().filter_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(last: &str) -> ExitedContainer {
        ExitedContainer {
            name: "kube-apiserver".into(),
            exit_code: 1,
            last_lines: vec!["I1122 something".into(), last.into()],
        }
    }

    #[test]
    fn an_api_server_whose_port_is_taken_says_so_at_once() {
        let taken = ended(
            "Error: failed to create listener: failed to listen on 0.0.0.0:6443: listen tcp 0.0.0.0:6443: bind: address already in use",
        );
        let signs = signs(&[taken], RuntimeName::Docker, true);
        assert_eq!(
            (signs[0].cause, signs[0].sentence.as_str()),
            (Cause::PortTaken, "port 6443 is taken by another program: kube-apiserver cannot start")
        );
    }

    #[test]
    fn a_container_that_only_ended_counts_when_kubeadm_gave_up() {
        let etcd = ended("panic: freepages: failed to get all reachable pages");
        assert!(signs(std::slice::from_ref(&etcd), RuntimeName::Docker, true).is_empty());
        assert!(
            signs(&[etcd], RuntimeName::Docker, false)[0]
                .sentence
                .contains("ended with exit code 1: panic: freepages")
        );
    }
}
