//! Release windows: when a phase may be applied, in local time.
//!
//! Only the moment of application is restricted: bakes run on, and pause, abort and the kill switch
//! work at any hour. Zones are IANA zones; the database is compiled in, so a release is judged by
//! the one version that the server was built with.

use crate::{
    stored,
    time::{Span, Timestamp},
};
use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc,
    Weekday,
};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;

/// How far ahead an opening is looked for.
pub const HORIZON_DAYS: u16 = 366;

/// When a phase may be applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseWindows {
    /// Zone of the weekly spans.
    pub zone: Tz,
    /// Open inside any of these; empty: always.
    pub weekly: Vec<Weekly>,
    /// Closed inside any of these; stronger than weekly.
    pub blackouts: Vec<Blackout>,
}

/// A recurring span of local time. A time that a clock change leaves out means the first instant
/// after the gap; one that comes twice, the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weekly {
    /// Days on which it starts.
    pub days: Vec<Weekday>,
    /// Inclusive.
    pub start: TimeOfDay,
    /// Exclusive. Not after `start`: on the next day.
    pub end: TimeOfDay,
}

/// Minutes after local midnight, 0 to 1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeOfDay(#[serde(deserialize_with = "minutes")] u16);

impl TimeOfDay {
    /// From `HH:MM`, `00:00` to `24:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let two_digits = |part: &str| {
            let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
        let in_range = minutes < 60 && (hours < 24 || (hours == 24 && minutes == 0));
        in_range.then_some(Self(hours * 60 + minutes))
    }

    /// Minutes after midnight.
    pub fn minutes(self) -> u16 {
        self.0
    }
}

fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    stored::checked(deserializer, |minutes: &u16| *minutes <= 24 * 60, "a time after 24:00")
}

impl std::fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A span of absolute time in which nothing is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blackout {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    /// Shown to people.
    pub note: Arc<str>,
}

impl ReleaseWindows {
    /// True if a phase may be applied at `at`.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.blackout_end(at).is_none() && self.in_weekly(at)
    }

    /// The first instant from `from` on, and within 366 days, at which the window is open.
    pub fn next_open(&self, from: Timestamp) -> Option<Timestamp> {
        let limit = from + Span::from_millis(i64::from(HORIZON_DAYS) * Span::DAY.as_millis());
        let mut at = from;
        // Each round leaves a blackout or reaches a weekly start behind it, so the rounds are
        // bounded by the blackouts and the starts inside the horizon.
        while at <= limit {
            if let Some(end) = self.blackout_end(at) {
                at = end;
            } else if self.in_weekly(at) {
                return Some(at);
            } else {
                at = self.next_weekly_start(at)?;
            }
        }
        None
    }

    /// The latest end of the blackouts around `at`.
    fn blackout_end(&self, at: Timestamp) -> Option<Timestamp> {
        let around = |b: &&Blackout| b.start <= at && at < b.end;
        self.blackouts.iter().filter(around).map(|b| b.end).max()
    }

    fn in_weekly(&self, at: Timestamp) -> bool {
        if self.weekly.is_empty() {
            return true;
        }
        // A span that is open now started today, or yesterday if it runs past midnight, or tomorrow
        // if the clock went back to today after that day had begun (America/St_Johns until 2011).
        let today = self.local_date(at);
        let one = Days::new(1);
        let days = [today.checked_sub_days(one), Some(today), today.checked_add_days(one)];
        days.into_iter()
            .flatten()
            .any(|day| self.spans_on(day).any(|(start, end)| start <= at && at < end))
    }

    fn next_weekly_start(&self, after: Timestamp) -> Option<Timestamp> {
        let today = self.local_date(after);
        (0..=u64::from(HORIZON_DAYS) + 1).find_map(|offset| {
            let day = today.checked_add_days(Days::new(offset))?;
            let starts = self.spans_on(day).filter(|(start, end)| *start > after && start < end);
            starts.map(|(start, _)| start).min()
        })
    }

    fn local_date(&self, at: Timestamp) -> NaiveDate {
        at.to_utc().with_timezone(&self.zone).date_naive()
    }

    /// The spans that start on a local day, as instants.
    fn spans_on(&self, day: NaiveDate) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        self.weekly.iter().filter(move |weekly| weekly.days.contains(&day.weekday())).filter_map(
            move |weekly| {
                let last_day = if weekly.end <= weekly.start { day.succ_opt()? } else { day };
                Some((self.instant(day, weekly.start)?, self.instant(last_day, weekly.end)?))
            },
        )
    }

    /// A local time of day as an instant.
    fn instant(&self, day: NaiveDate, time: TimeOfDay) -> Option<Timestamp> {
        let midnight = day.and_hms_opt(0, 0, 0)?;
        let local = midnight.checked_add_signed(TimeDelta::minutes(i64::from(time.minutes())))?;
        let utc = match self.zone.from_local_datetime(&local) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.to_utc(),
            LocalResult::None => self.end_of_gap(local)?,
        };
        Some(Timestamp::from_millis(utc.timestamp_millis()))
    }

    /// The first instant after the gap that `local` lies in. Gaps are found by halving: the local
    /// time before the gap maps to an instant before the transition, that after it to one after.
    fn end_of_gap(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        // No zone ever jumped by more than 24 hours, give or take (Pacific/Apia, 2011).
        let reach = TimeDelta::hours(26);
        let mut before = self.zone.from_utc_datetime(&local.checked_sub_signed(reach)?);
        let mut after = self.zone.from_utc_datetime(&local.checked_add_signed(reach)?);
        // `before` shows a local time below `local`, `after` one above; close in on the jump.
        while after.timestamp() - before.timestamp() > 1 {
            let middle = (after.timestamp() + before.timestamp()) / 2;
            let middle = DateTime::from_timestamp(middle, 0)?.with_timezone(&self.zone);
            if middle.naive_local() < local { before = middle } else { after = middle }
        }
        Some(after.to_utc())
    }
}
