//! Watches that go on: over lost connections, restarts of the server, and a log that was cut.
//!
//! No generated client resumes a stream: once headers have arrived, gRPC retries end. The loop in
//! [`resume`] does it, for both kinds of watch.

mod audit;
mod channels;
mod release;
mod releases;
mod resume;

pub use audit::AuditUpdate;
pub(crate) use channels::Channels;
pub use release::ReleaseUpdate;
pub use releases::ReleasesUpdate;

use crate::Error;
use futures_util::Stream;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// A place in the log: everything up to it was delivered. What is needed to go on from there, also
/// in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last revision that was delivered; 0 begins with a snapshot.
    pub revision: i64,
    /// The store whose revision it is. Another one has other revisions.
    pub store_id: String,
}

/// A watch: a stream of updates that resumes by itself.
///
/// It ends when what it watches is over, or with the one error that it cannot recover from, such as
/// a release that does not exist. Dropping it ends it on the server too. An update is taken from the
/// server only when it is asked for, so a consumer may be slow; one that stops for a minute finds
/// the stream resumed.
pub struct Watch<T> {
    updates: Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>,
}

impl<T> Watch<T> {
    fn new(updates: impl Stream<Item = Result<T, Error>> + Send + 'static) -> Self {
        Self { updates: Box::pin(updates) }
    }

    /// The next update; none when the watch has ended. May be cancelled without losing anything.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        std::future::poll_fn(|cx| self.updates.as_mut().poll_next(cx)).await
    }
}

impl<T> Stream for Watch<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.updates.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
