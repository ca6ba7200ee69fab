//! What the rest of the server has of the driver.

use super::{
    inbox::{Gone, Sender},
    message::Message,
    outbox::{Outbox, OutboxUpdate},
    permit::Permit,
    published::Published,
};
use crate::clock::ManualClock;
use crate::store::{
    AuditQuery, LogQuery, StoreId, Subject,
    audit::{AuditEntry, AuditHead, AuditedCall, Outcome},
};
use crate::telemetry::Metrics;
use crate::watch::{Entry, Level, Log};
use phasegate_engine::{
    Refusal, State,
    command::Call,
    id::{Principal, ReleaseId, Revision},
    time::{Span, Timestamp},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::{oneshot, watch};

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
    /// What the caller may.
    pub permit: Arc<dyn Permit>,
    /// Where the call came from, for the record.
    pub origin: Origin,
}

/// Where a call came from, as far as the edge knows. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who was authenticated, if the call is made for somebody else.
    pub authenticated: Option<Principal>,
    /// How, for example `mtls`.
    pub vouched: Option<Arc<str>>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// The trace that the call belongs to: a `traceparent` of W3C Trace Context.
    pub trace: Option<Arc<str>>,
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
    /// The caller may not.
    #[error("the permission {permission} is missing")]
    Forbidden {
        /// What they would need.
        permission: &'static str,
    },
    /// Same `request_id`, other payload.
    #[error("this request_id was used for another request")]
    RequestIdReused,
    /// The store takes no writes for now.
    #[error("the disk is nearly full; nothing is written until there is space")]
    DiskFull,
    /// What was asked for would make the sets of flags that applications are sent too large.
    #[error(
        "all flags together would come to {bytes} bytes as applications are sent them, above the {max} \
         that their clients take"
    )]
    FlagSetTooLarge {
        /// To how many, counted with every phase of unfinished releases applied.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// The writer is gone: the server is stopping, or the store failed.
    #[error("the server is stopping")]
    Stopped,
    /// A defect; the incident is in the log.
    #[error("internal error, incident {0}")]
    Internal(String),
}

impl Error {
    /// Its reason, as the API names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Forbidden { .. } => "PERMISSION_MISSING",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::DiskFull => "STORE_READ_ONLY",
            Self::FlagSetTooLarge { .. } => "FLAG_SET_TOO_LARGE",
            Self::Stopped => "SERVER_DRAINING",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

/// Why the log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    published: Arc<Published>,
    writer: Sender,
}

impl Handle {
    pub(super) fn new(published: Arc<Published>, writer: Sender) -> Self {
        Self { published, writer }
    }

    /// Hands a message to the writer, once it has room for one.
    pub(super) async fn send(&self, message: Message) -> Result<(), Gone> {
        self.writer.send(message).await
    }

    /// Hands a call to the writer and waits until it is durable, or refused. Waits first if the
    /// writer has its hands full. A call that was handed over is done even if nobody waits for the
    /// answer any more.
    pub async fn submit(&self, submission: Submission) -> Result<Done, Error> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Submit { submission: Box::new(submission), reply };
        if self.send(message).await.is_err() {
            return Err(Error::Stopped);
        }
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// The newest durable state.
    pub fn state(&self) -> State {
        State::clone(&self.published.state())
    }

    /// Identity of the store.
    pub fn store_id(&self) -> StoreId {
        self.published.store_id
    }

    /// The newest durable revision: a level to wait for. By the time it shows, [`Self::state`] and
    /// [`Self::log`] have everything up to it. It closes when the writer is gone.
    pub fn head(&self) -> watch::Receiver<Revision> {
        self.published.head.clone()
    }

    /// Oldest revision whose changes are all in the log; zero if nothing was ever removed.
    pub fn oldest(&self) -> Revision {
        self.published.oldest()
    }

    /// Reads the log: from memory if it is recent, through the writer if not. Reading forwards from
    /// below where the log begins is [`LogError::Compacted`], so that nothing is passed over in
    /// silence; who wants what there is begins right below [`Self::oldest`]. Reading backwards ends
    /// where the log does.
    pub async fn log(&self, query: LogQuery) -> Result<Vec<Arc<Entry>>, LogError> {
        if !self.published.reaches_back(&query) {
            return Err(LogError::Compacted { oldest: self.published.oldest() });
        }
        if let Some(entries) = self.published.recent(&query) {
            return Ok(entries);
        }
        let (reply, answer) = oneshot::channel();
        if self.send(Message::ReadLog { query, reply }).await.is_err() {
            return Err(LogError::Stopped);
        }
        answer.await.unwrap_or(Err(LogError::Stopped))
    }

    /// The newest durable entry of the audit chain: a level to wait for. It closes when the writer
    /// is gone.
    pub fn audit_head(&self) -> watch::Receiver<AuditHead> {
        self.published.audit.clone()
    }

    /// Reads the audit chain, through the writer.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, LogError> {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::ReadAudit { query, reply }).await.is_err() {
            return Err(LogError::Stopped);
        }
        answer.await.unwrap_or(Err(LogError::Stopped))
    }

    /// Puts a call on record that the writer does not judge: a refusal at the gate, a request that
    /// could not be parsed, an act on the outbox. Never waits. If the writer has its hands full the
    /// call is only counted, and an entry says so later.
    pub fn note(&self, call: AuditedCall) {
        if let Outcome::Refused { reason } = &call.outcome {
            self.published.metrics.refusals.of(reason).add(1);
        }
        if self.writer.note(Message::Note { call: Box::new(call) }).is_err() {
            self.published.metrics.refusals_unnoted.add(1);
        }
    }

    /// All durable rows of the outbox, pending and dead: a level to wait for, so who looks late sees
    /// the newest ones. Cloning what is borrowed from it is cheap; do not hold on to the borrow. It
    /// closes when the writer is gone.
    pub fn outbox(&self) -> watch::Receiver<Outbox> {
        self.published.outbox.clone()
    }

    /// Tells the writer what became of notifications, in order, and waits until that is durable.
    /// Only the error [`Error::DiskFull`] can pass; then nothing was taken in.
    pub async fn settle(&self, updates: Vec<OutboxUpdate>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Settle { updates, reply }).await.is_err() {
            return Err(Error::Stopped);
        }
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// The server's clock.
    pub fn now(&self) -> Timestamp {
        self.published.clock.now()
    }

    /// True if the clock moves only when it is told to.
    pub fn is_rehearsal(&self) -> bool {
        self.published.clock.as_manual().is_some()
    }

    /// What a manual clock says: a level to wait for. `None` if the clock is not a manual one.
    pub fn manual_clock(&self) -> Option<watch::Receiver<Timestamp>> {
        self.published.clock.as_manual().map(ManualClock::watch)
    }

    /// Moves a manual clock ahead, from deadline to deadline, and waits until everything that came
    /// due is durable. `None` if the clock is not a manual one.
    pub async fn advance(&self, by: Span) -> Option<Result<Timestamp, Error>> {
        self.published.clock.as_manual()?;
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Advance { by, reply }).await.is_err() {
            return Some(Err(Error::Stopped));
        }
        Some(answer.await.unwrap_or(Err(Error::Stopped)))
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.published.metrics
    }

    /// How many messages wait for the writer.
    pub fn waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// Tells the writer to finish what it was given before this, and to stop.
    pub fn stop(&self) {
        self.writer.stop();
    }
}

impl Log for Handle {
    fn commits(&self) -> Arc<Level> {
        Arc::clone(&self.published.commits)
    }

    fn moves(&self, release: &ReleaseId) -> Arc<Level> {
        self.published.followed.follow(release)
    }

    fn oldest(&self) -> Revision {
        self.oldest()
    }

    fn store_id(&self) -> StoreId {
        self.store_id()
    }

    fn state(&self) -> State {
        self.state()
    }

    fn last_change(&self, release: &ReleaseId) -> Revision {
        let state = self.published.state();
        state.release(release).map_or(Revision::ZERO, |release| release.progress.revision)
    }

    async fn read(&self, query: LogQuery) -> Result<Vec<Arc<Entry>>, LogError> {
        self.log(query).await
    }
}
