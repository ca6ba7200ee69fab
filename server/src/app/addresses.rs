//! How many connections come from each address.
//!
//! One host that opens connections without end would otherwise take all that there are. Loopback is
//! not counted: it is the same machine, and a proxy in front brings everybody from there.

use super::shares::{Part, Shares};
use std::net::IpAddr;

/// The connections that are open, by address. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Addresses(Shares<IpAddr>);

/// A connection that is counted, if it is, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    _part: Option<Part<IpAddr>>,
}

impl Addresses {
    /// None are open; each address may have so many.
    pub(super) fn new(each_max: usize) -> Self {
        Self(Shares::new(each_max))
    }

    /// One more from this address, unless it has its share.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Counted> {
        let from = network(from);
        if from.is_loopback() {
            return Some(Counted { _part: None });
        }
        self.0.take(from).map(|part| Counted { _part: Some(part) })
    }
}

/// What counts as one: an IPv4 address, also one that came mapped, and a network of /64, which a
/// single IPv6 host commonly has to itself (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())
        }
        canonical @ (IpAddr::V4(_) | IpAddr::V6(_)) => canonical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_mapped_or_not() {
        let addresses = Addresses::new(1);
        let held = addresses.enter(ip("192.0.2.1")).unwrap();
        assert!(addresses.enter(ip("::ffff:192.0.2.1")).is_none(), "it is the same host");
        assert!(addresses.enter(ip("192.0.2.2")).is_some());
        drop(held);
        assert!(addresses.enter(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn a_host_cannot_take_more_with_the_addresses_of_its_own_network() {
        let addresses = Addresses::new(1);
        let _held = addresses.enter(ip("2001:db8::1")).unwrap();
        assert!(addresses.enter(ip("2001:db8::ffff:1")).is_none());
        assert!(addresses.enter(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn loopback_is_not_counted() {
        let addresses = Addresses::new(1);
        let held = ["127.0.0.1", "127.0.0.1", "127.9.9.9", "::1", "::1"]
            .map(|text| addresses.enter(ip(text)).unwrap());
        assert_eq!(addresses.0.len(), 0);
        drop(held);
    }
}
