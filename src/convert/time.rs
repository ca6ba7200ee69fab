//! Instants and lengths of time. The wire has nanoseconds, the domain milliseconds: finer input is
//! rounded up, so that nothing ever comes early.

use super::fields::Fields;
use phasegate_engine::time::{Span, Timestamp};

const NANOS_PER_SECOND: i32 = 1_000_000_000;
const NANOS_PER_MILLI: i64 = 1_000_000;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

impl Fields {
    /// An instant from 1970 to 9999.
    pub(super) fn timestamp(
        &mut self,
        field: &str,
        time: prost_types::Timestamp,
    ) -> Option<Timestamp> {
        let in_range = (0..=LAST_SECOND).contains(&time.seconds)
            && (0..NANOS_PER_SECOND).contains(&time.nanos);
        if !in_range {
            return self
                .at(field, |fields| fields.refuse("must be an instant of the years 1970 to 9999"));
        }
        Some(Timestamp::from_millis(millis(time.seconds, time.nanos)))
    }

    /// A length of time, within limits that the description names.
    pub(super) fn span(
        &mut self,
        field: &str,
        duration: prost_types::Duration,
        allowed: std::ops::RangeInclusive<Span>,
        description: &str,
    ) -> Option<Span> {
        let well_formed = (0..=i64::from(u32::MAX) * 100).contains(&duration.seconds)
            && (0..NANOS_PER_SECOND).contains(&duration.nanos);
        let span = Span::from_millis(if well_formed {
            millis(duration.seconds, duration.nanos)
        } else {
            i64::MAX
        });
        if allowed.contains(&span) {
            Some(span)
        } else {
            self.at(field, |fields| fields.refuse(format!("must be {description}")))
        }
    }
}

/// Milliseconds, rounded up.
fn millis(seconds: i64, nanos: i32) -> i64 {
    let millis = (i64::from(nanos) + NANOS_PER_MILLI - 1) / NANOS_PER_MILLI;
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// An instant as the wire has it.
pub fn timestamp_to_wire(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = split(time.as_millis());
    prost_types::Timestamp { seconds, nanos }
}

/// A length of time as the wire has it.
pub fn span_to_wire(span: Span) -> prost_types::Duration {
    let (seconds, nanos) = split(span.as_millis());
    prost_types::Duration { seconds, nanos }
}

fn split(millis: i64) -> (i64, i32) {
    let nanos = millis.rem_euclid(1000) * NANOS_PER_MILLI;
    // Below a thousand million, so it fits.
    (millis.div_euclid(1000), i32::try_from(nanos).unwrap_or_default())
}
