//! What is measured meanwhile, and how it is told.

use super::checks::{Answer, Event};
use crate::load::histogram;
use hdrhistogram::Histogram;
use phasegate_server::clock::{Clock as _, SystemClock};
use std::{fmt::Write as _, fs, path::Path, time::Duration};

/// After a start, overdue timers are paced, and clients come back.
const SETTLES: i64 = 1500;

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    SystemClock.now().as_millis()
}

/// Spans in which the server was going away, away, or just back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outages(Vec<(i64, i64)>);

impl Outages {
    pub(crate) fn begin(&mut self) {
        self.0.push((now(), i64::MAX));
    }

    pub(crate) fn end(&mut self) {
        if let Some((_, end)) = self.0.last_mut() {
            *end = now() + SETTLES;
        }
    }

    pub(crate) fn has(&self, time: i64) -> bool {
        self.0.iter().rev().any(|(begin, end)| (*begin..*end).contains(&time))
    }
}

/// Figures of a span of time: a minute, if the soak is long.
#[derive(Clone, Debug)]
pub(crate) struct Minute {
    pub(crate) accepted: u64,
    refused: u64,
    /// Acts that were asked for more than once, because the server was away.
    repeated: u64,
    reads: u64,
    /// Of acts that were asked for once, from when they were due.
    pub(crate) latencies: Histogram<u64>,
    read_latencies: Histogram<u64>,
    /// How long acts took that met a restart.
    over_restarts: Histogram<u64>,
    /// How late timers fired while the server was there, and at its next start.
    late: Histogram<u64>,
    late_after_outages: Histogram<u64>,
    pub(crate) events: u64,
    pub(crate) outages: Outages,
}

impl Default for Minute {
    fn default() -> Self {
        Self {
            accepted: 0,
            refused: 0,
            repeated: 0,
            reads: 0,
            latencies: histogram(),
            read_latencies: histogram(),
            over_restarts: histogram(),
            late: histogram(),
            late_after_outages: histogram(),
            events: 0,
            outages: Outages::default(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

impl Minute {
    pub(crate) fn acted(&mut self, answer: Answer, attempts: u32, time: Duration) {
        match answer {
            Answer::Accepted(_) => self.accepted += 1,
            Answer::Refused => self.refused += 1,
        }
        if attempts > 1 {
            self.repeated += 1;
            self.over_restarts.saturating_record(micros(time));
        } else {
            self.latencies.saturating_record(micros(time));
        }
    }

    pub(crate) fn was_read(&mut self, attempts: u32, time: Duration) {
        self.reads += 1;
        if attempts == 1 {
            self.read_latencies.saturating_record(micros(time));
        }
    }

    /// Events of one commit about one release.
    pub(crate) fn happened(&mut self, events: &[Event]) {
        self.events += events.len() as u64;
        let timer = events.iter().find_map(|event| Some((event.time, event.scheduled_for?)));
        let Some((time, scheduled)) = timer else { return };
        let late = Duration::from_millis(u64::try_from(time - scheduled).unwrap_or_default());
        match self.outages.has(scheduled) {
            true => self.late_after_outages.saturating_record(micros(late)),
            false => self.late.saturating_record(micros(late)),
        }
    }

    /// What was counted since the last time; what the server does is known on.
    pub(crate) fn take(&mut self) -> Self {
        let next = Self { outages: self.outages.clone(), ..Self::default() };
        std::mem::replace(self, next)
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.reads += other.reads;
        self.events += other.events;
        for (all, one) in [
            (&mut self.latencies, &other.latencies),
            (&mut self.read_latencies, &other.read_latencies),
            (&mut self.over_restarts, &other.over_restarts),
            (&mut self.late, &other.late),
            (&mut self.late_after_outages, &other.late_after_outages),
        ] {
            all.add(one).expect("all have the same bounds");
        }
    }
}

fn ms(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    histogram.value_at_percentile(percentile) as f64 / 1e3
}

/// A process, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    /// Resident memory, in KiB.
    pub(crate) resident: u64,
    pub(crate) threads: u64,
    pub(crate) files: usize,
}

impl Process {
    /// None if it is gone.
    pub(crate) fn look(id: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
        Some(Self { resident: field("VmRSS:")?, threads: field("Threads:")?, files })
    }
}

/// Bytes of the files in a directory.
pub(crate) fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Files of the database come and go.
        Err(_) => 0,
    });
    sizes.sum()
}

/// Resident memory at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Minutes since the soak began.
    pub(crate) at: f64,
    pub(crate) kib: f64,
    /// Which start of the server, from 0.
    pub(crate) start: usize,
}

/// The slope of a line of least squares through all samples, in KiB a minute.
pub(crate) fn slope(samples: &[Sample]) -> Option<f64> {
    let (xy, xx) = sums(samples)?;
    (xx > 0.0).then(|| xy / xx)
}

/// The same with one slope and a level for each start, because a new process begins anew: what grows
/// while one process runs.
pub(crate) fn slope_within_starts(samples: &[Sample]) -> Option<f64> {
    let starts = samples.chunk_by(|a, b| a.start == b.start).filter_map(sums);
    let (xy, xx) = starts.fold((0.0, 0.0), |(xy, xx), one| (xy + one.0, xx + one.1));
    (xx > 0.0).then(|| xy / xx)
}

/// Of processes of the same age, in which nothing has come together yet but what is kept: the slope of their
/// line, in KiB a minute, and by how much one of them is off it at most, in KiB. None of fewer than three.
fn of_young_ones(samples: &[Sample]) -> Option<(f64, f64)> {
    let young = samples.chunk_by(|a, b| a.start == b.start).filter_map(|one| one.first().copied());
    let young: Vec<Sample> = young.collect();
    let slope = slope(&young).filter(|_| young.len() > 2)?;
    let count = young.len() as f64;
    let level = young.iter().map(|sample| sample.kib - slope * sample.at).sum::<f64>() / count;
    let off = young.iter().map(|sample| (sample.kib - level - slope * sample.at).abs());
    Some((slope, off.fold(0.0, f64::max)))
}

fn sums(samples: &[Sample]) -> Option<(f64, f64)> {
    if samples.is_empty() {
        return None;
    }
    let count = samples.len() as f64;
    let x = samples.iter().map(|sample| sample.at).sum::<f64>() / count;
    let y = samples.iter().map(|sample| sample.kib).sum::<f64>() / count;
    let xy = samples.iter().map(|sample| (sample.at - x) * (sample.kib - y)).sum();
    let xx = samples.iter().map(|sample| (sample.at - x).powi(2)).sum();
    Some((xy, xx))
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Minutes since the soak began, at its end.
    pub(crate) at: f64,
    pub(crate) seconds: f64,
    pub(crate) minute: Minute,
    pub(crate) process: Process,
    /// Of the data directory.
    pub(crate) bytes: u64,
    pub(crate) releases: u32,
    pub(crate) starts: usize,
}

pub(crate) const HEADING: &str = "\
| minute | starts | actions/s | p50 ms | p99 ms | timers late, p99 ms | RSS MiB | files | threads | data MiB | triggers |
|---|---|---|---|---|---|---|---|---|---|---|
";

impl Row {
    pub(crate) fn line(&self) -> String {
        let Self { at, seconds, minute, process, bytes, releases, starts } = self;
        format!(
            "| {at:.1} | {starts} | {:.0} | {:.2} | {:.1} | {:.0} | {:.1} | {} | {} | {:.1} | {releases} |",
            (minute.accepted + minute.refused) as f64 / seconds,
            ms(&minute.latencies, 50.0),
            ms(&minute.latencies, 99.0),
            ms(&minute.late, 99.0),
            process.resident as f64 / 1024.0,
            process.files,
            process.threads,
            *bytes as f64 / f64::from(1 << 20),
        )
    }
}

/// About ten of the rows.
pub(crate) fn table(rows: &[Row]) -> String {
    let each = rows.len().div_ceil(10).max(1);
    let mut table = HEADING.to_owned();
    for row in rows.iter().skip(each - 1).step_by(each) {
        let _ = writeln!(table, "{}", row.line());
    }
    table
}

/// What the rows and the samples come to.
pub(crate) fn summary(rows: &[Row], samples: &[Sample]) -> String {
    let mut text = String::new();
    let third = rows.len() / 3;
    if third > 0 {
        let of = |rows: &[Row]| {
            let mut all = Minute::default();
            rows.iter().for_each(|row| all.add(&row.minute));
            let kib = rows.iter().map(|row| row.process.resident).sum::<u64>() / rows.len() as u64;
            (ms(&all.latencies, 50.0), ms(&all.latencies, 99.0), kib as f64 / 1024.0)
        };
        let (first, last) = (of(&rows[..third]), of(&rows[rows.len() - third..]));
        let _ = writeln!(
            text,
            "first third, last third: p50 {:.2}, {:.2} ms; p99 {:.1}, {:.1} ms; RSS {:.1}, {:.1} MiB",
            first.0, last.0, first.1, last.1, first.2, last.2
        );
    }
    let mut all = Minute::default();
    rows.iter().for_each(|row| all.add(&row.minute));
    let Minute { accepted, refused, repeated, reads, late, late_after_outages, .. } = &all;
    let _ = writeln!(
        text,
        "{} actions, {accepted} accepted, {refused} refused by the state, {repeated} repeated over restarts \
         (the longest took {:.1} s); {reads} reads, p50 {:.2} ms, p99 {:.1} ms",
        accepted + refused,
        all.over_restarts.max() as f64 / 1e6,
        ms(&all.read_latencies, 50.0),
        ms(&all.read_latencies, 99.0),
    );
    let _ = writeln!(
        text,
        "{} timers fired while the server was there, late by p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms; \
         {} fell into restarts, late by at most {:.1} s",
        late.len(),
        ms(late, 50.0),
        ms(late, 99.0),
        late.max() as f64 / 1e3,
        late_after_outages.len(),
        late_after_outages.max() as f64 / 1e6,
    );
    let told =
        |slope: Option<f64>| slope.map_or_else(|| "not told".to_owned(), |it| format!("{it:.0}"));
    let _ = writeln!(
        text,
        "RSS after warm-up, least squares: {} KiB/min over all, {} KiB/min within the life of a process",
        told(slope(samples)),
        told(slope_within_starts(samples)),
    );
    if let Some((slope, off)) = of_young_ones(samples) {
        let _ = writeln!(
            text,
            "RSS of each process when it had just warmed up: {slope:.0} KiB/min, off that line by at most {off:.0} KiB",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, kib: f64, start: usize) -> Sample {
        Sample { at, kib, start }
    }

    #[test]
    fn a_line_through_points_has_their_slope() {
        let line: Vec<Sample> =
            (0..10).map(|n| sample(n.into(), 7.0 + 3.0 * f64::from(n), 0)).collect();
        assert!((slope(&line).unwrap() - 3.0).abs() < 1e-9);
        let bent = [sample(0.0, 0.0, 0), sample(1.0, 0.0, 0), sample(2.0, 6.0, 0)];
        assert!((slope(&bent).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&line[..1]), None);
    }

    #[test]
    fn growth_within_the_life_of_a_process_is_told_from_a_restart() {
        // Grows by 5 in each life and falls back to where it was.
        let lives = [(0.0, 100.0, 0), (1.0, 105.0, 0), (2.0, 100.0, 1), (3.0, 105.0, 1)];
        let lives = lives.map(|(at, kib, start)| sample(at, kib, start));
        assert!((slope_within_starts(&lives).unwrap() - 5.0).abs() < 1e-9);
        assert!(slope(&lives).unwrap() < 2.0);
    }

    #[test]
    fn young_processes_are_compared_with_each_other() {
        // Each begins 10 above the one before, two minutes later, and grows by 100 in its life.
        let life = |start: usize, off: f64| {
            let (at, kib) = (2.0 * start as f64, 10.0 * start as f64 + off);
            [sample(at, kib, start), sample(at + 1.0, kib + 100.0, start)]
        };
        let lives = [life(0, 0.0), life(1, 0.0), life(2, 0.0), life(3, 0.0)].concat();
        let (slope, off) = of_young_ones(&lives).unwrap();
        assert!((slope - 5.0).abs() < 1e-9 && off < 1e-9, "{slope} {off}");
        let lives = [life(0, 0.0), life(1, 6.0), life(2, 0.0)].concat();
        let (slope, off) = of_young_ones(&lives).unwrap();
        assert!((slope - 5.0).abs() < 1e-9 && (off - 4.0).abs() < 1e-9, "{slope} {off}");
        assert_eq!(of_young_ones(&lives[..4]), None, "two are always on a line");
    }

    #[test]
    fn a_time_in_an_outage_is_told_from_one_beside_it() {
        let outages = Outages(vec![(100, 200), (300, i64::MAX)]);
        assert_eq!(
            [99, 100, 199, 200, 299, 300].map(|time| outages.has(time)),
            [false, true, true, false, false, true]
        );
    }
}
