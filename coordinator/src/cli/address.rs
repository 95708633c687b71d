//! Which of this machine's addresses the agents shall dial. When there is a choice, a person makes it.

use std::net::{IpAddr, Ipv4Addr};

use muster_proto::kubernetes::runtime::is_bridge;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// What VirtualBox's NAT card has in EVERY machine: nobody else can dial it.
const VIRTUALBOX_NAT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Interfaces that pod networks and virtual machines make for themselves, besides those of container runtimes.
const INNER: [&str; 6] = ["veth", "cni", "flannel", "virbr", "cali", "lxc"];

/// An address of this machine and the interface that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub interface: String,
    pub address: IpAddr,
}

/// No address could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("the addresses of this machine cannot be read")]
    Reading(#[from] nix::Error),
    #[error(
        "this machine has no address that other machines could dial: bring its network up, then run this again"
    )]
    None,
    #[error(
        "which address do the other machines dial? Choose one and run this again:\n{}",
        .0.iter().map(describe).collect::<Vec<_>>().join("\n")
    )]
    Choose(Vec<Candidate>),
    #[error(
        "{0} is not an address of this machine; it has:\n{list}",
        list = .1.iter().map(describe).collect::<Vec<_>>().join("\n")
    )]
    Foreign(IpAddr, Vec<Candidate>),
    #[error(
        "{0} is an address that no other machine can dial: choose one of the network that the nodes share"
    )]
    Inner(IpAddr),
}

fn describe(candidate: &Candidate) -> String {
    let note = match candidate.address == IpAddr::V4(VIRTUALBOX_NAT) {
        true => "  (VirtualBox's NAT: the same in every machine, surely the wrong one)",
        false => "",
    };
    format!("    sudo coordinator init --address {:<15}  # {}{note}", candidate.address, candidate.interface)
}

/// The addresses of this machine, loopback left out; those of containers' own interfaces come with `all`.
pub fn candidates(all: bool) -> Result<Vec<Candidate>, AddressError> {
    let usable = InterfaceFlags::IFF_UP;
    let mut found = Vec::new();
    for interface in getifaddrs()? {
        let name = interface.interface_name;
        let inner = is_bridge(&name) || INNER.iter().any(|prefix| name.starts_with(prefix));
        let loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        if !interface.flags.contains(usable) || loopback || (inner && !all) {
            continue;
        }
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        // A link-local address means nothing without the interface that it was seen on.
        let v6 = address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|v6| all && !v6.is_unicast_link_local());
        let v6 = v6.map(IpAddr::V6);
        if let Some(address) = v4.or(v6) {
            found.push(Candidate { interface: name, address });
        }
    }
    Ok(found)
}

/// The address that was asked for, when this machine has it; otherwise the only one that can be meant.
pub fn choose(
    wanted: Option<IpAddr>,
    likely: Vec<Candidate>,
    all: Vec<Candidate>,
) -> Result<IpAddr, AddressError> {
    match wanted {
        Some(address) if address.is_loopback() || address.is_unspecified() || address.is_multicast() => {
            Err(AddressError::Inner(address))
        }
        Some(address) if all.iter().any(|candidate| candidate.address == address) => Ok(address),
        Some(address) => Err(AddressError::Foreign(address, all)),
        None => match &likely[..] {
            [] => Err(AddressError::None),
            [only] if only.address != IpAddr::V4(VIRTUALBOX_NAT) => Ok(only.address),
            _ => Err(AddressError::Choose(likely)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(interface: &str, address: &str) -> Candidate {
        Candidate { interface: interface.into(), address: address.parse().unwrap() }
    }

    #[test]
    fn a_single_address_is_taken_and_several_are_listed() {
        let (lan, nat) = (candidate("eth1", "10.88.0.11"), candidate("eth0", "10.0.2.15"));
        assert_eq!(choose(None, vec![lan.clone()], vec![]).unwrap(), lan.address);
        let error = choose(None, vec![nat.clone(), lan], vec![]).unwrap_err().to_string();
        assert!(
            error.contains("--address 10.88.0.11") && error.contains("the same in every machine"),
            "{error}"
        );
        assert!(matches!(choose(None, vec![nat], vec![]), Err(AddressError::Choose(_))), "never in silence");
        assert!(matches!(choose(None, vec![], vec![]), Err(AddressError::None)));
    }

    #[test]
    fn an_address_that_this_machine_does_not_have_or_nobody_can_dial_is_refused() {
        let all = vec![candidate("eth1", "10.88.0.11")];
        let choose = |text: &str| choose(Some(text.parse().unwrap()), vec![], all.clone());
        assert!(choose("10.88.0.11").is_ok());
        assert!(matches!(choose("10.88.0.12"), Err(AddressError::Foreign(..))));
        assert!(matches!(choose("127.0.0.1"), Err(AddressError::Inner(_))));
        assert!(matches!(choose("0.0.0.0"), Err(AddressError::Inner(_))));
    }
}
