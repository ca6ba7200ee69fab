//! Instants and lengths of time on a page. The server writes UTC; the script turns it into the
//! viewer's zone, keeps UTC as what hovering shows, and counts down by the server's clock.

use maud::{Markup, html};
use phasegate_engine::time::{Span, Timestamp};

/// A day and a time, as tables and facts show them.
pub(super) fn at(time: Timestamp) -> Markup {
    written(time, "full", "%-d %b %Y, %H:%M:%S UTC")
}

/// A time of day, with the day if that is not today's.
pub(super) fn clock(time: Timestamp, now: Timestamp) -> Markup {
    let today = time.to_utc().date_naive() == now.to_utc().date_naive();
    written(time, "clock", if today { "%H:%M UTC" } else { "%-d %b, %H:%M UTC" })
}

fn written(time: Timestamp, style: &str, format: &str) -> Markup {
    let utc = time.to_utc();
    html! {
        time datetime=(utc.format("%Y-%m-%dT%H:%M:%S%.3fZ")) data-style=(style)
            title=(utc.format("%Y-%m-%d %H:%M:%S UTC")) { (utc.format(format)) }
    }
}

/// How long ago something was: `3 min ago`.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> Markup {
    let utc = time.to_utc();
    html! {
        time datetime=(utc.format("%Y-%m-%dT%H:%M:%S%.3fZ")) data-style="ago"
            title=(utc.format("%Y-%m-%d %H:%M:%S UTC")) { (ago_words(now.since(time))) }
    }
}

fn ago_words(span: Span) -> String {
    if span < Span::from_secs(5) {
        "just now".to_owned()
    } else {
        format!("{} ago", span_words(span))
    }
}

/// What is left until an instant, counted down by the script: `12 min 30 s`.
pub(super) fn left(until: Timestamp, now: Timestamp) -> Markup {
    html! { span.left data-until=(until.as_millis()) { (span_words(until.since(now))) } }
}

/// A bar that fills from the beginning of a wait to its end.
pub(super) fn bar(label: &str, wait: Span, ends: Timestamp, now: Timestamp) -> Markup {
    let left = ends.since(now);
    html! {
        progress aria-label=(label) max=(wait.as_millis().max(1)) data-until=(ends.as_millis())
            value=(wait.as_millis().saturating_sub(left.as_millis()).max(0)) {}
    }
}

/// A bar that stands still.
pub(super) fn still_bar(label: &str, wait: Span, left: Span) -> Markup {
    html! {
        progress.still aria-label=(label) max=(wait.as_millis().max(1))
            value=(wait.as_millis().saturating_sub(left.as_millis()).max(0)) {}
    }
}

/// A length of time by its two largest units: `1 d 2 h`, `3 min 20 s`, `0 s`. The script does the
/// same.
pub(super) fn span_words(span: Span) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    // Rounded up: what ends in half a second has not ended.
    let seconds = span.as_millis().saturating_add(999) / 1000;
    let Some(largest) = UNITS.iter().position(|(size, _)| seconds >= *size) else {
        return "0 s".to_owned();
    };
    let (size, unit) = UNITS[largest];
    let mut text = format!("{} {unit}", seconds / size);
    if let Some((next, unit)) = UNITS.get(largest + 1) {
        let rest = seconds % size / next;
        if rest > 0 {
            text.push_str(&format!(" {rest} {unit}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_written_by_its_two_largest_units() {
        for (millis, words) in [
            (0, "0 s"),
            (1, "1 s"),
            (59_000, "59 s"),
            (59_001, "1 min"),
            (750_000, "12 min 30 s"),
            (3_600_000, "1 h"),
            (3_630_000, "1 h"),
            (93_600_000, "1 d 2 h"),
            (86_400_000 * 90, "90 d"),
        ] {
            assert_eq!(span_words(Span::from_millis(millis)), words);
        }
    }

    #[test]
    fn an_instant_is_written_in_utc_and_for_the_script() {
        let now = Timestamp::from_millis(1_907_690_400_000);
        let text = clock(now, now).into_string();
        assert!(text.contains("datetime=\"2030-06-14T18:00:00.000Z\""), "{text}");
        assert!(text.contains(">18:00 UTC<"), "{text}");
        let tomorrow = clock(now + Span::DAY, now).into_string();
        assert!(tomorrow.contains(">15 Jun, 18:00 UTC<"), "{tomorrow}");
    }
}
