//! When to try again: the schedule that Standard Webhooks 1.0.0 gives in its chapter on deliverability,
//! with the jitter that it recommends.
//!
//! | attempt | after the one before |
//! |---|---|
//! | 1 | at once |
//! | 2 | 5 s |
//! | 3 | 5 min |
//! | 4 | 30 min |
//! | 5 | 2 h |
//! | 6 | 5 h |
//! | 7 | 10 h |
//! | 8 | 14 h |
//! | 9 | 20 h |
//! | 10 | 24 h |

use phasegate_engine::time::Span;

/// From one attempt to the next, each up to a fifth longer or shorter.
pub const DELAYS: [Span; 9] = [
    Span::from_secs(5),
    Span::from_secs(5 * 60),
    Span::from_secs(30 * 60),
    Span::from_secs(2 * 3600),
    Span::from_secs(5 * 3600),
    Span::from_secs(10 * 3600),
    Span::from_secs(14 * 3600),
    Span::from_secs(20 * 3600),
    Span::from_secs(24 * 3600),
];

/// How often a notification is tried before it is given up: over about three days.
pub const ATTEMPTS_MAX: u32 = DELAYS.len() as u32 + 1;

/// A receiver may put an attempt off by so much and no more: else it could keep rows for ever.
pub(super) const RETRY_AFTER_MAX: Span = Span::from_secs(24 * 3600);

/// Thousandths of a delay that chance may take away or add.
const JITTER: i64 = 200;

/// How long to wait after so many attempts; none: it was the last. `random` is any number.
pub(super) fn delay(attempts: u32, random: u64) -> Option<Span> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    DELAYS.get(index).map(|delay| jittered(*delay, random))
}

/// A time, a little longer or shorter by chance.
pub(super) fn jittered(time: Span, random: u64) -> Span {
    let choices = 2 * JITTER.unsigned_abs() + 1;
    // Less than the choices, of which there are some hundreds.
    let chosen = i64::try_from(random % choices).unwrap_or_default();
    Span::from_millis(time.as_millis() / 1000 * (1000 - JITTER + chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_are_those_of_the_specification_and_then_it_is_given_up() {
        let unchanged = JITTER.unsigned_abs();
        let found: Vec<_> = (1..=11).map(|n| delay(n, unchanged).map(Span::as_millis)).collect();
        let seconds = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        let expected: Vec<_> = seconds.iter().map(|s| Some(s * 1000)).chain([None, None]).collect();
        assert_eq!(found, expected);
        assert_eq!(delay(0, 0), None);
        assert_eq!(ATTEMPTS_MAX, 10);
        // What the specification sums up to, in its column of the time since the start.
        assert_eq!(seconds.iter().sum::<i64>(), (75 * 60 + 35) * 60 + 5);
    }

    #[test]
    fn chance_changes_a_delay_by_a_fifth_at_most_and_reaches_both_ends() {
        let (mut shortest, mut longest) = (i64::MAX, 0);
        for random in 0..1000 {
            let found = delay(2, random).unwrap().as_millis();
            (shortest, longest) = (shortest.min(found), longest.max(found));
        }
        assert_eq!((shortest, longest), (240_000, 360_000));
        assert!(delay(2, u64::MAX).unwrap().as_millis() <= 360_000);
    }
}
