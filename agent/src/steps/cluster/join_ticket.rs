//! Afterwards: whoever of the named nodes has not joined yet can do so with the ticket that this step yields. The one
//! that init printed is handed on while it lives; otherwise kubeadm makes a fresh one. Tickets are held in memory only:
//! after a restart of the agent a fresh one is made, and the lost one ends by itself or by `revoke-tickets`.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use muster_proto::agent;
use muster_proto::event::reset_everything_command;
use muster_proto::kubernetes::files::{ADMIN_CONF, CA_CERTIFICATE};
use muster_proto::names::{KeyHash, NodeName};
use serde_json::Value;

use crate::cluster::kubeadm::{TICKET_DESCRIPTION, TICKET_LIFE, secret_value};
use crate::cluster::membership::ca_hashes;
use crate::cluster::ticket::PinnedCa;
use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::{ObjectKind, Observe, lacking};
use crate::steps::{BadStep, Finding, Input, Yield};

pub const SETTLE: Duration = Duration::from_secs(60);

const LIMIT: Duration = Duration::from_secs(60);
/// A ticket that ends sooner is not handed on: a join needs up to a minute of it.
const ENOUGH: SignedDuration = SignedDuration::from_mins(2);

#[derive(Debug, Clone)]
pub struct JoinTicket {
    nodes: Vec<NodeName>,
}

impl JoinTicket {
    pub fn parse(message: &agent::JoinTicket) -> Result<Self, BadStep> {
        let nodes =
            message.nodes.iter().map(|name| name.parse().map_err(BadStep::field("join_ticket.nodes")));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()? })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let nodes = host.objects(ObjectKind::Node, "", "").await?;
        if lacking(&nodes, &self.nodes).is_empty() {
            return Ok(Finding::DONE);
        }
        let ca = host.read_file(Path::new(CA_CERTIFICATE)).await?;
        let Some((pem, hashes)) = ca.as_deref().and_then(|pem| Some((pem, ca_hashes(pem)?))) else {
            return Ok(Finding::blocked(
                format!("{CA_CERTIFICATE} is missing or holds no certificate"),
                "without it nobody who joins can be told which cluster is the right one",
                format!("put the cluster's CA back at {CA_CERTIFICATE}, then run bootstrap again"),
            ));
        };
        if let Some(mut ticket) = input.ticket.clone() {
            ticket.ca = PinnedCa::of(pem, &ticket.ca_hashes);
            let strange = ticket.ca_hashes.iter().any(|hash| !hashes.contains(hash));
            if strange || ticket.ca.is_none() {
                let listed =
                    |hashes: &[KeyHash]| hashes.iter().map(KeyHash::as_str).collect::<Vec<_>>().join(", ");
                return Ok(Finding::blocked(
                    "kubeadm printed another CA than the one in ca.crt",
                    format!(
                        "printed: {}\nof {CA_CERTIFICATE}: {}",
                        listed(&ticket.ca_hashes),
                        listed(&hashes)
                    ),
                    format!(
                        "somebody replaced {CA_CERTIFICATE} or the cluster-info ConfigMap: compare `sudo kubectl --kubeconfig \
                         {ADMIN_CONF} -n kube-public get configmap cluster-info -o yaml` with that file before anybody joins\n\
                         start over: once both hold the same CA run the same bootstrap again; if its CA cannot be had back, `{}` on \
                         the master first\n\
                         more: `sudo agent journal` on the master holds what kubeadm printed; `sudo kubeadm token create \
                         --print-join-command --v=6` there prints the hash of the CA in {ADMIN_CONF}",
                        reset_everything_command()
                    ),
                ));
            }
            let name = format!("bootstrap-token-{}", ticket.id());
            let secret = host.object(ObjectKind::Secret, "kube-system", &name).await?;
            if secret.is_some_and(|secret| lives(&secret, Timestamp::now())) {
                return Ok(Finding::Done(Yield::Ticket(ticket)));
            }
        }
        let arguments =
            ["token", "create", "--kubeconfig", ADMIN_CONF, "--ttl", TICKET_LIFE, "--description"];
        let arguments = arguments.into_iter().chain([TICKET_DESCRIPTION, "--print-join-command"]);
        let program = Program::new(ProgramName::Kubeadm, arguments, LIMIT).yielding_ticket();
        Ok(Finding::Todo(vec![Change::Run(program)]))
    }
}

/// Whether a bootstrap token's Secret is good for long enough; one without an expiration never ends.
fn lives(secret: &Value, now: Timestamp) -> bool {
    match secret_value(secret, "expiration") {
        None => true,
        Some(text) => text.trim().parse::<Timestamp>().is_ok_and(|end| end >= now + ENOUGH),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use muster_proto::agent::step::Kind;
    use serde_json::json;

    use super::*;
    use crate::host::fake::{CA_CERTIFICATE as CA_FILE, CA_HASH};
    use crate::steps::Step;
    use crate::steps::rehearsal::{carry_out, cause_of, master, master_and_worker, step};

    fn ticket_for(nodes: &[&str]) -> Step {
        let nodes = nodes.iter().map(|&name| name.to_owned()).collect();
        step(Kind::JoinTicket(agent::JoinTicket { nodes }))
    }

    #[test]
    fn a_token_that_ends_within_two_minutes_is_not_handed_on() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (expiration, expected) in [
            ("2026-11-22T12:30:00Z", true),
            ("2026-11-22T12:02:00Z", true),
            ("2026-11-22T12:01:59Z", false),
            ("2026-11-22T11:00:00Z", false),
            ("tomorrow", false),
        ] {
            let secret = json!({"data": {"expiration": BASE64_STANDARD.encode(expiration)}});
            assert_eq!(lives(&secret, now), expected, "{expiration}");
        }
        assert!(lives(&json!({"data": {}}), now));
    }

    #[tokio::test]
    async fn the_ticket_of_init_is_handed_on_with_the_ca_file_and_its_hash() {
        let (host, input) = master().await;
        let finding = ticket_for(&["m1", "w1"]).check(&host, &input).await.unwrap();
        let Finding::Done(Yield::Ticket(ticket)) = finding else { panic!("{finding:?}") };
        let ca = ticket.ca.as_ref().unwrap();
        assert_eq!((ca.hash().as_str(), ca.pem()), (CA_HASH, CA_FILE));
        assert_eq!(ticket.id(), input.ticket.unwrap().id());
    }

    #[tokio::test]
    async fn a_lost_or_dead_ticket_is_replaced_by_a_fresh_one() {
        let (host, input) = master().await;
        let dead = input.ticket.clone().unwrap();
        let name = format!("bootstrap-token-{}", dead.id());
        host.cluster.with(|cluster| cluster.delete("Secret", "kube-system", &name));
        for mut input in [input, Input::default()] {
            let finding = carry_out(&host, &ticket_for(&["w1"]), &mut input).await;
            let Finding::Done(Yield::Ticket(fresh)) = finding else { panic!("{finding:?}") };
            assert_ne!(fresh.id(), dead.id());
        }
        let log = host.run_log();
        assert_eq!(
            log.last().unwrap(),
            "kubeadm token create --kubeconfig /etc/kubernetes/admin.conf --ttl 30m0s --description muster join ticket \
             --print-join-command"
        );
    }

    #[tokio::test]
    async fn nobody_needs_a_ticket_once_all_have_joined() {
        let (host, _) = master_and_worker().await;
        let finding = ticket_for(&["m1", "w1"]).check(&host, &Input::default()).await.unwrap();
        assert!(matches!(finding, Finding::Done(Yield::Nothing)), "{finding:?}");
    }

    #[tokio::test]
    async fn a_ticket_of_another_ca_is_not_handed_on() {
        let (host, mut input) = master().await;
        input.ticket.as_mut().unwrap().ca_hashes =
            vec![format!("sha256:{}", "1".repeat(64)).parse().unwrap()];
        let cause = cause_of(ticket_for(&["w1"]).check(&host, &input).await.unwrap());
        assert_eq!(cause, "kubeadm printed another CA than the one in ca.crt");
    }
}
