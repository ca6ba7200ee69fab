//! Who is told of what.

use crate::store::outbox::Notification;
use phasegate_engine::id::SinkId;

/// Says who is to be told of what.
pub trait Route: std::fmt::Debug + Send + Sync + 'static {
    /// The sinks that a notification goes to. Asked by the writer for every one, so it has to be
    /// quick and must not wait. Its `id` is not set yet.
    fn sinks(&self, notification: &Notification) -> Vec<SinkId>;
}
