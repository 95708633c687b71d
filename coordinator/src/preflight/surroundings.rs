//! What a machine's surroundings do to a cluster's own traffic: a proxy that takes it, no route for Services, network programs
//! that are not there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use muster_proto::event::Complaint;
use muster_proto::pod_network::programs_called;

use super::{Check, Findings, Host};
use crate::spec::ClusterSpec;

/// What names of Services end with.
const NAMES: [&str; 2] = [".svc", ".cluster.local"];
/// What a NO_PROXY has to begin with for programs that are not written in Go.
const OWN: [&str; 2] = ["localhost", "127.0.0.1"];

pub(super) fn look(findings: &mut Findings, host: &Host, hosts: &[Host], spec: &ClusterSpec) {
    proxy(findings, host, hosts, spec);
    default_route(findings, host, spec);
    programs(findings, host, spec);
}

fn proxy(findings: &mut Findings, host: &Host, hosts: &[Host], spec: &ClusterSpec) {
    let Some(proxy) = &host.report.proxy else { return };
    let entries: Vec<&str> =
        proxy.no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    let nodes: BTreeSet<IpAddr> = hosts.iter().map(|host| host.address).collect();
    let ranges = [spec.pod_subnet, spec.service_subnet];
    let nodes = nodes
        .into_iter()
        .filter(|address| !covers(&entries, *address, None))
        .map(|address| address.to_string());
    let ranges =
        ranges.iter().filter(|range| !covers(&entries, range.addr(), Some(**range))).map(ToString::to_string);
    let lacking: Vec<String> = nodes.chain(ranges).collect();
    if lacking.is_empty() {
        return;
    }
    let mut wanted: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
    let names = OWN.iter().chain(&NAMES).map(|&name| name.to_owned());
    for entry in names.chain(lacking.iter().cloned()) {
        if !wanted.contains(&entry) {
            wanted.push(entry);
        }
    }
    let (name, place) = (&host.name, &proxy.place);
    let remedy = format!(
        "on {name}: set NO_PROXY={} in {place}, then `sudo systemctl daemon-reexec`, and run the same command again",
        wanted.join(",")
    );
    let complaint = Complaint::new(
        format!(
            "{} is set for the kubelet of {name}, and NO_PROXY does not hold the cluster's own addresses",
            proxy.variables.join(" and ")
        ),
        format!("{place}; NO_PROXY lacks {}", lacking.join(", ")),
        remedy,
    );
    findings.complain(host, Check::Proxy, complaint);
}

/// Whether an entry takes an address, or the whole of a range, away from the proxy (golang.org/x/net/http/httpproxy).
fn covers(entries: &[&str], address: IpAddr, range: Option<IpNet>) -> bool {
    entries.iter().any(|entry| {
        let net = entry.parse::<IpNet>().ok();
        match range {
            _ if *entry == "*" => true,
            Some(range) => net.is_some_and(|net| net.contains(&range)),
            None => net.is_some_and(|net| net.contains(&address)) || entry.parse() == Ok(address),
        }
    })
}

/// A packet to a Service's address needs a route before kube-proxy's rules turn it to a pod.
fn default_route(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let leads = |route: &muster_proto::agent::Route| {
        route.destination.parse::<IpNet>().is_ok_and(|destination| destination.contains(&spec.service_subnet))
    };
    if host.report.default_route || host.report.routes.iter().any(leads) {
        return;
    }
    let (name, services) = (&host.name, spec.service_subnet);
    let address = host.address.to_string();
    let card = host.report.interfaces.iter().find(|card| card.addresses.contains(&address));
    let card = card.map_or("CARD", |card| card.name.as_str());
    let cause =
        format!("{name} has no default route: Service addresses ({services}) have no way out of the host");
    let evidence = format!("/proc/net/route of {name} has no default route, and none that holds {services}");
    let route = format!(
        "`sudo ip route add {services} dev {card}` on {name}, kept over reboots in its network settings"
    );
    // flannel takes the card of the default route, unless it is told another one.
    let manifest = &spec.network_manifest;
    if manifest.contains("flanneld") && !manifest.contains("--iface") {
        let cause = format!("{cause}, and flannel finds no card by itself");
        let remedy = format!(
            "a default route; or {route}, and `--iface={card}` among flanneld's arguments in the pod network's manifest"
        );
        findings.complain(host, Check::Routes, Complaint::new(cause, evidence, remedy));
    } else {
        findings.note(host, Check::Routes, cause, format!("{evidence}\na default route helps, or {route}"));
    }
}

fn programs(findings: &mut Findings, host: &Host, spec: &ClusterSpec) {
    let there = &host.report.network_programs;
    let missing: Vec<String> =
        programs_called(&spec.network_manifest).into_iter().filter(|name| !there.contains(name)).collect();
    if missing.is_empty() {
        return;
    }
    let complaint = Complaint::new(
        format!(
            "network programs that the pod network calls are not on {}: {}",
            host.name,
            missing.join(", ")
        ),
        "looked for in /opt/cni/bin and /usr/lib/cni",
        format!(
            "on {}: `sudo apt-get install --reinstall kubernetes-cni`, or unpack the archive of containernetworking/plugins into \
             /opt/cni/bin",
            host.name
        ),
    );
    findings.complain(host, Check::Programs, complaint);
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::{Proxy, Route};

    use super::super::tests::{host, spec};
    use super::*;

    fn found(manifest: &str, change: impl FnOnce(&mut Host)) -> Findings {
        let mut hosts = vec![host("m1", 11), host("w1", 12)];
        change(&mut hosts[0]);
        let spec = ClusterSpec { network_manifest: manifest.into(), ..spec("v1.20.2", true) };
        let mut findings = Findings::default();
        look(&mut findings, &hosts[0], &hosts, &spec);
        findings
    }

    #[test]
    fn a_proxy_that_takes_the_clusters_own_addresses_is_told_with_the_ready_value() {
        let with = |no_proxy: &str| {
            found("", |host| {
                let place = "/etc/systemd/system.conf.d/90-proxy.conf".into();
                host.report.proxy =
                    Some(Proxy { variables: vec!["HTTPS_PROXY".into()], no_proxy: no_proxy.into(), place });
            })
            .complaints
        };
        let told = &with("localhost,127.0.0.1,.example.org")[0];
        assert_eq!(told.check, Check::Proxy);
        let value = "NO_PROXY=localhost,127.0.0.1,.example.org,.svc,.cluster.local,10.88.0.11,10.88.0.12,10.244.0.0/16,10.96.0.0/12 in /etc";
        assert!(told.complaint.remedy.contains(value), "{}", told.complaint);
        for enough in [
            "*",
            "10.88.0.0/24, 10.244.0.0/16,10.96.0.0/12",
            "10.0.0.0/8",
            "10.88.0.11,10.88.0.12,10.0.0.0/8",
        ] {
            assert!(with(enough).is_empty(), "{enough}");
        }
        assert_eq!(with("10.88.0.11,10.96.0.0/12,10.244.0.0/17").len(), 1);
    }

    #[test]
    fn a_host_without_a_default_route_is_a_note_unless_flannel_needs_it_or_services_have_a_way() {
        let without = |manifest: &str, routes: Vec<Route>| {
            let findings =
                found(manifest, |host| (host.report.default_route, host.report.routes) = (false, routes));
            (findings.complaints.len(), findings.notes.len())
        };
        assert_eq!(without("", vec![]), (0, 1));
        assert_eq!(without("command: [/opt/bin/flanneld]\nargs: [--ip-masq]\n", vec![]), (1, 0));
        assert_eq!(without("command: [/opt/bin/flanneld]\nargs: [--iface=eth1]\n", vec![]), (0, 1));
        let route =
            |destination: &str| vec![Route { destination: destination.into(), interface: "eth0".into() }];
        assert_eq!(without("", route("10.96.0.0/12")), (0, 0));
        assert_eq!(without("", route("10.88.0.0/24")), (0, 1));
    }

    #[test]
    fn programs_that_the_manifest_calls_and_that_are_not_there_are_named() {
        let flannel =
            "cni-conf.json: |\n  {\"plugins\": [{\"type\": \"flannel\"}, {\"type\": \"portmap\"}]}\n";
        let causes = |there: &[&str]| {
            let findings = found(flannel, |host| {
                host.report.network_programs = there.iter().map(|&name| name.to_owned()).collect()
            });
            findings.complaints.into_iter().map(|found| found.complaint.cause).collect::<Vec<_>>()
        };
        assert!(causes(&["bridge", "host-local", "loopback", "portmap"]).is_empty());
        assert_eq!(
            causes(&["bridge", "host-local", "loopback"]),
            ["network programs that the pod network calls are not on m1: portmap"]
        );
    }
}
