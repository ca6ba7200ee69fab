//! How many requests are read or answered at a time: in all, and of one principal.
//!
//! Whose principal is not known here (pages, which look for themselves, and what is open to anybody) has
//! places apart, so that strangers with bodies that never end take none from those who are known.
//!
//! What a request costs is bounded (its body has 1 MiB at most), so a bound to their number is one to
//! their memory. The share of a principal keeps one that is hostile or broken, with bodies that never
//! end, from taking every place. Where nobody is known there are no shares.

use super::shares::{Part, Shares};
use phasegate_engine::id::Principal;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    each: Shares<Principal>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    _of_principal: Option<Part<Principal>>,
}

impl Places {
    /// So many places for those who are known, and so many of them for one principal; as many for
    /// everybody else.
    pub(super) fn new(all_max: usize, each_max: usize) -> Self {
        let places = || Arc::new(Semaphore::new(all_max));
        Self { known: places(), strangers: places(), each: Shares::new(each_max) }
    }

    /// A place, if there is one, for somebody if it is known who they are.
    pub(super) fn enter(&self, principal: Option<&Principal>) -> Option<Place> {
        let (places, of_principal) = match principal {
            Some(principal) => (&self.known, Some(self.each.take(principal.clone())?)),
            None => (&self.strangers, None),
        };
        let one = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Place { _one: one, _of_principal: of_principal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_does_not_take_every_place() {
        let places = Places::new(3, 2);
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let held = [places.enter(Some(&ann)).unwrap(), places.enter(Some(&ann)).unwrap()];
        assert!(places.enter(Some(&ann)).is_none());
        let _third = places.enter(Some(&bob)).unwrap();
        assert!(places.enter(Some(&bob)).is_none(), "all are taken");
        drop(held);
        assert!(places.enter(Some(&bob)).is_some());
    }

    #[test]
    fn strangers_take_no_place_of_those_who_are_known() {
        let places = Places::new(2, 2);
        let held: Vec<_> = (0..2).map(|_| places.enter(None).unwrap()).collect();
        assert!(places.enter(None).is_none());
        assert!(places.enter(Some(&Principal::new("ann"))).is_some());
        drop(held);
        assert!(places.enter(None).is_some());
    }
}
