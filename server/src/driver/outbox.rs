//! The outbox as the rest of the server sees it.

use crate::store::outbox::{Notification, OutboxKey, OutboxRow};
use imbl::OrdMap;
use phasegate_engine::{id::SinkId, time::Timestamp};
use std::sync::Arc;

/// All rows that are durable, by sink and then in order. Cheap to clone.
pub type Outbox = OrdMap<OutboxKey, Arc<OutboxRow>>;

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
