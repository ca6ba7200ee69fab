//! Spares a receiver that does not answer: after some failures in a row it is left alone for a while,
//! and then asked once before it is asked again by all.

use super::schedule::jittered;
use phasegate_engine::time::{Span, Timestamp};

/// So many failures in a row open it. Fewer would open it for a single row that is tried again.
const FAILURES_TO_OPEN: u32 = 5;
/// The first pause. About as long as a receiver takes to restart.
const PAUSE: Span = Span::from_secs(30);
/// The longest pause: who mends a receiver should not wait longer for what is late.
const PAUSE_MAX: Span = Span::from_secs(300);

/// Whether a receiver may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// It may; so many failures came in a row.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// Not before this time, and then once.
    Open {
        /// Until when.
        until: Timestamp,
        /// How long the pause was.
        pause: Span,
    },
    /// One attempt is under way that decides.
    Probing {
        /// How long the pause was.
        pause: Span,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// How many attempts may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// As many as the sink takes.
    Any,
    /// One, which decides.
    One,
    /// None before this time, if one is known.
    None(Option<Timestamp>),
}

impl Breaker {
    /// How many attempts may begin now.
    pub(super) fn permit(self, now: Timestamp) -> Permit {
        match self {
            Self::Closed { .. } => Permit::Any,
            Self::Open { until, .. } if now < until => Permit::None(Some(until)),
            Self::Open { .. } => Permit::One,
            Self::Probing { .. } => Permit::None(None),
        }
    }

    /// The one attempt has begun.
    #[must_use]
    pub(super) fn probing(self) -> Self {
        match self {
            Self::Open { pause, .. } => Self::Probing { pause },
            Self::Closed { .. } | Self::Probing { .. } => self,
        }
    }

    /// The receiver has answered.
    #[must_use]
    pub(super) fn answered(self) -> Self {
        match self {
            // An attempt that began before it opened.
            Self::Open { .. } => self,
            Self::Closed { .. } | Self::Probing { .. } => Self::default(),
        }
    }

    /// The receiver has not answered, or has said that it cannot.
    #[must_use]
    pub(super) fn failed(self, now: Timestamp, random: u64) -> Self {
        let open = |pause: Span| Self::Open { until: now + jittered(pause, random), pause };
        match self {
            Self::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                Self::Closed { failures: failures + 1 }
            }
            Self::Closed { .. } => open(PAUSE),
            Self::Probing { pause } => {
                open(Span::from_millis(pause.as_millis().saturating_mul(2)).min(PAUSE_MAX))
            }
            Self::Open { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    /// Leaves pauses as they are.
    const STRAIGHT: u64 = 200;

    fn after(failures: u32) -> Breaker {
        (0..failures).fold(Breaker::default(), |breaker, _| breaker.failed(NOW, STRAIGHT))
    }

    #[test]
    fn five_failures_in_a_row_open_it_for_half_a_minute() {
        assert_eq!(after(4).permit(NOW), Permit::Any);
        let until = NOW + Span::from_secs(30);
        assert_eq!(after(5).permit(NOW), Permit::None(Some(until)));
        assert_eq!(after(5).permit(until), Permit::One);
        // A success in between begins the count anew.
        let interrupted = (0..4).fold(after(4).answered(), |b, _| b.failed(NOW, STRAIGHT));
        assert_eq!(interrupted.permit(NOW), Permit::Any);
    }

    #[test]
    fn one_attempt_decides_and_the_pause_grows_up_to_five_minutes() {
        let mut breaker = after(5);
        let mut now = NOW;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let Breaker::Open { until, pause } = breaker else { panic!("{breaker:?}") };
            pauses.push(pause.as_millis() / 1000);
            now = until;
            let probing = breaker.probing();
            assert_eq!(probing.permit(now), Permit::None(None));
            breaker = probing.failed(now, STRAIGHT);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
        let breaker = breaker.probing().answered();
        assert_eq!(breaker, Breaker::Closed { failures: 0 });
        assert_eq!(breaker.permit(now), Permit::Any);
    }

    #[test]
    fn attempts_that_began_before_it_opened_change_nothing() {
        assert_eq!(after(5).answered(), after(5));
        assert_eq!(after(9), after(5));
    }
}
