//! What exports ask of the writer: the store at one revision, and stretches of what only grows.

use super::{StoreFailed, Writer};
use crate::{
    driver::export::{ExportError, Piece, Stretch},
    store::{self, snapshot::Snapshot},
};

impl Writer {
    /// The store as it is: to be called when the batch in hand is durable.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            store_id: self.published().store_id,
            oldest: self.published().oldest(),
            state: self.state.clone(),
            requests: self.requests.index().clone(),
            audit: self.recorder.head(),
            outbox: self.rows.snapshot(),
            reminders: self.reminders.snapshot(),
        }
    }

    /// Reads a stretch. Damage there ends the export and not the server, which goes on without what it
    /// reads of the log, of requests and of old audit entries only when somebody asks.
    pub(super) fn read_stretch(
        &mut self,
        stretch: Stretch,
    ) -> Result<Result<Piece, ExportError>, StoreFailed> {
        let read = match stretch {
            Stretch::Log(from, _) if from < self.published().oldest() => {
                return Ok(Err(ExportError::Expired));
            }
            Stretch::Requests { forgotten, .. }
                if forgotten != self.requests.index().forgotten() =>
            {
                return Ok(Err(ExportError::Expired));
            }
            Stretch::Requests { after, .. } => {
                self.store.requests(after.as_ref()).map(Piece::Requests)
            }
            Stretch::Log(from, to) => self.store.commits(from, to).map(Piece::Log),
            Stretch::Audit(after, up_to) => {
                self.store.audit(&Stretch::audit_query(after, up_to)).map(Piece::Audit)
            }
        };
        match read {
            Err(store::Error::Damaged(problem)) => Ok(Err(ExportError::Damaged(problem))),
            read => Ok(Ok(read?)),
        }
    }
}
