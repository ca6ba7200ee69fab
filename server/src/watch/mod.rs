//! Watches: cursors into the log.

use bytes::Bytes;
use phasegate_engine::event::Change;
use std::sync::OnceLock;

/// An entry of the log, with room for what the edge makes of it, so that it is encoded once for all
/// who watch.
#[derive(Debug)]
pub struct Entry {
    /// What happened.
    pub change: Change,
    /// Its encoding for `WatchRelease`: the fields `release` and `events` of the response.
    pub wire: OnceLock<Bytes>,
}
