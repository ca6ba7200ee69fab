//! What must hold in a store: checked before it is written and after it is read.
//!
//! [`load`] reads all but the log and stops at the first contradiction; [`verify`] reads everything
//! and collects what it finds. They share every check that both can make.

mod each;
mod log;
mod resources;
mod shared;

use super::{
    Error, Image, Record, StoreId,
    audit::{AuditEntry, AuditHead},
    directory::doing,
    ledger::{Ledger, stored},
    record::{Head, Unreadable, key::Key},
    tree::{Batch, Direction, Tree},
};
use log::{check_audit, check_audit_end, check_commits, check_log};
use phasegate_engine::{Half, State, id::Revision, release::Release, time::Timestamp};
use resources::{read_outbox, read_reminders, read_requests, read_resources};
use std::{collections::BTreeMap, panic, sync::Arc, thread};

/// Something in a store that contradicts the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, as `docs/data.md` writes it.
    pub key: String,
    /// What is wrong there.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl From<Unreadable> for Finding {
    fn from(unreadable: Unreadable) -> Self {
        Self { key: unreadable.what, problem: unreadable.problem }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Damaged(finding.to_string())
    }
}

/// What to do about a finding: stop (an error) or note it and go on.
trait Notes: Send {
    fn note(&mut self, finding: Finding) -> Result<(), Error>;

    fn at(&mut self, key: &Key, problem: impl Into<String>) -> Result<(), Error> {
        self.note(Finding { key: key.to_string(), problem: problem.into() })
    }
}

/// Stops at the first finding.
struct Strict;

impl Notes for Strict {
    fn note(&mut self, finding: Finding) -> Result<(), Error> {
        Err(finding.into())
    }
}

/// Whether a commit follows on what is stored, and fits in itself.
pub(super) fn follows(record: &Record, last: Revision, time: Timestamp) -> Result<(), Error> {
    let revision = record.revision;
    let reject = |problem: String| Err(Error::Rejected(format!("revision {revision}: {problem}")));
    if revision != last.next() {
        return reject(format!("the store is at revision {last}"));
    }
    if record.time < time {
        return reject(format!("its time {} is before {time}, that of the last", record.time));
    }
    for change in &record.changes {
        let id = change.release.id();
        if (change.revision, change.time) != (revision, record.time) {
            return reject(format!("its entry about {id} is of revision {}", change.revision));
        }
        let same = |release: &Arc<Release>| {
            Arc::ptr_eq(release, &change.release) || *release == change.release
        };
        if !record.releases.iter().any(same) {
            return reject(format!("it logs {id} but does not store it, or not as logged"));
        }
    }
    for release in &record.releases {
        if release.progress.revision != revision {
            return reject(format!(
                "it stores {} as of revision {}",
                release.id(),
                release.progress.revision
            ));
        }
    }
    Ok(())
}

/// Whether an entry follows on the last one of the audit chain.
pub(super) fn follows_in_chain(entry: &AuditEntry, last: AuditHead) -> Result<(), Error> {
    if (entry.sequence, entry.previous) == (last.sequence + 1, last.hash) {
        return Ok(());
    }
    let (sequence, last) = (entry.sequence, last.sequence);
    Err(Error::Rejected(format!("audit entry {sequence} does not follow on entry {last}")))
}

/// The keys of a batch, for its head.
pub(super) fn keys(batch: &Batch) -> Vec<u8> {
    let mut keys = Vec::new();
    for (key, _) in batch.iter() {
        let length = u16::try_from(key.len()).expect("keys hold one id and some numbers");
        keys.extend(length.to_be_bytes());
        keys.extend(key);
    }
    keys
}

/// CRC-32 of keys with their values, as a batch writes them.
pub(super) fn crc<'a>(writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for (key, value) in writes {
        add(&mut crc, key, value);
    }
    crc.finalize()
}

fn add(crc: &mut crc32fast::Hasher, key: &[u8], value: Option<&[u8]>) {
    // A length before each keeps apart what would look the same in a row. No value is as long as
    // the mark for none.
    crc.update(&(key.len() as u64).to_be_bytes());
    crc.update(key);
    crc.update(&value.map_or(u64::MAX, |value| value.len() as u64).to_be_bytes());
    crc.update(value.unwrap_or_default());
}

/// Reads all but the log.
pub(super) fn load<T: Tree>(ledger: &Ledger<T>) -> Result<Image, Error> {
    let notes = &mut Strict;
    let (tree, last) = (&ledger.tree, Last { revision: ledger.revision, time: ledger.time });
    check_last_batch(tree, notes)?;
    check_commits(tree, &last, ledger.oldest, notes, |_, _| {})?;
    let resources = read_resources(tree, &last, notes)?;
    let requests = read_requests(tree, notes)?;
    check_audit_end(tree, ledger.audit, notes)?;
    let outbox = read_outbox(tree, notes)?;
    let reminders = read_reminders(tree, &resources.releases, notes)?;
    let mut restored = Ok(());
    let state = State::restore_in_halves(
        last.revision,
        last.time,
        resources.flags,
        resources.pipelines,
        resources.releases,
        |one, other| restored = at_once(one, other),
    );
    restored?;
    Ok(Image {
        store_id: ledger.store_id,
        oldest: ledger.oldest,
        state,
        requests,
        audit: ledger.audit,
        outbox,
        reminders,
    })
}

/// Does one half on another thread.
fn at_once(one: Half<'_>, other: Half<'_>) -> Result<(), Error> {
    thread::scope(|scope| {
        let beside = thread::Builder::new().name("restoring".into()).spawn_scoped(scope, one);
        let beside = beside.map_err(|source| doing("start a thread".into(), source))?;
        other();
        beside.join().or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// What a walk through a whole store found.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Identity of the store.
    pub store_id: StoreId,
    /// The last commit.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// Oldest revision whose changes are all in the log.
    pub oldest: Revision,
    /// The newest entry of the audit chain.
    pub audit: AuditHead,
    /// How many there are of each.
    pub counts: Counts,
    /// What contradicts the rest, the first [`FINDINGS_MOST`] of it; empty if the store is sound.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub findings_total: usize,
}

/// How many records of each kind a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub struct Counts {
    pub flags: usize,
    pub pipelines: usize,
    pub releases: usize,
    pub commits: usize,
    pub changes: usize,
    pub requests: usize,
    pub audit: usize,
    pub outbox: usize,
    pub reminders: usize,
}

/// How many findings are kept. More than a person reads, fewer than would fill the memory if every
/// key of a large store were unreadable.
pub const FINDINGS_MOST: usize = 1000;

#[derive(Default)]
struct Collected {
    findings: Vec<Finding>,
    total: usize,
}

impl Notes for Collected {
    fn note(&mut self, finding: Finding) -> Result<(), Error> {
        self.total += 1;
        if self.findings.len() < FINDINGS_MOST {
            self.findings.push(finding);
        }
        Ok(())
    }
}

/// Reads everything and collects what contradicts the rest.
pub(super) fn verify<T: Tree>(ledger: &Ledger<T>) -> Result<Verified, Error> {
    let mut notes = Collected::default();
    let (tree, last) = (&ledger.tree, Last { revision: ledger.revision, time: ledger.time });
    check_keys(tree, &mut notes)?;
    check_last_batch(tree, &mut notes)?;
    let mut commits = BTreeMap::new();
    check_commits(tree, &last, ledger.oldest, &mut notes, |revision, commit| {
        commits.insert(revision, commit);
    })?;
    let resources = read_resources(tree, &last, &mut notes)?;
    let requests = read_requests(tree, &mut notes)?;
    let changes = check_log(tree, &commits, ledger.oldest, &resources.releases, &mut notes)?;
    let audit = check_audit(tree, ledger.audit, &mut notes)?;
    let outbox = read_outbox(tree, &mut notes)?;
    let reminders = read_reminders(tree, &resources.releases, &mut notes)?;
    Ok(Verified {
        store_id: ledger.store_id,
        revision: last.revision,
        time: last.time,
        oldest: ledger.oldest,
        audit: ledger.audit,
        counts: Counts {
            flags: resources.flags.len(),
            pipelines: resources.pipelines.len(),
            releases: resources.releases.len(),
            commits: commits.len(),
            changes,
            requests: requests.len(),
            audit,
            outbox: outbox.len(),
            reminders: reminders.len(),
        },
        findings: notes.findings,
        findings_total: notes.total,
    })
}

/// The last commit.
struct Last {
    revision: Revision,
    time: Timestamp,
}

/// Whether the last batch is there as it was written.
fn check_last_batch<T: Tree>(tree: &T, notes: &mut impl Notes) -> Result<(), Error> {
    let Some(head) = stored::<_, Head>(tree, &Key::Head)? else {
        return notes.at(&Key::Head, "is missing");
    };
    let mut crc = crc32fast::Hasher::new();
    let mut rest = head.keys.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((key, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        else {
            return notes.at(&Key::Head, "the list of keys is cut off");
        };
        let value = tree.get(key)?;
        add(&mut crc, key, value.as_ref().map(AsRef::as_ref));
        rest = after;
    }
    if crc.finalize() != head.crc {
        return notes.at(&Key::Head, "the last batch is not there as it was written");
    }
    Ok(())
}

/// Whether every key is one of this format.
fn check_keys<T: Tree>(tree: &T, notes: &mut impl Notes) -> Result<(), Error> {
    for entry in tree.scan(Vec::new()..vec![u8::MAX], Direction::Up) {
        if let Err(unreadable) = Key::parse(entry?.0.as_ref()) {
            notes.note(unreadable.into())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
