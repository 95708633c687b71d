//! Afterwards: every node's name resolves to its address on this node, from a marked block in /etc/hosts, and no line
//! outside the block gives one of these names another address (Debian's `127.0.1.1 NAME` would mislead). `localhost` has an
//! address of IPv4 too: kubeadm asks the kubelet at http://localhost:10248, and static pods are probed there.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use muster_proto::agent;
use muster_proto::names::NodeName;

use crate::files::marked_block::with_block;
use crate::host::HostError;
use crate::host::change::Change;
use crate::host::query::Observe;
use crate::steps::{BadStep, Finding, Input, Yield};

pub const SETTLE: Duration = Duration::from_secs(5);

const FILE: &str = "/etc/hosts";
/// The settings with which cloud-init booted this machine; they win over its files below /etc.
const USER_DATA: &str = "/var/lib/cloud/instance/cloud-config.txt";
const LOCALHOST: &str = "127.0.0.1 localhost\n";

#[derive(Debug, Clone)]
pub struct Hosts {
    entries: Vec<(IpAddr, NodeName)>,
}

impl Hosts {
    pub fn parse(message: &agent::Hosts) -> Result<Self, BadStep> {
        let entries = message.entries.iter().map(|entry| {
            let address = BadStep::parsed("hosts.entries.address", &entry.address, "an IP address")?;
            Ok((address, entry.name.parse().map_err(BadStep::field("hosts.entries.name"))?))
        });
        Ok(Self { entries: entries.collect::<Result<_, BadStep>>()? })
    }

    pub async fn check<H: Observe>(&self, host: &H, _: &Input) -> Result<Finding, HostError> {
        let before = host.read_file(Path::new(FILE)).await?.unwrap_or_default();
        let wanted = self.render(&before);
        if wanted == before {
            // What only root may read is there for the agent; a machine without cloud-init has none.
            let user_data = host.read_through(Path::new(USER_DATA)).await?.unwrap_or_default();
            let left = user_data.lines().find(|line| is_rewritten(line)).map(rewritten);
            return Ok(left.map_or(Finding::DONE, |left| Finding::Done(Yield::Left(vec![left]))));
        }
        Ok(Finding::Todo(vec![Change::write(FILE, wanted)]))
    }

    fn render(&self, before: &str) -> String {
        let entries = self.entries.iter().map(|(address, name)| format!("{address} {name}\n"));
        let mut inside = false;
        let others: String = before
            .split_inclusive('\n')
            .filter_map(|line| {
                inside = line.starts_with("# BEGIN muster hosts")
                    || (inside && !line.starts_with("# END muster hosts"));
                if inside { Some(line.to_owned()) } else { self.without_our_names(line) }
            })
            .collect();
        let outside = with_block(&others, "hosts", "");
        let localhost = (!outside.lines().any(is_localhost)).then(|| LOCALHOST.to_owned());
        with_block(&others, "hosts", &localhost.into_iter().chain(entries).collect::<String>())
    }

    /// The line as it is when it names none of our nodes; without these names otherwise; none when no name is left.
    fn without_our_names(&self, line: &str) -> Option<String> {
        let (fields, comment) =
            line.split_once('#').map_or((line, None), |(fields, comment)| (fields, Some(comment)));
        let mut words = fields.split_whitespace();
        let Some(address) = words.next() else { return Some(line.to_owned()) };
        let names: Vec<&str> = words.collect();
        // Resolvers do not care about capitals: `127.0.1.1 M1` answers for m1.
        let ours =
            |name: &&str| self.entries.iter().any(|(_, ours)| name.eq_ignore_ascii_case(ours.as_str()));
        if !names.iter().any(ours) {
            return Some(line.to_owned());
        }
        let left: Vec<&str> = names.into_iter().filter(|name| !ours(name)).collect();
        if left.is_empty() {
            return None;
        }
        let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
        let comment = comment.map(|text| format!(" #{}", text.trim_end())).unwrap_or_default();
        Some(format!("{address}\t{}{comment}{end}", left.join(" ")))
    }
}

/// Whether a line of cloud-init's settings has it make /etc/hosts anew at every boot.
fn is_rewritten(line: &str) -> bool {
    let value = line.split('#').next().and_then(|line| line.trim().strip_prefix("manage_etc_hosts:"));
    value.is_some_and(|value| !["", "false", "False"].contains(&value.trim()))
}

fn rewritten(line: &str) -> String {
    format!(
        "cloud-init writes {FILE} anew at every boot ({USER_DATA}: {}), without the names of the nodes; the same block in \
         /etc/cloud/templates/hosts.*.tmpl keeps them there",
        line.trim()
    )
}

/// Whether a line gives `localhost` an address of IPv4 that is this machine's own.
fn is_localhost(line: &str) -> bool {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let own = words
        .next()
        .and_then(|word| word.parse().ok())
        .is_some_and(|address: Ipv4Addr| address.is_loopback());
    own && words.any(|name| name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::change::FileMode;
    use crate::host::fake::{FakeCluster, FakeHost};

    fn hosts() -> Hosts {
        let entry = |address: &str, name: &str| (address.parse().unwrap(), name.parse().unwrap());
        Hosts { entries: vec![entry("10.88.0.11", "m1"), entry("10.88.0.12", "w1")] }
    }

    #[test]
    fn names_are_added_in_a_block_and_every_other_line_stays() {
        let before = "127.0.0.1\tlocalhost\n\n# mine\n::1 ip6-localhost # six\n";
        let after = hosts().render(before);
        assert_eq!(
            after,
            format!("{before}# BEGIN muster hosts\n10.88.0.11 m1\n10.88.0.12 w1\n# END muster hosts\n")
        );
        assert_eq!(hosts().render(&after), after);
    }

    #[test]
    fn a_line_that_gives_a_node_a_loopback_address_loses_that_name() {
        let after = hosts().render("127.0.1.1 m1.lab m1 # clone\n127.0.1.1 m1\n");
        assert!(after.starts_with("127.0.1.1\tm1.lab # clone\n# BEGIN"), "{after}");
        let after =
            hosts().render("127.0.0.1\tlocalhost\r\n127.0.1.1 m1.lab m1 # clone\r\n10.88.0.60\tprinter");
        let expected = "127.0.0.1\tlocalhost\r\n127.0.1.1\tm1.lab # clone\r\n10.88.0.60\tprinter\n# BEGIN";
        assert!(after.starts_with(expected), "{after:?}");
        let others = "10.88.0.50\tnas M1-old\n";
        let after = hosts().render(&format!("127.0.1.1\tM1.Lab.Example M1 W1\t# clone\n{others}"));
        assert!(after.starts_with(&format!("127.0.1.1\tM1.Lab.Example # clone\n{others}# BEGIN")), "{after}");
    }

    #[test]
    fn localhost_gets_its_address_where_no_line_gives_it_one_and_nowhere_else() {
        let block = |localhost| {
            format!("# BEGIN muster hosts\n{localhost}10.88.0.11 m1\n10.88.0.12 w1\n# END muster hosts\n")
        };
        for (before, outside) in [
            ("10.88.0.11 m1\n10.88.0.12 w1\n", ""),
            ("::1 localhost ip6-localhost\n", "::1 localhost ip6-localhost\n"),
            ("127.0.0.1 m1 m1.lab.example\n", "127.0.0.1\tm1.lab.example\n"),
            ("# 127.0.0.1 localhost\n", "# 127.0.0.1 localhost\n"),
            ("", ""),
        ] {
            let after = hosts().render(before);
            assert_eq!(after, format!("{outside}{}", block(LOCALHOST)));
            assert_eq!(hosts().render(&after), after, "twice");
        }
        for before in
            ["127.0.0.1 localhost\n", "127.0.1.1\tprinter LocalHost.\n127.0.0.1 x Localhost # own\n"]
        {
            assert_eq!(hosts().render(before), format!("{before}{}", block("")));
        }
        // A person added the line meanwhile.
        let own = "127.0.0.1 localhost\n";
        assert_eq!(hosts().render(&format!("{}{own}", block(LOCALHOST))), format!("{}{own}", block("")));
    }

    #[tokio::test]
    async fn a_template_that_is_written_over_the_file_at_every_boot_is_told() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file(FILE, hosts().render("127.0.0.1 localhost\n"));
        for (setting, told) in [
            ("manage_etc_hosts: localhost", true),
            ("manage_etc_hosts: true # ours", true),
            ("manage_etc_hosts: false", false),
            ("# manage_etc_hosts: true", false),
        ] {
            host.put_file(USER_DATA, format!("#cloud-config\n{setting}\n"));
            let finding = hosts().check(&host, &Input::default()).await.unwrap();
            assert_eq!(matches!(finding, Finding::Done(Yield::Left(_))), told, "{setting}: {finding:?}");
        }
    }

    #[tokio::test]
    async fn a_stock_host_finds_the_nodes_by_name_and_loses_only_its_misleading_line() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        host.put_file(FILE, "127.0.0.1\tlocalhost\n127.0.1.1\tm1.example.org\tm1\n::1 localhost\n");
        let Ok(Finding::Todo(changes)) = hosts().check(&host, &Input::default()).await else {
            panic!("nothing to change")
        };
        let [Change::WriteFile { content, mode: FileMode::IfNew(0o644), .. }] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!(
            content,
            "127.0.0.1\tlocalhost\n127.0.1.1\tm1.example.org\n::1 localhost\n\
             # BEGIN muster hosts\n10.88.0.11 m1\n10.88.0.12 w1\n# END muster hosts\n"
        );
    }
}
