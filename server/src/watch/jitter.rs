//! Randomness that keeps clients from coming back all at once. Nothing else depends on it.

use std::{
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A source of random fractions.
#[derive(Debug)]
pub(crate) struct Jitter {
    seed: u64,
    drawn: AtomicU64,
}

impl Jitter {
    /// Seeded by the operating system.
    pub(crate) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// The same fractions for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// A time from nothing up to this one.
    pub(crate) fn up_to(&self, time: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, self.drawn.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        let drawn = hasher.finish();
        // 32 bits of it are exact in a double, and enough.
        let fraction = f64::from((drawn >> 32) as u32) / f64::from(u32::MAX);
        time.mul_f64(fraction)
    }
}
