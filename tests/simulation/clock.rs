//! The clocks of a simulated machine.

use phasegate_engine::time::Timestamp;
use phasegate_server::clock::{Clock, Reading};
use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    time::Duration,
};

/// 2030-06-14T18:00:00Z, a Friday.
const START: i64 = 1_907_690_400_000;
/// Wall time stays between 2001 and 2200, so that no arithmetic of the test itself saturates.
const WALL: std::ops::Range<i64> = 1_000_000_000_000..7_258_118_400_000;

/// Three clocks that move only when they are told, in milliseconds.
#[derive(Debug)]
pub(crate) struct MachineClock {
    wall: AtomicI64,
    boottime: AtomicU64,
    monotonic: AtomicU64,
}

impl MachineClock {
    pub(crate) fn new() -> Self {
        Self {
            wall: AtomicI64::new(START),
            boottime: AtomicU64::new(9_000_000),
            monotonic: AtomicU64::new(8_000_000),
        }
    }

    /// Time goes by.
    pub(crate) fn run(&self, millis: u64) {
        self.suspend(millis);
        self.monotonic.fetch_add(millis, SeqCst);
    }

    /// The machine sleeps: the monotonic clock stands still.
    pub(crate) fn suspend(&self, millis: u64) {
        self.step(i64::try_from(millis).expect("spans of a simulation are short"));
        self.boottime.fetch_add(millis, SeqCst);
    }

    /// Somebody sets wall time.
    pub(crate) fn step(&self, millis: i64) {
        let wall = self.wall.load(SeqCst) + millis;
        self.wall.store(wall.clamp(WALL.start, WALL.end), SeqCst);
    }

    /// Monotonic milliseconds.
    pub(crate) fn monotonic(&self) -> u64 {
        self.monotonic.load(SeqCst)
    }
}

impl Clock for MachineClock {
    fn read(&self) -> Reading {
        Reading {
            wall: Timestamp::from_millis(self.wall.load(SeqCst)),
            boottime: Duration::from_millis(self.boottime.load(SeqCst)),
            monotonic: Duration::from_millis(self.monotonic.load(SeqCst)),
        }
    }
}
