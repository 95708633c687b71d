//! From the tries of the mesh test to sentences: who does not get through to whom, on which ports, and which side blocks.

use std::collections::BTreeMap;

use muster_proto::agent::ReachOutcome;
use muster_proto::event::Complaint;

use super::mesh::Try;
use super::{Check, Findings, Host, listed};
use crate::spec::ClusterSpec;

/// What keeps a packet from its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// The node that tries does not let it out.
    Leaving,
    /// The node that is tried does not let it in.
    Entering,
    /// It came in, and the answer did not come back.
    Returning,
    /// Large packets are lost on the way.
    Size,
    /// Between the two, or one of them: nothing tells which.
    Unknown,
}

pub(super) fn judge(findings: &mut Findings, hosts: &[Host], tries: &[Try], spec: &ClusterSpec) {
    // One sentence for all ports of a node that are blocked at the same side for the same others.
    let mut sentences: BTreeMap<(Side, &str, Vec<&str>), Vec<&Try>> = BTreeMap::new();
    let mut pairs: BTreeMap<(Side, &str, &str), Vec<&Try>> = BTreeMap::new();
    for tried in tries.iter().filter(|tried| tried.outcome != ReachOutcome::Through) {
        pairs.entry((side_of(tried, tries), tried.to.as_str(), tried.from.as_str())).or_default().push(tried);
    }
    let mut by_target: BTreeMap<(Side, &str, String), Vec<&Try>> = BTreeMap::new();
    for ((side, to, _), mut tried) in pairs {
        tried.sort_by_key(|tried| tried.door);
        let doors: Vec<String> = tried.iter().map(|tried| tried.door.to_string()).collect();
        by_target.entry((side, to, doors.join(", "))).or_default().extend(tried);
    }
    for ((side, to, _), tried) in by_target {
        let mut from: Vec<&str> = tried.iter().map(|tried| tried.from.as_str()).collect();
        from.sort_unstable();
        from.dedup();
        sentences.entry((side, to, from)).or_default().extend(tried);
    }
    for ((side, ..), tried) in sentences {
        sentence(findings, hosts, side, &tried, spec);
    }
}

/// The evidence that one failed try, seen beside all others, gives of the side that blocks.
fn side_of(tried: &Try, all: &[Try]) -> Side {
    // Where only large packets are lost, no firewall keeps the port closed.
    let through = |other: &&Try| matches!(other.outcome, ReachOutcome::Through | ReachOutcome::SmallOnly);
    match tried.outcome {
        ReachOutcome::SmallOnly => Side::Size,
        ReachOutcome::Forbidden | ReachOutcome::NoRoute => Side::Leaving,
        _ if tried.heard => Side::Returning,
        // Somebody answered, and the door was open: a firewall there says no.
        ReachOutcome::Refused => Side::Entering,
        _ => {
            let same_door = |other: &&Try| other.door == tried.door;
            let others_enter =
                all.iter().filter(|other| other.to == tried.to).filter(same_door).any(|t| through(&t));
            let leaves_elsewhere =
                all.iter().filter(|other| other.from == tried.from).filter(same_door).any(|t| through(&t));
            match (others_enter, leaves_elsewhere) {
                (true, false) => Side::Leaving,
                (false, true) => Side::Entering,
                _ => Side::Unknown,
            }
        }
    }
}

fn sentence(findings: &mut Findings, hosts: &[Host], side: Side, tried: &[&Try], spec: &ClusterSpec) {
    let mut doors: Vec<_> = tried.iter().map(|tried| (tried.door, tried.what)).collect();
    doors.sort_unstable();
    doors.dedup();
    let ports: Vec<String> = doors.iter().map(|(door, what)| format!("{door} ({what})")).collect();
    let mut names: Vec<_> = tried.iter().map(|tried| &tried.from).collect();
    names.sort_unstable();
    names.dedup();
    let (from, to) = (listed(names.iter().copied()), &tried[0].to);
    let host = |name: &muster_proto::names::NodeName| hosts.iter().find(|host| host.name == *name);
    let (Some(target), Some(source)) = (host(to), host(names[0])) else { return };
    let ufw: Vec<&Host> = std::iter::once(target)
        .chain(names.iter().filter_map(|name| host(name)))
        .filter(|host| host.report.ufw_enabled)
        .collect();
    let mut evidence: Vec<String> = tried
        .iter()
        .map(|tried| format!("{} -> {} {}: {}", tried.from, tried.to, tried.door, tried.said))
        .collect();
    evidence.extend(ufw.iter().map(|host| format!("ufw is on at {}", host.name)));
    let allowed: Vec<String> = doors
        .iter()
        .map(|(door, _)| {
            let protocol = if door.datagrams { "udp" } else { "tcp" };
            format!("`sudo ufw allow proto {protocol} from {} to any port {}`", source.address, door.port)
        })
        .collect();
    let on_target = if target.report.ufw_enabled {
        format!("on {to}: {}; or write spec.host.disableFirewall: true", allowed.join(", "))
    } else {
        format!(
            "on {to}, let in {} (`sudo iptables-save` or `sudo nft list ruleset` shows what does not)",
            ports.join(", ")
        )
    };
    let (cause, blamed, remedy) = match side {
        Side::Leaving => (
            format!("{from} cannot reach {} of {to}: {from} itself does not let it out", ports.join(", ")),
            source,
            format!(
                "on {from}, let out what goes to {} (`sudo iptables-save`, `ip route get {}` show why not)",
                target.address, target.address
            ),
        ),
        Side::Entering => (
            format!("{from} cannot reach {} of {to}: {to} does not let it in", ports.join(", ")),
            target,
            on_target,
        ),
        Side::Returning => (
            format!(
                "{from} gets no answer from {} of {to}, though it arrives there: the way back is blocked",
                ports.join(", ")
            ),
            target,
            format!(
                "on {to}, let out answers to {}; on {from}, let them in (`sudo iptables-save` shows the rules of each)",
                source.address
            ),
        ),
        Side::Size => (
            format!("large packets from {from} to {to} are lost on {}; small ones arrive", ports.join(", ")),
            target,
            format!(
                "make the MTU of the network cards of {from} and {to} no larger than the way between them takes (`sudo ip link set dev CARD mtu 1400`), or let ICMP \"fragmentation needed\" through"
            ),
        ),
        Side::Unknown => {
            let where_ = match ufw.first() {
                Some(host) if host.name == *to => format!("most likely ufw at {to}"),
                Some(host) => {
                    format!("ufw is on at {}, though it lets out what it is not told to keep", host.name)
                }
                None => "a firewall of one of them, or of the network between".to_owned(),
            };
            (format!("{from} gets no answer from {} of {to}: {where_}", ports.join(", ")), target, on_target)
        }
    };
    // What ufw blocks now is free once bootstrap has turned it off, as the spec says.
    let passes = spec.disable_firewall && !ufw.is_empty() && side != Side::Size;
    if passes {
        let cause = format!(
            "{from} does not reach {} of {to} while ufw is on; bootstrap turns it off",
            ports.join(", ")
        );
        findings.note(blamed, Check::Mesh, cause, evidence.join("\n"));
    } else {
        findings.complain(blamed, Check::Mesh, Complaint::new(cause, evidence.join("\n"), remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::super::mesh::DoorOf;
    use super::super::tests::{host, spec};
    use super::*;

    fn tried(from: &str, to: &str, port: u16, outcome: ReachOutcome) -> Try {
        Try {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            door: DoorOf { datagrams: port == 8472, port },
            what: "x",
            outcome,
            said: "no answer".into(),
            heard: false,
        }
    }
    fn judged(tries: &[Try], ufw: &str, disable: bool) -> Findings {
        let mut hosts = [host("m1", 11), host("w1", 12), host("w2", 13)];
        hosts.iter_mut().for_each(|host| host.report.ufw_enabled = host.name.as_str() == ufw);
        let mut findings = Findings::default();
        judge(&mut findings, &hosts, tries, &spec("v1.20.2", disable));
        findings
    }
    fn causes(tries: &[Try]) -> Vec<String> {
        judged(tries, "", false).complaints.into_iter().map(|found| found.complaint.cause).collect()
    }

    use ReachOutcome::{Forbidden, Refused, Silent, SmallOnly, Through};

    #[test]
    fn what_gets_through_is_not_mentioned() {
        assert!(causes(&[tried("w1", "m1", 6443, Through)]).is_empty());
    }

    #[test]
    fn the_side_that_blocks_is_named_by_who_else_gets_through() {
        let silent = tried("w1", "m1", 6443, Silent);
        let enters = causes(&[silent.clone(), tried("w2", "m1", 6443, Through)]);
        assert!(enters[0].ends_with("w1 itself does not let it out"), "{enters:?}");
        let leaves = causes(&[silent.clone(), tried("w1", "w2", 6443, Through)]);
        assert!(leaves[0].ends_with("m1 does not let it in"), "{leaves:?}");
        let small = causes(&[silent.clone(), tried("w1", "w2", 6443, SmallOnly)]);
        assert!(small.iter().any(|cause| cause.ends_with("m1 does not let it in")), "{small:?}");
        let alone = causes(std::slice::from_ref(&silent));
        assert!(alone[0].ends_with("a firewall of one of them, or of the network between"), "{alone:?}");
        let heard = causes(&[Try { heard: true, ..silent }]);
        assert!(heard[0].ends_with("the way back is blocked"), "{heard:?}");
    }

    #[test]
    fn a_refusal_blames_the_one_who_answers_and_a_forbidden_try_the_one_who_tries() {
        assert!(causes(&[tried("w1", "m1", 6443, Refused)])[0].ends_with("m1 does not let it in"));
        assert!(causes(&[tried("w1", "m1", 6443, Forbidden)])[0].ends_with("w1 itself does not let it out"));
    }

    #[test]
    fn lost_large_packets_are_told_from_a_closed_port() {
        let found = judged(&[tried("w1", "m1", 8472, SmallOnly)], "", false).complaints;
        assert!(found[0].complaint.cause.starts_with("large packets from w1 to m1"));
        assert!(found[0].complaint.remedy.contains("mtu"));
    }

    #[test]
    fn all_who_are_blocked_alike_stand_in_one_sentence() {
        let tries =
            ["w1", "w2"].map(|from| [tried(from, "m1", 6443, Refused), tried(from, "m1", 8472, Refused)]);
        let found = causes(tries.as_flattened());
        assert_eq!(found, ["w1 and w2 cannot reach TCP 6443 (x), UDP 8472 (x) of m1: m1 does not let it in"]);
    }

    #[test]
    fn ufw_is_named_with_its_rules_and_is_a_note_when_it_goes_off_anyway() {
        let tries = [tried("w1", "m1", 6443, Silent)];
        let stays = judged(&tries, "m1", false);
        assert!(
            stays.complaints[0]
                .complaint
                .remedy
                .contains("ufw allow proto tcp from 10.88.0.12 to any port 6443")
        );
        let goes = judged(&tries, "m1", true);
        assert!(goes.complaints.is_empty() && goes.notes.len() == 1);
    }
}
