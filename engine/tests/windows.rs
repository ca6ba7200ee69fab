//! When a release window is open: told in cases around clock changes, and held against a scan of
//! every minute that knows nothing but what the local clock shows.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Weekday};
use chrono_tz::Tz;
use phasegate_engine::{
    time::{Span, Timestamp},
    window::{Blackout, HORIZON_DAYS, ReleaseWindows, TimeOfDay, Weekly},
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::sync::Arc;

const MINUTE: i64 = 60_000;

/// `2026-03-29T01:00Z`.
fn at(text: &str) -> Timestamp {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ");
    Timestamp::from_millis(
        time.unwrap_or_else(|e| panic!("{text}: {e}")).and_utc().timestamp_millis(),
    )
}

fn said(at: Timestamp) -> String {
    at.to_utc().format("%Y-%m-%dT%H:%MZ").to_string()
}

fn blackout(start: Timestamp, end: Timestamp) -> Blackout {
    Blackout { start, end, note: Arc::from("") }
}

/// `Europe/Rome; SUN 02:30-04:00, MON 09:00-17:00; not 2026-03-29T01:00Z..2026-03-29T02:00Z`.
fn windows(text: &str) -> ReleaseWindows {
    let mut parts = text.split("; ");
    let zone = parts.next().unwrap().parse().unwrap();
    let mut windows = ReleaseWindows { zone, weekly: Vec::new(), blackouts: Vec::new() };
    for one in parts.flat_map(|part| part.split(", ")) {
        if let Some((start, end)) = one.strip_prefix("not ").and_then(|span| span.split_once(".."))
        {
            windows.blackouts.push(blackout(at(start), at(end)));
        } else {
            let (day, times) = one.split_once(' ').unwrap();
            let (start, end) = times.split_once('-').unwrap();
            let time = |text| TimeOfDay::parse(text).unwrap();
            let days = vec![day.parse::<Weekday>().unwrap()];
            windows.weekly.push(Weekly { days, start: time(start), end: time(end) });
        }
    }
    windows
}

/// The spans in which the window is open, between two instants. The openings are also what
/// `next_open` finds from anywhere before them.
fn check(text: &str, between: [&str; 2], expected: &[&str]) {
    let windows = windows(text);
    let [from, to] = between.map(at);
    let minutes = (from.as_millis()..=to.as_millis()).step_by(usize::try_from(MINUTE).unwrap());
    let mut open_since: Option<Timestamp> = None;
    let mut actual = Vec::new();
    for minute in minutes.map(Timestamp::from_millis) {
        let is_open = windows.is_open(minute);
        match open_since {
            None if is_open => open_since = Some(minute),
            Some(since) if !is_open || minute == to => {
                actual.push(format!("{}..{}", said(since), said(minute)));
                open_since = None;
            }
            None | Some(_) => {}
        }
    }
    assert_eq!(actual, expected, "{text}");
    let mut from = from;
    for span in expected {
        let (opens, closes) = span.split_once("..").unwrap();
        assert_eq!(windows.next_open(from), Some(at(opens)), "{text} from {}", said(from));
        from = at(closes);
    }
}

#[test]
fn a_window_is_open_from_its_start_until_its_end() {
    check(
        "UTC; MON 09:00-17:00, TUE 10:00-11:30",
        ["2026-03-02T00:00Z", "2026-03-09T12:00Z"],
        &[
            "2026-03-02T09:00Z..2026-03-02T17:00Z",
            "2026-03-03T10:00Z..2026-03-03T11:30Z",
            "2026-03-09T09:00Z..2026-03-09T12:00Z",
        ],
    );
}

#[test]
fn a_span_whose_end_is_not_after_its_start_ends_on_the_next_day() {
    let week = ["2026-03-01T00:00Z", "2026-03-08T00:00Z"];
    check("UTC; MON 22:00-06:00", week, &["2026-03-02T22:00Z..2026-03-03T06:00Z"]);
    check("UTC; MON 22:00-00:00", week, &["2026-03-02T22:00Z..2026-03-03T00:00Z"]);
    check("UTC; MON 22:00-24:00", week, &["2026-03-02T22:00Z..2026-03-03T00:00Z"]);
    check("UTC; MON 09:00-09:00", week, &["2026-03-02T09:00Z..2026-03-03T09:00Z"]);
    check("UTC; MON 00:00-24:00", week, &["2026-03-02T00:00Z..2026-03-03T00:00Z"]);
    check("UTC; MON 00:00-00:00", week, &["2026-03-02T00:00Z..2026-03-03T00:00Z"]);
}

#[test]
fn spans_that_touch_or_overlap_are_one() {
    check(
        "UTC; MON 09:00-12:00, MON 12:00-14:00, MON 13:00-15:00",
        ["2026-03-01T00:00Z", "2026-03-08T00:00Z"],
        &["2026-03-02T09:00Z..2026-03-02T15:00Z"],
    );
}

#[test]
fn without_spans_a_window_is_open_but_for_its_blackouts() {
    check(
        "UTC; not 2026-03-02T10:00Z..2026-03-02T12:00Z",
        ["2026-03-02T00:00Z", "2026-03-03T00:00Z"],
        &["2026-03-02T00:00Z..2026-03-02T10:00Z", "2026-03-02T12:00Z..2026-03-03T00:00Z"],
    );
}

#[test]
fn a_blackout_is_stronger_than_a_span() {
    let day = ["2026-03-02T00:00Z", "2026-03-03T00:00Z"];
    check(
        "UTC; MON 09:00-17:00; not 2026-03-02T10:00Z..2026-03-02T12:00Z",
        day,
        &["2026-03-02T09:00Z..2026-03-02T10:00Z", "2026-03-02T12:00Z..2026-03-02T17:00Z"],
    );
    check("UTC; MON 09:00-17:00; not 2026-03-02T09:00Z..2026-03-02T17:00Z", day, &[]);
}

#[test]
fn blackouts_that_touch_or_overlap_are_one() {
    check(
        "UTC; MON 09:00-17:00; not 2026-03-02T08:00Z..2026-03-02T10:00Z, \
         not 2026-03-02T10:00Z..2026-03-02T11:00Z, not 2026-03-02T10:30Z..2026-03-02T12:00Z",
        ["2026-03-02T00:00Z", "2026-03-03T00:00Z"],
        &["2026-03-02T12:00Z..2026-03-02T17:00Z"],
    );
}

#[test]
fn a_time_that_spring_leaves_out_means_the_first_instant_after_the_gap() {
    // 02:00 becomes 03:00 at 01:00Z.
    let night = ["2026-03-28T12:00Z", "2026-03-29T12:00Z"];
    check("Europe/Rome; SUN 02:30-04:00", night, &["2026-03-29T01:00Z..2026-03-29T02:00Z"]);
    check("Europe/Rome; SUN 01:00-02:30", night, &["2026-03-29T00:00Z..2026-03-29T01:00Z"]);
    check("Europe/Rome; SUN 02:10-02:50", night, &[]);
    check("Europe/Rome; SUN 01:00-04:00", night, &["2026-03-29T00:00Z..2026-03-29T02:00Z"]);
}

#[test]
fn a_time_that_comes_twice_in_autumn_means_the_first() {
    // 03:00 becomes 02:00 at 01:00Z.
    let night = ["2026-10-24T12:00Z", "2026-10-25T12:00Z"];
    check("Europe/Rome; SUN 02:30-03:30", night, &["2026-10-25T00:30Z..2026-10-25T02:30Z"]);
    check("Europe/Rome; SUN 01:00-02:30", night, &["2026-10-24T23:00Z..2026-10-25T00:30Z"]);
    check("Europe/Rome; SUN 02:15-02:45", night, &["2026-10-25T00:15Z..2026-10-25T00:45Z"]);
}

#[test]
fn lord_howe_island_moves_its_clocks_by_half_an_hour() {
    check(
        "Australia/Lord_Howe; SUN 01:45-03:00",
        ["2026-04-04T00:00Z", "2026-04-05T00:00Z"],
        &["2026-04-04T14:45Z..2026-04-04T16:30Z"],
    );
    check(
        "Australia/Lord_Howe; SUN 02:10-02:40",
        ["2026-10-03T00:00Z", "2026-10-04T00:00Z"],
        &["2026-10-03T15:30Z..2026-10-03T15:40Z"],
    );
}

#[test]
fn samoa_left_out_a_friday() {
    // After Thursday, 29 December 2011 came Saturday, 31, at 10:00Z.
    let days = ["2011-12-29T12:00Z", "2011-12-31T12:00Z"];
    check("Pacific/Apia; FRI 09:00-17:00", days, &[]);
    check("Pacific/Apia; FRI 22:00-06:00", days, &["2011-12-30T10:00Z..2011-12-30T16:00Z"]);
    check("Pacific/Apia; THU 22:00-06:00", days, &["2011-12-30T08:00Z..2011-12-30T10:00Z"]);
    check(
        "Pacific/Apia; FRI 09:00-17:00",
        ["2011-12-29T12:00Z", "2012-01-06T12:00Z"],
        &["2012-01-05T19:00Z..2012-01-06T03:00Z"],
    );
}

#[test]
fn clocks_may_change_at_midnight() {
    // 00:00 became 01:00 at 03:00Z.
    let spring = ["2018-11-03T12:00Z", "2018-11-04T12:00Z"];
    check("America/Sao_Paulo; SUN 00:00-02:00", spring, &["2018-11-04T03:00Z..2018-11-04T04:00Z"]);
    check("America/Sao_Paulo; SAT 22:00-24:00", spring, &["2018-11-04T01:00Z..2018-11-04T03:00Z"]);
    // 00:00 became 23:00 of the day before at 02:00Z.
    let autumn = ["2019-02-16T12:00Z", "2019-02-17T12:00Z"];
    check("America/Sao_Paulo; SAT 23:30-24:00", autumn, &["2019-02-17T01:30Z..2019-02-17T03:00Z"]);
    check("America/Sao_Paulo; SUN 00:00-01:00", autumn, &["2019-02-17T03:00Z..2019-02-17T04:00Z"]);
}

#[test]
fn clocks_may_go_back_to_the_day_before() {
    // 00:01 on Sunday became 23:01 on Saturday at 02:31Z, when the span was open for a minute.
    check(
        "America/St_Johns; SUN 00:00-01:00",
        ["2010-11-06T12:00Z", "2010-11-07T12:00Z"],
        &["2010-11-07T02:30Z..2010-11-07T04:30Z"],
    );
}

#[test]
fn an_opening_is_looked_for_in_the_next_366_days() {
    let from = at("2026-03-02T00:00Z");
    let horizon = from + Span::from_millis(i64::from(HORIZON_DAYS) * Span::DAY.as_millis());
    let next = |end| {
        let blackouts = vec![blackout(from, end)];
        let windows = ReleaseWindows { zone: Tz::UTC, weekly: Vec::new(), blackouts };
        windows.next_open(from)
    };
    assert_eq!(next(horizon), Some(horizon));
    assert_eq!(next(horizon + Span::from_millis(1)), None);
}

#[test]
fn a_window_opens_in_the_middle_of_a_minute_if_a_blackout_ends_there() {
    let from = at("2026-03-02T00:00Z");
    let end = from + Span::from_millis(12_345);
    let windows =
        ReleaseWindows { zone: Tz::UTC, weekly: Vec::new(), blackouts: vec![blackout(from, end)] };
    assert_eq!(windows.next_open(from), Some(end));
    assert!(!windows.is_open(Timestamp::from_millis(end.as_millis() - 1)) && windows.is_open(end));
}

/// Nights in which something happens to a clock, and one in which nothing does.
const NIGHTS: [(Tz, &str); 14] = [
    (Tz::UTC, "2026-03-29T00:00Z"),
    (Tz::Europe__Rome, "2026-03-29T01:00Z"),
    (Tz::Europe__Rome, "2026-10-25T01:00Z"),
    (Tz::America__New_York, "2026-03-08T07:00Z"),
    (Tz::America__New_York, "2026-11-01T06:00Z"),
    (Tz::Australia__Lord_Howe, "2026-04-04T15:00Z"),
    (Tz::Australia__Lord_Howe, "2026-10-03T15:30Z"),
    (Tz::Pacific__Apia, "2011-12-30T10:00Z"),
    (Tz::America__Sao_Paulo, "2018-11-04T03:00Z"),
    (Tz::America__Sao_Paulo, "2019-02-17T02:00Z"),
    (Tz::America__St_Johns, "2010-11-07T02:31Z"),
    (Tz::America__St_Johns, "2011-03-13T03:31Z"),
    (Tz::Asia__Kathmandu, "2026-01-01T00:00Z"),
    (Tz::Africa__Casablanca, "2026-03-22T02:00Z"),
];
/// Minutes before and after such a night that are scanned.
const REACH: i64 = 5 * 1440;

/// What the local clock shows at every minute around a night.
struct Scan {
    first: i64,
    shows: Vec<NaiveDateTime>,
}

impl Scan {
    fn new(zone: Tz, night: Timestamp) -> Self {
        let first = night.as_millis() / MINUTE - REACH;
        let show = |minute: i64| {
            let utc = DateTime::from_timestamp_millis(minute * MINUTE).unwrap();
            zone.from_utc_datetime(&utc.naive_utc()).naive_local()
        };
        Self { first, shows: (first..first + 2 * REACH).map(show).collect() }
    }

    /// The first minute at which the clock shows this time or has jumped over it.
    fn minute_of(&self, local: NaiveDateTime) -> usize {
        self.shows.iter().position(|shown| *shown >= local).unwrap_or(self.shows.len())
    }

    /// For every minute whether a window is open. Days at the rim are not complete.
    fn open(&self, windows: &ReleaseWindows) -> Vec<bool> {
        let mut open = vec![windows.weekly.is_empty(); self.shows.len()];
        let (first, last) = (self.shows[0].date(), self.shows[self.shows.len() - 1].date());
        let days = first.iter_days().take_while(|day| *day <= last);
        for day in days.skip(1) {
            for weekly in windows.weekly.iter().filter(|w| w.days.contains(&day.weekday())) {
                let ends_on = if weekly.end <= weekly.start { next(day) } else { day };
                let start = self.minute_of(local(day, weekly.start));
                let end = self.minute_of(local(ends_on, weekly.end));
                open.iter_mut().take(end).skip(start).for_each(|minute| *minute = true);
            }
        }
        for (index, minute) in open.iter_mut().enumerate() {
            let at = self.at(index);
            *minute &= !windows.blackouts.iter().any(|b| b.start <= at && at < b.end);
        }
        open
    }

    fn at(&self, index: usize) -> Timestamp {
        Timestamp::from_millis((self.first + i64::try_from(index).unwrap()) * MINUTE)
    }
}

fn next(day: NaiveDate) -> NaiveDate {
    day.checked_add_days(Days::new(1)).unwrap()
}

fn local(day: NaiveDate, time: TimeOfDay) -> NaiveDateTime {
    day.and_hms_opt(0, 0, 0).unwrap() + TimeDelta::minutes(i64::from(time.minutes()))
}

fn any_weekly() -> impl Strategy<Value = Weekly> {
    let days = [
        Weekday::Mon,
        Weekday::Tue,
        Weekday::Wed,
        Weekday::Thu,
        Weekday::Fri,
        Weekday::Sat,
        Weekday::Sun,
    ];
    let days = vec(select(days.to_vec()), 1..4);
    // The small hours are where clocks change.
    let minute = || prop_oneof![2 => 0..200_u16, 1 => 1380..1440_u16, 2 => 0..1440_u16];
    let end = prop_oneof![6 => minute().boxed(), 1 => Just(1440_u16).boxed()];
    let time = |m: u16| TimeOfDay::parse(&format!("{:02}:{:02}", m / 60, m % 60)).unwrap();
    (days, minute(), end).prop_map(move |(days, start, end)| Weekly {
        days,
        start: time(start),
        end: time(end),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_is_open_when_the_clock_on_the_wall_says_so(
        (zone, night) in select(NIGHTS.to_vec()),
        weekly in vec(any_weekly(), 0..4),
        blackouts in vec((-3000..3000_i64, 1..2000_i64), 0..4),
        froms in vec((-4000..2000_i64, 0..MINUTE), 20),
    ) {
        let night = at(night);
        let after = |minutes: i64| Timestamp::from_millis(night.as_millis() + minutes * MINUTE);
        let blackouts: Vec<Blackout> = blackouts
            .into_iter()
            .map(|(start, length)| blackout(after(start), after(start + length)))
            .collect();
        let windows = ReleaseWindows { zone, weekly, blackouts };
        let scan = Scan::new(zone, night);
        let open = scan.open(&windows);
        for (minutes, millis) in froms {
            let from = after(minutes) + Span::from_millis(millis);
            let index = usize::try_from(from.as_millis() / MINUTE - scan.first).unwrap();
            prop_assert_eq!(windows.is_open(from), open[index], "at {}", from);
            // Days at the rim of the scan are not complete.
            let known = &open[..open.len() - 3 * 1440];
            let opens = (index..known.len()).find(|minute| known[*minute]);
            let found = windows.next_open(from);
            match opens {
                Some(minute) if minute == index => prop_assert_eq!(found, Some(from)),
                Some(minute) => prop_assert_eq!(found, Some(scan.at(minute)), "from {}", from),
                None => {
                    let rim = scan.at(known.len());
                    prop_assert!(found.is_none_or(|at| at >= rim), "from {}: {:?}", from, found);
                }
            }
            if let Some(found) = found {
                prop_assert!(windows.is_open(found) && found >= from);
            }
        }
    }
}
