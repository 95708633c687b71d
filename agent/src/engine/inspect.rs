//! What this host looks like before anything is done to it: the facts from which the coordinator's checks are made, for
//! this node and between all of them. Nothing is judged here, and what cannot be read stays empty.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use muster_proto::agent::{self, HostReport};
use muster_proto::kubernetes::files::{self, KUBELET_CONF, KUBELET_FOLDER};
use muster_proto::kubernetes::network::LINKS;
use muster_proto::kubernetes::runtime::RuntimeName;
use muster_proto::names::NodeName;

use crate::cluster::cni;
use crate::cluster::membership::Membership;
use crate::cluster::proxies;
use crate::connect::facts::pretty_name;
use crate::host::HostError;
use crate::host::owner::Owner;
use crate::host::query::Observe;
use crate::host::ufw;
use crate::steps::leave::network_leftovers::links;

/// Below are the ports of the system's own services, which no part of Kubernetes takes.
const LOWEST_PORT: u16 = 1024;

/// Looks at everything that the checks want; `names` are resolved here.
pub(crate) async fn inspect<H: Observe>(host: &H, names: &[NodeName]) -> Result<HostReport, HostError> {
    let text = async |path: &str| {
        // A file that is masked or a device in a container says as much as one that is not there.
        host.read_file(Path::new(path)).await.ok().flatten().unwrap_or_default()
    };
    let release = match text("/usr/lib/os-release").await {
        empty if empty.is_empty() => text("/etc/os-release").await,
        found => found,
    };
    let mut report = HostReport {
        hostname: host.hostname().await?,
        machine_id: text("/etc/machine-id").await.trim().to_owned(),
        product_uuid: text("/sys/class/dmi/id/product_uuid").await.trim().to_owned(),
        processors: host.processors().await?.try_into().unwrap_or(u32::MAX),
        memory_bytes: memory(&text("/proc/meminfo").await),
        operating_system: pretty_name(&release),
        systemd_version: host.systemd_version().await?.unwrap_or_default(),
        cgroup_version: if text("/sys/fs/cgroup/cgroup.controllers").await.is_empty() { 1 } else { 2 },
        swaps: host.swaps().await?.iter().map(|swap| swap.display().to_string()).collect(),
        ufw_enabled: ufw::files(host).await?.is_some_and(|files| files.say_on()),
        runtimes: runtimes(host).await?,
        cluster: Membership::read(&text(KUBELET_CONF).await).map(|found| found.server).unwrap_or_default(),
        leftovers: leftovers(host).await?,
        foreign_networks: cni::files(host).await?,
        // Without systemd's bus there is none to tell of; its lack is told by itself.
        proxy: proxies::of_kubelet(host).await.unwrap_or_default(),
        network_programs: cni::programs(host).await?,
        ..HostReport::default()
    };
    let listening = [text("/proc/net/tcp").await, text("/proc/net/tcp6").await];
    let ports: BTreeSet<u32> = listening.iter().flat_map(|table| listening_ports(table)).collect();
    report.tcp_ports = ports.into_iter().collect();
    // Words for a person: without them the ports are told all the same.
    report.port_holders = port_holders(host).await.unwrap_or_default();
    let tables = [text("/proc/net/route").await, text("/proc/net/ipv6_route").await];
    report.routes = [routes(&tables[0]), routes_v6(&tables[1])].concat();
    report.default_route = has_default_route(&tables[0], &tables[1]);
    for interface in host.interfaces().await? {
        let addresses = interface.addresses.iter().map(ToString::to_string).collect();
        let (name, hardware_address) = (interface.name, interface.hardware_address);
        report.interfaces.push(agent::NetworkInterface { name, hardware_address, addresses });
    }
    // Whose file systems Kubernetes fills: the kubelet's and the runtime's. Both have limits below which it evicts pods.
    let roots: Vec<String> = report.runtimes.iter().map(|runtime| runtime.root.clone()).collect();
    for path in std::iter::once(KUBELET_FOLDER.to_owned()).chain(roots) {
        let disk = host.disk(Path::new(&path)).await?;
        report.disks.push(agent::Disk { path, total_bytes: disk.total, available_bytes: disk.available });
    }
    for name in names {
        let addresses = host.resolve(name).await?.iter().map(ToString::to_string).collect();
        report.names.push(agent::ResolvedName { name: name.to_string(), addresses });
    }
    // Last, so that it is as near as can be to the moment at which the coordinator reads its own.
    report.clock_unix_millis = Timestamp::now().as_millisecond();
    Ok(report)
}

async fn port_holders<H: Observe>(host: &H) -> Result<Vec<agent::PortHolder>, HostError> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for runtime in RuntimeName::ALL {
        let containers = host.pod_containers(runtime).await?.into_iter();
        names.extend(containers.map(|container| (container.id, container.name)));
    }
    let mut holders = Vec::new();
    for listener in host.listeners().await?.into_iter().filter(|one| one.port >= LOWEST_PORT) {
        let (container, unit) = match Owner::of_process(host, listener.pid).await {
            Owner::Pod { container } => (names.get(&container).cloned().unwrap_or(container), String::new()),
            Owner::Unit(unit) => (String::new(), unit),
            Owner::Other => (String::new(), String::new()),
        };
        let (port, process, pid) = (listener.port.into(), listener.process, listener.pid);
        holders.push(agent::PortHolder { port, process, pid, container, unit });
    }
    Ok(holders)
}

/// Those whose unit is there. One that does not answer is told by what its settings say.
async fn runtimes<H: Observe>(host: &H) -> Result<Vec<agent::RuntimeReport>, HostError> {
    let mut found = Vec::new();
    for runtime in RuntimeName::ALL {
        let Some(facts) = host.runtime(runtime).await? else {
            if host.unit(runtime.row().unit).await.is_ok_and(|unit| unit.exists) {
                let root = host.runtime_root(runtime).await?.display().to_string();
                let name = runtime.word().to_owned();
                found.push(agent::RuntimeReport { name, root, ..Default::default() });
            }
            continue;
        };
        found.push(agent::RuntimeReport {
            name: runtime.word().to_owned(),
            version: facts.version,
            root: facts.root.display().to_string(),
            cgroup_driver: facts.cgroup_driver.map(|driver| driver.word().to_owned()).unwrap_or_default(),
        });
    }
    Ok(found)
}

/// What an earlier cluster leaves behind.
async fn leftovers<H: Observe>(host: &H) -> Result<Vec<String>, HostError> {
    let mut found = Vec::new();
    let kubeadms = files::files_to_remove().filter(|path| path.starts_with(files::FOLDER));
    for path in kubeadms.chain([files::CA_CERTIFICATE]) {
        if host.read_file(Path::new(path)).await?.is_some() {
            found.push(path.to_owned());
        }
    }
    for folder in [files::MANIFESTS, files::ETCD_MEMBER] {
        let names = host.list_folder(Path::new(folder)).await?;
        // The kubelet reads none that begins with a dot, and its package brings one (pkgs.k8s.io: .kubelet-keep).
        let first = names.iter().find(|name| !name.starts_with('.'));
        found.extend(first.map(|name| format!("{folder}/{name}")));
    }
    found.extend(cni::files(host).await?.iter().map(|name| format!("{}/{name}", cni::FOLDER)));
    let there = links(&host.read_file(Path::new("/proc/net/dev")).await?.unwrap_or_default());
    found.extend(
        LINKS
            .iter()
            .filter(|link| there.iter().any(|name| name == *link))
            .map(|link| format!("the link {link}")),
    );
    Ok(found)
}

/// `MemTotal:  16384 kB`
fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Of /proc/net/tcp and tcp6: `sl local_address rem_address st ...`, address and port in hexadecimal; state 0A listens.
pub(crate) fn listening_ports(table: &str) -> Vec<u32> {
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        (state == "0A").then(|| u32::from_str_radix(port, 16).ok()).flatten()
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// Of /proc/net/route: interface, destination and, in the eighth column, the mask, as the machine keeps them in memory.
fn routes(table: &str) -> Vec<agent::Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |index: usize| {
            let number = u32::from_str_radix(fields.get(index)?, 16).ok()?;
            Some(Ipv4Addr::from(number.to_ne_bytes()))
        };
        let destination = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
        described(destination.into(), fields[0])
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// Whether one of the tables has a route for everything that leads out of the host.
fn has_default_route(table: &str, table_v6: &str) -> bool {
    let four = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    };
    let six = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00") && fields.last().is_some_and(|card| *card != "lo")
    };
    table.lines().skip(1).any(four) || table_v6.lines().any(six)
}

/// Of /proc/net/ipv6_route: destination, its length in hexadecimal, and in the last column the interface.
fn routes_v6(table: &str) -> Vec<agent::Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
        let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        // Every host has its own link-local range and multicast.
        if length == 128 || address.is_multicast() || address.is_unicast_link_local() {
            return None;
        }
        described(Ipv6Net::new(address, length).ok()?.into(), fields.last()?)
    };
    table.lines().filter_map(route).collect()
}

fn described(destination: IpNet, interface: &str) -> Option<agent::Route> {
    let everything = destination.prefix_len() == 0;
    let own = interface == "lo" || matches!(destination.addr(), IpAddr::V6(six) if six.is_loopback());
    (!everything && !own)
        .then(|| agent::Route { destination: destination.to_string(), interface: interface.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};
    use crate::host::query::Listener;

    #[test]
    fn routes_are_read_as_ranges_and_the_default_route_is_none() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     host0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     host0\t0000580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let expected = agent::Route { destination: "10.88.0.0/24".into(), interface: "host0".into() };
        assert_eq!(routes(table), [expected]);
        assert!(has_default_route(table, ""));
        assert!(!has_default_route("Iface\n", ""));
        let six = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
                   fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
                   00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        assert!(!has_default_route("", six), "what leads to lo is no way out");
        assert!(has_default_route("", &six.replace("      lo", "    eth0")));
        assert_eq!(
            routes_v6(six),
            [agent::Route { destination: "fd00::/64".into(), interface: "eth0".into() }]
        );
    }

    #[test]
    fn only_sockets_that_listen_take_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1\n\
                     1: 0B00580A:D2F0 0C00580A:192B 01 00000000:00000000 00:00000000 00000000 0 0 1 1\n";
        assert_eq!(listening_ports(table), [6443]);
    }

    #[test]
    fn memory_is_what_meminfo_calls_total() {
        assert_eq!(memory("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(memory(""), 0);
    }

    #[tokio::test]
    async fn a_stock_host_is_described_and_nothing_on_it_changes() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/proc/net/dev", "Inter-|\n face |\n    lo: 0\n  cni0: 0\n");
        host.put_file("/etc/kubernetes/manifests/.kubelet-keep", "");
        host.put_file("/etc/kubernetes/manifests/etcd.yaml", "");
        host.with(|state| {
            state.start_container("etcd", &[2379]);
            let (process, pid) = ("haproxy".to_owned(), 77);
            state.listeners.push(Listener { port: 6443, process: process.clone(), pid });
            state.listeners.push(Listener { port: 443, process, pid });
        });
        host.put_file("/proc/77/cgroup", "0::/system.slice/haproxy.service\n");
        let before = host.snapshot();
        let report = inspect(&host, &["m1".parse().unwrap()]).await.unwrap();
        assert_eq!((report.hostname.as_str(), report.processors, report.cgroup_version), ("m1", 2, 1));
        assert_eq!(report.leftovers, ["/etc/kubernetes/manifests/etcd.yaml", "the link cni0"]);
        assert!(report.ufw_enabled && report.swaps == ["/dev/sda5"] && report.cluster.is_empty());
        assert_eq!(report.interfaces[0].addresses, ["10.88.0.11"]);
        assert_eq!(report.tcp_ports, [443, 2379, 6443]);
        let holder = |one: &agent::PortHolder| (one.port, one.container.clone() + &one.unit);
        assert_eq!(
            report.port_holders.iter().map(holder).collect::<Vec<_>>(),
            [(2379, "k8s_etcd_etcd-m1_kube-system_1_0".to_owned()), (6443, "haproxy.service".to_owned())]
        );
        assert_eq!(host.snapshot(), before);
    }

    #[tokio::test]
    async fn the_disk_of_a_runtime_is_the_one_that_it_uses_or_would_use() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file("/etc/docker/daemon.json", "{\"data-root\": \"/srv/docker\"}");
        let disks = async || {
            let report = inspect(&host, &[]).await.unwrap();
            report.disks.into_iter().map(|disk| disk.path).collect::<Vec<_>>()
        };
        assert_eq!(disks().await, ["/var/lib/kubelet", "/var/lib/docker"], "it was not started anew");
        host.with(|state| {
            state.runtimes.clear();
            state.run_containerd();
        });
        assert_eq!(disks().await, ["/var/lib/kubelet", "/srv/docker", "/var/lib/containerd"]);
    }
}
