//! The outbox as the writer works on it, and what the rest of the server sees of it.

use super::config::OutboxLimits;
use crate::store::{
    Write,
    outbox::{Notification, OutboxKey, OutboxRow, OutboxState},
};
use imbl::OrdMap;
use phasegate_engine::{id::SinkId, time::Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// All rows that are durable, by sink and then in order. Cheap to clone.
pub type Outbox = OrdMap<OutboxKey, Arc<OutboxRow>>;

/// Rows that the writer gives up because there are too many say this.
pub const OUTBOX_FULL: &str = "outbox full";

/// What became of rows, or what is to become of them. One that is about a row that is not there does
/// nothing.
#[derive(Clone, Debug)]
pub enum OutboxUpdate {
    /// It was delivered: the row goes.
    Delivered(OutboxKey),
    /// It was tried and is to be tried again. Counts as an attempt.
    Failed {
        /// Which row.
        key: OutboxKey,
        /// Why.
        error: Arc<str>,
        /// Not before this time.
        next_at: Timestamp,
    },
    /// It is given up. Counts as an attempt.
    Dead {
        /// Which row.
        key: OutboxKey,
        /// Why.
        error: Arc<str>,
    },
    /// It is to be sent again, as if it had never been tried.
    Replay(OutboxKey),
    /// Nobody wants it any more: the row goes.
    Discard(OutboxKey),
    /// A new one that no commit caused.
    Add {
        /// Where it goes.
        sink: SinkId,
        /// What it says, with an id that no other has.
        notification: Box<Notification>,
    },
}

/// The rows, with the commits of the batch in hand.
#[derive(Debug)]
pub(super) struct Rows {
    limits: OutboxLimits,
    rows: Outbox,
    lanes: BTreeMap<SinkId, Lane>,
    next: u64,
}

/// The rows of one sink by what becomes of them next.
#[derive(Debug, Default)]
struct Lane {
    pending: BTreeSet<u64>,
    dead: BTreeSet<(Timestamp, u64)>,
}

type Writes = Vec<Write<OutboxKey, OutboxRow>>;

impl Rows {
    pub(super) fn load(rows: Vec<(OutboxKey, OutboxRow)>, limits: OutboxLimits) -> Self {
        let next = rows.iter().map(|(key, _)| key.sequence).max().map_or(1, |last| last + 1);
        let mut loaded = Self { limits, rows: Outbox::new(), lanes: BTreeMap::new(), next };
        for (key, row) in rows {
            loaded.set(key, row);
        }
        loaded
    }

    /// All rows.
    pub(super) fn snapshot(&self) -> Outbox {
        self.rows.clone()
    }

    fn set(&mut self, key: OutboxKey, row: OutboxRow) -> Write<OutboxKey, OutboxRow> {
        self.leave_lane(&key);
        let lane = self.lanes.entry(key.sink.clone()).or_default();
        match row.state {
            OutboxState::Pending => lane.pending.insert(key.sequence),
            OutboxState::Dead(at) => lane.dead.insert((at, key.sequence)),
        };
        let row = Arc::new(row);
        self.rows.insert(key.clone(), Arc::clone(&row));
        Write::Put(key, row)
    }

    fn remove(&mut self, key: OutboxKey) -> Write<OutboxKey, OutboxRow> {
        self.leave_lane(&key);
        self.rows.remove(&key);
        Write::Delete(key)
    }

    fn leave_lane(&mut self, key: &OutboxKey) {
        let (Some(row), Some(lane)) = (self.rows.get(key), self.lanes.get_mut(&key.sink)) else {
            return;
        };
        match row.state {
            OutboxState::Pending => lane.pending.remove(&key.sequence),
            OutboxState::Dead(at) => lane.dead.remove(&(at, key.sequence)),
        };
    }

    /// Adds a row. What is too much for its sink is given up, the oldest first.
    pub(super) fn add(
        &mut self,
        sink: SinkId,
        notification: Notification,
        now: Timestamp,
        writes: &mut Writes,
    ) {
        let key = OutboxKey { sink: sink.clone(), sequence: self.next };
        self.next += 1;
        writes.push(self.set(key, OutboxRow::new(notification)));
        self.hold_limits(&sink, now, writes);
    }

    /// Brings a sink back to its limits.
    fn hold_limits(&mut self, sink: &SinkId, now: Timestamp, writes: &mut Writes) {
        while let Some(oldest) = self.above(sink, self.limits.pending_per_sink, |lane| {
            (lane.pending.len(), lane.pending.first().copied())
        }) {
            let key = OutboxKey { sink: sink.clone(), sequence: oldest };
            let Some(row) = self.rows.get(&key) else { return };
            let row = OutboxRow {
                state: OutboxState::Dead(now),
                last_error: OUTBOX_FULL.into(),
                ..OutboxRow::clone(row)
            };
            writes.push(self.set(key, row));
        }
        while let Some(oldest) = self.above(sink, self.limits.dead_per_sink, |lane| {
            (lane.dead.len(), lane.dead.first().map(|(_, sequence)| *sequence))
        }) {
            writes.push(self.remove(OutboxKey { sink: sink.clone(), sequence: oldest }));
        }
    }

    fn above(
        &self,
        sink: &SinkId,
        most: usize,
        look: impl Fn(&Lane) -> (usize, Option<u64>),
    ) -> Option<u64> {
        let (count, oldest) = look(self.lanes.get(sink)?);
        oldest.filter(|_| count > most)
    }

    /// Takes in what became of a row.
    pub(super) fn update(&mut self, update: OutboxUpdate, now: Timestamp, writes: &mut Writes) {
        let known = |key: &OutboxKey| self.rows.get(key).map(|row| OutboxRow::clone(row));
        let (key, row) = match update {
            OutboxUpdate::Delivered(key) | OutboxUpdate::Discard(key) => {
                if self.rows.contains_key(&key) {
                    writes.push(self.remove(key));
                }
                return;
            }
            OutboxUpdate::Add { sink, notification } => {
                return self.add(sink, *notification, now, writes);
            }
            OutboxUpdate::Failed { key, error, next_at } => {
                // One that was given up meanwhile stays given up.
                let Some(row) = known(&key).filter(OutboxRow::is_pending) else { return };
                let attempts = row.attempts.saturating_add(1);
                (key, OutboxRow { attempts, next_at, last_error: error, ..row })
            }
            OutboxUpdate::Dead { key, error } => {
                let Some(row) = known(&key).filter(OutboxRow::is_pending) else { return };
                let attempts = row.attempts.saturating_add(1);
                let state = OutboxState::Dead(now);
                (key, OutboxRow { attempts, state, last_error: error, ..row })
            }
            OutboxUpdate::Replay(key) => {
                let Some(row) = known(&key) else { return };
                let state = OutboxState::Pending;
                (key, OutboxRow { attempts: 0, next_at: now, state, ..row })
            }
        };
        let sink = key.sink.clone();
        writes.push(self.set(key, row));
        self.hold_limits(&sink, now, writes);
    }

    /// Removes what was given up too long ago, at most so many rows.
    pub(super) fn forget(&mut self, now: Timestamp, most: usize, writes: &mut Writes) {
        let old = |at: Timestamp| now.since(at) > self.limits.dead_for;
        let mut doomed = Vec::new();
        for (sink, lane) in &self.lanes {
            let dead = lane.dead.iter().take_while(|(at, _)| old(*at));
            let key = |(_, sequence): &(Timestamp, u64)| OutboxKey {
                sink: sink.clone(),
                sequence: *sequence,
            };
            doomed.extend(dead.map(key).take(most - doomed.len()));
        }
        for key in doomed {
            writes.push(self.remove(key));
        }
    }
}
