//! The outbox as this room needs it: rows to look at, a level to wait for, and a way to write down how
//! far they are.

use crate::driver::{OutboxKey, OutboxRow};
use phasegate_engine::time::Timestamp;
use std::{future::Future, sync::Arc};
use tokio::sync::watch;

/// What is written down of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// It was delivered: it goes.
    Delivered(OutboxKey),
    /// It was not, and is tried again.
    Retry {
        /// Which.
        key: OutboxKey,
        /// How often it was tried.
        attempts: u32,
        /// Not before this time.
        next_at: Timestamp,
        /// Why not.
        error: Arc<str>,
    },
    /// It was not, and is given up.
    Dead {
        /// Which.
        key: OutboxKey,
        /// How often it was tried.
        attempts: u32,
        /// Why not.
        error: Arc<str>,
    },
    /// Somebody wants it to be tried again from the beginning, though it was given up.
    Replay(OutboxKey),
}

impl Update {
    /// Which row.
    pub fn key(&self) -> &OutboxKey {
        match self {
            Self::Delivered(key) | Self::Replay(key) => key,
            Self::Retry { key, .. } | Self::Dead { key, .. } => key,
        }
    }
}

/// Why nothing was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The store takes nothing for now.
    #[error("the store takes no writes for now")]
    NotNow,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
}

/// Rows in order of sink and then of sequence.
pub type Rows = Arc<dyn OutboxRows>;

/// All rows as of one moment.
pub trait OutboxRows: Send + Sync {
    /// In order of sink and then of sequence.
    fn iter(&self) -> Box<dyn Iterator<Item = (&OutboxKey, &OutboxRow)> + '_>;
    /// One of them.
    fn get(&self, key: &OutboxKey) -> Option<&OutboxRow>;
}

/// Where notifications wait.
pub trait Outbox: Clone + Send + Sync + 'static {
    /// All rows, as of the newest durable commit.
    fn rows(&self) -> Rows;
    /// A level that moves whenever the rows differ, and closes when the server stops.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Writes down how far rows are. When it returns, that is durable and [`Self::rows`] shows it. Rows
    /// that are there no more are passed over.
    fn settle(
        &self,
        updates: Vec<Update>,
    ) -> impl Future<Output = Result<(), SettleError>> + Send + 'static;
    /// The server's clock.
    fn now(&self) -> Timestamp;
}
