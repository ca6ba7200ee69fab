//! The store's own code on the simulated disk, and what is seen of it from outside: what the writer
//! committed, what it tried to, what it removed, and whether anybody knew too early.

use crate::{
    disk::{Disk, JournalTree},
    promises::{Broken, every_act_is_on_record, nothing_is_seen_before_it_is_durable},
};
use phasegate_engine::{event::Change, id::Revision, time::Timestamp};
use phasegate_server::{
    driver::Handle,
    store::{
        AuditQuery, Compacted, Compaction, Error, Image, Ledger, LogQuery, LoggedCommit, Record,
        RequestCursor, RequestKey, RequestPlace, RequestRecord, RequestStretch, Store, StoreId,
        Writes,
        audit::{AuditEntry, AuditHead},
    },
};
use std::sync::{Arc, Mutex, MutexGuard};

/// What is seen of a store, across all processes that open it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Sights>>);

#[derive(Debug)]
pub(crate) struct Sights {
    /// What the last process loaded.
    pub(crate) loaded: Option<Loaded>,
    /// Committed, and not looked at yet.
    pub(crate) committed: Vec<Vec<Record>>,
    /// Handed to a commit that failed: durable or not, nobody knows.
    pub(crate) attempted: Vec<Record>,
    /// The end of the audit chain, as of the last commit that succeeded.
    pub(crate) audit: AuditHead,
    /// The end that a commit would have brought that failed.
    pub(crate) audit_attempted: Option<AuditHead>,
    /// Requests done before this may be forgotten.
    pub(crate) requests_kept_from: Timestamp,
    /// Changes of commits before this may be removed.
    pub(crate) changes_kept_from: Timestamp,
    /// Changes that were removed.
    pub(crate) removed: usize,
    /// Reads of the log that reached the store.
    pub(crate) reads: usize,
    /// Promises broken in the middle of a call.
    pub(crate) broken: Option<Broken>,
    /// What the readers of the running process see.
    pub(crate) readers: Option<Handle>,
}

impl Default for Sights {
    fn default() -> Self {
        Self {
            loaded: None,
            committed: Vec::new(),
            attempted: Vec::new(),
            audit: AuditHead::EMPTY,
            audit_attempted: None,
            requests_kept_from: Timestamp::EPOCH,
            changes_kept_from: Timestamp::EPOCH,
            removed: 0,
            reads: 0,
            broken: None,
            readers: None,
        }
    }
}

impl Seen {
    pub(crate) fn look(&self) -> MutexGuard<'_, Sights> {
        self.0.lock().expect("nothing panics while it looks")
    }
}

/// What a process loads, and the requests that the store then has.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) image: Image,
    pub(crate) requests: Vec<(RequestKey, RequestRecord)>,
}

impl Loaded {
    pub(crate) fn of(image: Image, store: &mut impl Store) -> Result<Self, Error> {
        let (mut requests, mut after) = (Vec::new(), None);
        loop {
            let stretch = store.requests(after.as_ref())?;
            requests.extend(stretch.requests);
            after = stretch.end;
            if after.is_none() {
                return Ok(Self { image, requests });
            }
        }
    }
}

/// A store that is watched.
pub(crate) struct WatchedStore {
    ledger: Ledger<JournalTree>,
    seen: Seen,
}

/// Opens the store on a disk, or makes one.
pub(crate) fn open(disk: &Disk, fresh: StoreId) -> Result<Ledger<JournalTree>, Error> {
    match Ledger::open(JournalTree::open(disk)?)? {
        Some(ledger) => Ok(ledger),
        None => Ledger::create(JournalTree::open(disk)?, fresh),
    }
}

impl WatchedStore {
    pub(crate) fn new(ledger: Ledger<JournalTree>, seen: Seen) -> Self {
        Self { ledger, seen }
    }
}

impl Store for WatchedStore {
    fn load(&mut self) -> Result<Image, Error> {
        let image = self.ledger.load()?;
        self.seen.look().loaded = Some(Loaded::of(image.clone(), &mut self.ledger)?);
        Ok(image)
    }

    fn commit(&mut self, writes: Writes<'_>) -> Result<(), Error> {
        let records = writes.records;
        {
            let mut sights = self.seen.look();
            if let (Some(readers), Some(first)) = (&sights.readers, records.first()) {
                let verdict = nothing_is_seen_before_it_is_durable(readers, first.revision);
                sights.broken = sights.broken.take().or_else(|| verdict.err());
            }
            let verdict = every_act_is_on_record(writes);
            sights.broken = sights.broken.take().or_else(|| verdict.err());
        }
        let result = self.ledger.commit(writes);
        let mut sights = self.seen.look();
        let audit = writes.audit.last().map(AuditEntry::head);
        match &result {
            Ok(()) => sights.audit = audit.unwrap_or(sights.audit),
            Err(_) => sights.audit_attempted = audit,
        }
        match &result {
            Ok(()) if records.is_empty() => {}
            Ok(()) => sights.committed.push(records.to_vec()),
            Err(_) => sights.attempted = records.to_vec(),
        }
        result
    }

    fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        self.ledger.audit(query)
    }

    fn changes(&mut self, query: &LogQuery) -> Result<Vec<Arc<Change>>, Error> {
        self.seen.look().reads += 1;
        self.ledger.changes(query)
    }

    fn commits(&mut self, from: Revision, to: Revision) -> Result<Vec<LoggedCommit>, Error> {
        self.ledger.commits(from, to)
    }

    fn request(&mut self, place: RequestPlace) -> Result<Option<RequestRecord>, Error> {
        self.ledger.request(place)
    }

    fn requests(&mut self, after: Option<&RequestCursor>) -> Result<RequestStretch, Error> {
        self.ledger.requests(after)
    }

    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, Error> {
        {
            let mut sights = self.seen.look();
            sights.requests_kept_from = sights.requests_kept_from.max(limits.requests_before);
            sights.changes_kept_from = sights.changes_kept_from.max(limits.changes_before);
        }
        let compacted = self.ledger.compact(limits)?;
        self.seen.look().removed += compacted.changes;
        Ok(compacted)
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.ledger.free_space()
    }
}
