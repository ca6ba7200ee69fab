//! The watch of all releases that match a filter.

use super::{
    Position, Watch,
    channels::Seat,
    resume::{self, Subject, Taken},
};
use crate::{
    Client, Error,
    v1::{self, release_service_client::ReleaseServiceClient},
};
use prost_types::Timestamp;
use tonic::{Status, Streaming, metadata::MetadataMap};

/// What a watch of releases tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReleasesUpdate {
    /// All releases that match, as of one revision. Replaces whatever was known before. Comes first,
    /// unless the watch was resumed, and after [`Restarted`](Self::Restarted).
    Snapshot {
        /// The releases, without `change` and `pipeline_snapshot`.
        releases: Vec<v1::Release>,
        /// Everything up to here is delivered.
        position: Position,
        /// Clock of the server: count its timers down by this, not by the clock at hand.
        server_time: Option<Timestamp>,
    },
    /// What one or several whole commits did, in order.
    Changes {
        /// Each with the release after it, and whether it stopped matching.
        changes: Vec<v1::ReleaseChange>,
        /// Everything up to here is delivered.
        position: Position,
        /// Clock of the server.
        server_time: Option<Timestamp>,
    },
    /// Nothing happened, at least every 15 s. For those who store positions.
    Bookmark {
        /// Everything up to here is delivered.
        position: Position,
        /// Clock of the server.
        server_time: Option<Timestamp>,
    },
    /// The stream broke, and is about to be resumed. Nothing is lost.
    Interrupted(Error),
    /// The stream that was interrupted is open again; what was missed comes now, if anything was.
    Resumed,
    /// The log no longer reaches back to what was seen last, or the store is another one. A snapshot
    /// follows. Events in between are not delivered.
    Restarted(Error),
}

impl Client {
    /// Follows all releases that match a filter, for ever: a snapshot of them, then every change,
    /// each once, in order.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), phasegate_client::Error> {
    /// use phasegate_client::{Client, ReleasesUpdate, v1::ReleaseFilter};
    ///
    /// let client = Client::connect("http://127.0.0.1:7433").await?;
    /// let unfinished = ReleaseFilter { unfinished_only: true, ..Default::default() };
    /// let mut watch = client.watch_releases(unfinished);
    /// while let Some(update) = watch.next().await {
    ///     match update? {
    ///         ReleasesUpdate::Snapshot { releases, .. } => println!("{} under way", releases.len()),
    ///         ReleasesUpdate::Changes { changes, .. } => println!("{} changes", changes.len()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_releases(&self, filter: v1::ReleaseFilter) -> Watch<ReleasesUpdate> {
        self.resume_releases(filter, Position::default())
    }

    /// Goes on behind a position of an earlier watch with the same filter: without a snapshot, unless
    /// the log no longer reaches back so far.
    pub fn resume_releases(
        &self,
        filter: v1::ReleaseFilter,
        from: Position,
    ) -> Watch<ReleasesUpdate> {
        resume::watch(self.clone(), Matching { filter, state: Synced::NotYet(Vec::new()) }, from)
    }
}

struct Matching {
    filter: v1::ReleaseFilter,
    state: Synced,
}

/// Whether the set is complete.
enum Synced {
    /// What has come of it so far. No revision can be resumed from yet.
    NotYet(Vec<v1::Release>),
    Yes,
}

impl Subject for Matching {
    type Message = v1::WatchReleasesResponse;
    type Update = ReleasesUpdate;

    fn begin(&mut self, from: &Position) {
        self.state = match from.revision {
            0 => Synced::NotYet(Vec::new()),
            _ => Synced::Yes,
        };
    }

    async fn open(
        &self,
        seat: &Seat,
        from: &Position,
        sign: impl FnOnce(&mut MetadataMap) + Send,
    ) -> Result<Streaming<Self::Message>, Status> {
        let request = v1::WatchReleasesRequest {
            resume_after_revision: from.revision,
            store_id: from.store_id.clone(),
            filter: Some(self.filter.clone()),
        };
        let mut service = ReleaseServiceClient::new(seat.channel.clone());
        let stream = service.watch_releases(resume::signed(request, sign)).await?;
        Ok(stream.into_inner())
    }

    fn take(&mut self, message: Self::Message) -> Taken<ReleasesUpdate> {
        let v1::WatchReleasesResponse { revision, store_id, server_time, initial, synced, changes } =
            message;
        let position = Position { revision, store_id };
        match &mut self.state {
            Synced::NotYet(set) => {
                set.extend(initial);
                if !synced {
                    return Taken { position: Position::default(), update: None };
                }
                let releases = std::mem::take(set);
                self.state = Synced::Yes;
                let update =
                    ReleasesUpdate::Snapshot { releases, position: position.clone(), server_time };
                Taken { position, update: Some(update) }
            }
            Synced::Yes if changes.is_empty() => {
                let update = ReleasesUpdate::Bookmark { position: position.clone(), server_time };
                Taken { position, update: Some(update) }
            }
            Synced::Yes => {
                let update =
                    ReleasesUpdate::Changes { changes, position: position.clone(), server_time };
                Taken { position, update: Some(update) }
            }
        }
    }

    /// The server never says that all releases there will ever be are over.
    async fn is_over(&mut self, _: &Client) -> Result<bool, Error> {
        Ok(false)
    }

    fn interrupted(error: Error) -> ReleasesUpdate {
        ReleasesUpdate::Interrupted(error)
    }

    fn resumed() -> ReleasesUpdate {
        ReleasesUpdate::Resumed
    }

    fn restarted(error: Error) -> ReleasesUpdate {
        ReleasesUpdate::Restarted(error)
    }
}
