//! How much each of many has of something, with a bound for each.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// What is taken, by whom. Clones share it.
#[derive(Clone)]
pub(super) struct Shares<K: Hash + Eq> {
    each_max: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Hash + Eq> fmt::Debug for Shares<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").field("each_max", &self.each_max).finish_non_exhaustive()
    }
}

/// A part of somebody's share, until it is dropped.
#[derive(Debug)]
pub(super) struct Part<K: Hash + Eq> {
    of: K,
    shares: Shares<K>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// Nothing is taken; each may have so much.
    pub(super) fn new(each_max: usize) -> Self {
        Self { each_max, taken: Arc::default() }
    }

    /// One more for somebody, unless they have their share.
    pub(super) fn take(&self, of: K) -> Option<Part<K>> {
        // The counts hold whatever panicked elsewhere: each change is one step.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&of).copied().unwrap_or_default();
        if count >= self.each_max {
            return None;
        }
        taken.insert(of.clone(), count + 1);
        Some(Part { of, shares: self.clone() })
    }

    /// How many have taken anything.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

impl<K: Hash + Eq> Drop for Part<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_share_and_gets_it_back() {
        let shares = Shares::new(2);
        let first = shares.take("ann").unwrap();
        let _second = shares.take("ann").unwrap();
        assert!(shares.take("ann").is_none());
        assert!(shares.take("bob").is_some());
        drop(first);
        assert!(shares.take("ann").is_some());
    }

    #[test]
    fn nothing_is_kept_of_who_has_nothing() {
        let shares = Shares::new(8);
        let held: Vec<_> = (0..8).map(|_| shares.take("ann").unwrap()).collect();
        assert!(shares.take("ann").is_none());
        assert_eq!(shares.len(), 1);
        drop(held);
        assert_eq!(shares.len(), 0);
    }
}
