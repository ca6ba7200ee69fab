//! What a run is like: drawn once from its seed, so that runs differ in more than their dice. A class
//! of faults that is off in some runs lets others get further (swarm testing, Groce et al. 2012).

use crate::operation::{FLAGS, Pace};
use phasegate_engine::time::Span;
use phasegate_server::{
    driver::{Config, LogMemory, Retention, Timers},
    watch,
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) pace: Pace,
    pub(crate) flags: usize,
    pub(crate) clients: usize,
    pub(crate) watchers: usize,
    pub(crate) operations: usize,
    /// Shapes of the two pipelines.
    pub(crate) shapes: [u64; 2],
    pub(crate) crashes: Chance,
    pub(crate) disk_errors: Chance,
    pub(crate) clock_steps: Chance,
    pub(crate) absences: Chance,
    pub(crate) network: Chance,
    pub(crate) stalls: Chance,
    retention: Span,
    log_bytes: usize,
    /// Zero: nothing is held.
    pub(crate) hold_if_late_by: Span,
    overdue_per_second_and_flag: usize,
}

/// How often something that goes wrong does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chance {
    Never,
    Sometimes,
    Often,
}

impl Chance {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        match random.random_range(0..4) {
            0 => Self::Never,
            1 | 2 => Self::Sometimes,
            _ => Self::Often,
        }
    }

    /// A weight among those of all operations.
    pub(crate) fn weight(self, sometimes: u32) -> u32 {
        match self {
            Self::Never => 0,
            Self::Sometimes => sometimes,
            Self::Often => 4 * sometimes,
        }
    }
}

impl Weather {
    pub(crate) fn draw(random: &mut ChaCha8Rng) -> Self {
        let pace = if random.random_bool(0.6) { Pace::Seconds } else { Pace::Days };
        let short = random.random_bool(0.25);
        Self {
            pace,
            flags: random.random_range(1..=FLAGS.len()),
            clients: random.random_range(1..=4),
            watchers: random.random_range(0..=4),
            operations: random.random_range(100..=400),
            shapes: [random.random(), random.random()],
            crashes: Chance::draw(random),
            disk_errors: Chance::draw(random),
            clock_steps: Chance::draw(random),
            absences: Chance::draw(random),
            network: Chance::draw(random),
            stalls: Chance::draw(random),
            retention: match (short, pace) {
                (false, _) => Span::DAY,
                (true, Pace::Seconds) => Span::from_secs(60),
                (true, Pace::Days) => Span::from_secs(3600),
            },
            log_bytes: if random.random_bool(0.3) { 4 << 10 } else { 1 << 20 },
            hold_if_late_by: match random.random_range(0..4) {
                0 => Span::ZERO,
                1 => Span::from_secs(20),
                _ => Span::from_secs(3600),
            },
            overdue_per_second_and_flag: random.random_range(1..=3),
        }
    }

    /// The driver's settings.
    pub(crate) fn driver(&self) -> Config {
        let usual = Timers::default();
        Config {
            timers: Timers {
                hold_if_late_by: self.hold_if_late_by,
                overdue_per_second_and_flag: self.overdue_per_second_and_flag,
                away_noticed: match self.pace {
                    Pace::Seconds => usual.away_noticed,
                    // The simulation goes from deadline to deadline, which is no absence.
                    Pace::Days => Span::from_secs(u32::MAX),
                },
                ..usual
            },
            retention: Retention {
                events: self.retention,
                requests: self.retention,
                every: Span::from_secs(30),
                step: 16,
            },
            log_memory: LogMemory(self.log_bytes),
            ..Config::default()
        }
    }

    /// The settings of watches.
    pub(crate) fn watches(&self) -> watch::Config {
        watch::Config { read_entries: 3, item_bytes: 8 << 10, ..watch::Config::default() }
    }
}
