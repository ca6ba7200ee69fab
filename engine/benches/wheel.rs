//! The timer wheel beside a sorted set, in the same run: what an operation costs on average, what
//! the worst single turn costs, and what a timer weighs.
//!
//! `cargo bench -p phasegate-engine --bench wheel`; `-- turns` leaves the averages out. The machine
//! matters, so compare the two structures of one run and not the figures of two.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use criterion::{BenchmarkId, Criterion, SamplingMode};
use phasegate_engine::{
    time::{Span, Timestamp},
    wheel::{DueTimer, Progress, TimerId, Wheel},
};
use std::{
    collections::BTreeSet,
    hint::black_box,
    time::{Duration, Instant},
};

const START: Timestamp = Timestamp::from_millis(1_900_000_000_000);
const MILLION: usize = 1_000_000;

/// As many timers as one turn pops at most: enough to fill a commit of the store.
const POPS_MAX: usize = 256;

/// What both structures can do.
trait Timers {
    type Id: Copy;
    const NAME: &str;
    fn new() -> Self;
    fn arm(&mut self, deadline: Timestamp, key: u64) -> Self::Id;
    fn cancel(&mut self, id: Self::Id) -> bool;
    fn next(&self) -> Option<Timestamp>;
    fn pop_due(&mut self, now: Timestamp, limit: usize, due: &mut Vec<DueTimer>) -> Progress;
}

impl Timers for Wheel {
    type Id = TimerId;
    const NAME: &str = "wheel";

    fn new() -> Self {
        Self::new(START)
    }

    fn arm(&mut self, deadline: Timestamp, key: u64) -> TimerId {
        self.arm(deadline, key)
    }

    fn cancel(&mut self, id: TimerId) -> bool {
        self.cancel(id)
    }

    fn next(&self) -> Option<Timestamp> {
        self.next()
    }

    fn pop_due(&mut self, now: Timestamp, limit: usize, due: &mut Vec<DueTimer>) -> Progress {
        self.pop_due(now, limit, due)
    }
}

impl Timers for BTreeSet<DueTimer> {
    type Id = DueTimer;
    const NAME: &str = "BTreeSet";

    fn new() -> Self {
        Self::new()
    }

    fn arm(&mut self, deadline: Timestamp, key: u64) -> DueTimer {
        let timer = DueTimer { deadline, key };
        self.insert(timer);
        timer
    }

    fn cancel(&mut self, id: DueTimer) -> bool {
        self.remove(&id)
    }

    fn next(&self) -> Option<Timestamp> {
        self.first().map(|timer| timer.deadline)
    }

    fn pop_due(&mut self, now: Timestamp, limit: usize, due: &mut Vec<DueTimer>) -> Progress {
        for _ in 0..limit {
            match self.first() {
                Some(timer) if timer.deadline <= now => due.extend(self.pop_first()),
                Some(_) | None => return Progress::Done,
            }
        }
        Progress::More
    }
}

/// A fixed sequence of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Timers to arm, and when they fall due.
struct Load {
    name: &'static str,
    /// From the present.
    offset: fn(&mut Random) -> Span,
}

fn millis(millis: u64) -> Span {
    Span::from_millis(millis.cast_signed())
}

/// What bakes of a day look like.
const DAY: Load = Load { name: "in 24 hours", offset: |random| millis(random.below(86_400_000)) };

/// What is worst for a wheel: everything has to be moved before the first one can fire.
const WORST: [Load; 3] = [
    Load { name: "in one millisecond", offset: |_| Span::from_secs(12 * 3_600) },
    Load {
        name: "in one slot of level 4, 4.7 hours",
        offset: |random| {
            // The slot after the next one begins here.
            let begin = (2 << 24) - START.as_millis().unsigned_abs() % (1 << 24);
            millis(begin + random.below(1 << 24))
        },
    },
    DAY,
];

/// A structure, and the time as it is told it.
struct Rig<T: Timers> {
    timers: T,
    now: Timestamp,
    random: Random,
    due: Vec<DueTimer>,
}

impl<T: Timers> Rig<T> {
    fn new() -> Self {
        Self { timers: T::new(), now: START, random: Random(1), due: Vec::with_capacity(POPS_MAX) }
    }

    /// Deadlines, and keys in no order.
    fn draw(&mut self, load: &Load, count: usize) -> Vec<DueTimer> {
        let mut keys: Vec<_> = (0..count as u64).collect();
        self.random.shuffle(&mut keys);
        let deadline = |random: &mut Random| self.now + (load.offset)(random);
        keys.into_iter().map(|key| DueTimer { deadline: deadline(&mut self.random), key }).collect()
    }

    fn arm(&mut self, drawn: &[DueTimer], ids: &mut Vec<T::Id>) -> Duration {
        let start = Instant::now();
        ids.extend(drawn.iter().map(|timer| self.timers.arm(timer.deadline, timer.key)));
        start.elapsed()
    }

    fn cancel(&mut self, ids: &[T::Id]) -> Duration {
        let start = Instant::now();
        for id in ids {
            black_box(self.timers.cancel(*id));
        }
        start.elapsed()
    }

    /// Goes from deadline to deadline, as the driver does, until nothing is left.
    fn fire(&mut self) -> Duration {
        let start = Instant::now();
        while let Some(next) = self.timers.next() {
            self.now = self.now.max(next);
            self.due.clear();
            self.timers.pop_due(self.now, POPS_MAX, &mut self.due);
            black_box(&self.due);
        }
        start.elapsed()
    }
}

/// The average cost of one operation, when `count` timers of the next 24 hours are armed, cancelled
/// or fired one after the other. Memory is warm.
fn averages<T: Timers>(criterion: &mut Criterion, count: usize) {
    let mut measure = |what: &str, round: fn(&mut Rig<T>, usize) -> Duration| {
        let mut group = criterion.benchmark_group(what);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
        let mut rig = Rig::<T>::new();
        round(&mut rig, count);
        group.bench_function(BenchmarkId::new(T::NAME, count), |bencher| {
            // An iteration is one operation; they are made in rounds of `count`.
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(count as u64);
                let elapsed: Duration = (0..rounds).map(|_| round(&mut rig, count)).sum();
                elapsed.mul_f64(iterations as f64 / (rounds * count as u64) as f64)
            });
        });
        group.finish();
    };
    measure("arm", |rig, count| {
        let drawn = rig.draw(&DAY, count);
        let mut ids = Vec::with_capacity(count);
        let elapsed = rig.arm(&drawn, &mut ids);
        rig.cancel(&ids);
        elapsed
    });
    measure("cancel", |rig, count| {
        let drawn = rig.draw(&DAY, count);
        let mut ids = Vec::with_capacity(count);
        rig.arm(&drawn, &mut ids);
        rig.random.shuffle(&mut ids);
        rig.cancel(&ids)
    });
    measure("fire", |rig, count| {
        let drawn = rig.draw(&DAY, count);
        rig.arm(&drawn, &mut Vec::with_capacity(count));
        rig.fire()
    });
}

/// The cost of every single turn while a million timers fall due, with the time turned on by 10 ms
/// whenever nothing more is due: the driver's rhythm, without the driver.
///
/// The same turns are made in every round, operation by operation. So what a turn costs by itself
/// shows in every round, and what only some rounds show is the machine giving the processor to
/// somebody else. Both are printed: the worst of all turns as they were, and the worst if each turn
/// is taken at its best.
fn turns<T: Timers>(load: &Load) {
    const ROUNDS: usize = 7;
    const TICK: Span = Span::from_millis(10);
    let mut rounds: Vec<Vec<Duration>> = Vec::new();
    for _ in 0..ROUNDS {
        let mut rig = Rig::<T>::new();
        let drawn = rig.draw(load, MILLION);
        rig.arm(&drawn, &mut Vec::with_capacity(MILLION));
        let mut turns = Vec::new();
        let mut left = MILLION;
        while left > 0 {
            rig.due.clear();
            let start = Instant::now();
            let progress = rig.timers.pop_due(rig.now, POPS_MAX, &mut rig.due);
            turns.push(start.elapsed());
            left -= rig.due.len();
            if progress == Progress::Done
                && let Some(next) = rig.timers.next()
            {
                // Nights without timers are slept through.
                rig.now = next.max(rig.now + TICK);
            }
        }
        rounds.push(turns);
    }
    let count = rounds[0].len();
    assert!(rounds.iter().all(|turns| turns.len() == count), "the rounds make the same turns");

    let best = (0..count).filter_map(|turn| rounds.iter().map(|turns| turns[turn]).min()).max();
    let mut all = rounds.concat();
    all.sort_unstable();
    println!(
        "{}, {}: {count} turns, {} ns a timer, p50 {:.1?}, p99.9 {:.1?}, worst {:.1?}; \
         worst with each turn at its best of {ROUNDS} rounds {:.1?}",
        load.name,
        T::NAME,
        all.iter().sum::<Duration>().as_nanos() / (ROUNDS * MILLION) as u128,
        all[all.len() / 2],
        all[all.len() * 999 / 1000],
        all[all.len() - 1],
        best.unwrap_or_default(),
    );
}

/// What a million timers add to the resident memory of this process.
fn weigh<T: Timers>() -> T {
    let mut rig = Rig::<T>::new();
    let drawn = rig.draw(&DAY, MILLION);
    let before = resident_bytes();
    for timer in &drawn {
        rig.timers.arm(timer.deadline, timer.key);
    }
    let bytes = resident_bytes().saturating_sub(before);
    println!("{:<9} {:>5.1} B a timer of resident memory", T::NAME, bytes as f64 / MILLION as f64);
    rig.timers
}

/// Linux only; 0 elsewhere.
fn resident_bytes() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * PAGE
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // `cargo test` runs benches too, without this and to see that they work.
    if std::env::args().any(|argument| argument == "--bench") {
        // Neither is dropped before both are weighed: freed memory stays resident.
        let weighed = (weigh::<Wheel>(), weigh::<BTreeSet<DueTimer>>());
        println!(
            "{:<9} {:>5.2} B a timer by its own account",
            Wheel::NAME,
            weighed.0.memory_bytes() as f64 / MILLION as f64
        );
        drop(weighed);
        for load in &WORST {
            turns::<Wheel>(load);
            turns::<BTreeSet<DueTimer>>(load);
        }
    }
    for count in [1, 1_000, MILLION] {
        averages::<Wheel>(&mut criterion, count);
        averages::<BTreeSet<DueTimer>>(&mut criterion, count);
    }
    criterion.final_summary();
}
