//! Whether the clock is trusted to fire timers, and which timers came due while nobody looked.
//!
//! A timer never fires before its deadline by wall time; that needs no help from here. What does:
//!
//! - Wall time may be **stepped**. It is compared with the time since boot, which is not. A large
//!   step ahead withholds timers for a while; a step back makes deadlines later and that is all.
//! - The server may have been **away**: not running, suspended, frozen. What came due meanwhile is
//!   overdue. It is fired with a limited rate, and if it is very late its release is held.
//! - The clock may be **behind** the last commit at the start. Nothing fires until it caught up.
//!
//! All of this errs on the side of longer bakes. Under a manual clock nothing is ever late.

use super::config::Timers;
use crate::clock::Reading;
use phasegate_engine::{
    command::Lateness,
    time::{Span, Timestamp},
};
use std::time::Duration;

/// What was noticed when the clock was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Wall time was stepped ahead.
    SteppedAhead(Span),
    /// Wall time was stepped back.
    SteppedBack(Span),
    /// Nobody looked at the clock for this long; for so much of it the machine was suspended.
    WasAway {
        /// In all.
        away: Span,
        /// Of that, suspended.
        suspended: Span,
    },
    /// The clock is behind the last commit.
    Behind(Span),
    /// Timers fire again.
    Resumed,
}

impl Notice {
    /// True if wall time was stepped.
    pub(super) fn is_step(self) -> bool {
        match self {
            Self::SteppedAhead(_) | Self::SteppedBack(_) => true,
            Self::WasAway { .. } | Self::Behind(_) | Self::Resumed => false,
        }
    }

    /// Logs it.
    pub(super) fn tell(self) {
        match self {
            Self::SteppedAhead(by) => {
                tracing::warn!(step_ms = by.as_millis(), "clock_step");
            }
            Self::SteppedBack(by) => {
                tracing::warn!(step_ms = -by.as_millis(), "clock_step");
            }
            Self::WasAway { away, suspended } => {
                let (away_ms, suspended_ms) = (away.as_millis(), suspended.as_millis());
                tracing::warn!(away_ms, suspended_ms, "the server was away");
            }
            Self::Behind(by) => {
                let behind_ms = by.as_millis();
                tracing::warn!(behind_ms, "the clock is behind the last commit: no timer fires");
            }
            Self::Resumed => tracing::info!("timers fire again"),
        }
    }
}

/// Whether timers may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firing {
    /// They may.
    Allowed,
    /// Not now.
    Withheld,
}

/// How far the clock is trusted.
#[derive(Debug)]
pub(super) enum Trust {
    /// A manual clock is always right.
    Manual,
    /// The system's clock is watched.
    Watched(Box<Watched>),
}

#[derive(Debug)]
pub(super) struct Watched {
    config: Timers,
    last: Reading,
    /// Wall time minus the time since boot, when it was last found stepped.
    offset: i64,
    /// Since boot: nothing fires before.
    withheld_until: Option<Duration>,
    /// Wall time: nothing fires before.
    behind_until: Option<Timestamp>,
    /// Deadlines up to here came due while nobody looked.
    overdue_up_to: Timestamp,
    /// Deadlines before this were found too late.
    held_before: Timestamp,
}

impl Trust {
    /// At the start, after the commit of this time.
    pub(super) fn watched(
        config: Timers,
        first: Reading,
        last_commit: Timestamp,
    ) -> (Self, Vec<Notice>) {
        let mut watched = Watched {
            offset: offset(first),
            last: first,
            withheld_until: None,
            behind_until: None,
            overdue_up_to: Timestamp::EPOCH,
            held_before: Timestamp::EPOCH,
            config,
        };
        let mut notices = Vec::new();
        let behind = last_commit.since(first.wall);
        if behind > watched.config.behind_tolerated {
            watched.behind_until = Some(last_commit);
            notices.push(Notice::Behind(behind));
        }
        watched.found_overdue(first.wall);
        (Self::Watched(Box::new(watched)), notices)
    }

    /// Looks at the clock.
    pub(super) fn observe(&mut self, reading: Reading) -> Vec<Notice> {
        match self {
            Self::Manual => Vec::new(),
            Self::Watched(watched) => watched.observe(reading),
        }
    }

    /// Whether timers may fire, as of the last look.
    pub(super) fn firing(&self) -> Firing {
        match self {
            Self::Watched(watched) if watched.is_withheld() => Firing::Withheld,
            Self::Manual | Self::Watched(_) => Firing::Allowed,
        }
    }

    /// Says that timers could not fire until now, for another reason than the clock.
    pub(super) fn resume(&mut self, now: Timestamp) {
        match self {
            Self::Manual => {}
            Self::Watched(watched) => watched.found_overdue(now),
        }
    }

    /// True if the deadline passed while nobody looked.
    pub(super) fn is_overdue(&self, deadline: Timestamp) -> bool {
        match self {
            Self::Manual => false,
            Self::Watched(watched) => deadline <= watched.overdue_up_to,
        }
    }

    /// What to do about a timer that is due.
    pub(super) fn lateness(&self, deadline: Timestamp, now: Timestamp) -> Lateness {
        match self {
            Self::Manual => Lateness::Accepted,
            Self::Watched(watched) => watched.lateness(deadline, now),
        }
    }
}

impl Watched {
    fn observe(&mut self, reading: Reading) -> Vec<Notice> {
        let mut notices = Vec::new();
        let last = std::mem::replace(&mut self.last, reading);
        let was_withheld = self.is_withheld_at(last);

        let stepped = offset(reading) - self.offset;
        if stepped.abs() > self.config.step_noticed.as_millis() {
            self.offset = offset(reading);
            let by = Span::from_millis(stepped.abs());
            if stepped > 0 {
                notices.push(Notice::SteppedAhead(by));
                if by > self.config.step_withholds_above {
                    let wait = millis(self.config.step_withholds_for);
                    self.withheld_until = Some(reading.boottime.saturating_add(wait));
                }
                self.found_overdue(reading.wall);
            } else {
                notices.push(Notice::SteppedBack(by));
                // What is ahead again can not be late.
                self.overdue_up_to = self.overdue_up_to.min(reading.wall);
                self.held_before = self.held_before.min(self.hold_limit(reading.wall));
            }
        }

        let away = reading.boottime.saturating_sub(last.boottime);
        if away > millis(self.config.away_noticed) {
            let awake = reading.monotonic.saturating_sub(last.monotonic);
            let suspended = span(away.saturating_sub(awake));
            notices.push(Notice::WasAway { away: span(away), suspended });
            self.found_overdue(reading.wall);
        }

        if was_withheld && !self.is_withheld() {
            self.withheld_until = None;
            self.behind_until = None;
            self.found_overdue(reading.wall);
            notices.push(Notice::Resumed);
        }
        notices
    }

    fn is_withheld(&self) -> bool {
        self.is_withheld_at(self.last)
    }

    fn is_withheld_at(&self, reading: Reading) -> bool {
        self.withheld_until.is_some_and(|until| reading.boottime < until)
            || self.behind_until.is_some_and(|until| reading.wall < until)
    }

    /// Whatever is due by now is overdue.
    fn found_overdue(&mut self, now: Timestamp) {
        self.overdue_up_to = self.overdue_up_to.max(now);
        self.held_before = self.held_before.max(self.hold_limit(now));
    }

    /// Deadlines before this are too late at `now`.
    fn hold_limit(&self, now: Timestamp) -> Timestamp {
        let limit = self.config.hold_if_late_by;
        if limit.is_zero() {
            return Timestamp::EPOCH;
        }
        Timestamp::from_millis(now.as_millis().saturating_sub(limit.as_millis()))
    }

    fn lateness(&self, deadline: Timestamp, now: Timestamp) -> Lateness {
        let late = now.since(deadline);
        if deadline < self.held_before && late > self.config.hold_if_late_by {
            Lateness::Hold(late)
        } else {
            Lateness::Accepted
        }
    }
}

fn offset(reading: Reading) -> i64 {
    reading.wall.as_millis() - span(reading.boottime).as_millis()
}

fn span(duration: Duration) -> Span {
    Span::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn millis(span: Span) -> Duration {
    // A span is never negative.
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_900_000_000_000;

    /// A machine whose clocks a test turns.
    struct Machine {
        wall: i64,
        boottime: i64,
        monotonic: i64,
    }

    impl Machine {
        fn reading(&self) -> Reading {
            Reading {
                wall: Timestamp::from_millis(self.wall),
                boottime: Duration::from_millis(self.boottime as u64),
                monotonic: Duration::from_millis(self.monotonic as u64),
            }
        }

        fn runs(&mut self, millis: i64) -> Reading {
            self.wall += millis;
            self.boottime += millis;
            self.monotonic += millis;
            self.reading()
        }

        fn sleeps(&mut self, millis: i64) -> Reading {
            self.wall += millis;
            self.boottime += millis;
            self.reading()
        }

        fn is_stepped(&mut self, millis: i64) -> Reading {
            self.wall += millis;
            self.reading()
        }
    }

    fn start() -> (Machine, Trust) {
        let machine = Machine { wall: START, boottime: 50_000, monotonic: 40_000 };
        let last_commit = Timestamp::from_millis(START - 1);
        let (trust, notices) = Trust::watched(Timers::default(), machine.reading(), last_commit);
        assert_eq!(notices, []);
        (machine, trust)
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(START + millis)
    }

    #[test]
    fn nothing_is_noticed_while_the_clocks_run_together() {
        let (mut machine, mut trust) = start();
        for _ in 0..100 {
            assert_eq!(trust.observe(machine.runs(1_000)), []);
        }
        assert_eq!(trust.firing(), Firing::Allowed);
        assert!(!trust.is_overdue(at(99_000)));
        assert_eq!(trust.lateness(at(1), at(100_000)), Lateness::Accepted);
    }

    #[test]
    fn a_timer_is_held_only_if_it_was_found_later_than_the_limit() {
        let (mut machine, mut trust) = start();
        let hour = 3_600_000;
        trust.observe(machine.sleeps(2 * hour));
        let now = at(2 * hour);
        assert_eq!(trust.lateness(at(hour - 1), now), Lateness::Hold(Span::from_millis(hour + 1)));
        assert_eq!(trust.lateness(at(hour), now), Lateness::Accepted);
        assert!(trust.is_overdue(at(hour)));
    }

    #[test]
    fn waiting_for_its_turn_makes_no_timer_too_late() {
        let (mut machine, mut trust) = start();
        for _ in 0..7_300 {
            trust.observe(machine.runs(1_000));
        }
        assert_eq!(trust.lateness(at(1_000), at(7_300_000)), Lateness::Accepted);
    }

    #[test]
    fn with_a_limit_of_zero_nothing_is_held() {
        let config = Timers { hold_if_late_by: Span::ZERO, ..Timers::default() };
        let machine = Machine { wall: START, boottime: 0, monotonic: 0 };
        let (trust, _) = Trust::watched(config, machine.reading(), Timestamp::EPOCH);
        assert_eq!(trust.lateness(Timestamp::EPOCH, at(0)), Lateness::Accepted);
    }

    #[test]
    fn a_suspend_is_told_from_a_process_that_stood_still() {
        let (mut machine, mut trust) = start();
        let away = Span::from_secs(20);
        let slept = trust.observe(machine.sleeps(20_000));
        assert_eq!(slept, [Notice::WasAway { away, suspended: away }]);
        let stood = trust.observe(machine.runs(20_000));
        assert_eq!(stood, [Notice::WasAway { away, suspended: Span::ZERO }]);
    }

    #[test]
    fn a_large_step_ahead_withholds_timers_for_a_while() {
        let (mut machine, mut trust) = start();
        let notices = trust.observe(machine.is_stepped(61_000));
        assert_eq!(notices, [Notice::SteppedAhead(Span::from_secs(61))]);
        for _ in 0..29 {
            assert_eq!(trust.observe(machine.runs(1_000)), []);
            assert_eq!(trust.firing(), Firing::Withheld);
        }
        assert_eq!(trust.observe(machine.runs(1_000)), [Notice::Resumed]);
        assert_eq!(trust.firing(), Firing::Allowed);
    }

    #[test]
    fn a_small_step_ahead_is_only_noticed() {
        let (mut machine, mut trust) = start();
        let notices = trust.observe(machine.is_stepped(60_000));
        assert_eq!(notices, [Notice::SteppedAhead(Span::from_secs(60))]);
        assert_eq!(trust.firing(), Firing::Allowed);
    }

    #[test]
    fn many_little_steps_are_noticed_like_one() {
        let (mut machine, mut trust) = start();
        assert_eq!(trust.observe(machine.is_stepped(3_000)), []);
        let notices = trust.observe(machine.is_stepped(3_000));
        assert_eq!(notices, [Notice::SteppedAhead(Span::from_secs(6))]);
    }

    #[test]
    fn a_step_back_withholds_nothing_and_makes_nothing_late() {
        let (mut machine, mut trust) = start();
        let hour = 3_600_000;
        let notices = trust.observe(machine.is_stepped(-3 * hour));
        assert_eq!(notices, [Notice::SteppedBack(Span::from_secs(10_800))]);
        assert_eq!(trust.firing(), Firing::Allowed);
        assert!(!trust.is_overdue(at(-1)));
        assert_eq!(trust.lateness(at(-2 * hour), at(-2 * hour)), Lateness::Accepted);
    }

    #[test]
    fn a_clock_behind_the_last_commit_fires_nothing_until_it_caught_up() {
        let mut machine = Machine { wall: START, boottime: 0, monotonic: 0 };
        let last_commit = at(61_000);
        let (mut trust, notices) =
            Trust::watched(Timers::default(), machine.reading(), last_commit);
        assert_eq!(notices, [Notice::Behind(Span::from_secs(61))]);
        for _ in 0..60 {
            trust.observe(machine.runs(1_000));
            assert_eq!(trust.firing(), Firing::Withheld);
        }
        assert_eq!(trust.observe(machine.runs(1_000)), [Notice::Resumed]);
    }

    #[test]
    fn a_clock_a_little_behind_the_last_commit_is_trusted() {
        let machine = Machine { wall: START, boottime: 0, monotonic: 0 };
        let (trust, notices) = Trust::watched(Timers::default(), machine.reading(), at(60_000));
        assert_eq!(notices, []);
        assert_eq!(trust.firing(), Firing::Allowed);
    }
}
