//! Afterwards: the kubelet of a node that has just joined speaks as that node. One that was started before the control plane
//! signed its certificate goes on as a stranger after that: it looks at its connections every ten seconds, and by then asks
//! ever less often (kubelet 1.20 and client-go's back-off, read off its journal). Started anew it has the certificate.

use std::time::Duration;

use muster_proto::agent;

use crate::cluster::kubelet::{self, Kubelet};
use crate::host::HostError;
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input};

pub const SETTLE: Duration = Duration::from_secs(60);

/// What the API server answers to a kubelet without a certificate.
const STRANGER: &str = "User \"system:anonymous\" cannot";

#[derive(Debug, Clone)]
pub struct KubeletIdentity;

impl KubeletIdentity {
    pub fn parse(_: &agent::KubeletIdentity) -> Result<Self, BadStep> {
        Ok(Self)
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        Ok(match kubelet::look(host, STRANGER).await? {
            Kubelet::Stands(state) => Finding::Wait(format!("the kubelet to run; it is {state}")),
            Kubelet::Runs { says_so: true } => Finding::Todo(vec![kubelet::restart()]),
            Kubelet::Runs { says_so: false } => Finding::DONE,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::FakeHost;
    use crate::host::query::JournalLine;
    use crate::steps::rehearsal::{carry_out, master_and_worker, step, waits_for};

    /// The kubelet says it so many seconds ago.
    fn says(host: &FakeHost, ago: i64, message: &str) {
        let time = Timestamp::now() - SignedDuration::from_secs(ago);
        host.with(|state| state.kubelet_journal.push(JournalLine { time, message: message.to_owned() }));
    }

    const SAID: &str = "E1125 10:42:58.466759    1034 event.go:264] Server rejected event: events is forbidden: User \"system:anonymous\" cannot create resource \"events\"";

    #[tokio::test]
    async fn a_kubelet_that_is_a_stranger_is_started_anew_once() {
        let identity = step(Kind::KubeletIdentity(agent::KubeletIdentity {}));
        let (_, worker) = master_and_worker().await;
        says(&worker, 2, SAID);
        let finding = carry_out(&worker, &identity, &mut Input::default()).await;
        assert!(
            matches!(finding, Finding::Done(_)),
            "what an earlier life said is not held against it: {finding:?}"
        );
    }

    #[tokio::test]
    async fn what_was_said_while_the_clock_was_ahead_is_not_of_late_once_it_was_put_right() {
        let identity = step(Kind::KubeletIdentity(agent::KubeletIdentity {}));
        let (_, worker) = master_and_worker().await;
        says(&worker, -7200, SAID);
        let finding = identity.check(&worker, &Input::default()).await;
        assert!(matches!(finding, Ok(Finding::Done(_))), "{finding:?}");
    }

    #[tokio::test]
    async fn one_that_was_a_stranger_long_ago_or_turns_strangers_away_itself_is_left_alone() {
        let identity = step(Kind::KubeletIdentity(agent::KubeletIdentity {}));
        let (_, worker) = master_and_worker().await;
        says(&worker, 30, SAID);
        says(
            &worker,
            1,
            "I1125 10:42:58.466759    1034 server.go:287] Forbidden (user=system:anonymous, verb=get, resource=nodes)",
        );
        let finding = identity.check(&worker, &Input::default()).await;
        assert!(matches!(finding, Ok(Finding::Done(_))), "{finding:?}");
        worker.with(|state| state.units.get_mut(kubelet::UNIT).unwrap().active = false);
        let what = waits_for(identity.check(&worker, &Input::default()).await.unwrap());
        assert!(what.starts_with("the kubelet to run"), "{what}");
    }
}
