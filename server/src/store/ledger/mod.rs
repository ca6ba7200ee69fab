//! Commits in a [`Tree`].
//!
//! Every batch carries the head: the last revision, its time, and the checksum of everything else in
//! the batch, so that a torn batch is found at the next start. One batch is one barrier: nothing is
//! acknowledged before [`Tree::sync`] has returned.

use super::{
    AuditQuery, Compacted, Compaction, CompactionProgress, Error, Image, LogQuery, LoggedCommit,
    Order, Record, Store, StoreId, Verified, Write, Writes,
    audit::{AuditEntry, AuditHash, AuditHead},
    check,
    record::{
        ChangeRecord, CommitRecord, FORMAT, FORMAT_OLDEST, Format, Head, Oldest, StoredAudit,
        StoredRequest, Unreadable, decode, digest, encode,
        key::{self, Key},
        parts,
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

/// How many keys one batch of a compaction removes. A batch is written in one go, and its keys are
/// listed in the head, so this bounds both; 1024 of them take some 50 KiB there.
const KEYS_PER_COMPACTION_BATCH: usize = 1024;

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

    fn put_record(&self, batch: &mut Batch, record: &Record) -> Result<(), Error> {
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
            parts::insert(batch, &Key::Proposal(proposal.id.clone()), encode(proposal));
        }
        for release in &record.releases {
            let key = Key::Progress(release.id().clone());
            parts::replace(batch, tree, &key, encode(&release.progress))?;
        }
        for change in &record.changes {
            put_change(batch, change.release.id(), &ChangeRecord::from(&**change));
        }
        let changes = u32::try_from(record.changes.len())
            .map_err(|_| Error::Rejected("more changes than can be counted".into()))?;
        put_commit(batch, record.revision, CommitRecord { time: record.time, changes });
        if let Some((key, done)) = &record.request {
            let stored = StoredRequest {
                key: std::borrow::Cow::Borrowed(key),
                record: std::borrow::Cow::Borrowed(done),
            };
            put_request(batch, &stored);
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
        let range = key::changes_of_between(release, query.from, query.to);
        let mut proposals = Proposals::new(&self.tree);
        let mut changes = Vec::new();
        for entry in self.tree.scan(range, query.direction()).take(query.limit.max(1)) {
            let (index, _) = entry?;
            let (Key::ChangeOf(_, revision), 0) = Key::parse(index.as_ref())? else {
                return Err(Error::Damaged(format!(
                    "the log index of {release} holds another key"
                )));
            };
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

    /// The commits that a compaction takes out of the log: those before the new oldest revision.
    fn removable(&self, limits: &Compaction) -> Result<Removable, Error> {
        let range = key::commits_between(Revision::ZERO, self.revision.next());
        let mut removable = Removable { commits: Vec::new(), oldest: self.oldest, more: false };
        for entry in parts::scan(&self.tree, range, Direction::Up) {
            let (key, value) = entry??;
            let Key::Commit(revision) = key else {
                return Err(Unreadable::at(&key, "stands in the middle of the commits").into());
            };
            let commit: CommitRecord = decode(&key, value.as_ref())?;
            // What is below the oldest revision was left by a compaction that did not get to the
            // end; it goes whatever its time.
            if commit.time >= limits.changes_before && revision >= self.oldest {
                break;
            }
            if removable.commits.len() == limits.most {
                removable.more = true;
                break;
            }
            removable.oldest = removable.oldest.max(revision.next());
            removable.commits.push(revision);
        }
        Ok(removable)
    }

    /// Removes commits with their entries in the log; says how many entries those were.
    fn remove_commits(&mut self, commits: &[Revision]) -> Result<usize, Error> {
        let mut batch = Batch::default();
        let mut changes = 0;
        for revision in commits {
            let range = key::changes_between(*revision, revision.next());
            let mut doomed = Vec::new();
            for entry in self.tree.scan(range, Direction::Up) {
                doomed.push(entry?.0);
            }
            for bytes in doomed {
                if let (Key::Change(revision, release), 0) = Key::parse(bytes.as_ref())? {
                    batch.delete(Key::ChangeOf(release, revision).bytes());
                    changes += 1;
                }
                batch.delete(bytes.as_ref().to_vec());
            }
            // The commit goes last and with its entries, or the next compaction would not find them.
            batch.delete(Key::Commit(*revision).bytes());
            if batch.len() >= KEYS_PER_COMPACTION_BATCH {
                self.write(std::mem::take(&mut batch), self.revision, self.time)?;
            }
        }
        if !batch.is_empty() {
            self.write(batch, self.revision, self.time)?;
        }
        Ok(changes)
    }

    fn remove_requests(&mut self, limits: &Compaction) -> Result<ForgottenRequests, Error> {
        let mut batch = Batch::default();
        let mut forgotten = ForgottenRequests { keys: Vec::new(), more: false };
        let range = key::requests_before(limits.requests_before);
        for (seen, entry) in parts::scan(&self.tree, range, Direction::Up).enumerate() {
            let (at, value) = entry??;
            let Key::RequestAt(time, digest) = at else {
                return Err(Unreadable::at(&at, "stands in the middle of the requests").into());
            };
            if seen == limits.most {
                forgotten.more = true;
                break;
            }
            parts::delete(&mut batch, &self.tree, &at)?;
            if !value.as_ref().is_empty() {
                let request: StoredRequest<'_> = decode(&at, value.as_ref())?;
                forgotten.keys.push(request.key.into_owned());
                continue;
            }
            let key = Key::Request(digest);
            let request: Option<StoredRequest<'_>> = stored(&self.tree, &key)?;
            if let Some(request) = request.filter(|request| request.record.time == time) {
                parts::delete(&mut batch, &self.tree, &key)?;
                forgotten.keys.push(request.key.into_owned());
            }
        }
        if !batch.is_empty() {
            self.write(batch, self.revision, self.time)?;
        }
        Ok(forgotten)
    }
}

struct Removable {
    commits: Vec<Revision>,
    oldest: Revision,
    more: bool,
}

struct ForgottenRequests {
    keys: Vec<super::RequestKey>,
    more: bool,
}

impl Writes<'_> {
    /// The oldest format that describes what this brings.
    fn needed_format(&self) -> u32 {
        if self.records.iter().any(|record| record.request.is_some()) {
            3
        } else if self.audit.is_empty() && self.outbox.is_empty() && self.reminders.is_empty() {
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
        for record in records {
            check::follows(record, revision, time)?;
            (revision, time) = (record.revision, record.time);
            self.put_record(&mut batch, record)?;
        }
        let mut audit = self.audit;
        for entry in writes.audit {
            check::follows_in_chain(entry, audit)?;
            put_audit(&mut batch, entry);
            audit = entry.head();
        }
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
        self.format = format;
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
        let range = key::commits_between(from, to.min(self.revision).next());
        for entry in parts::scan(&self.tree, range, Direction::Up) {
            if commits.len() == COMMITS_PER_STRETCH || bytes > BYTES_PER_STRETCH {
                break;
            }
            let (key, value) = entry??;
            if key != Key::Commit(next) {
                return Err(Unreadable::at(&Key::Commit(next), "it is missing").into());
            }
            let commit: CommitRecord = decode(&key, value.as_ref())?;
            let mut changes = Vec::new();
            let range = key::changes_between(next, next.next());
            for entry in parts::scan(&self.tree, range, Direction::Up) {
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

    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, Error> {
        self.usable()?;
        let removable = self.removable(limits)?;
        if removable.oldest > self.oldest {
            let mut batch = Batch::default();
            let oldest = Oldest { revision: removable.oldest };
            parts::insert(&mut batch, &Key::Oldest, encode(&oldest));
            self.write(batch, self.revision, self.time)?;
            self.oldest = removable.oldest;
        }
        let changes = self.remove_commits(&removable.commits)?;
        let forgotten = self.remove_requests(limits)?;
        Ok(Compacted {
            oldest: self.oldest,
            requests: forgotten.keys,
            changes,
            progress: if removable.more || forgotten.more {
                CompactionProgress::More
            } else {
                CompactionProgress::Done
            },
        })
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.tree.free_space()
    }

    fn sync_took(&self) -> Option<Duration> {
        self.tree.sync_took()
    }
}

/// A query of the log, brought to what the log holds.
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
}

impl<'a, T: Tree> Proposals<'a, T> {
    fn new(tree: &'a T) -> Self {
        Self { tree, known: BTreeMap::new() }
    }

    fn of(&mut self, release: &ReleaseId) -> Result<Arc<Proposal>, Error> {
        if let Some(proposal) = self.known.get(release) {
            return Ok(Arc::clone(proposal));
        }
        let key = Key::Proposal(release.clone());
        let proposal: Arc<Proposal> = stored(self.tree, &key)?
            .ok_or_else(|| Unreadable::at(&key, "the log knows a release that has no proposal"))?;
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

/// Writes an entry of the log and its index.
pub(super) fn put_change(batch: &mut Batch, release: &ReleaseId, change: &ChangeRecord<'_>) {
    let key = Key::Change(change.revision, release.clone());
    parts::insert(batch, &key, encode(change));
    batch.put(Key::ChangeOf(release.clone(), change.revision).bytes(), Vec::new());
}

/// Writes a commit.
pub(super) fn put_commit(batch: &mut Batch, revision: Revision, commit: CommitRecord) {
    parts::insert(batch, &Key::Commit(revision), encode(&commit));
}

/// Writes an entry of the audit chain.
pub(super) fn put_audit(batch: &mut Batch, entry: &AuditEntry) {
    parts::insert(batch, &Key::Audit(entry.sequence), encode(&StoredAudit::from(entry)));
}

/// Writes a request, under its time: requests are read all at once, and removed from the oldest on.
pub(super) fn put_request(batch: &mut Batch, request: &StoredRequest<'_>) {
    let key = Key::RequestAt(request.record.time, digest(&request.key));
    parts::insert(batch, &key, encode(request));
}

#[cfg(test)]
mod tests;
