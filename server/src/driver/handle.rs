//! What the rest of the server has of the driver.

use crate::store::{LogQuery, StoreId, Subject};
use crate::watch::Entry;
use phasegate_engine::{
    Refusal, State,
    command::Call,
    id::Revision,
    time::{Span, Timestamp},
};
use std::sync::Arc;
use tokio::sync::watch;

/// A call on its way to the writer.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What is asked, by whom. Its `request_id`, if set, makes it safe to repeat.
    pub call: Call,
    /// Name of the RPC: part of the key of `request_id`.
    pub rpc: &'static str,
    /// SHA-256 of the request without `request_id`.
    pub payload: [u8; 32],
    /// Whether anything is to be committed.
    pub mode: Mode,
}

/// Whether anything is to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Commit,
    /// Check everything, commit nothing, answer as if done.
    ValidateOnly,
}

/// The answer to a call that was accepted.
#[derive(Clone, Debug)]
pub struct Done {
    /// The state after it (as if after it, with [`Mode::ValidateOnly`]; as of now, for a repetition).
    /// All of it is durable, unless nothing was to be committed.
    pub state: State,
    /// What it was about. For a repeated trigger, the release that the first one made.
    pub subject: Subject,
    /// When it was judged.
    pub now: Timestamp,
}

/// Why a call was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The engine said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Same `request_id`, other payload.
    #[error("this request_id was used for another request")]
    RequestIdReused,
    /// The store takes no writes for now.
    #[error("the disk is nearly full; nothing is written until there is space")]
    DiskFull,
    /// The writer is gone: the server is stopping, or the store failed.
    #[error("the server is stopping")]
    Stopped,
    /// A defect; the incident is in the log.
    #[error("internal error, incident {0}")]
    Internal(String),
}

/// Why the log could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The log does not reach back so far.
    #[error("the log begins at revision {oldest}")]
    Compacted {
        /// Where it begins.
        oldest: Revision,
    },
    /// The writer is gone.
    #[error("the server is stopping")]
    Stopped,
}

/// The way to the writer, and to what it has published. Clones share everything.
#[derive(Clone, Debug)]
pub struct Handle {
    _private: (),
}

impl Handle {
    /// Hands a call to the writer and waits until it is durable, or refused.
    pub async fn submit(&self, _submission: Submission) -> Result<Done, Error> {
        Err(Error::Stopped)
    }

    /// The newest durable state.
    pub fn state(&self) -> State {
        State::default()
    }

    /// Identity of the store.
    pub fn store_id(&self) -> StoreId {
        StoreId(uuid::Uuid::nil())
    }

    /// The newest durable revision: a level to wait for. By the time it shows, [`Self::state`] and
    /// [`Self::log`] have everything up to it.
    pub fn head(&self) -> watch::Receiver<Revision> {
        watch::channel(Revision::ZERO).1
    }

    /// Oldest revision whose changes are all in the log; zero if nothing was ever removed.
    pub fn oldest(&self) -> Revision {
        Revision::ZERO
    }

    /// Reads the log: from memory if it is recent, through the writer if not.
    pub async fn log(&self, _query: LogQuery) -> Result<Vec<Arc<Entry>>, LogError> {
        Err(LogError::Stopped)
    }

    /// The server's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }

    /// Moves a manual clock ahead, from deadline to deadline, and waits until everything that came
    /// due is durable. `None` if the clock is not a manual one.
    pub async fn advance(&self, _by: Span) -> Option<Result<Timestamp, Error>> {
        None
    }
}
