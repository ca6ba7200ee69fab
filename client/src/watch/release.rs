//! The watch of one release.

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

/// What a watch of one release tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReleaseUpdate {
    /// The release as it is, with its `change` and `pipeline_snapshot`. Comes first, unless the
    /// watch was resumed, and after [`Restarted`](Self::Restarted).
    Snapshot {
        /// The release.
        release: Box<v1::Release>,
        /// Everything up to here is delivered.
        position: Position,
        /// Clock of the server: count its timers down by this, not by the clock at hand.
        server_time: Option<Timestamp>,
    },
    /// What one commit did.
    Change {
        /// The release after it, without `change` and `pipeline_snapshot`.
        release: Box<v1::Release>,
        /// What happened, in order.
        events: Vec<v1::ReleaseEvent>,
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
    /// The log no longer reaches back to what was seen last, or the store is another one. Forget what
    /// was seen; a snapshot follows. Events in between are not delivered.
    Restarted(Error),
}

impl Client {
    /// Follows one release to its end: a snapshot, then every change, each once, in order.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), phasegate_client::Error> {
    /// use phasegate_client::{Client, ReleaseUpdate};
    ///
    /// let client = Client::connect("http://127.0.0.1:7433").await?;
    /// let mut watch = client.watch_release("releases/checkout-v2-1");
    /// while let Some(update) = watch.next().await {
    ///     match update? {
    ///         ReleaseUpdate::Snapshot { release, .. } => println!("is {:?}", release.state()),
    ///         ReleaseUpdate::Change { events, .. } => {
    ///             for event in events {
    ///                 println!("{:?} {}", event.event_type(), event.phase_id);
    ///             }
    ///         }
    ///         ReleaseUpdate::Restarted(why) => println!("beginning anew: {why}"),
    ///         _ => {}
    ///     }
    /// }
    /// println!("over");
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_release(&self, name: impl Into<String>) -> Watch<ReleaseUpdate> {
        self.resume_release(name, Position::default())
    }

    /// Goes on behind a position of an earlier watch of the same release: without a snapshot, unless
    /// the log no longer reaches back so far.
    pub fn resume_release(&self, name: impl Into<String>, from: Position) -> Watch<ReleaseUpdate> {
        let subject = OneRelease { name: name.into(), ended: false };
        resume::watch(self.clone(), subject, from)
    }
}

struct OneRelease {
    name: String,
    /// The last release that was seen is over.
    ended: bool,
}

impl Subject for OneRelease {
    type Message = v1::WatchReleaseResponse;
    type Update = ReleaseUpdate;

    fn begin(&mut self, _: &Position) {}

    async fn open(
        &self,
        seat: &Seat,
        from: &Position,
        sign: impl FnOnce(&mut MetadataMap) + Send,
    ) -> Result<Streaming<Self::Message>, Status> {
        let request = v1::WatchReleaseRequest {
            name: self.name.clone(),
            resume_after_revision: from.revision,
            store_id: from.store_id.clone(),
        };
        let mut service = ReleaseServiceClient::new(seat.channel.clone());
        let stream = service.watch_release(resume::signed(request, sign)).await?;
        Ok(stream.into_inner())
    }

    fn take(&mut self, message: Self::Message) -> Taken<ReleaseUpdate> {
        let v1::WatchReleaseResponse { revision, store_id, server_time, release, events } = message;
        let position = Position { revision, store_id };
        if let Some(release) = &release {
            self.ended = release.end_time.is_some();
        }
        let update = match release.map(Box::new) {
            None => ReleaseUpdate::Bookmark { position: position.clone(), server_time },
            Some(release) if events.is_empty() => {
                ReleaseUpdate::Snapshot { release, position: position.clone(), server_time }
            }
            Some(release) => {
                ReleaseUpdate::Change { release, events, position: position.clone(), server_time }
            }
        };
        Taken { position, update: Some(update) }
    }

    /// OK after a resumption at or behind the end comes without a release: the server is asked.
    async fn is_over(&mut self, client: &Client) -> Result<bool, Error> {
        if !self.ended {
            let release = client.get_release(self.name.clone()).await?;
            self.ended = release.end_time.is_some();
        }
        Ok(self.ended)
    }

    fn interrupted(error: Error) -> ReleaseUpdate {
        ReleaseUpdate::Interrupted(error)
    }

    fn resumed() -> ReleaseUpdate {
        ReleaseUpdate::Resumed
    }

    fn restarted(error: Error) -> ReleaseUpdate {
        ReleaseUpdate::Restarted(error)
    }
}
