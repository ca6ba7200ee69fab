//! Instants and lengths of time, in whole milliseconds. Nothing here reads a clock.

use crate::stored;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, num::NonZeroU64};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// One more than the milliseconds, so that an instant that there may be takes no more than one that
    /// there is.
    NonZeroU64,
);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(NonZeroU64::MIN);
    /// 9999-12-31T23:59:59.999Z, the last instant that a `google.protobuf.Timestamp` can carry.
    pub const MAX: Self = Self::from_millis(Self::MAX_MILLIS);
    const MAX_MILLIS: i64 = 253_402_300_799_999;

    /// From milliseconds since the epoch, brought into the range from [`Self::EPOCH`] to
    /// [`Self::MAX`].
    pub const fn from_millis(millis: i64) -> Self {
        let millis = if millis > Self::MAX_MILLIS { Self::MAX_MILLIS } else { millis };
        if millis < 0 {
            Self::EPOCH
        } else {
            Self(NonZeroU64::MIN.saturating_add(millis.unsigned_abs()))
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        // Far below where the signs change.
        (self.0.get() - 1).cast_signed()
    }

    /// From `earlier` to here; nothing if `earlier` is later.
    pub fn since(self, earlier: Self) -> Span {
        Span::from_millis(self.as_millis().saturating_sub(earlier.as_millis()))
    }

    /// Reads what [`fmt::Display`] writes: RFC 3339 in UTC, with milliseconds, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        let found = Self::from_millis(time.timestamp_millis());
        (found.to_string() == text).then_some(found)
    }

    /// The instant as chrono knows it.
    pub fn to_utc(self) -> chrono::DateTime<chrono::Utc> {
        // The range of the type lies well inside chrono's, so the default is never taken.
        chrono::DateTime::from_timestamp_millis(self.as_millis()).unwrap_or_default()
    }
}

impl std::ops::Add<Span> for Timestamp {
    type Output = Self;

    /// Saturates at [`Timestamp::MAX`].
    fn add(self, span: Span) -> Self {
        Self::from_millis(self.as_millis().saturating_add(span.as_millis()))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_millis()).finish()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_millis().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let valid = |millis: &i64| (0..=Self::MAX_MILLIS).contains(millis);
        let millis =
            stored::checked(deserializer, valid, "an instant outside the years 1970 to 9999")?;
        Ok(Self::from_millis(millis))
    }
}

/// A length of time in milliseconds, never negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Span(#[serde(deserialize_with = "length")] i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// 24 hours.
    pub const DAY: Self = Self(86_400_000);

    /// From milliseconds; negative ones are taken as none.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 { Self(0) } else { Self(millis) }
    }

    /// From whole seconds.
    pub const fn from_secs(secs: u32) -> Self {
        Self(secs as i64 * 1000)
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// True if there is no time left.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Span {
    /// Seconds with an `s`, as protobuf's JSON writes them: `300s`, `1.500s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 == 0 {
            write!(f, "{}s", self.0 / 1000)
        } else {
            write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
        }
    }
}

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    stored::checked(deserializer, |millis: &i64| *millis >= 0, "a negative length of time")
}
