//! What can be set about watches.

use std::time::Duration;

/// What can be set about watches.
#[derive(Clone, Debug)]
pub struct Config {
    /// Streams of one principal at most. Default 100.
    pub streams_of_a_principal: usize,
    /// Streams in all at most. Default 20 000.
    pub streams: usize,
    /// The longest silence; up to a tenth of it is taken off at random. Default 15 s: common proxies
    /// cut a stream after 60 s without a message.
    pub heartbeat: Duration,
    /// The age at which a stream ends; up to a tenth is added or taken off at random. Default 1 h.
    pub lifetime: Duration,
    /// A stream with something to deliver that is not asked for it this long ends. Default 60 s.
    pub slow_after: Duration,
    /// When the server stops, streams end at random times inside this. Default 10 s.
    pub drain_over: Duration,
    /// Items of a watch of many releases are about this large at most, unless one commit is larger.
    /// Default 256 KiB.
    pub item_bytes: usize,
    /// Entries taken from the log at once. Default 64: few enough to hold for a slow watcher.
    pub read_entries: usize,
    /// Bytes taken from the log at once, by estimate, but at least one commit. Default 64 KiB.
    pub read_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            streams_of_a_principal: 100,
            streams: 20_000,
            heartbeat: Duration::from_secs(15),
            lifetime: Duration::from_secs(3600),
            slow_after: Duration::from_secs(60),
            drain_over: Duration::from_secs(10),
            item_bytes: 256 << 10,
            read_entries: 64,
            read_bytes: 64 << 10,
        }
    }
}
