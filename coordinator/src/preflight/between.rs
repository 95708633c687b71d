//! What only shows when the nodes are laid beside each other, or beside the spec.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use muster_proto::event::Complaint;
use muster_proto::kubernetes::runtime::is_bridge;

use super::{Check, Findings, Host, listed};
use crate::spec::ClusterSpec;

/// A certificate that was just made is not valid yet on a node that is so far behind; tokens live minutes.
const CLOCK_LIMIT_MS: i64 = 10_000;
const CLOCK_NOTE_MS: i64 = 2_000;

/// Bridges that every host has with the same address, and that mean nothing between hosts; besides those of container
/// runtimes.
const OWN_BRIDGES: [&str; 3] = ["virbr", "cni", "lxc"];

pub(super) fn look(findings: &mut Findings, hosts: &[Host], spec: &ClusterSpec) {
    identities(findings, hosts);
    shared_addresses(findings, hosts);
    for host in hosts {
        clock(findings, host);
        names(findings, host, hosts);
        if !host.settled && !host.report.begun_here {
            ranges(findings, host, spec);
        }
    }
}

/// What must differ between nodes (kubernetes.io, "Installing kubeadm": MAC address and product_uuid unique; the kubelet
/// and DHCP tell machines apart by machine-id). Clones of one virtual machine often share it.
fn identities(findings: &mut Findings, hosts: &[Host]) {
    let chosen_card = |host: &Host| {
        let address = host.address.to_string();
        let card = host.report.interfaces.iter().find(|card| card.addresses.contains(&address));
        card.map(|card| card.hardware_address.clone()).unwrap_or_default()
    };
    duplicates(
        findings,
        hosts,
        "machine-id",
        |host| host.report.machine_id.clone(),
        "on all of these but one: `sudo rm /etc/machine-id /var/lib/dbus/machine-id; sudo systemd-machine-id-setup`, then reboot",
    );
    duplicates(
        findings,
        hosts,
        "product UUID",
        |host| host.report.product_uuid.clone(),
        "give the virtual machines UUIDs of their own (VirtualBox: clone anew with new identities; libvirt: `virt-clone`)",
    );
    duplicates(
        findings,
        hosts,
        "hardware address",
        chosen_card,
        "give each virtual machine's network card a hardware (MAC) address of its own and start it again",
    );
    let mut names: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    hosts.iter().for_each(|host| names.entry(&host.report.hostname).or_default().push(host));
    for (name, same) in names.into_iter().filter(|(_, same)| same.len() > 1) {
        let who = listed(same.iter().map(|host| &host.name));
        findings.note(
            same[0],
            Check::Identity,
            format!(
                "{who} {} call themselves {name:?}; bootstrap gives each its own name",
                if same.len() == 2 { "both" } else { "all" }
            ),
            "",
        );
    }
}

fn duplicates(
    findings: &mut Findings,
    hosts: &[Host],
    what: &str,
    of: impl Fn(&Host) -> String,
    remedy: &str,
) {
    let mut owners: BTreeMap<String, Vec<&Host>> = BTreeMap::new();
    hosts.iter().for_each(|host| owners.entry(of(host)).or_default().push(host));
    for (value, same) in owners.into_iter().filter(|(value, same)| !value.is_empty() && same.len() > 1) {
        let who = listed(same.iter().map(|host| &host.name));
        let complaint =
            Complaint::new(format!("{who} have the same {what}"), format!("{what} {value}"), remedy);
        findings.complain(same[1], Check::Identity, complaint);
    }
}

/// VirtualBox gives every machine 10.0.2.15 on its NAT card. It is never chosen; that it is there is worth a word.
fn shared_addresses(findings: &mut Findings, hosts: &[Host]) {
    let mut owners: BTreeMap<IpAddr, Vec<(&Host, &str)>> = BTreeMap::new();
    for host in hosts {
        for card in &host.report.interfaces {
            let own_bridge =
                is_bridge(&card.name) || OWN_BRIDGES.iter().any(|prefix| card.name.starts_with(prefix));
            let addresses = card.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            for address in addresses.filter(|address| !own_bridge && !is_link_local(*address)) {
                owners.entry(address).or_default().push((host, &card.name));
            }
        }
    }
    for (address, same) in owners.into_iter().filter(|(_, same)| same.len() > 1) {
        let who = listed(same.iter().map(|(host, _)| &host.name));
        let used: Vec<String> = same
            .iter()
            .map(|(host, card)| format!("{}: {card}; used is {}", host.name, host.address))
            .collect();
        let cause = format!("{who} share the address {address}, so it is not used");
        findings.note(same[0].0, Check::Routes, cause, used.join("\n"));
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

fn clock(findings: &mut Findings, host: &Host) {
    let off = host.clock_ahead_ms;
    let seconds = off.abs() / 1000;
    let cause = format!(
        "the clock of {} is {seconds} s {} the coordinator's",
        host.name,
        if off < 0 { "behind" } else { "ahead of" }
    );
    if off.abs() > CLOCK_LIMIT_MS {
        let remedy = format!(
            "on {} run `sudo timedatectl set-ntp true` and wait until `timedatectl` says synchronized",
            host.name
        );
        let evidence =
            "certificates and tokens that were just made are not valid yet, or not any more, at such a clock";
        findings.complain(host, Check::Clock, Complaint::new(cause, evidence, remedy));
    } else if off.abs() > CLOCK_NOTE_MS {
        findings.note(host, Check::Clock, cause, "");
    }
}

/// Debian's `127.0.1.1 NAME` and a DNS of the house are overruled by the block that bootstrap writes into /etc/hosts.
fn names(findings: &mut Findings, host: &Host, hosts: &[Host]) {
    for resolved in &host.report.names {
        let Some(meant) = hosts.iter().find(|other| other.name.as_str() == resolved.name) else { continue };
        let other = |address: &&String| {
            address.parse::<IpAddr>().is_ok_and(|address| address != meant.address && !address.is_loopback())
        };
        if let Some(address) = resolved.addresses.iter().find(other) {
            let cause = format!("on {} the name {} means {address}", host.name, resolved.name);
            let evidence = format!("bootstrap writes {} for it into /etc/hosts", meant.address);
            findings.note(host, Check::Names, cause, evidence);
        }
    }
}

/// The ranges of pods and services must not hold what the host reaches otherwise.
fn ranges(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let places = &spec.places;
    let wanted = [
        (&places.pod_subnet, "the pods' range", spec.pod_subnet),
        (&places.service_subnet, "the services' range", spec.service_subnet),
    ];
    for (place, what, range) in wanted {
        let overlaps = |other: &IpNet| range.contains(other) || other.contains(&range);
        let routes = host.report.routes.iter().filter_map(|route| {
            let destination: IpNet = route.destination.parse().ok()?;
            overlaps(&destination).then(|| format!("route {} over {}", route.destination, route.interface))
        });
        let address = range.contains(&host.address).then(|| format!("its own address {}", host.address));
        let evidence: Vec<String> = routes.chain(address).collect();
        if !evidence.is_empty() {
            let complaint = Complaint::new(
                format!("{what} {range} overlaps with what {} reaches already", host.name),
                evidence.join("\n"),
                format!(
                    "write another range at {}:{}: {}, one that no host has a route into",
                    places.file, place.line, place.field
                ),
            );
            findings.complain(host, Check::Routes, complaint);
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::{NetworkInterface, ResolvedName, Route};

    use super::super::tests::{host, spec};
    use super::*;

    fn found(change: impl FnOnce(&mut [Host])) -> Findings {
        let mut hosts = [host("m1", 11), host("w1", 12), host("w2", 13)];
        change(&mut hosts);
        let mut findings = Findings::default();
        look(&mut findings, &hosts, &spec("v1.20.2", true));
        findings
    }

    #[test]
    fn nodes_that_differ_where_they_must_give_no_complaint_and_no_note() {
        assert_eq!(found(|_| {}), Findings::default());
    }

    #[test]
    fn cloned_machines_are_told_what_they_share() {
        let findings = found(|hosts| {
            for host in hosts.iter_mut() {
                host.report.machine_id = "a".into();
                host.report.product_uuid = "b".into();
                host.report.interfaces[0].hardware_address = "c".into();
                host.report.hostname = "ubuntu".into();
            }
        });
        let causes: Vec<&str> =
            findings.complaints.iter().map(|found| found.complaint.cause.as_str()).collect();
        assert_eq!(
            causes,
            [
                "m1, w1 and w2 have the same machine-id",
                "m1, w1 and w2 have the same product UUID",
                "m1, w1 and w2 have the same hardware address",
            ]
        );
        assert!(findings.notes[0].complaint.cause.contains("\"ubuntu\""));
    }

    #[test]
    fn what_could_not_be_read_is_no_duplicate() {
        let findings = found(|hosts| hosts.iter_mut().for_each(|host| host.report.product_uuid.clear()));
        assert!(findings.complaints.is_empty());
    }

    #[test]
    fn an_address_that_two_machines_share_is_a_note_and_dockers_bridge_is_none() {
        let card = |name: &str, address: &str| NetworkInterface {
            name: name.into(),
            hardware_address: "08:00:27:00:00:01".into(),
            addresses: vec![address.into()],
        };
        let findings = found(|hosts| {
            for host in hosts.iter_mut() {
                host.report.interfaces.extend([card("nat0", "10.0.2.15"), card("docker0", "172.17.0.1")]);
            }
        });
        assert!(findings.complaints.is_empty());
        assert_eq!(findings.notes.len(), 1);
        assert!(findings.notes[0].complaint.cause.contains("share the address 10.0.2.15"));
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_ten_seconds_is_a_complaint() {
        let at = |ms| found(|hosts| hosts[1].clock_ahead_ms = ms);
        assert!(at(-3_600_000).complaints[0].complaint.cause.contains("w1 is 3600 s behind"));
        assert!(at(11_000).complaints[0].complaint.cause.contains("11 s ahead of"));
        assert!(at(5_000).complaints.is_empty() && at(5_000).notes.len() == 1);
        assert_eq!(at(1_000), Findings::default());
    }

    #[test]
    fn a_range_that_a_host_has_a_route_into_is_a_complaint() {
        let route = |to: &str| Route { destination: to.into(), interface: "eth1".into() };
        let at = |to: &str| found(|hosts| hosts[2].report.routes = vec![route(to)]).complaints;
        let remedy = "write another range at cluster.yaml:10: spec.networking.podSubnet, one that no host has a route into";
        assert_eq!(at("10.244.3.0/24")[0].complaint.remedy, remedy);
        assert_eq!(at("10.0.0.0/8").len(), 2, "pods and services are both inside");
        assert!(at("10.88.0.0/24").is_empty());
        let ours = found(|hosts| {
            hosts[2].report.routes = vec![route("10.244.3.0/24")];
            hosts[2].report.begun_here = true;
        });
        assert!(ours.complaints.is_empty());
    }

    #[test]
    fn a_name_with_another_address_is_a_note() {
        let name = |address: &str| ResolvedName { name: "m1".into(), addresses: vec![address.into()] };
        let at = |address: &str| found(|hosts| hosts[1].report.names = vec![name(address)]).notes.len();
        assert_eq!([at("10.88.0.11"), at("127.0.1.1"), at("192.168.7.7")], [0, 0, 1]);
    }
}
