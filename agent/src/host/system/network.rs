//! The interfaces of this host, and what names mean here.

use std::net::IpAddr;
use std::time::Duration;

use muster_proto::names::NodeName;
use nix::ifaddrs::getifaddrs;

use crate::host::HostError;
use crate::host::query::Interface;

/// A resolver that is not there makes a lookup take 5 s and more; nobody waits for that before a run.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);

/// All addresses, loopback's too.
pub(super) fn addresses() -> Result<Vec<IpAddr>, HostError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for interface in all()? {
        for address in interface.addresses {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

pub(super) fn interfaces() -> Result<Vec<Interface>, HostError> {
    let mut interfaces = all()?;
    interfaces.retain(|interface| interface.name != "lo");
    Ok(interfaces)
}

fn all() -> Result<Vec<Interface>, HostError> {
    let entries = getifaddrs().map_err(|error| HostError::Unexpected {
        what: "the list of network interfaces".to_owned(),
        message: error.to_string(),
    })?;
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in entries {
        let position = interfaces.iter().position(|known| known.name == entry.interface_name);
        let position = position.unwrap_or_else(|| {
            interfaces.push(Interface { name: entry.interface_name, ..Interface::default() });
            interfaces.len() - 1
        });
        let interface = &mut interfaces[position];
        let Some(address) = entry.address else { continue };
        if let Some(four) = address.as_sockaddr_in() {
            interface.addresses.push(four.ip().into());
        } else if let Some(six) = address.as_sockaddr_in6() {
            interface.addresses.push(six.ip().into());
        } else if let Some(hardware) = address.as_link_addr().and_then(|link| link.addr()) {
            let hex: Vec<String> = hardware.iter().map(|byte| format!("{byte:02x}")).collect();
            interface.hardware_address = hex.join(":");
        }
    }
    Ok(interfaces)
}

/// As getaddrinfo says: /etc/hosts, then DNS, in the order of nsswitch.conf.
pub(super) async fn resolve(name: &NodeName) -> Vec<IpAddr> {
    let looked = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((name.as_str(), 0))).await;
    let Ok(Ok(found)) = looked else { return Vec::new() };
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_very_host_has_loopback_and_knows_localhost() {
        assert!(addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
        assert!(interfaces().unwrap().iter().all(|interface| interface.name != "lo"));
        let found = resolve(&"localhost".parse().unwrap()).await;
        assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
        assert!(resolve(&"no-such-host-of-muster".parse().unwrap()).await.is_empty());
    }
}
