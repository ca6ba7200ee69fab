//! What this room counts. Plain atomics: whoever exports them reads them.

use phasegate_engine::id::SinkId;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What was counted of one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Notifications that a receiver has taken.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Notifications that were given up.
    pub dead: u64,
}

/// What this room counts, by sink. It only grows, and begins anew with the process.
#[derive(Debug, Default)]
pub struct Metrics {
    sinks: Mutex<BTreeMap<SinkId, Counts>>,
    /// Times that the file was read anew and taken.
    pub reloads: AtomicU64,
    /// Times that the file was refused.
    pub reloads_refused: AtomicU64,
}

impl Metrics {
    pub(super) fn count(&self, sink: &SinkId, change: impl FnOnce(&mut Counts)) {
        // A count is whole at any time, so one that somebody panicked over is good.
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        change(sinks.entry(sink.clone()).or_default());
    }

    pub(super) fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All counts.
    pub fn counts(&self) -> BTreeMap<SinkId, Counts> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
