//! Instants and durations as people write and read them. Instants are UTC throughout.

use chrono::{DateTime, SecondsFormat, Utc};
use prost_types::Timestamp;
use std::time::Duration;

/// The clock of this machine; the server's is asked for where it matters.
#[expect(clippy::disallowed_methods, reason = "the terminal's own time, which decides nothing")]
pub(crate) fn local_now() -> DateTime<Utc> {
    Utc::now()
}

/// An instant of the wire. One that is out of range is taken as 1970, and shows as such.
pub(crate) fn instant(time: &Timestamp) -> DateTime<Utc> {
    let nanos = u32::try_from(time.nanos).unwrap_or_default();
    DateTime::from_timestamp(time.seconds, nanos).unwrap_or_default()
}

/// An instant for the wire.
pub(crate) fn timestamp(instant: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(instant.timestamp_subsec_nanos()).unwrap_or_default();
    Timestamp { seconds: instant.timestamp(), nanos }
}

/// `2030-06-14 18:00:00 UTC`.
pub(crate) fn absolute(time: &Timestamp) -> String {
    instant(time).format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2030-06-14T18:00:00Z`.
pub(crate) fn machine(time: &Timestamp) -> String {
    instant(time).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// `2030-06-14 18:00:00 UTC (in 3 min)`.
pub(crate) fn both(time: &Timestamp, now: DateTime<Utc>) -> String {
    format!("{} ({})", absolute(time), relative(time, now))
}

/// `in 3 min`, `2 h ago`, `now`.
pub(crate) fn relative(time: &Timestamp, now: DateTime<Utc>) -> String {
    let distance = instant(time).signed_duration_since(now);
    let span = span(distance.abs().to_std().unwrap_or_default());
    // Half a second is how exactly people read.
    if distance.num_milliseconds().abs() < 500 {
        "now".to_owned()
    } else if distance > chrono::TimeDelta::zero() {
        format!("in {span}")
    } else {
        format!("{span} ago")
    }
}

/// A duration by its two largest units: `1 d 2 h`, `3 min 20 s`, `4.2 s`.
pub(crate) fn span(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let seconds = duration.as_secs();
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_millis());
    }
    if seconds < 10 {
        let tenths = duration.as_millis() / 100;
        return match tenths % 10 {
            0 => format!("{} s", tenths / 10),
            rest => format!("{}.{rest} s", tenths / 10),
        };
    }
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        if left / size > 0 {
            parts.push(format!("{} {unit}", left / size));
        } else if !parts.is_empty() {
            break;
        }
        left %= size;
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

/// A duration of the wire; a negative one counts as none.
pub(crate) fn duration(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or_default()
}

/// Reads `90s`, `1h30m`, `7d`, `500ms`, `0s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 90s, 1h30m, 7d or 500ms");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            "w" => Duration::from_secs(7 * 86_400),
            _ => return Err(wrong()),
        };
        rest = rest[letters..].trim_start();
        let part = u32::try_from(number).ok().and_then(|number| unit.checked_mul(number));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    Ok(total)
}

/// Reads an instant in the form of RFC 3339.
pub(crate) fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.to_utc())
        .map_err(|_| format!("{text:?} is no time such as 2030-06-14T18:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_the_units_that_people_write() {
        for (text, seconds) in
            [("90s", 90), ("1h30m", 5400), ("1 d 2 h", 93_600), ("2w", 1_209_600), ("5min", 300)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for text in ["", " ", "5", "s", "5x", "-5s", "1.5h", "5s5", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_by_their_two_largest_units() {
        for (milliseconds, expected) in [
            (0, "0 ms"),
            (250, "250 ms"),
            (1000, "1 s"),
            (4250, "4.2 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (3_600_000, "1 h"),
            (3_601_000, "1 h"),
            (93_600_000, "1 d 2 h"),
            (604_800_000, "7 d"),
        ] {
            assert_eq!(span(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn instants_are_shown_in_utc_and_from_now() {
        let now = parse_instant("2030-06-14T18:00:00Z").unwrap();
        let check = |text: &str| both(&timestamp(parse_instant(text).unwrap()), now);
        assert_eq!(check("2030-06-14T18:03:20Z"), "2030-06-14 18:03:20 UTC (in 3 min 20 s)");
        assert_eq!(check("2030-06-14T18:00:00+02:00"), "2030-06-14 16:00:00 UTC (2 h ago)");
        assert_eq!(check("2030-06-14T18:00:00.4Z"), "2030-06-14 18:00:00 UTC (now)");
        assert!(parse_instant("yesterday").is_err());
    }
}
