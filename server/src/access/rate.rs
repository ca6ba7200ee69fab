//! How often a principal may call: a bucket for each, of the two kinds of calls.
//!
//! It protects everybody else from one caller that asks in a loop. A bucket is refilled steadily and
//! holds a burst of twice a second's share (GCRA, as `governor` has it). Buckets are this server's own and
//! forgotten with it.

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use phasegate_engine::id::Principal;
use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// After so many calls, buckets that are full again are forgotten: whoever makes up names cannot make
/// the server keep them.
const FORGET_EVERY: u32 = 10_000;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Calls of people and tools.
    Control,
    /// Answers for applications, which ask far more often.
    Evaluation,
}

/// How many calls a principal may make in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of people and tools. Default 200.
    pub control: NonZeroU32,
    /// Of applications. Default 20 000.
    pub evaluation: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        const CONTROL: NonZeroU32 = NonZeroU32::new(200).unwrap();
        const EVALUATION: NonZeroU32 = NonZeroU32::new(20_000).unwrap();
        Self { control: CONTROL, evaluation: EVALUATION }
    }
}

type Limiter<C> = RateLimiter<
    Principal,
    DefaultKeyedStateStore<Principal>,
    C,
    NoOpMiddleware<<C as Clock>::Instant>,
>;

/// The buckets of everybody.
#[derive(Debug)]
pub(super) struct Buckets<C: Clock + Clone = DefaultClock> {
    control: Limiter<C>,
    evaluation: Limiter<C>,
    clock: C,
    calls: AtomicU32,
}

impl Buckets {
    /// Full ones.
    pub(super) fn new(rates: Rates) -> Self {
        Self::with_clock(rates, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Buckets<C> {
    fn with_clock(rates: Rates, clock: C) -> Self {
        let limiter = |rate: NonZeroU32| {
            let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST));
            RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone())
        };
        Self {
            control: limiter(rates.control),
            evaluation: limiter(rates.evaluation),
            clock: clock.clone(),
            calls: AtomicU32::new(0),
        }
    }

    /// Takes one call out of a bucket; if it is empty, says when there will be another.
    pub(super) fn take(&self, principal: &Principal, load: Load) -> Result<(), Duration> {
        let limiter = match load {
            Load::Control => &self.control,
            Load::Evaluation => &self.evaluation,
        };
        if self.calls.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.control.retain_recent();
            self.evaluation.retain_recent();
        }
        let taken = limiter.check_key(principal);
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// Seconds' shares that a full bucket holds.
const BURST: NonZeroU32 = NonZeroU32::new(2).unwrap();

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn buckets(clock: &FakeRelativeClock) -> Buckets<FakeRelativeClock> {
        let two = NonZeroU32::new(2).unwrap();
        Buckets::with_clock(Rates { control: two, evaluation: two }, clock.clone())
    }

    #[test]
    fn a_bucket_is_emptied_and_refilled() {
        let clock = FakeRelativeClock::default();
        let buckets = buckets(&clock);
        let ann = Principal::new("ann");
        for _ in 0..4 {
            assert_eq!(buckets.take(&ann, Load::Control), Ok(()));
        }
        let wait = buckets.take(&ann, Load::Control).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        clock.advance(wait);
        assert_eq!(buckets.take(&ann, Load::Control), Ok(()));
        assert!(buckets.take(&ann, Load::Control).is_err());
    }

    #[test]
    fn nobody_empties_the_bucket_of_another_or_of_another_load() {
        let clock = FakeRelativeClock::default();
        let buckets = buckets(&clock);
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        while buckets.take(&ann, Load::Control).is_ok() {}
        assert_eq!(buckets.take(&bob, Load::Control), Ok(()));
        assert_eq!(buckets.take(&ann, Load::Evaluation), Ok(()));
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let buckets = buckets(&clock);
        for number in 0..FORGET_EVERY - 1 {
            let made_up = Principal::new(number.to_string());
            assert_eq!(buckets.take(&made_up, Load::Control), Ok(()));
        }
        assert!(buckets.control.len() > 9_000);
        clock.advance(Duration::from_secs(10));
        assert_eq!(buckets.take(&Principal::new("ann"), Load::Control), Ok(()));
        assert!(buckets.control.len() < 2, "{}", buckets.control.len());
    }
}
