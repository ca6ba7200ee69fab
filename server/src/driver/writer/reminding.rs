//! Reminding of approvals that will soon run out.

use super::{Batch, ROW_BYTES, Writer, firing::BATCH_TIMERS_MAX};
use crate::driver::notify;
use phasegate_engine::time::Timestamp;
use std::sync::Arc;

impl Writer {
    /// Reminds of what is due. Comes after the timers: approvals that have run out meanwhile need no
    /// reminder.
    pub(super) fn remind(&mut self, now: Timestamp, batch: &mut Batch) {
        if !self.may_fire() {
            return;
        }
        for _ in 0..BATCH_TIMERS_MAX {
            let Some((id, _)) = self.reminders.pop(now) else { return };
            let Some(release) = self.state.release(&id).map(Arc::clone) else { continue };
            let Some((_, expires)) = notify::awaited(&release).filter(|(_, at)| *at > now) else {
                continue;
            };
            let (store, revision) = (self.published().store_id, self.state.revision());
            let told = notify::reminder(&self.config, store, &release, now, revision);
            if told.is_empty() {
                continue;
            }
            for (sink, notification) in told {
                batch.bytes += ROW_BYTES;
                self.rows.add(sink, notification, now, &mut batch.notices.outbox);
            }
            self.reminders.remember(id, expires, &mut batch.notices.reminders);
        }
    }
}
