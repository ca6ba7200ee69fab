//! How long to wait before a call is made again, and how often.
//!
//! The waits grow exponentially with full jitter: each is drawn evenly between nothing and the limit
//! of its turn, because all clients of a server lose it at the same moment.

use crate::Error;
use std::time::Duration;

/// How often, and how patiently, calls are made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often one call is made in all. 1 never repeats. Does not concern watches, which go on
    /// until they are dropped. Default 5.
    pub attempts: u32,
    /// Longest first wait; each later one may be twice as long. Default 0.2 s.
    pub first: Duration,
    /// No wait is longer, the server's own wishes apart. Default 20 s, which is what restarts take.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, first: Duration::from_millis(200), longest: Duration::from_secs(20) }
    }
}

/// The waits of one call, or of one watch.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    turn: u32,
}

impl Backoff {
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, turn: 0 }
    }

    /// The next wait begins small again.
    pub(crate) fn reset(&mut self) {
        self.turn = 0;
    }

    /// How long to wait after this error: as long as the server asked for, else a drawn time.
    pub(crate) fn next(&mut self, error: &Error) -> Duration {
        let limit = self.limit();
        self.turn = self.turn.saturating_add(1);
        error.retry_after.unwrap_or_else(|| limit.mul_f64(rand::random::<f64>()))
    }

    /// Longest wait of this turn.
    fn limit(&self) -> Duration {
        let doubled = 2_u32.checked_pow(self.turn).unwrap_or(u32::MAX);
        self.retry.first.saturating_mul(doubled).min(self.retry.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn the_limit_doubles_up_to_the_longest_and_begins_anew_after_a_reset() {
        let mut backoff = Backoff::new(Retry::default());
        let error = Error::local(Code::Unavailable, "gone");
        for milliseconds in [200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000] {
            let limit = Duration::from_millis(milliseconds);
            assert_eq!(backoff.limit(), limit);
            assert!(backoff.next(&error) <= limit);
        }
        backoff.turn = u32::MAX;
        assert!(backoff.next(&error) <= Duration::from_secs(20));
        backoff.reset();
        assert_eq!(backoff.limit(), Duration::from_millis(200));
    }

    #[test]
    fn the_server_s_wish_is_kept_to_the_letter() {
        let mut backoff = Backoff::new(Retry::default());
        let mut error = Error::local(Code::Unavailable, "draining");
        error.retry_after = Some(Duration::from_secs(77));
        assert_eq!(backoff.next(&error), Duration::from_secs(77));
    }
}
