//! Revisions that rise, and the watches that wait for them.
//!
//! A watch waits for two things at once, its level and the end of the server, so it has one waker that both
//! know. It stays where it is between two events: thousands of watches that an event wakes put nothing into
//! queues and take nothing out.

use futures_util::task::AtomicWaker;
use phasegate_engine::id::Revision;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

/// What others know of an open watch: up to where it has delivered, and how it is woken.
#[derive(Debug)]
pub(super) struct Open {
    place: Place,
    cursor: AtomicU64,
    waker: AtomicWaker,
}

/// Where a watch stands among those that wait for the same. Those of one connection are woken after each
/// other, so that what they send is written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The other end of the connection, where it is known.
    pub(super) peer: Option<SocketAddr>,
    /// No two watches that are open have the same.
    pub(super) number: u64,
}

/// Of a watch that has not begun: nothing is known of it.
const NOT_BEGUN: u64 = u64::MAX;

impl Open {
    pub(super) fn new(place: Place) -> Self {
        Self { place, cursor: AtomicU64::new(NOT_BEGUN), waker: AtomicWaker::new() }
    }

    /// Everything up to here is delivered.
    pub(super) fn at(&self, revision: Revision) {
        self.cursor.store(revision.get(), Ordering::Relaxed);
    }

    /// Up to where everything is delivered; none if it has not begun.
    pub(super) fn cursor(&self) -> Option<Revision> {
        let cursor = self.cursor.load(Ordering::Relaxed);
        (cursor != NOT_BEGUN).then(|| Revision::new(cursor))
    }

    /// To be called before it is looked at what is waited for: what happens later wakes.
    pub(super) fn waits(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }
}

/// A revision that only rises, until it is closed.
#[derive(Debug, Default)]
pub struct Level {
    reached: AtomicU64,
    closed: AtomicBool,
    waiting: Mutex<BTreeMap<Place, Arc<Open>>>,
}

/// So many are woken at a time, so that who comes or goes meanwhile does not wait for all of them.
const WOKEN_AT_ONCE: usize = 128;

impl Level {
    /// At a revision.
    pub fn new(reached: Revision) -> Self {
        Self { reached: AtomicU64::new(reached.get()), ..Self::default() }
    }

    /// Where it is.
    pub fn reached(&self) -> Revision {
        Revision::new(self.reached.load(Ordering::Acquire))
    }

    /// True if it rises no more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Rises to a revision, and wakes all who wait for it.
    pub fn raise(&self, revision: Revision) {
        self.reached.fetch_max(revision.get(), Ordering::AcqRel);
        self.wake_all();
    }

    /// Ends it, and wakes all who wait for it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        let mut from = Bound::Unbounded;
        let mut some = Vec::new();
        loop {
            let waiting = self.lock();
            let next = waiting.range((from, Bound::Unbounded)).take(WOKEN_AT_ONCE);
            some.extend(next.map(|(_, open)| Arc::clone(open)));
            drop(waiting);
            let Some(last) = some.last() else { return };
            from = Bound::Excluded(last.place);
            for open in some.drain(..) {
                open.wake();
            }
        }
    }

    /// Nothing in here is half done where something could panic.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<Open>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch that is woken when a level rises or is closed, for as long as this is there.
#[derive(Debug)]
pub(super) struct Waiting {
    level: Arc<Level>,
    open: Arc<Open>,
}

impl Waiting {
    pub(super) fn new(level: Arc<Level>, open: Arc<Open>) -> Self {
        level.lock().insert(open.place, Arc::clone(&open));
        Self { level, open }
    }

    pub(super) fn level(&self) -> &Level {
        &self.level
    }

    pub(super) fn open(&self) -> &Open {
        &self.open
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.level.lock().remove(&self.open.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::{ArcWake, waker};

    /// Notes who was woken.
    #[derive(Debug)]
    struct Noted(u64, Arc<Mutex<Vec<u64>>>);

    impl ArcWake for Noted {
        fn wake_by_ref(noted: &Arc<Self>) {
            noted.1.lock().unwrap().push(noted.0);
        }
    }

    fn peer(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn those_of_one_connection_are_woken_after_each_other() {
        let level = Arc::new(Level::new(Revision::new(5)));
        let woken = Arc::new(Mutex::new(Vec::new()));
        // More than are woken at once, by turns on three connections.
        let all = 0..3 * WOKEN_AT_ONCE as u64;
        let waiting: Vec<Waiting> = all
            .clone()
            .map(|number| {
                let place = Place { peer: peer(number as u16 % 3), number };
                let waiting = Waiting::new(Arc::clone(&level), Arc::new(Open::new(place)));
                waiting.open().waits(&waker(Arc::new(Noted(number, Arc::clone(&woken)))));
                waiting
            })
            .collect();
        level.raise(Revision::new(7));
        assert_eq!(level.reached(), Revision::new(7));
        let by_connection = |rest: u64| all.clone().filter(move |number| number % 3 == rest);
        let expected: Vec<u64> = (0..3).flat_map(by_connection).collect();
        assert_eq!(std::mem::take(&mut *woken.lock().unwrap()), expected);
        // Who does not wait is not woken, nor who is gone.
        let again = |number: usize| {
            let noted = Noted(number as u64, Arc::clone(&woken));
            waiting[number].open().waits(&waker(Arc::new(noted)));
        };
        again(1);
        again(2);
        let mut waiting = waiting;
        drop(waiting.remove(2));
        level.close();
        assert!(level.is_closed());
        assert_eq!(*woken.lock().unwrap(), [1]);
        drop(waiting);
        assert!(level.lock().is_empty());
    }

    #[test]
    fn a_level_only_rises() {
        let level = Level::new(Revision::new(5));
        level.raise(Revision::new(3));
        assert_eq!(level.reached(), Revision::new(5));
    }
}
