//! Afterwards: nothing of the pod network is left on this node that `kubeadm reset` does not clean: the network's CNI
//! configuration, its links, routes into the pods' range, and the rules of kube-proxy, CNI and flannel. Rules of Docker
//! and of the administrator stay, and so does a CNI configuration of somebody else, or one that stood there before the
//! cluster. Links, routes and rules would be gone after a reboot anyway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use muster_proto::agent;
use muster_proto::kubernetes::network::{
    BRIDGE_MARK, CHAINS, CILIUM_PAIR, CONFIGURATION_FOLDER, FILES, IPVS_LINK, LINKS, MARKS, is_configuration,
};

use crate::host::HostError;
use crate::host::change::{Change, Program, ProgramName};
use crate::host::query::{Family, Observe};
use crate::steps::{BadStep, Finding, Input};

/// Removed links go a moment later.
pub const SETTLE: Duration = Duration::from_secs(15);

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct NetworkLeftovers {
    /// The addresses of pods, and how the spec writes them.
    pods: Option<(IpNet, String)>,
}

impl NetworkLeftovers {
    pub fn parse(message: &agent::NetworkLeftovers) -> Result<Self, BadStep> {
        let text = &message.pod_subnet;
        let pods: Option<IpNet> = text.parse().ok().filter(|pods: &IpNet| pods.prefix_len() > 0);
        if pods.is_none() && !text.is_empty() {
            let problem = format!("{:?} is no range of addresses", text.chars().take(80).collect::<String>());
            return Err(BadStep::Value { field: "network_leftovers.pod_subnet", problem });
        }
        Ok(Self { pods: pods.map(|pods| (pods, text.clone())) })
    }

    pub async fn check<H: Observe>(&self, host: &H, input: &Input) -> Result<Finding, HostError> {
        let mut changes = Vec::new();
        for name in host.list_folder(Path::new(CONFIGURATION_FOLDER)).await? {
            let path = format!("{CONFIGURATION_FOLDER}/{name}");
            let configuration = is_configuration(&name);
            let stood_before = input.ledger.networks.as_ref().is_some_and(|stood| stood.contains(&name));
            if configuration
                && !stood_before
                && self.is_pod_network(&host.read_file(Path::new(&path)).await?.unwrap_or_default())
            {
                changes.push(Change::RemoveFile { path: path.into() });
            }
        }
        for path in FILES {
            if host.read_file(Path::new(path)).await?.is_some() {
                changes.push(Change::RemoveFile { path: path.into() });
            }
        }
        let run = |program, arguments: &[&str]| {
            Change::Run(Program::new(program, arguments.iter().copied(), LIMIT))
        };
        // Not /sys/class/net: in a container that shows the links of whoever mounted it.
        let links = links(&host.read_file(Path::new("/proc/net/dev")).await?.unwrap_or_default());
        // Only kube-proxy makes this link. Its rules are taken away first: without the link nobody would know of them.
        let balanced = links.iter().any(|link| link == IPVS_LINK);
        let can_clear = !balanced || host.missing_programs(&["ipvsadm"]).await?.is_empty();
        if balanced && can_clear {
            changes.push(run(ProgramName::Ipvsadm, &["--clear"]));
        }
        let is_there = |link: &str| links.iter().any(|there| there == link);
        let going: Vec<&str> =
            LINKS.into_iter().filter(|link| is_there(link) && (*link != IPVS_LINK || can_clear)).collect();
        for link in &going {
            if *link != CILIUM_PAIR[1] || !is_there(CILIUM_PAIR[0]) {
                changes.push(run(ProgramName::Ip, &["link", "delete", link]));
            }
        }
        let table = host.read_file(Path::new("/proc/net/route")).await?.unwrap_or_default();
        for route in self.routes_that_stay(&table, &going, ipv4_route) {
            changes.push(run(ProgramName::Ip, &["route", "delete", &route]));
        }
        let table = host.read_file(Path::new("/proc/net/ipv6_route")).await?.unwrap_or_default();
        for route in self.routes_that_stay(&table, &going, ipv6_route) {
            changes.push(run(ProgramName::Ip, &["-6", "route", "delete", &route]));
        }
        if !changes.is_empty() {
            return Ok(Finding::Todo(changes));
        }
        // Each a look of its own, once nothing else is to be done: the whole table is written back as it was read, and what
        // Docker or fail2ban change between the two would be lost.
        for (family, program) in
            [(Family::Ipv4, ProgramName::IptablesRestore), (Family::Ipv6, ProgramName::Ip6tablesRestore)]
        {
            let rules = host.packet_filter(family).await?.unwrap_or_default();
            let wanted = self.without_ours(&rules);
            if wanted != rules {
                let program = Program::new(program, Vec::<String>::new(), LIMIT).with_input(wanted);
                return Ok(Finding::Todo(vec![Change::Run(program)]));
            }
        }
        if !can_clear {
            return Ok(Finding::blocked(
                "kube-proxy's IPVS rules are left, and the program that takes them away is not installed",
                format!("the link {IPVS_LINK} is there"),
                "`sudo apt-get install ipvsadm`, or start the machine anew; then the same reset again",
            ));
        }
        Ok(Finding::DONE)
    }

    fn is_pod_network(&self, configuration: &str) -> bool {
        let pods = |range: &str| {
            let inside =
                |(pods, _): &(IpNet, String)| range.parse().is_ok_and(|range: IpNet| pods.contains(&range));
            self.pods.as_ref().is_some_and(inside)
        };
        MARKS.iter().any(|mark| configuration.contains(mark))
            || (configuration.contains(BRIDGE_MARK) && configuration.split('"').any(pods))
    }

    /// iptables-save's lines without the chains and rules of the cluster; all other bytes stay.
    fn without_ours(&self, rules: &str) -> String {
        let ours = |line: &str| {
            let of_range = |(_, pods): &(IpNet, String)| {
                let mut words = line.split_whitespace();
                line.starts_with("-A ") && words.any(|word| word == pods)
            };
            CHAINS.iter().any(|chain| line.contains(chain)) || self.pods.as_ref().is_some_and(of_range)
        };
        rules.split_inclusive('\n').filter(|line| line.starts_with('#') || !ours(line)).collect()
    }

    /// The routes to other nodes' pods that are left when these links are deleted: a route goes with its link, also one by a
    /// gateway (flannel's VXLAN), and then `ip route delete` would find none and fail.
    fn routes_that_stay(&self, table: &str, going: &[&str], read: fn(&str) -> Option<Route>) -> Vec<String> {
        let Some((pods, _)) = &self.pods else { return Vec::new() };
        let stays = |route: &Route| {
            !route.by.is_unspecified() && pods.contains(&route.to) && !going.contains(&route.link.as_str())
        };
        table.lines().filter_map(read).filter(stays).map(|route| route.to.to_string()).collect()
    }
}

/// A line of the kernel's table of routes.
struct Route {
    to: IpNet,
    /// The gateway; unspecified when there is none.
    by: IpAddr,
    link: String,
}

/// A line of /proc/net/route: the link, where to, the gateway, and further on the mask.
fn ipv4_route(line: &str) -> Option<Route> {
    let number = |hexadecimal: &str| u32::from_str_radix(hexadecimal, 16).ok().map(u32::swap_bytes);
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (to, by, mask) = (number(fields.get(1)?)?, number(fields.get(2)?)?, number(fields.get(7)?)?);
    let to = Ipv4Net::with_netmask(to.into(), mask.into()).ok()?;
    Some(Route { to: to.into(), by: Ipv4Addr::from(by).into(), link: (*fields.first()?).to_owned() })
}

/// A line of /proc/net/ipv6_route: address and length of the target, of the source, the gateway, and last the link.
fn ipv6_route(line: &str) -> Option<Route> {
    let address = |hexadecimal: &str| u128::from_str_radix(hexadecimal, 16).ok().map(Ipv6Addr::from);
    let fields: Vec<&str> = line.split_whitespace().collect();
    let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let to = Ipv6Net::new(address(fields.first()?)?, length).ok()?;
    let by = address(fields.get(4)?)?.into();
    Some(Route { to: to.into(), by, link: (*fields.last()?).to_owned() })
}

/// The names in /proc/net/dev; two lines of heading have no colon behind their first word.
pub(crate) fn links(table: &str) -> Vec<String> {
    table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use muster_proto::agent::step::Kind;

    use super::*;
    use crate::host::fake::FakeHost;
    use crate::steps::Step;
    use crate::steps::rehearsal::{carry_out, master, step};

    fn of(range: &str) -> NetworkLeftovers {
        NetworkLeftovers::parse(&agent::NetworkLeftovers { pod_subnet: range.into() }).unwrap()
    }

    /// As the engine does it: look by look, until there is nothing more to change.
    async fn carried_out(host: &FakeHost, step: &Step, input: &mut Input) -> Finding {
        loop {
            let finding = carry_out(host, step, input).await;
            if !matches!(finding, Finding::Todo(_)) {
                return finding;
            }
        }
    }

    #[test]
    fn rules_of_docker_and_of_the_administrator_stay() {
        let rules = "# Generated by iptables-save\n*filter\n:INPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n:KUBE-FORWARD - [0:0]\n-A INPUT -j KUBE-FIREWALL\n-A INPUT -p tcp --dport 22 -j ACCEPT\n-A FORWARD -o docker0 -j DOCKER\n-A FORWARD -s 10.244.0.0/16 -j ACCEPT\n-A FORWARD -s 10.244.0.0/17 -j ACCEPT\nCOMMIT\n";
        let after = of("10.244.0.0/16").without_ours(rules);
        assert_eq!(
            after,
            "# Generated by iptables-save\n*filter\n:INPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\n-A FORWARD -o docker0 -j DOCKER\n-A FORWARD -s 10.244.0.0/17 -j ACCEPT\nCOMMIT\n"
        );
        assert_eq!(of("").without_ours(&after), after);
    }

    #[test]
    fn the_links_of_this_machine_are_read_by_their_names() {
        let table = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n    lo:     100       1    0    0    0     0          0         0      100\n  cni0: 4 0 0\nflannel.1:99 0\n";
        assert_eq!(links(table), ["lo", "cni0", "flannel.1"]);
    }

    #[test]
    fn only_routes_to_other_nodes_pods_are_removed() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\neth0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0001F40A\t0C00580A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\ncni0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(of("10.244.0.0/16").routes_that_stay(table, &[], ipv4_route), ["10.244.1.0/24"]);
        assert!(of("").routes_that_stay(table, &[], ipv4_route).is_empty());
        assert!(
            of("10.244.0.0/16").routes_that_stay(table, &["eth0"], ipv4_route).is_empty(),
            "it goes with eth0"
        );
        let table = "fd000244000100000000000000000000 40 00000000000000000000000000000000 00 fd000088000000000000000000000012 00000400 00000001 00000000 00000003 eth0\nfd000244000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 cni0\n00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n";
        assert_eq!(of("fd00:244::/32").routes_that_stay(table, &["cni0"], ipv6_route), ["fd00:244:1::/64"]);
        assert!(of("fd00:244::/32").routes_that_stay(table, &["eth0"], ipv6_route).is_empty());
    }

    #[tokio::test]
    async fn a_route_goes_with_its_link_and_one_end_of_a_pair_with_the_other_so_neither_is_deleted_twice() {
        let (host, mut input) = master().await;
        host.with(|state| {
            let mut add = |table: &str, lines: &str| {
                let held = state.files.get(Path::new(table)).map(|file| file.content.clone());
                state.put(table, held.unwrap_or_default() + lines);
            };
            add("/proc/net/dev", "cilium_host: 0\ncilium_net: 0\nflannel-v6.1: 0\n");
            add("/proc/net/route", "cilium_host\t0002F40A\t0100F40A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
            add("/proc/net/route", "cilium_net\t0003F40A\t0100F40A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
            add(
                "/proc/net/ipv6_route",
                "fd000244000100000000000000000000 40 00000000000000000000000000000000 00 fd000244000100000000000000000000 00000400 00000001 00000000 00000003 flannel-v6.1\n",
            );
        });
        let wanted =
            |range: &str| step(Kind::NetworkLeftovers(agent::NetworkLeftovers { pod_subnet: range.into() }));
        let Finding::Todo(v6) = wanted("fd00:244::/32").check(&host, &input).await.unwrap() else { panic!() };
        assert!(!v6.iter().any(|change| change.to_string().contains("route delete")), "{v6:?}");
        // Every change is made, so that none of them may fail.
        let finding = carried_out(&host, &wanted("10.244.0.0/16"), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        let log = host.run_log();
        let gone = |what: &str| log.iter().filter(|line| line.starts_with(what)).collect::<Vec<_>>();
        assert_eq!(gone("ip link delete cilium"), ["ip link delete cilium_host"]);
        assert_eq!(gone("ip route delete"), ["ip route delete 10.244.9.0/24"], "the one over eth0");
    }

    #[tokio::test]
    async fn kube_proxys_ipvs_rules_go_before_its_link_and_are_named_when_nothing_can_take_them_away() {
        let (host, _) = master().await;
        host.with(|state| {
            let table = state.files.get_mut(Path::new("/proc/net/dev")).unwrap();
            table.content.push_str("kube-ipvs0: 0\n");
        });
        let lines = |finding| {
            let Finding::Todo(changes) = finding else { panic!("{finding:?}") };
            changes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let wanted = of("10.244.0.0/16");
        let changes = lines(wanted.check(&host, &Input::default()).await.unwrap());
        let at = |line: &str| {
            changes.iter().position(|change| change == line).unwrap_or_else(|| panic!("{changes:?}"))
        };
        assert!(at("run ipvsadm --clear") < at("run ip link delete kube-ipvs0"));

        host.with(|state| state.missing_programs.insert("ipvsadm".into()));
        let mut input = Input::default();
        let step =
            step(Kind::NetworkLeftovers(agent::NetworkLeftovers { pod_subnet: "10.244.0.0/16".into() }));
        let Finding::Blocked(complaint) = carried_out(&host, &step, &mut input).await else { panic!() };
        assert!(complaint.remedy.contains("apt-get install ipvsadm"), "{complaint}");
    }

    #[tokio::test]
    async fn a_configuration_of_somebody_else_stays() {
        let (host, mut input) = master().await;
        let bridge = |name: &str, range: &str| {
            format!(
                "{{\"plugins\": [{{\"type\": \"bridge\", \"bridge\": \"{name}\", \"ipam\": {{\"subnet\": \"{range}\"}}}}]}}"
            )
        };
        let file = |name: &str| format!("{CONFIGURATION_FOLDER}/{name}");
        // podman's, CRI-O's that was installed since, one that stood there before; and a pod network's own bridge.
        let foreign = ["87-podman-bridge.conflist", "100-crio-bridge.conf", "05-mine.conflist"];
        host.put_file(file(foreign[0]), bridge("cni-podman0", "10.88.0.0/16"));
        host.put_file(file(foreign[1]), bridge("cni0", "10.85.0.0/16"));
        host.put_file(file(foreign[2]), "{\"plugins\": [{\"type\": \"flannel\"}]}");
        host.put_file(file("10-pods.conflist"), bridge("cni0", "10.244.1.0/24"));
        input.ledger.networks = Some(vec![foreign[2].to_owned()]);
        let message = agent::NetworkLeftovers { pod_subnet: "10.244.0.0/16".into() };
        let finding = carried_out(&host, &step(Kind::NetworkLeftovers(message)), &mut input).await;
        assert!(matches!(finding, Finding::Done(_)), "{finding:?}");
        for name in foreign {
            assert!(host.file(file(name)).is_some(), "{name}");
        }
        assert!(host.file(file("10-pods.conflist")).is_none());
        host.with(|state| {
            assert!(!state.packet_filter.contains("KUBE-") && state.packet_filter.contains("DOCKER"))
        });
    }
}
