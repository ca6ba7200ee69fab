//! How fast overdue timers are fired.

use super::config::Timers;
use phasegate_engine::id::FlagId;
use std::{collections::HashMap, time::Duration};

/// The length of the stretches in which firings are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the overdue timers that were fired in this second.
#[derive(Debug)]
pub(super) struct Pacing {
    most: usize,
    most_of_a_flag: usize,
    since: Duration,
    fired: usize,
    // Only ever asked for a flag, so its order does not matter.
    by_flag: HashMap<FlagId, usize>,
}

impl Pacing {
    pub(super) fn new(config: &Timers) -> Self {
        Self {
            most: config.overdue_per_second.max(1),
            most_of_a_flag: config.overdue_per_second_and_flag.max(1),
            since: Duration::ZERO,
            fired: 0,
            by_flag: HashMap::new(),
        }
    }

    /// Begins to count anew if a second is over.
    pub(super) fn look(&mut self, monotonic: Duration) {
        if monotonic.saturating_sub(self.since) >= WINDOW {
            self.since = monotonic;
            self.fired = 0;
            self.by_flag.clear();
        }
    }

    /// True while another one may be fired in this second.
    pub(super) fn has_room(&self) -> bool {
        self.fired < self.most
    }

    /// True while another one of this flag may be fired in this second.
    pub(super) fn has_room_for(&self, flag: &FlagId) -> bool {
        self.has_room() && self.by_flag.get(flag).is_none_or(|fired| *fired < self.most_of_a_flag)
    }

    /// Counts one.
    pub(super) fn count(&mut self, flag: &FlagId) {
        self.fired += 1;
        *self.by_flag.entry(flag.clone()).or_default() += 1;
    }

    /// From now until the next second begins.
    pub(super) fn until_next(&self, monotonic: Duration) -> Duration {
        (self.since + WINDOW).saturating_sub(monotonic)
    }
}
