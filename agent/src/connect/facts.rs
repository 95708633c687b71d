//! What the coordinator must know of this host before it plans.

use std::fs;
use std::net::IpAddr;

use jiff::Timestamp;
use muster_proto::agent::HostFacts;
use muster_proto::names::NodeName;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Looks at the host. `address` is this machine's own end of the connection to the coordinator: the one address of
/// which it is proved that the master is reached from it.
pub fn gather(node: &NodeName, address: IpAddr, kubeadm_version: String) -> HostFacts {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    HostFacts {
        node: node.to_string(),
        address: address.to_canonical().to_string(),
        hostname: System::host_name().unwrap_or_default(),
        boot_id: line_of("/proc/sys/kernel/random/boot_id"),
        operating_system: pretty_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        kernel: System::kernel_version().unwrap_or_default(),
        processors: processors.try_into().unwrap_or(u32::MAX),
        memory_bytes: System::new_with_specifics(memory).total_memory(),
        kubeadm_version,
        clock_unix_millis: Timestamp::now().as_millisecond(),
    }
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What os-release calls PRETTY_NAME.
pub(crate) fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("unknown").trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_this_very_host_are_all_there() {
        let facts = gather(&"node-1".parse().unwrap(), "10.0.0.1".parse().unwrap(), String::new());
        assert_eq!((facts.node.as_str(), facts.address.as_str()), ("node-1", "10.0.0.1"));
        assert!(facts.processors > 0 && facts.memory_bytes > 0 && facts.clock_unix_millis > 0);
        assert!(facts.boot_id.len() == 36 && !facts.kernel.is_empty() && !facts.hostname.is_empty());
    }

    #[test]
    fn the_name_of_the_system_is_what_os_release_calls_pretty() {
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(pretty_name(""), "unknown");
    }
}
