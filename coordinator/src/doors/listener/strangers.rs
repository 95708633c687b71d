//! Who proved nothing yet: how many there may be, in all and from one source.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::settings::Limits;

/// What one machine has at least: whoever sits there can connect from any of these addresses, so they count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// This machine: 127/8 and each of its own addresses.
    ThisMachine,
    Address(Ipv4Addr),
    /// The first 64 bits: a machine takes itself as many of the others as it likes (RFC 4291, 2.5.1; RFC 8981).
    Network(u64),
}

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() || is_own(address) => Self::ThisMachine,
            IpAddr::V4(address) => Self::Address(address),
            IpAddr::V6(address) => Self::Network(first_half(address)),
        }
    }
}

fn first_half(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// Whether the address is one of this machine's: only to those does the kernel send from the very same address. Nothing is
/// sent, and no address is listed, for which the daemon would have to be let at netlink.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let sends_from = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    sends_from().is_ok_and(|from| from.ip() == address)
}

/// Counts the connections that proved nothing yet. When all places are taken the oldest one goes: an honest peer needs
/// its place for milliseconds, so that a flood keeps nobody out who comes after it.
#[derive(Clone)]
pub(super) struct Slots {
    limits: Limits,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    by_source: HashMap<Source, usize>,
    /// By age; told when their place is given to another.
    places: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

/// The right to one such connection; given back by dropping it.
pub(super) struct Slot {
    slots: Slots,
    source: Source,
    number: u64,
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// A place, and what tells that it was given to another; none when this source has all that it may have.
    pub(super) fn take(&self, source: Source) -> Option<(Slot, oneshot::Receiver<()>)> {
        let mut taken = self.taken.lock().expect("no holder of the lock panics");
        let mine = taken.by_source.get(&source).copied().unwrap_or(0);
        if mine >= self.limits.unproven_per_source {
            return None;
        }
        if taken.places.len() >= self.limits.unproven {
            let (_, oldest) = taken.places.pop_first()?;
            // An error says that it has ended meanwhile.
            let _ = oldest.send(());
        }
        let (told, given_up) = oneshot::channel();
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, told);
        taken.by_source.insert(source, mine + 1);
        Some((Slot { slots: self.clone(), source, number }, given_up))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().expect("no holder of the lock panics");
        taken.places.remove(&self.number);
        match taken.by_source.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn all_addresses_of_this_machine_are_one_source_and_so_is_a_network_of_ipv6() {
        for own in ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(source(own), Source::ThisMachine, "{own}");
        }
        // Whatever this machine would send from to the rest of the world is its own.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            assert_eq!(Source::of(socket.local_addr().unwrap().ip()), Source::ThisMachine);
        }
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn one_source_cannot_take_every_place_and_places_come_back() {
        let limits = Limits { unproven: 3, unproven_per_source: 2, ..Limits::default() };
        let slots = Slots::new(limits);
        let [flood, other] = ["192.0.2.1", "192.0.2.2"].map(source);
        let (first, _) = slots.take(flood).unwrap();
        let _second = slots.take(flood).unwrap();
        assert!(slots.take(flood).is_none());
        let _third = slots.take(other).unwrap();
        drop(first);
        assert!(slots.take(flood).is_some());
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_stranger_goes_and_a_newcomer_gets_in() {
        let limits = Limits { unproven: 2, unproven_per_source: 2, ..Limits::default() };
        let slots = Slots::new(limits);
        let source = |last: u8| Source::of(IpAddr::from([192, 0, 2, last]));
        let (first, mut first_given_up) = slots.take(source(1)).unwrap();
        let (second, mut second_given_up) = slots.take(source(2)).unwrap();
        let (_third, mut third_given_up) = slots.take(source(3)).unwrap();
        assert_eq!(first_given_up.try_recv(), Ok(()));
        assert!(second_given_up.try_recv().is_err());
        drop((first, second));
        let _fourth = slots.take(source(4)).unwrap();
        assert!(third_given_up.try_recv().is_err(), "there was room");
    }
}
