//! What has to be done now and then: looking at the disk, and removing what is too old to keep.

use super::{StoreFailed, Writer, duration};
use crate::{
    clock::Reading,
    driver::trust::Firing,
    store::{Compaction, CompactionProgress, Writes},
};
use phasegate_engine::time::{Span, Timestamp};
use std::time::Duration;

/// How often free space is looked at.
const SPACE_LOOK: Duration = Duration::from_secs(1);

/// Whether the disk has room, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Space {
    room: Room,
    looked: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Room {
    #[default]
    Enough,
    Short,
}

impl Space {
    /// True if nothing may be written.
    pub(super) fn is_short(&self) -> bool {
        self.room == Room::Short
    }
}

/// When retention is enforced next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleaning {
    /// There may be more to remove.
    Now,
    /// All was removed at this time of the monotonic clock.
    Rested(Duration),
}

impl Writer {
    pub(super) fn look_at_space(&mut self, reading: Reading) {
        let is_time = |looked| reading.monotonic.saturating_sub(looked) >= SPACE_LOOK;
        // A manual clock may stand still for hours; there are few turns then.
        if self.clock.as_manual().is_none() && !self.space.looked.is_none_or(is_time) {
            return;
        }
        self.space.looked = Some(reading.monotonic);
        let free = match self.store.free_space() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot tell free space");
                return;
            }
        };
        let reserve = self.config.disk.reserve;
        let found = match free {
            Some(free) if free < reserve => Room::Short,
            Some(_) | None => Room::Enough,
        };
        match (self.space.room, found) {
            (Room::Enough, Room::Short) => {
                tracing::error!(free, reserve, "the disk is nearly full: nothing is written");
            }
            (Room::Short, Room::Enough) => {
                tracing::info!(free, reserve, "the disk has space again");
                self.trust.resume(reading.wall);
            }
            (Room::Enough, Room::Enough) | (Room::Short, Room::Short) => {}
        }
        self.space.room = found;
        let metrics = &self.config.metrics;
        metrics.store_free.set_to(free.unwrap_or_default());
        metrics.store_writable.set(usize::from(found == Room::Enough));
    }

    /// True if it is to be looked for something to remove. A clock that is not trusted says nothing
    /// about age.
    pub(super) fn is_to_clean(&self, reading: Reading) -> bool {
        let every = duration(self.config.retention.every);
        let is_time = match self.cleaning {
            Cleaning::Now => true,
            Cleaning::Rested(at) => reading.monotonic.saturating_sub(at) >= every,
        };
        is_time
            && self.trust.firing() == Firing::Allowed
            // An export still reads what would go.
            && !self.holds.any(reading.monotonic)
    }

    /// Removes some of what is too old to keep.
    pub(super) fn clean(&mut self, reading: Reading) -> Result<(), StoreFailed> {
        if !self.is_to_clean(reading) {
            return Ok(());
        }
        let retention = &self.config.retention;
        let before = |span: Span| {
            Timestamp::from_millis(reading.wall.as_millis().saturating_sub(span.as_millis()))
        };
        let limits = Compaction {
            changes_before: before(retention.events),
            requests_before: before(retention.requests),
            most: retention.step,
        };
        let compacted = self.store.compact(&limits)?;
        // Nobody reads the store but this thread, so nobody saw it without what was removed and
        // with the old beginning.
        if compacted.oldest > self.published().oldest() {
            self.publisher.raise_oldest(compacted.oldest);
        }
        let mut outbox = Vec::new();
        self.rows.forget(reading.wall, self.config.retention.step, &mut outbox);
        if !outbox.is_empty() {
            self.store.commit(Writes { outbox: &outbox, ..Writes::default() })?;
            self.publisher.publish_outbox(self.rows.snapshot());
        }
        self.requests.forget(&compacted.requests);
        self.published().metrics.changes_removed.add(compacted.changes);
        self.cleaning = match compacted.progress {
            CompactionProgress::More => Cleaning::Now,
            CompactionProgress::Done => Cleaning::Rested(reading.monotonic),
        };
        Ok(())
    }
}
