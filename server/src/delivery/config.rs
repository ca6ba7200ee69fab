//! What can be set about delivery.

use crate::driver::FLAG_SET_BYTES_MAX;
use phasegate_engine::id::EnvironmentId;
use std::time::Duration;

/// What can be set about delivery.
#[derive(Clone, Debug)]
pub struct Config {
    /// Environments that there are though no flag and no pipeline names them. Default none.
    pub environments: Vec<EnvironmentId>,
    /// The environment of callers that select none. Default none: they are told how to select.
    pub default_environment: Option<EnvironmentId>,
    /// Origins, for example `https://app.example.com`, whose pages in browsers may ask for answers
    /// over OFREP. Default none.
    pub origins: Vec<String>,
    /// Streams of all kinds at most. Default 20 000.
    pub streams: usize,
    /// At least so long between two sets that are sent to the same environment. Default 50 ms: a
    /// burst of changes becomes one set, and nobody waits longer than is noticed.
    pub pause: Duration,
    /// The longest silence of a stream of events. Default 20 s: common proxies cut a stream after
    /// 60 s without a message.
    pub keep_alive: Duration,
    /// The age at which a stream ends; up to a tenth is added or taken off at random. Default 1 h:
    /// this spreads streams over servers.
    pub lifetime: Duration,
    /// A set with more bytes than this, as JSON, is not sent. Default [`FLAG_SET_BYTES_MAX`]; the
    /// writer refuses what would lead here.
    pub set_bytes_max: usize,
}

impl Config {
    /// All environments that the settings name.
    pub fn environments(&self) -> Vec<EnvironmentId> {
        self.environments.iter().chain(&self.default_environment).cloned().collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            environments: Vec::new(),
            default_environment: None,
            origins: Vec::new(),
            streams: 20_000,
            pause: Duration::from_millis(50),
            keep_alive: Duration::from_secs(20),
            lifetime: Duration::from_secs(3600),
            set_bytes_max: FLAG_SET_BYTES_MAX,
        }
    }
}
