//! What the driver counts. Plain atomics: whoever exports them reads them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        // No machine counts further than that.
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(super) fn set(&self, value: usize) {
        self.0.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How values are spread: counted in buckets whose limits are powers of two.
#[derive(Debug, Default)]
pub struct Distribution {
    buckets: [AtomicU64; Self::BUCKETS],
    sum: AtomicU64,
}

impl Distribution {
    /// The last bucket takes everything from 2^30 on: in microseconds, 18 minutes.
    const BUCKETS: usize = 32;

    pub(super) fn record(&self, value: u64) {
        // 0 falls into bucket 0, and 2^(n-1) up to 2^n - 1 into bucket n.
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn record_micros(&self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The buckets that hold something: how many values are below a limit and at or above half of
    /// it. The last bucket has no limit.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let counted = self.buckets.iter().enumerate().map(|(index, count)| {
            let limit = (index < Self::BUCKETS - 1).then(|| 1 << index);
            (limit, count.load(Ordering::Relaxed))
        });
        counted.filter(|(_, count)| *count > 0)
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// What the driver counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Commits that are durable.
    pub commits: Counter,
    /// Commits in one durable write.
    pub batch_commits: Distribution,
    /// Microseconds from handing a batch to the store until it was durable.
    pub commit_micros: Distribution,
    /// Calls that the engine refused.
    pub refusals: Counter,
    /// Refusals that were to be put on record while the writer had its hands full. They are counted in
    /// the audit chain too.
    pub refusals_unnoted: Counter,
    /// Calls that repeated an earlier one by its `request_id`.
    pub replays: Counter,
    /// Timers that fired and did something.
    pub timers_fired: Counter,
    /// Timers that were disarmed or armed anew between coming due and being looked at.
    pub timers_stale: Counter,
    /// Timers found so late that their release was held for a person.
    pub timers_held: Counter,
    /// Timers that came due while nobody looked, and still wait for their turn.
    pub timers_overdue: Gauge,
    /// Steps of wall time.
    pub clock_steps: Counter,
    /// Changes that retention removed.
    pub changes_removed: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_counts_every_value_below_a_power_of_two() {
        let distribution = Distribution::default();
        for value in [0, 1, 2, 3, 4, 1023, u64::MAX / 2] {
            distribution.record(value);
        }
        let buckets: Vec<_> = distribution.buckets().collect();
        let expected = [(1, 1), (2, 1), (4, 2), (8, 1), (1024, 1)];
        assert_eq!(buckets[..5], expected.map(|(limit, count)| (Some(limit), count)));
        assert_eq!(buckets[5..], [(None, 1)]);
        assert_eq!(distribution.count(), 7);
    }
}
