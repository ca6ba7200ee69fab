//! The targets, what was measured, and how both are written down.
//!
//! A figure is taken once in each round, beside its reference. What is shown is the median of the rounds
//! and, behind it, the lowest and the highest.

use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Shown, and held to nothing.
    None,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Under which figures are kept.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// What the figure is divided by; empty if it stands by itself.
    pub(crate) reference: &'static str,
    pub(crate) bound: Bound,
    pub(crate) unit: &'static str,
}

const fn row(
    id: &'static str,
    what: &'static str,
    reference: &'static str,
    bound: Bound,
    unit: &'static str,
) -> Target {
    Target { id, what, reference, bound, unit }
}

use Bound::{AtLeast, AtMost};

/// All rows, in order.
pub(crate) const TARGETS: &[Target] = &[
    // With a journal of its own it would be 0.75.
    row(
        "actions/64/no-disk",
        "durable actions/s, 64 in flight",
        "the same server in memory",
        AtLeast(0.55),
        "/s",
    ),
    row(
        "actions/256/no-disk",
        "durable actions/s, 256 in flight",
        "the same server in memory",
        AtLeast(0.55),
        "/s",
    ),
    row("actions/64/etcd", "durable actions/s, 64 in flight", "etcd put", AtLeast(1.4), "/s"),
    row("actions/256/etcd", "durable actions/s, 256 in flight", "etcd put", AtLeast(1.1), "/s"),
    row("actions/64/cpu", "server CPU an action, 64 in flight", "etcd put", AtMost(0.65), "us"),
    row("actions/256/cpu", "server CPU an action, 256 in flight", "etcd put", AtMost(0.65), "us"),
    row(
        "actions/1/echo",
        "p50 of an action, 1 in flight",
        "echo p50 + 2 fdatasync",
        AtMost(1.0),
        "ms",
    ),
    row("actions/1/etcd", "p50 of an action, 1 in flight", "etcd put p50", AtMost(1.0), "ms"),
    row(
        "actions/open/p99",
        "p99 of actions at 1,000/s, open loop",
        "etcd put at the same rate",
        AtMost(1.0),
        "ms",
    ),
    row(
        "committer/64",
        "commits/s of the writer without gRPC, batches of 64",
        "bare sled + fdatasync, as many pairs and bytes",
        AtLeast(0.8),
        "/s",
    ),
    row("reads/64/echo", "reads/s, 64 in flight", "bare echo", AtLeast(0.9), "/s"),
    row("reads/256/echo", "reads/s, 256 in flight", "bare echo", AtLeast(0.9), "/s"),
    row("reads/64/cpu", "server CPU a read, 64 in flight", "bare echo", AtMost(1.15), "us"),
    row("reads/1/echo", "p50 of a read, 1 in flight", "bare echo", AtMost(1.15), "ms"),
    row("reads/64/etcd", "reads/s, 64 in flight", "etcd linearizable get", AtLeast(3.0), "/s"),
    row(
        "watch/1000/bare",
        "deliveries/s, 1k streams of WatchRelease",
        "bare publisher to streams",
        AtLeast(0.8),
        "/s",
    ),
    row(
        "watch/1000/rate",
        "deliveries/s, 1k streams of WatchRelease",
        "",
        AtLeast(300_000.0),
        "/s",
    ),
    row(
        "watch/1000/cpu",
        "server CPU a delivery, 1k streams of WatchRelease",
        "bare publisher to streams",
        AtMost(1.28),
        "us",
    ),
    row(
        "watch/100/bare",
        "deliveries/s, 100 streams of WatchRelease",
        "bare publisher to streams",
        Bound::None,
        "/s",
    ),
    row(
        "watch/100/rate",
        "deliveries/s, 100 streams of WatchRelease",
        "",
        AtLeast(110_000.0),
        "/s",
    ),
    row(
        "watch/1000/etcd",
        "deliveries/s, 1k streams of WatchRelease",
        "etcd, own streams",
        AtLeast(2.0),
        "/s",
    ),
    row(
        "watch/1000/batched",
        "deliveries/s, 1k streams of WatchReleases",
        "etcd, 1k watches on 8 streams",
        AtLeast(0.9),
        "/s",
    ),
    row(
        "watch/paced/1000/p50",
        "one event to 1k streams, p50",
        "bare publisher to streams",
        AtMost(1.15),
        "ms",
    ),
    row(
        "watch/paced/1000/p99",
        "one event to 1k streams, p99",
        "etcd, own streams",
        AtMost(1.0),
        "ms",
    ),
    row(
        "watch/paced/10000/p99",
        "one event to 10k streams, p99",
        "bare publisher to streams",
        AtMost(1.3),
        "ms",
    ),
    row(
        "watch/others",
        "actions/s beside 10k watches of another release",
        "without them",
        AtLeast(0.9),
        "/s",
    ),
    row(
        "memory/watch",
        "resident memory of an idle watch, 10k of them",
        "bare stream",
        AtMost(1.13),
        "KiB",
    ),
    row(
        "memory/watch/etcd",
        "resident memory of an idle watch, 1k of them",
        "etcd, own streams",
        AtMost(0.2),
        "KiB",
    ),
    row("memory/watches", "growth of resident memory by 10k idle watches", "", AtMost(85.0), "MB"),
    row(
        "start/clean",
        "start with 1M releases, after a stop",
        "opening it, and reading what a start needs as bytes",
        Bound::None,
        "s",
    ),
    row("start/clean/seconds", "start with 1M releases, after a stop", "", AtMost(6.0), "s"),
    row(
        "start/killed/seconds",
        "start with 1M releases, after SIGKILL under load",
        "",
        AtMost(6.0),
        "s",
    ),
    row(
        "timers/idle/p99",
        "lateness of timers as a watcher sees it, p99, idle",
        "",
        AtMost(5.0),
        "ms",
    ),
    row("timers/idle/max", "the same, the latest of 500", "", AtMost(25.0), "ms"),
    row("timers/busy/p99", "the same, p99, beside 64 actions in flight", "", AtMost(100.0), "ms"),
    row(
        "storm/rate",
        "timers/s, 100k due at once",
        "bare sled + fdatasync, batches of 1024, 500 B",
        AtLeast(0.6),
        "/s",
    ),
    row(
        "storm/seconds",
        "100k timers due at once: until the last is through",
        "",
        AtMost(2.5),
        "s",
    ),
    row("storm/reads/p99", "p99 of reads in the storm", "before it", AtMost(2.0), "ms"),
    row(
        "storm/reads/busy",
        "the same",
        "before it, beside two threads that only run",
        Bound::None,
        "ms",
    ),
    row(
        "storm/reads/callers",
        "the same, if callers do not wait for processors",
        "before it",
        Bound::None,
        "ms",
    ),
    row(
        "storm/reads/callers-and-answers",
        "the same, if the server's workers do not either",
        "before it",
        Bound::None,
        "ms",
    ),
    row("memory/release", "resident memory of a release, 1M of them", "", AtMost(1200.0), "B"),
    row("disk/release", "disk of a release, 1M of them", "", Bound::None, "B"),
    row(
        "memory/stuck",
        "growth by 10k watches that never read, 200 events",
        "",
        AtMost(200.0),
        "MB",
    ),
];

/// A figure and what it is divided by, of one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) ours: f64,
    /// One, if there is no reference.
    pub(crate) reference: f64,
}

impl Sample {
    fn ratio(self) -> f64 {
        self.ours / self.reference
    }
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results(BTreeMap<String, Vec<Sample>>);

impl Results {
    /// Takes a figure of a round in.
    pub(crate) fn add(&mut self, id: &str, ours: f64, reference: f64) {
        println!("  {id}: {} against {}: {:.2}", short(ours), short(reference), ours / reference);
        self.0.entry(id.to_owned()).or_default().push(Sample { ours, reference });
    }

    /// Takes a figure in that stands by itself.
    pub(crate) fn alone(&mut self, id: &str, ours: f64) {
        println!("  {id}: {}", short(ours));
        self.0.entry(id.to_owned()).or_default().push(Sample { ours, reference: 1.0 });
    }

    /// What an earlier run has left, if it has.
    pub(crate) fn load(path: &Path) -> Self {
        let Ok(text) = fs::read_to_string(path) else { return Self::default() };
        let Ok(Value::Object(rows)) = serde_json::from_str(&text) else { return Self::default() };
        let sample = |pair: &Value| {
            Some(Sample { ours: pair.get(0)?.as_f64()?, reference: pair.get(1)?.as_f64()? })
        };
        let samples =
            |pairs: &Value| pairs.as_array()?.iter().map(sample).collect::<Option<Vec<_>>>();
        let row = |(id, pairs): (String, Value)| Some((id, samples(&pairs)?));
        Self(rows.into_iter().filter_map(row).collect())
    }

    /// Leaves them for later runs: rows that were measured now stand for those of before.
    pub(crate) fn save(&self, path: &Path) {
        let mut all = Self::load(path);
        all.0.extend(self.0.clone());
        let pairs = |samples: &Vec<Sample>| -> Vec<Value> {
            samples.iter().map(|sample| json!([sample.ours, sample.reference])).collect()
        };
        let rows: serde_json::Map<_, _> =
            all.0.iter().map(|(id, samples)| (id.clone(), pairs(samples).into())).collect();
        let text = serde_json::to_string_pretty(&rows).expect("numbers become JSON");
        fs::write(path, text + "\n").expect("the directory of the results can be written");
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| what | reference | target | measured | ours | reference's | |\n|---|---|---|---|---|---|---|\n",
        );
        for target in TARGETS {
            let Some(samples) = self.0.get(target.id).filter(|samples| !samples.is_empty()) else {
                continue;
            };
            let ratios = Spread::of(samples.iter().map(|sample| sample.ratio()));
            let ours = Spread::of(samples.iter().map(|sample| sample.ours));
            let theirs = Spread::of(samples.iter().map(|sample| sample.reference));
            let (bound, met) = match target.bound {
                AtLeast(bound) => (format!(">= {bound}"), ratios.median >= bound),
                AtMost(bound) => (format!("<= {bound}"), ratios.median <= bound),
                Bound::None => (String::new(), true),
            };
            let met = if met { "" } else { "missed" };
            let Target { what, reference, unit, .. } = target;
            let line = if reference.is_empty() {
                format!("| {what} | | {bound} {unit} | {} {unit} | | | {met} |", ours.show())
            } else {
                format!(
                    "| {what} | {reference} | {bound} | {} | {} {unit} | {} {unit} | {met} |",
                    ratios.show(),
                    short(ours.median),
                    short(theirs.median)
                )
            };
            writeln!(table, "{line}").expect("writing to a String does not fail");
        }
        table
    }
}

/// A table of what grows with something: the name of the column, the ids, and what each figure is.
struct Grows {
    with: &'static str,
    of: &'static str,
    counts: &'static [u64],
    figures: &'static [(&'static str, &'static str)],
}

const GROWS: &[Grows] = &[
    Grows {
        with: "releases",
        of: "growth",
        counts: &[1_000, 10_000, 100_000, 1_000_000],
        figures: &[
            ("start", "start, s"),
            ("resident", "resident, MB"),
            ("disk", "disk, MB"),
            ("actions", "actions/s, 64 in flight"),
            ("cpu", "CPU an action, us"),
            ("p99", "p99, ms"),
        ],
    },
    Grows {
        with: "watchers of one release",
        of: "watchers",
        counts: &[1, 10, 100, 1_000, 10_000],
        figures: &[
            ("cpu", "CPU an event, ms"),
            ("action", "p50 of the action, ms"),
            ("resident", "resident, MB"),
        ],
    },
];

impl Results {
    /// What grows with what, and the line through it by least squares.
    pub(crate) fn growth(&self) -> String {
        let mut text = String::new();
        for Grows { with, of, counts, figures } in GROWS {
            let median = |count: u64, figure: &str| {
                let samples = self.0.get(&format!("{of}/{count}/{figure}"))?;
                (!samples.is_empty()).then(|| Spread::of(samples.iter().map(|s| s.ours)).median)
            };
            let names: Vec<&str> = figures.iter().map(|(_, name)| *name).collect();
            let _ = writeln!(text, "| {with} | {} |", names.join(" | "));
            let _ = writeln!(text, "|{}", "---|".repeat(figures.len() + 1));
            for count in *counts {
                let cells: Vec<String> = figures
                    .iter()
                    .map(|(figure, _)| median(*count, figure).map_or_else(String::new, short))
                    .collect();
                let _ = writeln!(text, "| {} | {} |", short(*count as f64), cells.join(" | "));
            }
            let lines: Vec<String> = figures
                .iter()
                .map(|(figure, _)| {
                    let points = counts
                        .iter()
                        .filter_map(|count| Some((*count as f64, median(*count, figure)?)));
                    line(&points.collect::<Vec<_>>()).map_or_else(String::new, |(base, slope)| {
                        format!("{} + {:.2e} n", short(base), slope)
                    })
                })
                .collect();
            let _ = writeln!(text, "| line | {} |\n", lines.join(" | "));
        }
        text.trim_end().to_owned() + "\n"
    }
}

/// The line through points by least squares: where it begins, and how it rises. None for fewer than three.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let above: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let below: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = above / below;
    Some((y - slope * x, slope))
}

/// The middle of some figures, and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    /// Of at least one.
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Self { median, lowest: figures[0], highest: figures[figures.len() - 1] }
    }

    fn show(self) -> String {
        if self.lowest == self.highest {
            return short(self.median);
        }
        format!("{} ({} to {})", short(self.median), short(self.lowest), short(self.highest))
    }
}

/// A number to about three digits.
fn short(number: f64) -> String {
    match number.abs() {
        ..10.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        ..10_000.0 => format!("{number:.0}"),
        ..1_000_000.0 => format!("{:.0},{:03.0}", (number / 1e3).floor(), number % 1e3),
        _ => format!("{:.2} million", number / 1e6),
    }
}

/// Puts a text between the two marks of a part of a document, and leaves the rest as it is.
pub(crate) fn replace_part(document: &str, part: &str, text: &str) -> Option<String> {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {part}: {edge} -->\n"));
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        let odd = spread(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.lowest, odd.highest), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(spread(&[0.5]).show(), "0.50");
        assert_eq!(odd.show(), "2.00 (1.00 to 3.00)");
    }

    #[test]
    fn a_part_of_a_document_is_replaced_and_nothing_else() {
        let document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let replaced = replace_part(document, "x", "new").unwrap();
        assert_eq!(replaced, "a\n<!-- x: begin -->\n\nnew\n<!-- x: end -->\nb\n");
        assert_eq!(replace_part(&replaced, "x", "new").unwrap(), replaced);
        assert_eq!(replace_part(document, "y", "new"), None);
    }

    #[test]
    fn a_line_goes_through_points_that_are_on_one() {
        let (base, slope) = line(&[(1.0, 5.0), (2.0, 7.0), (10.0, 23.0)]).unwrap();
        assert!((base - 3.0).abs() < 1e-9 && (slope - 2.0).abs() < 1e-9, "{base} {slope}");
        assert_eq!(line(&[(1.0, 1.0), (2.0, 2.0)]), None);
    }

    #[test]
    fn every_row_has_an_id_of_its_own() {
        let ids: std::collections::BTreeSet<_> = TARGETS.iter().map(|target| target.id).collect();
        assert_eq!(ids.len(), TARGETS.len());
    }

    #[test]
    fn a_figure_is_missed_on_the_wrong_side_of_its_target_only() {
        let mut results = Results::default();
        results.add("reads/64/echo", 95.0, 100.0);
        results.add("reads/64/cpu", 13.0, 10.0);
        let table = results.table();
        let line = |text| table.lines().find(|line| line.contains(text)).unwrap();
        assert!(!line("reads/s, 64 in flight | bare echo").contains("missed"));
        assert!(line("server CPU a read").contains("missed"));
    }
}
