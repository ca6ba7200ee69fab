//! How many watches there may be.

use super::{
    Config,
    level::{Open, Place},
};
use phasegate_engine::id::{Principal, Revision};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// That of the principal.
    #[error("this principal has {0} watches open already")]
    OfPrincipal(usize),
    /// That of the server.
    #[error("{0} watches are open already")]
    InAll(usize),
}

/// The open watches. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    of_principal_max: usize,
    in_all_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    // Only ever asked for a principal, so its order does not matter.
    by_principal: HashMap<Principal, usize>,
    /// Each by the number that it has as long as it is open.
    open: HashMap<u64, Arc<Open>>,
    next: u64,
}

/// One open watch. It lives inside the stream, so that a stream that is dropped gives it back.
#[derive(Debug)]
pub(super) struct Slot {
    principal: Principal,
    number: u64,
    open: Arc<Open>,
    taken: Arc<Mutex<Taken>>,
}

impl Slot {
    /// Everything up to here is delivered.
    pub(super) fn at(&self, revision: Revision) {
        self.open.at(revision);
    }

    /// What others know of it.
    pub(super) fn open(&self) -> &Arc<Open> {
        &self.open
    }
}

impl Slots {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            of_principal_max: config.streams_of_a_principal,
            in_all_max: config.streams,
            taken: Arc::default(),
        }
    }

    /// Takes one, for a watch that comes from there.
    pub(super) fn take(
        &self,
        principal: &Principal,
        peer: Option<SocketAddr>,
    ) -> Result<Slot, TooMany> {
        let mut taken = lock(&self.taken);
        let of_principal = taken.by_principal.get(principal).copied().unwrap_or_default();
        if of_principal >= self.of_principal_max {
            return Err(TooMany::OfPrincipal(of_principal));
        }
        if taken.in_all >= self.in_all_max {
            return Err(TooMany::InAll(taken.in_all));
        }
        taken.in_all += 1;
        taken.by_principal.insert(principal.clone(), of_principal + 1);
        let number = taken.next;
        taken.next += 1;
        let open = Arc::new(Open::new(Place { peer, number }));
        taken.open.insert(number, Arc::clone(&open));
        Ok(Slot { principal: principal.clone(), number, open, taken: Arc::clone(&self.taken) })
    }

    /// Up to where the slowest has delivered; none if none has begun.
    pub(super) fn slowest(&self) -> Option<Revision> {
        lock(&self.taken).open.values().filter_map(|open| open.cursor()).min()
    }

    /// Wakes all that are open.
    pub(super) fn wake_all(&self) {
        let open: Vec<Arc<Open>> = lock(&self.taken).open.values().map(Arc::clone).collect();
        open.iter().for_each(|open| open.wake());
    }

    pub(super) fn taken(&self) -> usize {
        lock(&self.taken).in_all
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.in_all -= 1;
        taken.open.remove(&self.number);
        if let Some(count) = taken.by_principal.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                taken.by_principal.remove(&self.principal);
            }
        }
    }
}

/// The counts are right at every moment at which something could panic.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back_when_it_is_dropped() {
        let config = Config { streams_of_a_principal: 2, streams: 3, ..Config::default() };
        let slots = Slots::new(&config);
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let first = slots.take(&ann, None).unwrap();
        let second = slots.take(&ann, None).unwrap();
        assert_eq!(slots.take(&ann, None).unwrap_err(), TooMany::OfPrincipal(2));
        let third = slots.take(&bob, None).unwrap();
        assert_eq!(slots.take(&bob, None).unwrap_err(), TooMany::InAll(3));
        drop(first);
        let again = slots.take(&bob, None).unwrap();
        drop((second, third, again));
        assert_eq!(slots.taken(), 0);
        assert!(lock(&slots.taken).by_principal.is_empty());
        assert!(lock(&slots.taken).open.is_empty());
    }

    #[test]
    fn the_slowest_is_the_one_that_has_delivered_least() {
        let slots = Slots::new(&Config::default());
        let ann = Principal::new("ann");
        let [fast, slow, fresh] = [(); 3].map(|()| slots.take(&ann, None).unwrap());
        assert_eq!(slots.slowest(), None);
        fast.at(Revision::new(9));
        slow.at(Revision::new(4));
        assert_eq!(slots.slowest(), Some(Revision::new(4)));
        drop((slow, fresh));
        assert_eq!(slots.slowest(), Some(Revision::new(9)));
    }
}
