//! What the writer is told.

use super::{
    export::{ExportError, Hold, Piece, Stretch},
    handle::{Done, Error, LogError, Submission},
    outbox::OutboxUpdate,
};
use crate::{
    store::{
        AuditQuery, LogQuery,
        audit::{AuditEntry, AuditedCall},
        snapshot::Snapshot,
    },
    watch::Entry,
};
use phasegate_engine::time::{Span, Timestamp};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the writer is told. A reply that nobody waits for any more is no error.
#[derive(Debug)]
pub enum Message {
    /// Do this.
    Submit {
        /// What to do.
        submission: Box<Submission>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Done, Error>>,
    },
    /// Read a part of the log that is no longer in memory.
    ReadLog {
        /// Which part.
        query: LogQuery,
        /// Where it goes.
        reply: oneshot::Sender<Result<Vec<Arc<Entry>>, LogError>>,
    },
    /// Read a part of the audit chain.
    ReadAudit {
        /// Which part.
        query: AuditQuery,
        /// Where it goes.
        reply: oneshot::Sender<Result<Vec<AuditEntry>, LogError>>,
    },
    /// Take the store as it is, for an export.
    Snapshot {
        /// Where it goes, with what keeps the log from losing anything.
        reply: oneshot::Sender<(Snapshot, Hold)>,
    },
    /// Read a stretch of what goes with it.
    ReadStretch {
        /// Which.
        stretch: Stretch,
        /// Where it goes.
        reply: oneshot::Sender<Result<Piece, ExportError>>,
    },
    /// Put a refusal on record.
    Note {
        /// What was refused.
        call: Box<AuditedCall>,
    },
    /// Take in what became of notifications.
    Settle {
        /// What, in order.
        updates: Vec<OutboxUpdate>,
        /// Told when it is durable.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Move the manual clock ahead.
    Advance {
        /// How far.
        by: Span,
        /// Where the new time goes.
        reply: oneshot::Sender<Result<Timestamp, Error>>,
    },
    /// Finish what came before this, and stop.
    Stop,
}
