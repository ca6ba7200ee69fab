//! How many connections come from each address.
//!
//! One host that opens connections without end would otherwise take all that there are. Loopback is
//! not counted: it is the same machine, and a proxy in front brings everybody from there.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The connections that are open, by address. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    each_max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    of: Option<(IpAddr, Addresses)>,
}

impl Addresses {
    /// None are open; each address may have so many.
    pub(super) fn new(each_max: usize) -> Self {
        Self { each_max, open: Arc::default() }
    }

    /// One more from this address, unless it has its share.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Counted> {
        let from = network(from);
        if from.is_loopback() {
            return Some(Counted { of: None });
        }
        // The counts hold whatever panicked elsewhere: each change is one step.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(from).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(Counted { of: Some((from, self.clone())) })
    }
}

/// What counts as one: an IPv4 address, also one that came mapped, and a network of /64, which a
/// single IPv6 host commonly has to itself (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())
        }
        canonical => canonical,
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((from, addresses)) = &self.of else { return };
        let mut open = addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(from) {
            *count -= 1;
            if *count == 0 {
                open.remove(from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let addresses = Addresses::new(2);
        let first = addresses.enter(ip("192.0.2.1")).unwrap();
        let _second = addresses.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(addresses.enter(ip("192.0.2.1")).is_none(), "mapped or not, it is one host");
        assert!(addresses.enter(ip("192.0.2.2")).is_some());
        drop(first);
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
        let held: Vec<_> = ["127.0.0.1", "127.0.0.1", "127.9.9.9", "::1", "::1"]
            .map(|text| addresses.enter(ip(text)).unwrap())
            .into();
        assert!(addresses.open.lock().unwrap().is_empty());
        drop(held);
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let addresses = Addresses::new(8);
        let held: Vec<_> = (0..8).map(|_| addresses.enter(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(addresses.open.lock().unwrap().len(), 1);
        drop(held);
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
