//! Where commits become durable.
//!
//! A [`Store`] is used by one thread, the writer, for everything: writes, and reads of the log that
//! is too old for memory. What it promises is said at each method and checked by the contract tests,
//! which every store passes.
//!
//! Below the trait: [`Ledger`] keeps commits in a [`Tree`] of bytes, whatever holds that tree:
//! [`memory`] or [`sled`]. What it writes there is in `record`.
//!
//! Deliberately absent: reads of single resources (the writer has the state in memory), clocks and
//! randomness (times and new ids are arguments), retries (after a failed write nothing is known).

pub mod audit;
pub mod chain;
mod check;
mod directory;
mod ledger;
pub mod memory;
pub mod outbox;
mod record;
mod request;
pub mod sled;
pub mod snapshot;
mod text;
pub mod tools;
mod tree;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod testing;

pub use check::{Counts, FINDINGS_MOST, Finding, Verified};
pub use ledger::Ledger;
pub use request::{
    RequestCursor, RequestIndex, RequestKey, RequestPlace, RequestRecord, RequestStretch, Subject,
};
pub use snapshot::LoggedCommit;
pub use tree::{Batch, Direction, Tree};

use audit::{AuditEntry, AuditHead};
use outbox::{OutboxKey, OutboxRow, Reminder};
use phasegate_engine::{
    State,
    event::Change,
    flag::Flag,
    id::{FlagId, PipelineId, ReleaseId, Revision},
    pipeline::Pipeline,
    release::{Proposal, Release},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Identity of a store: a restored or imported one gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl StoreId {
    /// One that no other store has.
    pub fn fresh() -> Self {
        Self(Uuid::new_v4())
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A durable home of commits.
pub trait Store: Send + 'static {
    /// Everything but the log, as of the last commit. Checks that what it finds is consistent:
    /// the last batch is whole, no commit of the log is missing, the parts of releases fit.
    fn load(&mut self) -> Result<Image, Error>;

    /// Makes the writes durable, all or none, the records in order. When it returns they survive a
    /// power cut. Without a record the last revision stays what it is.
    ///
    /// [`Error::Rejected`] means that nothing was written. After any other error nothing may be
    /// assumed, and every later call fails: the caller ends the process.
    fn commit(&mut self, writes: Writes<'_>) -> Result<(), Error>;

    /// Reads the log, from [`Compacted::oldest`] on.
    fn changes(&mut self, query: &LogQuery) -> Result<Vec<Arc<Change>>, Error>;

    /// Reads commits with all that the log has of them, from `from` up to `to`, both included: some of
    /// them, at least the first, and none left out. [`Error::Damaged`] if one is missing.
    fn commits(&mut self, from: Revision, to: Revision) -> Result<Vec<LoggedCommit>, Error>;

    /// Reads the audit chain. Nothing is ever removed from it.
    fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditEntry>, Error>;

    /// Reads the request that stands here, a place from [`RequestIndex::find`]; none if that has taken another
    /// one for it. [`Error::Damaged`] if there is neither.
    fn request(&mut self, place: RequestPlace) -> Result<Option<RequestRecord>, Error>;

    /// Reads requests, from the first on or after those that were read: some of them. All that were there
    /// when the first stretch was read come once and only once, as long as none is removed; of what is added
    /// meanwhile some may.
    fn requests(&mut self, after: Option<&RequestCursor>) -> Result<RequestStretch, Error>;

    /// Removes at most `limits.most` of what is too old to keep: first makes the new oldest revision
    /// durable, then deletes below it.
    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, Error>;

    /// Bytes that can still be written where the store lives; none if there is no such bound.
    fn free_space(&self) -> Result<Option<u64>, Error>;

    /// How long the barrier of the last write took; none if there is no such thing.
    fn sync_took(&self) -> Option<Duration> {
        None
    }
}

/// What a store holds, the log apart.
#[derive(Clone, Debug)]
pub struct Image {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Oldest revision whose changes are all in the log; zero if nothing was ever removed.
    pub oldest: Revision,
    /// Flags, pipelines and releases.
    pub state: State,
    /// Requests that must not be done twice.
    pub requests: RequestIndex,
    /// The newest entry of the audit chain.
    pub audit: AuditHead,
    /// Notifications that are to be sent, and those that were given up.
    pub outbox: Vec<(OutboxKey, OutboxRow)>,
    /// Releases of whose approvals somebody was reminded.
    pub reminders: Vec<(ReleaseId, Reminder)>,
}

/// What one batch makes durable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes<'a> {
    /// Commits.
    pub records: &'a [Record],
    /// Entries of the audit chain, each following on the one before.
    pub audit: &'a [AuditEntry],
    /// Rows of the outbox.
    pub outbox: &'a [Write<OutboxKey, OutboxRow>],
    /// What is remembered of reminders.
    pub reminders: &'a [Write<ReleaseId, Reminder>],
}

impl<'a> Writes<'a> {
    /// Commits and nothing else.
    pub fn of(records: &'a [Record]) -> Self {
        Self { records, ..Self::default() }
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.audit.is_empty()
            && self.outbox.is_empty()
            && self.reminders.is_empty()
    }
}

/// A stretch of the audit chain.
#[derive(Clone, Copy, Debug)]
pub struct AuditQuery {
    /// Only entries above this number.
    pub after: u64,
    /// Only entries up to and with this number.
    pub up_to: u64,
    /// Which end to begin at.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
}

/// One commit, as it is written.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its revision: one above that of the record before it.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// Flags that it stored or deleted.
    pub flags: Vec<Write<FlagId, Flag>>,
    /// Pipelines that it stored or deleted.
    pub pipelines: Vec<Write<PipelineId, Pipeline>>,
    /// Releases that it created.
    pub proposals: Vec<Arc<Proposal>>,
    /// Releases that it touched, as they are afterwards.
    pub releases: Vec<Arc<Release>>,
    /// Entries of the log.
    pub changes: Vec<Arc<Change>>,
    /// The request that asked for it.
    pub request: Option<(RequestKey, RequestRecord)>,
}

/// A resource that a commit stored or deleted.
#[derive(Clone, Debug)]
pub enum Write<K, V> {
    /// This is what it is now.
    Put(K, Arc<V>),
    /// It is gone.
    Delete(K),
}

/// A stretch of the log.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Only changes above this revision.
    pub after: Revision,
    /// Only changes up to and with this revision.
    pub up_to: Revision,
    /// Only changes of this release.
    pub release: Option<ReleaseId>,
    /// Which end to begin at.
    pub order: Order,
    /// Whole commits as long as so many changes are not passed, but at least one commit. Only an
    /// empty answer says that the stretch holds no more.
    pub limit: usize,
}

/// By revision, then by release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Growing revisions.
    OldestFirst,
    /// Falling revisions (the releases of one commit still in their order).
    NewestFirst,
}

/// What to remove.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// Changes of commits before this time.
    pub changes_before: Timestamp,
    /// Requests done before this time.
    pub requests_before: Timestamp,
    /// At most so many commits and so many requests.
    pub most: usize,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Compacted {
    /// Oldest revision whose changes are all still in the log; zero if nothing was ever removed.
    pub oldest: Revision,
    /// Requests that are forgotten.
    pub requests: Vec<RequestPlace>,
    /// How many changes were removed from the log.
    pub changes: usize,
    /// Whether all that may go is gone.
    pub progress: CompactionProgress,
}

/// Whether all that may go is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionProgress {
    /// Nothing is left to remove.
    #[default]
    Done,
    /// The limit was reached: call again.
    More,
}

impl From<record::Unreadable> for Error {
    fn from(unreadable: record::Unreadable) -> Self {
        Self::Damaged(unreadable.to_string())
    }
}

/// Why a store did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is held by another process.
    #[error("the data directory {dir} is in use by {holder}")]
    Locked {
        /// The directory.
        dir: String,
        /// Who holds it, as far as it is known.
        holder: String,
    },
    /// The directory holds something else, or a format of another version.
    #[error("{dir} is no data directory of this version: {problem}")]
    Foreign {
        /// The directory.
        dir: String,
        /// What is there.
        problem: String,
    },
    /// Others than the owner can get at the directory.
    #[error("{dir} is open to others (mode {mode:o}): chmod it to 700")]
    Exposed {
        /// The directory.
        dir: String,
        /// Its mode.
        mode: u32,
    },
    /// What is stored contradicts itself. Nothing was removed: copy the directory before anything
    /// else is tried.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// What is stored was written by another version.
    #[error("the store has format {found}; this version reads and writes format {ours}")]
    Format {
        /// What is there.
        found: u32,
        /// What this version knows.
        ours: u32,
    },
    /// The commits do not follow on what is stored. Nothing was written.
    #[error("the commit was rejected: {0}")]
    Rejected(String),
    /// An earlier call failed; what is durable is not known until the store is opened again.
    #[error("the store has failed before and takes nothing more")]
    Failed,
    /// The disk is full.
    #[error("no space left")]
    Full(#[source] std::io::Error),
    /// The operating system refused.
    #[error("{doing} failed")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}
