//! The one place where time is read.
//!
//! Deadlines are instants of wall time, and wall time may be stepped by a person or by NTP, so the
//! two clocks that are never stepped are read along with it: one that counts suspends of the machine
//! and one that does not. What follows from their differences is decided in
//! [`driver`](crate::driver), not here.

use phasegate_engine::time::{Span, Timestamp};
use std::time::Duration;
use tokio::sync::watch;

/// Three clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Wall time, in UTC. It may be stepped either way.
    pub wall: Timestamp,
    /// Since the machine was started, suspends included. It is never stepped.
    pub boottime: Duration,
    /// Since some moment in the past, suspends left out. It is never stepped.
    pub monotonic: Duration,
}

/// Where time comes from.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Wall time.
    fn now(&self) -> Timestamp {
        self.read().wall
    }

    /// All three clocks.
    fn read(&self) -> Reading;

    /// This clock, if it moves only when told.
    fn as_manual(&self) -> Option<&ManualClock> {
        None
    }
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall(rustix::time::clock_gettime(rustix::time::ClockId::Realtime))
    }

    fn read(&self) -> Reading {
        Reading {
            wall: self.now(),
            boottime: elapsed(rustix::time::clock_gettime(BOOTTIME)),
            monotonic: elapsed(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)),
        }
    }
}

#[cfg(target_os = "linux")]
const BOOTTIME: rustix::time::ClockId = rustix::time::ClockId::Boottime;
// Elsewhere a suspend shows only as a step of wall time.
#[cfg(not(target_os = "linux"))]
const BOOTTIME: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// Rounded down, so that no deadline seems to be reached before it is.
fn wall(time: rustix::time::Timespec) -> Timestamp {
    let millis = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    Timestamp::from_millis(millis)
}

fn elapsed(time: rustix::time::Timespec) -> Duration {
    // Both parts are never negative on these clocks; if they were, no time has passed.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// A clock that stands still until it is told to move: for rehearsals and tests.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Timestamp>);

impl ManualClock {
    /// Stands at this instant.
    pub fn new(start: Timestamp) -> Self {
        Self(watch::Sender::new(start))
    }

    /// Moves to an instant, or stays if it is there or beyond already: it never goes back.
    pub fn move_to(&self, to: Timestamp) {
        self.0.send_if_modified(|now| {
            let moves = *now < to;
            *now = to.max(*now);
            moves
        });
    }

    /// What it says: a level to wait for.
    pub fn watch(&self) -> watch::Receiver<Timestamp> {
        self.0.subscribe()
    }

    /// Moves ahead.
    pub fn advance(&self, by: Span) {
        self.move_to(self.now() + by);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        let wall = *self.0.borrow();
        // A timestamp is never negative.
        let elapsed = Duration::from_millis(u64::try_from(wall.as_millis()).unwrap_or_default());
        Reading { wall, boottime: elapsed, monotonic: elapsed }
    }

    fn as_manual(&self) -> Option<&ManualClock> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_never_back() {
        let clock = ManualClock::new(Timestamp::from_millis(1_000));
        assert_eq!(clock.now(), Timestamp::from_millis(1_000));
        clock.advance(Span::from_secs(2));
        clock.move_to(Timestamp::from_millis(500));
        let reading = clock.read();
        assert_eq!(reading.wall, Timestamp::from_millis(3_000));
        assert_eq!(reading.boottime, Duration::from_secs(3));
    }

    #[tokio::test]
    async fn who_waits_for_a_manual_clock_hears_when_it_is_there() {
        let clock = ManualClock::new(Timestamp::from_millis(1_000));
        let mut watch = clock.watch();
        clock.advance(Span::from_secs(2));
        let there = watch.wait_for(|now| *now >= Timestamp::from_millis(3_000)).await.unwrap();
        assert_eq!(*there, clock.now());
    }

    #[test]
    fn wall_time_is_rounded_down_to_the_millisecond() {
        let time = rustix::time::Timespec { tv_sec: 5, tv_nsec: 1_999_999 };
        assert_eq!(wall(time), Timestamp::from_millis(5_001));
    }

    #[test]
    fn the_system_clocks_do_not_go_back() {
        let (first, second) = (SystemClock.read(), SystemClock.read());
        assert!(first.monotonic <= second.monotonic);
        assert!(first.boottime <= second.boottime);
        assert!(first.wall > Timestamp::from_millis(1_700_000_000_000), "{first:?}");
    }
}
