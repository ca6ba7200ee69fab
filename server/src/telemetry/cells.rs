//! What a metric is kept in: atomics, which are added to from anywhere and read by who exports.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Values that a label may have beyond those of its list fall under this one.
pub const OTHER: &str = "_OTHER";

/// What is to be done with the numbers of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow while the process runs.
    Counter,
    /// They go up and down.
    Gauge,
    /// They say how values are spread.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One series of a metric as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, &'static str)>,
    /// Where it stands.
    pub value: Value,
}

/// Where a series stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A measure, in the unit of the metric.
    Measure(f64),
    /// How values are spread, in the unit of the metric.
    Spread(Spread),
}

/// How values are spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Upper limits of the buckets, each included; the last bucket, which has none, is not among them.
    pub bounds: &'static [f64],
    /// How many values fell into each bucket: one more than there are bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

/// What holds a metric.
pub trait Cell {
    /// What its numbers are.
    const KIND: Kind;

    /// Its series.
    fn points(&self) -> Vec<Point>;

    /// Names of its labels with the values that they can have; none where a list elsewhere says it.
    fn labels(&self) -> Vec<(&'static str, &'static [&'static str])> {
        Vec::new()
    }
}

fn alone(value: Value) -> Vec<Point> {
    vec![Point { labels: Vec::new(), value }]
}

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: usize) {
        // No machine counts further than that.
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Takes over what somebody else has counted, who never counts down.
    pub fn observe(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cell for Counter {
    const KIND: Kind = Kind::Counter;

    fn points(&self) -> Vec<Point> {
        alone(Value::Count(self.get()))
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: usize) {
        self.set_to(u64::try_from(value).unwrap_or(u64::MAX));
    }

    /// Sets it.
    pub fn set_to(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cell for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn points(&self) -> Vec<Point> {
        alone(Value::Count(self.get()))
    }
}

/// A time that goes up and down. Kept in milliseconds, shown in seconds.
#[derive(Debug, Default)]
pub struct TimeGauge(AtomicU64);

impl TimeGauge {
    /// Sets it.
    pub fn set(&self, time: Duration) {
        self.0.store(millis(time), Ordering::Relaxed);
    }
}

impl Cell for TimeGauge {
    const KIND: Kind = Kind::Gauge;

    fn points(&self) -> Vec<Point> {
        alone(Value::Measure(seconds(self.0.load(Ordering::Relaxed), 1e3)))
    }
}

/// A time that only grows. Kept in milliseconds, shown in seconds.
#[derive(Debug, Default)]
pub struct TimeCounter(AtomicU64);

impl TimeCounter {
    /// Takes over what somebody else has counted, who never counts down.
    pub fn observe(&self, time: Duration) {
        self.0.fetch_max(millis(time), Ordering::Relaxed);
    }
}

impl Cell for TimeCounter {
    const KIND: Kind = Kind::Counter;

    fn points(&self) -> Vec<Point> {
        alone(Value::Measure(seconds(self.0.load(Ordering::Relaxed), 1e3)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn seconds(count: u64, in_one: f64) -> f64 {
    count as f64 / in_one
}

/// A constant 1 whose labels say something.
#[derive(Debug)]
pub struct Info(pub &'static [(&'static str, &'static str)]);

impl Cell for Info {
    const KIND: Kind = Kind::Gauge;

    fn points(&self) -> Vec<Point> {
        vec![Point { labels: self.0.to_vec(), value: Value::Count(1) }]
    }

    fn labels(&self) -> Vec<(&'static str, &'static [&'static str])> {
        self.0.iter().map(|(name, _)| (*name, &[][..])).collect()
    }
}

/// What the values of a histogram are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Times, kept in microseconds and shown in seconds.
    Seconds,
    /// Things.
    Things,
}

/// How values are spread over buckets.
#[derive(Debug)]
pub struct Histogram {
    unit: Unit,
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// In things or microseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Of times, over buckets with these upper limits in seconds.
    pub fn of_seconds(bounds: &'static [f64]) -> Self {
        Self::new(Unit::Seconds, bounds)
    }

    /// Of numbers of things, over buckets with these upper limits.
    pub fn of_things(bounds: &'static [f64]) -> Self {
        Self::new(Unit::Things, bounds)
    }

    fn new(unit: Unit, bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { unit, bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a time.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.count_in(seconds(micros, 1e6), micros);
    }

    /// Counts a number of things.
    pub fn record_things(&self, things: usize) {
        let things = u64::try_from(things).unwrap_or(u64::MAX);
        self.count_in(seconds(things, 1.0), things);
    }

    fn count_in(&self, value: f64, raw: u64) {
        let bucket = self.bounds.iter().take_while(|bound| value > **bound).count();
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(raw, Ordering::Relaxed);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn spread(&self) -> Spread {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let in_one = match self.unit {
            Unit::Seconds => 1e6,
            Unit::Things => 1.0,
        };
        let sum = seconds(self.sum.load(Ordering::Relaxed), in_one);
        Spread { bounds: self.bounds, counts, sum }
    }
}

impl Cell for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn points(&self) -> Vec<Point> {
        alone(Value::Spread(self.spread()))
    }
}

/// A label and all values that it can have; what is none of them counts as [`OTHER`].
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: &'static [&'static str],
}

/// A cell for each value of a label.
#[derive(Debug)]
pub struct By<C> {
    label: &'static Label,
    cells: Box<[C]>,
    other: C,
}

impl<C: Default> By<C> {
    /// With a cell for each value.
    pub fn new(label: &'static Label) -> Self {
        Self {
            label,
            cells: label.values.iter().map(|_| C::default()).collect(),
            other: C::default(),
        }
    }

    /// The cell of a value.
    pub fn of(&self, value: &str) -> &C {
        let known = self.label.values.iter().position(|known| *known == value);
        known.map_or(&self.other, |at| &self.cells[at])
    }
}

impl By<Counter> {
    /// The sum over all values.
    pub fn total(&self) -> u64 {
        self.cells.iter().map(Counter::get).sum::<u64>() + self.other.get()
    }
}

impl<C: Cell> Cell for By<C> {
    const KIND: Kind = C::KIND;

    fn points(&self) -> Vec<Point> {
        let labelled = |value: &'static str, cell: &C| {
            let labels = vec![(self.label.name, value)];
            let of = |point: Point| Point { labels: labels.clone(), value: point.value };
            cell.points().into_iter().map(of).collect::<Vec<_>>()
        };
        let known = self.label.values.iter().zip(&self.cells);
        let mut points: Vec<_> = known.flat_map(|(value, cell)| labelled(value, cell)).collect();
        // It is there only if something fell under it.
        let other = labelled(OTHER, &self.other);
        points.extend(other.into_iter().filter(|point| point.value != Value::Count(0)));
        points
    }

    fn labels(&self) -> Vec<(&'static str, &'static [&'static str])> {
        vec![(self.label.name, self.label.values)]
    }
}

/// How long calls took, by two labels. A series comes to be with the first call of its kind; there are no
/// more than there are texts in the program.
#[derive(Debug)]
pub struct Calls {
    names: [&'static str; 2],
    always: &'static [(&'static str, &'static str)],
    bounds: &'static [f64],
    cells: RwLock<BTreeMap<[&'static str; 2], Arc<Histogram>>>,
}

impl Calls {
    /// With these labels, and others that are always the same.
    pub fn new(
        names: [&'static str; 2],
        always: &'static [(&'static str, &'static str)],
        bounds: &'static [f64],
    ) -> Self {
        Self { names, always, bounds, cells: RwLock::default() }
    }

    /// Counts a call with the values of its labels.
    pub fn record(&self, values: [&'static str; 2], time: Duration) {
        // A map of cells is whole at any time.
        let found = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&values).cloned();
        let cell = found.unwrap_or_else(|| {
            let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
            let fresh = || Arc::new(Histogram::of_seconds(self.bounds));
            Arc::clone(cells.entry(values).or_insert_with(fresh))
        });
        cell.record(time);
    }
}

impl Cell for Calls {
    const KIND: Kind = Kind::Histogram;

    fn points(&self) -> Vec<Point> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let point = |(values, cell): (&[&'static str; 2], &Arc<Histogram>)| {
            let mut labels = self.always.to_vec();
            labels.extend(self.names.iter().copied().zip(values.iter().copied()));
            Point { labels, value: Value::Spread(cell.spread()) }
        };
        cells.iter().map(point).collect()
    }

    fn labels(&self) -> Vec<(&'static str, &'static [&'static str])> {
        let always = self.always.iter().map(|(name, _)| (*name, &[][..]));
        always.chain(self.names.map(|name| (name, &[][..]))).collect()
    }
}
