//! Commits in a [`Tree`].
//!
//! Every batch carries the head: the last revision, its time, and the checksum of everything else in
//! the batch, so that a torn batch is found at the next start. One batch is one barrier: nothing is
//! acknowledged before [`Tree::sync`] has returned.

mod compaction;
pub(super) mod index;
mod requests;

use super::{
    AuditQuery, Compacted, Compaction, Error, Image, LogQuery, LoggedCommit, Order, Record,
    RequestCursor, RequestPlace, RequestRecord, RequestStretch, Store, StoreId, Verified, Write,
    Writes,
    audit::{AuditEntry, AuditHash, AuditHead},
    check,
    record::{
        ChangeRecord, CommitRecord, FORMAT, FORMAT_OLDEST, Format, Head, Oldest, StoredAudit,
        StoredRequest, Unreadable, decode, digest, encode,
        key::{self, Key},
        packs::OpenPacks,
        parts,
        proposal::{Copies, ProposalRecord},
    },
    tree::{Batch, Direction, Tree},
};
use phasegate_engine::{
    event::Change,
    id::{ReleaseId, Revision},
    release::Proposal,
    time::Timestamp,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Commits that are read at once, and about how many bytes of their entries.
const COMMITS_PER_STRETCH: usize = 256;
const BYTES_PER_STRETCH: usize = 256 << 10;

/// A [`Store`] in a [`Tree`].
#[derive(Debug)]
pub struct Ledger<T> {
    pub(super) tree: T,
    pub(super) store_id: StoreId,
    pub(super) revision: Revision,
    pub(super) time: Timestamp,
    pub(super) oldest: Revision,
    /// The last entry of the audit chain.
    pub(super) audit: AuditHead,
    /// Of what is stored.
    pub(super) format: u32,
    /// None after a start: the first batch begins new ones.
    pub(super) packs: OpenPacks,
    health: Health,
}

/// Whether the last write went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// Nothing is known of what is durable.
    Failed,
}

impl<T: Tree> Ledger<T> {
    /// Makes a store in an empty tree.
    pub fn create(tree: T, store_id: StoreId) -> Result<Self, Error> {
        let mut ledger = Self {
            tree,
            store_id,
            revision: Revision::ZERO,
            time: Timestamp::EPOCH,
            oldest: Revision::ZERO,
            audit: AuditHead::EMPTY,
            format: FORMAT,
            packs: OpenPacks::default(),
            health: Health::Good,
        };
        let mut batch = Batch::default();
        let format = Format { format: FORMAT, store_id };
        parts::insert(&mut batch, &Key::Format, encode(&format));
        ledger.write(batch, Revision::ZERO, Timestamp::EPOCH)?;
        Ok(ledger)
    }

    /// Opens the store in a tree; none if the tree is empty.
    pub fn open(tree: T) -> Result<Option<Self>, Error> {
        let Some(format) = tree.get(&Key::Format.bytes())? else {
            let first = tree.scan(Vec::new()..vec![u8::MAX], Direction::Up).next().transpose()?;
            return match first {
                Some(_) => Err(Error::Damaged("there is data, but no meta/format".into())),
                None => Ok(None),
            };
        };
        let format: Format = decode(&Key::Format, format.as_ref())?;
        if !(FORMAT_OLDEST..=FORMAT).contains(&format.format) {
            return Err(Error::Format { found: format.format, ours: FORMAT });
        }
        let head: Head = stored(&tree, &Key::Head)?
            .ok_or_else(|| Error::Damaged("meta/head is missing".into()))?;
        let noted = tree.noted_durable();
        if noted > head.revision {
            return Err(Error::Damaged(format!(
                "commits up to revision {noted} were acknowledged, but the store ends at {}",
                head.revision
            )));
        }
        if head.audit > Revision::LAST.get() {
            return Err(Error::Damaged("meta/head: the number of the last audit entry".into()));
        }
        let oldest: Option<Oldest> = stored(&tree, &Key::Oldest)?;
        let audit = match head.audit {
            0 => AuditHead::EMPTY,
            sequence => {
                let last: Option<StoredAudit> = stored(&tree, &Key::Audit(sequence))?;
                let hash = last.map_or(AuditHash::NONE, |last| last.sha256);
                // That it is there, and whole, is looked at when the store is loaded.
                AuditHead { sequence, hash }
            }
        };
        Ok(Some(Self {
            tree,
            store_id: format.store_id,
            revision: head.revision,
            time: head.time,
            oldest: oldest.map_or(Revision::ZERO, |oldest| oldest.revision),
            audit,
            format: format.format,
            packs: OpenPacks::default(),
            health: Health::Good,
        }))
    }

    /// Reads everything, the log too, and collects what contradicts the rest.
    pub fn verify(&mut self) -> Result<Verified, Error> {
        self.usable()?;
        check::verify(self)
    }

    /// Writes a batch with the head in it, and waits until it is durable.
    pub(super) fn write(
        &mut self,
        batch: Batch,
        revision: Revision,
        time: Timestamp,
    ) -> Result<(), Error> {
        self.write_with_audit(batch, revision, time, self.audit)
    }

    /// As [`Self::write`], of a batch that brings entries of the audit chain up to this one.
    pub(super) fn write_with_audit(
        &mut self,
        mut batch: Batch,
        revision: Revision,
        time: Timestamp,
        audit: AuditHead,
    ) -> Result<(), Error> {
        self.usable()?;
        // Whatever fails from here on, it is not known how much of the batch is there.
        self.health = Health::Failed;
        let keys = check::keys(&batch);
        let crc = check::crc(batch.iter());
        let head = Head { revision, time, crc, audit: audit.sequence, keys };
        parts::replace(&mut batch, &self.tree, &Key::Head, encode(&head))?;
        self.tree.apply(batch)?;
        self.tree.sync()?;
        self.tree.note_durable(revision)?;
        (self.revision, self.time, self.audit) = (revision, time, audit);
        self.health = Health::Good;
        Ok(())
    }

    fn usable(&self) -> Result<(), Error> {
        match self.health {
            Health::Good => Ok(()),
            Health::Failed => Err(Error::Failed),
        }
    }

    fn put_record(
        &self,
        batch: &mut Batch,
        packs: &mut OpenPacks,
        record: &Record,
    ) -> Result<(), Error> {
        let tree = &self.tree;
        for write in &record.flags {
            match write {
                Write::Put(id, flag) => {
                    parts::replace(batch, tree, &Key::Flag(id.clone()), encode(flag))?;
                }
                Write::Delete(id) => parts::delete(batch, tree, &Key::Flag(id.clone()))?,
            }
        }
        for write in &record.pipelines {
            match write {
                Write::Put(id, pipeline) => {
                    parts::replace(batch, tree, &Key::Pipeline(id.clone()), encode(pipeline))?;
                }
                Write::Delete(id) => parts::delete(batch, tree, &Key::Pipeline(id.clone()))?,
            }
        }
        for proposal in &record.proposals {
            put_proposal(batch, tree, proposal)?;
        }
        for release in &record.releases {
            let logged = record.changes.iter().any(|change| change.release.id() == release.id());
            let entry = logged.then_some(record.revision);
            index::put_progress(batch, tree, release, entry, self.oldest)?;
        }
        let mut changes: Vec<&Change> = record.changes.iter().map(|change| &**change).collect();
        changes.sort_by(|a, b| a.release.id().cmp(b.release.id()));
        for change in changes {
            put_change(batch, packs, change.release.id(), &ChangeRecord::from(change));
        }
        let changes = u32::try_from(record.changes.len())
            .map_err(|_| Error::Rejected("more changes than can be counted".into()))?;
        put_commit(batch, packs, record.revision, CommitRecord { time: record.time, changes });
        if let Some((key, done)) = &record.request {
            let stored = StoredRequest {
                key: std::borrow::Cow::Borrowed(key),
                record: std::borrow::Cow::Borrowed(done),
            };
            packs.add(batch, &request_key(&stored), encode(&stored));
        }
        Ok(())
    }

    /// Rows of the outbox, and what is remembered of reminders.
    fn put_notices(&self, batch: &mut Batch, writes: Writes<'_>) -> Result<(), Error> {
        let tree = &self.tree;
        for write in writes.outbox {
            match write {
                Write::Put(row, value) => {
                    let key = Key::Outbox(row.sink.clone(), row.sequence);
                    parts::replace(batch, tree, &key, encode(value))?;
                }
                Write::Delete(row) => {
                    parts::delete(batch, tree, &Key::Outbox(row.sink.clone(), row.sequence))?;
                }
            }
        }
        for write in writes.reminders {
            match write {
                Write::Put(release, value) => {
                    parts::replace(batch, tree, &Key::Reminder(release.clone()), encode(value))?;
                }
                Write::Delete(release) => {
                    parts::delete(batch, tree, &Key::Reminder(release.clone()))?;
                }
            }
        }
        Ok(())
    }

    /// Entries of the log about one release.
    fn changes_of(&self, release: &ReleaseId, query: &Stretch) -> Result<Vec<Arc<Change>>, Error> {
        let mut proposals = Proposals::new(&self.tree);
        let mut changes = Vec::new();
        for revision in index::entries(&self.tree, release, query)? {
            let key = Key::Change(revision, release.clone());
            let record: ChangeRecord<'_> = stored(&self.tree, &key)?
                .ok_or_else(|| Unreadable::at(&key, "the entry is missing from the log"))?;
            changes.push(Arc::new(record.with(proposals.of(release)?)?));
        }
        Ok(changes)
    }

    /// Entries of the log about all releases.
    fn all_changes(&self, query: &Stretch) -> Result<Vec<Arc<Change>>, Error> {
        let range = key::changes_between(query.from, query.to);
        let mut proposals = Proposals::new(&self.tree);
        let mut changes: Vec<Arc<Change>> = Vec::new();
        // Where the commit begins that is being read.
        let mut whole = 0;
        for entry in parts::scan(&self.tree, range, query.direction()) {
            let (key, value) = entry??;
            let Key::Change(revision, release) = &key else {
                return Err(Unreadable::at(&key, "stands in the middle of the log").into());
            };
            if changes.last().is_some_and(|last| last.revision != *revision) {
                whole = changes.len();
            }
            if changes.len() >= query.limit && whole > 0 {
                changes.truncate(whole);
                break;
            }
            let record: ChangeRecord<'_> = decode(&key, value.as_ref())?;
            changes.push(Arc::new(record.with(proposals.of(release)?)?));
        }
        if query.order == Order::NewestFirst {
            // They were read against the order of the keys: turn each commit round again.
            changes.chunk_by_mut(|a, b| a.revision == b.revision).for_each(<[_]>::reverse);
        }
        Ok(changes)
    }
}

impl Writes<'_> {
    /// The oldest format that describes what this brings.
    fn needed_format(&self) -> u32 {
        if !self.records.is_empty() || !self.audit.is_empty() {
            4
        } else if self.outbox.is_empty() && self.reminders.is_empty() {
            1
        } else {
            2
        }
    }
}

impl<T: Tree> Store for Ledger<T> {
    fn load(&mut self) -> Result<Image, Error> {
        self.usable()?;
        check::load(self)
    }

    fn commit(&mut self, writes: Writes<'_>) -> Result<(), Error> {
        self.usable()?;
        let records = writes.records;
        let (mut revision, mut time) = (self.revision, self.time);
        let mut batch = Batch::default();
        let mut packs = self.packs.clone();
        for record in records {
            check::follows(record, revision, time)?;
            (revision, time) = (record.revision, record.time);
            self.put_record(&mut batch, &mut packs, record)?;
        }
        let mut audit = self.audit;
        for entry in writes.audit {
            check::follows_in_chain(entry, audit)?;
            put_audit(&mut batch, &mut packs, entry);
            audit = entry.head();
        }
        packs.write(&mut batch);
        self.put_notices(&mut batch, writes)?;
        if batch.is_empty() {
            return Ok(());
        }
        let format = self.format.max(writes.needed_format());
        if format > self.format {
            let stored = Format { format, store_id: self.store_id };
            parts::replace(&mut batch, &self.tree, &Key::Format, encode(&stored))?;
        }
        self.write_with_audit(batch, revision, time, audit)?;
        (self.format, self.packs) = (format, packs);
        Ok(())
    }

    fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        self.usable()?;
        let (from, to) = (query.after.saturating_add(1), query.up_to.min(self.audit.sequence) + 1);
        if from >= to {
            return Ok(Vec::new());
        }
        let direction = match query.order {
            Order::OldestFirst => Direction::Up,
            Order::NewestFirst => Direction::Down,
        };
        let entries = parts::scan(&self.tree, key::audit_between(from, to), direction);
        let mut read = Vec::new();
        for entry in entries.take(query.limit) {
            let (key, value) = entry??;
            let Key::Audit(sequence) = key else {
                return Err(Unreadable::at(&key, "stands in the middle of the audit chain").into());
            };
            let stored: StoredAudit = decode(&key, value.as_ref())?;
            read.push(stored.entry(sequence)?);
        }
        Ok(read)
    }

    fn changes(&mut self, query: &LogQuery) -> Result<Vec<Arc<Change>>, Error> {
        self.usable()?;
        let stretch = Stretch {
            from: query.after.next().max(self.oldest),
            to: query.up_to.min(self.revision).next(),
            order: query.order,
            limit: query.limit,
        };
        if stretch.from >= stretch.to {
            return Ok(Vec::new());
        }
        match &query.release {
            Some(release) => self.changes_of(release, &stretch),
            None => self.all_changes(&stretch),
        }
    }

    fn commits(&mut self, from: Revision, to: Revision) -> Result<Vec<LoggedCommit>, Error> {
        self.usable()?;
        let (mut commits, mut bytes, mut next) = (Vec::new(), 0, from);
        let end = to.min(self.revision).next();
        let mut log =
            parts::scan(&self.tree, key::changes_between(from, end), Direction::Up).peekable();
        for entry in parts::scan(&self.tree, key::commits_between(from, end), Direction::Up) {
            if commits.len() == COMMITS_PER_STRETCH || bytes > BYTES_PER_STRETCH {
                break;
            }
            let (key, value) = entry??;
            if key != Key::Commit(next) {
                return Err(Unreadable::at(&Key::Commit(next), "it is missing").into());
            }
            let commit: CommitRecord = decode(&key, value.as_ref())?;
            let mut changes = Vec::new();
            let of_this = |entry: &Result<parts::Entry<T::Bytes>, Error>| {
                let Ok(Ok((key, _))) = entry else { return true };
                !matches!(key, Key::Change(revision, _) if *revision != next)
            };
            while let Some(entry) = log.next_if(of_this) {
                let (key, value) = entry??;
                let Key::Change(_, release) = &key else {
                    return Err(Unreadable::at(&key, "stands in the middle of the log").into());
                };
                bytes += value.as_ref().len();
                changes.push((release.clone(), decode(&key, value.as_ref())?));
            }
            if u32::try_from(changes.len()) != Ok(commit.changes) {
                return Err(Unreadable::at(&key, "the log has not all of it").into());
            }
            commits.push(LoggedCommit { revision: next, commit, changes });
            next = next.next();
        }
        if commits.is_empty() && from <= to {
            return Err(Unreadable::at(&Key::Commit(from), "it is missing").into());
        }
        Ok(commits)
    }

    fn request(&mut self, place: RequestPlace) -> Result<Option<RequestRecord>, Error> {
        self.usable()?;
        requests::find(&self.tree, place)
    }

    fn requests(&mut self, after: Option<&RequestCursor>) -> Result<RequestStretch, Error> {
        self.usable()?;
        requests::stretch(&self.tree, after)
    }

    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, Error> {
        self.usable()?;
        self.remove_old(limits)
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.tree.free_space()
    }

    fn sync_took(&self) -> Option<Duration> {
        self.tree.sync_took()
    }
}

/// A query of the log, brought to what the log holds.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Inclusive.
    from: Revision,
    /// Exclusive.
    to: Revision,
    order: Order,
    limit: usize,
}

impl Stretch {
    fn direction(&self) -> Direction {
        match self.order {
            Order::OldestFirst => Direction::Up,
            Order::NewestFirst => Direction::Down,
        }
    }
}

/// Proposals that a query has met, each read once.
struct Proposals<'a, T> {
    tree: &'a T,
    known: BTreeMap<ReleaseId, Arc<Proposal>>,
    copies: Copies,
}

impl<'a, T: Tree> Proposals<'a, T> {
    fn new(tree: &'a T) -> Self {
        Self { tree, known: BTreeMap::new(), copies: Copies::default() }
    }

    fn of(&mut self, release: &ReleaseId) -> Result<Arc<Proposal>, Error> {
        if let Some(proposal) = self.known.get(release) {
            return Ok(Arc::clone(proposal));
        }
        let key = Key::Proposal(release.clone());
        let record: ProposalRecord = stored(self.tree, &key)?
            .ok_or_else(|| Unreadable::at(&key, "the log knows a release that has no proposal"))?;
        if let Some((pipeline, revision)) = record.copy()
            && self.copies.get(pipeline, *revision).is_none()
            && let Some(copy) = stored(self.tree, &Key::PipelineAt(pipeline.clone(), *revision))?
        {
            self.copies.add(copy);
        }
        let proposal = Arc::new(record.with(&mut self.copies)?);
        self.known.insert(release.clone(), Arc::clone(&proposal));
        Ok(proposal)
    }
}

/// Reads one value.
pub(super) fn stored<T: Tree, V: serde::de::DeserializeOwned>(
    tree: &T,
    key: &Key,
) -> Result<Option<V>, Error> {
    let value = parts::get(tree, key)?;
    Ok(value.map(|value| decode(key, value.as_ref())).transpose()?)
}

/// Writes a proposal, and the copy of its pipeline if no release has taken that before.
pub(super) fn put_proposal<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    proposal: &Proposal,
) -> Result<(), Error> {
    let pipeline = &*proposal.pipeline;
    let copy = Key::PipelineAt(pipeline.id.clone(), pipeline.revision);
    let bytes = copy.bytes();
    if batch.get(&bytes).is_none() && tree.get(&bytes)?.is_none() {
        parts::insert(batch, &copy, encode(pipeline));
    }
    let key = Key::Proposal(proposal.id.clone());
    parts::insert(batch, &key, encode(&ProposalRecord::from(proposal)));
    Ok(())
}

/// Writes an entry of the log.
pub(super) fn put_change(
    batch: &mut Batch,
    packs: &mut OpenPacks,
    release: &ReleaseId,
    change: &ChangeRecord<'_>,
) {
    packs.add(batch, &Key::Change(change.revision, release.clone()), encode(change));
}

/// Writes a commit.
pub(super) fn put_commit(
    batch: &mut Batch,
    packs: &mut OpenPacks,
    revision: Revision,
    commit: CommitRecord,
) {
    packs.add(batch, &Key::Commit(revision), encode(&commit));
}

/// Writes an entry of the audit chain.
pub(super) fn put_audit(batch: &mut Batch, packs: &mut OpenPacks, entry: &AuditEntry) {
    packs.add(batch, &Key::Audit(entry.sequence), encode(&StoredAudit::from(entry)));
}

/// Where a request stands: under its time, as requests are read all at once, and removed from the oldest on.
pub(super) fn request_key(request: &StoredRequest<'_>) -> Key {
    Key::RequestAt(request.record.time, digest(&request.key))
}

#[cfg(test)]
mod tests;
