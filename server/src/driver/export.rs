//! A store as text while the writer goes on. See [`snapshot`](crate::store::snapshot) for how.

use super::{
    handle::{Error, Handle},
    message::Message,
};
use crate::store::{
    AuditQuery, LoggedCommit, Order, RequestCursor, RequestPlace, RequestStretch,
    audit::AuditEntry,
    snapshot::{Snapshot, SnapshotText},
};
use bytes::Bytes;
use futures_util::Stream;
use phasegate_engine::{id::Revision, time::Timestamp};
use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::oneshot;

/// Bytes of text in one piece. A long line is a piece of its own, and longer.
const PIECE_BYTES: usize = 64 << 10;
/// Entries of the audit chain that are read at once: the writer does other things in between.
const ENTRIES_PER_STRETCH: usize = 256;

/// An export has to be over after this: for so long the log and requests are kept that would have gone.
pub const EXPORT_TIME_MAX: Duration = Duration::from_secs(3600);

/// A store at one revision, to be made a text of. While there is one, nothing that it reads is removed, for
/// [`EXPORT_TIME_MAX`] at most.
#[derive(Debug)]
pub struct Export {
    handle: Handle,
    snapshot: Snapshot,
    _hold: Hold,
}

/// Why a text does not go on. What there is of it is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It took so long that what was still to be read is gone from the log or from the requests.
    #[error("the export took longer than {} minutes", EXPORT_TIME_MAX.as_secs() / 60)]
    Expired,
    /// What is stored contradicts itself.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The writer is gone.
    #[error("the server is stopping")]
    Stopped,
    /// A record could not be written as text.
    #[error("a record cannot be written as text")]
    Text(#[from] io::Error),
}

/// Which stretch of what only grows.
#[derive(Clone, Debug)]
pub enum Stretch {
    /// Requests.
    Requests {
        /// Those after this; none for the first.
        after: Option<RequestCursor>,
        /// How many had been forgotten when the export began.
        forgotten: u64,
    },
    /// Commits with their entries of the log, from the first to the second.
    Log(Revision, Revision),
    /// Entries of the audit chain, after the first up to the second.
    Audit(u64, u64),
}

/// What was read.
#[derive(Debug)]
pub enum Piece {
    /// Requests.
    Requests(RequestStretch),
    /// Of the log.
    Log(Vec<LoggedCommit>),
    /// Of the audit chain.
    Audit(Vec<AuditEntry>),
}

impl Handle {
    /// Takes the store as it is: what was answered before is in it.
    pub async fn export(&self) -> Result<Export, Error> {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Snapshot { reply }).await.is_err() {
            return Err(Error::Stopped);
        }
        let (snapshot, hold) = answer.await.map_err(|_| Error::Stopped)?;
        Ok(Export { handle: self.clone(), snapshot, _hold: hold })
    }

    async fn stretch(&self, stretch: Stretch) -> Result<Piece, ExportError> {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::ReadStretch { stretch, reply }).await.is_err() {
            return Err(ExportError::Stopped);
        }
        answer.await.unwrap_or(Err(ExportError::Stopped))
    }
}

impl Export {
    /// The last commit that is in it.
    pub fn revision(&self) -> Revision {
        self.snapshot.state.revision()
    }

    /// Time of that.
    pub fn time(&self) -> Timestamp {
        self.snapshot.state.time()
    }

    /// The text, in pieces. The next one is made when it is asked for.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, ExportError>> + Send {
        async_stream::try_stream! {
            let Self { handle, snapshot, _hold } = self;
            let mut text = SnapshotText::of(&snapshot)?;
            for record in snapshot.records() {
                text.add(&record)?;
                if text.waiting() >= PIECE_BYTES {
                    yield text.take().into();
                }
            }
            let (mut after, mut missing) = (None, snapshot.requests.len());
            let forgotten = snapshot.requests.forgotten();
            while missing > 0 {
                let asked = Stretch::Requests { after, forgotten };
                let Piece::Requests(stretch) = handle.stretch(asked).await? else { break };
                for (key, record) in &stretch.requests {
                    // Others were done since.
                    if snapshot.requests.has(RequestPlace::of(key, record.time)) {
                        text.add_request(key, record)?;
                        missing -= 1;
                    }
                }
                if stretch.end.is_none() && missing > 0 {
                    Err(ExportError::Damaged(format!("{missing} requests are missing")))?;
                }
                after = stretch.end;
                if text.waiting() >= PIECE_BYTES {
                    yield text.take().into();
                }
            }
            let head = snapshot.state.revision();
            // Revision 0 is no commit.
            let mut next = snapshot.oldest.max(Revision::ZERO.next());
            while next <= head {
                let Piece::Log(commits) = handle.stretch(Stretch::Log(next, head)).await? else {
                    break;
                };
                for commit in commits {
                    next = commit.revision().next();
                    text.add_commit(commit)?;
                }
                if text.waiting() >= PIECE_BYTES {
                    yield text.take().into();
                }
            }
            let (mut after, last) = (0, snapshot.audit.sequence);
            while after < last {
                let Piece::Audit(entries) = handle.stretch(Stretch::Audit(after, last)).await? else {
                    break;
                };
                // A stretch without its next entry would be asked for again for ever.
                if entries.first().is_none_or(|entry| entry.sequence != after + 1) {
                    Err(missing_entry(after + 1))?;
                }
                for entry in &entries {
                    if entry.sequence != after + 1 {
                        Err(missing_entry(after + 1))?;
                    }
                    text.add_audit(entry)?;
                    after = entry.sequence;
                }
                if text.waiting() >= PIECE_BYTES {
                    yield text.take().into();
                }
            }
            yield text.finish()?.into();
        }
    }
}

fn missing_entry(entry: u64) -> ExportError {
    ExportError::Damaged(format!("entry {entry} of the audit chain is missing"))
}

impl Stretch {
    /// The query of the audit chain that a stretch of it is.
    pub(super) fn audit_query(after: u64, up_to: u64) -> AuditQuery {
        AuditQuery { after, up_to, order: Order::OldestFirst, limit: ENTRIES_PER_STRETCH }
    }
}

/// While it is there nothing is removed from the log, and no request is forgotten.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "it only has to be there")] Arc<()>);

/// Who holds the log back, and until when at most, by the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Holds(Vec<(Weak<()>, Duration)>);

impl Holds {
    /// One more, from now on.
    pub(super) fn add(&mut self, now: Duration) -> Hold {
        self.0.retain(|(held, _)| held.strong_count() > 0);
        let held = Arc::new(());
        self.0.push((Arc::downgrade(&held), now.saturating_add(EXPORT_TIME_MAX)));
        Hold(held)
    }

    /// Whether anybody does.
    pub(super) fn any(&self, now: Duration) -> bool {
        self.0.iter().any(|(held, until)| held.strong_count() > 0 && now < *until)
    }
}
