//! The one writer: decide, commit, apply, publish, arm.
//!
//! ```text
//!  Handle ──► Inbox ──► Writer ──► Store
//!    ▲                    │
//!    └──── Published ◄────┘   log, state, head: in this order, and after the commit
//! ```
//!
//! Promises: calls and timers are one sequence of commits. A due timer of a flag comes before a call
//! about it. Nobody learns of anything before it is durable, not even of a refusal. A request with
//! an id is done once. If the store fails, nothing more is answered, published or written.
//!
//! Absent: transports and wire types, and any judgement about releases, which is the engine's. The
//! [`Writer`] itself neither waits nor reads a clock of its own, so that it can be simulated; the
//! [`Driver`] is a thread around it.

mod alarms;
mod config;
mod export;
mod followed;
mod handle;
mod inbox;
mod message;
mod notify;
mod outbox;
mod pacing;
mod permit;
mod published;
mod record;
mod recorder;
mod reminders;
mod requests;
mod ring;
mod service;
#[cfg(test)]
mod tests;
mod trust;
mod writer;

pub use crate::store::{
    AuditQuery, LogQuery, Order, StoreId, Subject,
    audit::{
        Act, AuditContent, AuditEntry, AuditHash, AuditHead, AuditedCall, Outcome, Suppressed,
    },
    outbox::{Notification, NotificationKind, OutboxKey, OutboxRow, OutboxState},
};
pub use config::{
    AuditLimits, Config, Disk, FLAG_SET_BYTES_MAX, FlagSets, LogMemory, OutboxLimits, Retention,
    Timers,
};
pub use export::{EXPORT_TIME_MAX, Export, ExportError, Hold, Piece, Stretch};
pub use handle::{Done, Error, Handle, LogError, Mode, Origin, Submission};
pub use inbox::{Inbox, Senders, Wait};
pub use message::Message;
pub use notify::{NoRoutes, Route};
pub use outbox::{OUTBOX_FULL, Outbox, OutboxUpdate};
pub use permit::{Anything, Permit};
pub use phasegate_engine::id::SinkId;
pub use service::{Driver, Failure, assemble};
pub use writer::{BATCH_CALLS_MAX, OpenError, StoreFailed, Turn, Writer};
