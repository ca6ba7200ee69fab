//! The watch of the audit chain.

use super::{
    Position, Watch,
    channels::Seat,
    resume::{self, Subject, Taken},
};
use crate::{
    Client, Error,
    v1::{self, audit_service_client::AuditServiceClient},
};
use tonic::{Status, Streaming, metadata::MetadataMap};

/// What a watch of the audit chain tells. The `revision` of a position is the number of an entry.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AuditUpdate {
    /// The next entry.
    Entry {
        /// The entry.
        entry: Box<v1::AuditEntry>,
        /// Everything up to here is delivered.
        position: Position,
    },
    /// Nothing happened, at least every 15 s: everything up to here is delivered.
    Bookmark(Position),
    /// The stream broke, and is about to be resumed. Nothing is lost.
    Interrupted(Error),
    /// The stream that was interrupted is open again.
    Resumed,
    /// The store is another one. Its whole chain follows.
    Restarted(Error),
}

impl Client {
    /// Follows the audit chain behind a position, for ever: every entry, each once, in order. The
    /// default position is its beginning.
    pub fn watch_audit_entries(&self, from: Position) -> Watch<AuditUpdate> {
        resume::watch(self.clone(), Chain, from)
    }
}

struct Chain;

impl Subject for Chain {
    type Message = v1::WatchAuditEntriesResponse;
    type Update = AuditUpdate;

    fn begin(&mut self, _: &Position) {}

    async fn open(
        &self,
        seat: &Seat,
        from: &Position,
        sign: impl FnOnce(&mut MetadataMap) + Send,
    ) -> Result<Streaming<Self::Message>, Status> {
        let request = v1::WatchAuditEntriesRequest {
            after_sequence: from.revision,
            store_id: from.store_id.clone(),
        };
        let mut service = AuditServiceClient::new(seat.channel.clone());
        let stream = service.watch_audit_entries(resume::signed(request, sign)).await?;
        Ok(stream.into_inner())
    }

    fn take(&mut self, message: Self::Message) -> Taken<AuditUpdate> {
        let v1::WatchAuditEntriesResponse { entry, sequence, store_id } = message;
        let position = Position { revision: sequence, store_id };
        let update = match entry {
            Some(entry) => {
                AuditUpdate::Entry { entry: Box::new(entry), position: position.clone() }
            }
            None => AuditUpdate::Bookmark(position.clone()),
        };
        Taken { position, update: Some(update) }
    }

    /// The chain never ends.
    async fn is_over(&mut self, _: &Client) -> Result<bool, Error> {
        Ok(false)
    }

    fn interrupted(error: Error) -> AuditUpdate {
        AuditUpdate::Interrupted(error)
    }

    fn resumed() -> AuditUpdate {
        AuditUpdate::Resumed
    }

    fn restarted(error: Error) -> AuditUpdate {
        AuditUpdate::Restarted(error)
    }
}
