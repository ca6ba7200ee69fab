//! The log: commits with their entries, the index of releases, and the audit chain.

use super::{
    Last, Notes,
    each::{each, each_of_many},
};
use crate::store::{
    Error,
    audit::{AuditHash, AuditHead},
    ledger::{index, stored},
    record::{
        ChangeRecord, CommitRecord, NotIndexed, StoredAudit,
        key::{Key, Kind},
        parts,
    },
    tree::{Direction, Tree},
};
use phasegate_engine::{
    id::{ReleaseId, Revision},
    release::{Progress, Release, ReleaseState},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Whether there is a commit for every revision that the log holds.
pub(super) fn check_commits<T: Tree>(
    tree: &T,
    last: &Last,
    oldest: Revision,
    notes: &mut impl Notes,
    mut take: impl FnMut(Revision, CommitRecord) + Send,
) -> Result<(), Error> {
    let mut expected = oldest.max(Revision::ZERO.next());
    let mut time = Timestamp::EPOCH;
    if oldest > last.revision.next() {
        // Every commit would then be on its way out, and none missing.
        notes.at(&Key::Oldest, format!("is {oldest}, above the head, {}", last.revision))?;
    }
    each_of_many(tree, Kind::Commit, notes, |key, commit: CommitRecord, notes| {
        let Key::Commit(revision) = *key else { return Ok(()) };
        if revision > last.revision {
            notes.at(key, format!("is above the head, {}", last.revision))?;
        }
        if commit.time < time {
            notes.at(key, format!("its time {} is before that of an earlier one", commit.time))?;
        }
        time = commit.time;
        // What is below the oldest revision is on its way out.
        if revision >= oldest {
            if revision != expected {
                notes.at(key, format!("the commits from {expected} on are missing before it"))?;
            }
            expected = revision.next();
            take(revision, commit);
        }
        Ok(())
    })?;
    if expected <= last.revision {
        notes.at(&Key::Commit(expected), "is missing, and all after it")?;
    }
    if expected == last.revision.next() && last.revision >= oldest && time != last.time {
        notes.at(&Key::Head, "its time is not that of the last commit")?;
    }
    Ok(())
}

/// Whether the log agrees with the commits, with its index, and with the releases.
pub(super) fn check_log<T: Tree>(
    tree: &T,
    commits: &BTreeMap<Revision, CommitRecord>,
    oldest: Revision,
    releases: &[Arc<Release>],
    notes: &mut impl Notes,
) -> Result<usize, Error> {
    let releases: BTreeMap<&ReleaseId, &Arc<Release>> =
        releases.iter().map(|release| (release.id(), release)).collect();
    let mut found: BTreeMap<Revision, u32> = BTreeMap::new();
    let mut newest: BTreeMap<ReleaseId, Newest> = BTreeMap::new();
    let mut count = 0;
    let mut index = read_index(tree, notes)?;
    each(tree, Kind::Change, notes, |key, change: ChangeRecord<'_>, notes| {
        let Key::Change(revision, id) = key else { return Ok(()) };
        if *revision < oldest {
            return Ok(());
        }
        count += 1;
        *found.entry(*revision).or_default() += 1;
        if change.revision != *revision || change.progress.revision != *revision {
            notes.at(key, "holds what another commit did")?;
        }
        if commits.get(revision).is_none_or(|commit| commit.time != change.time) {
            notes.at(key, "its time is not that of its commit")?;
        }
        if !index.get_mut(id).is_some_and(|named| named.remove(revision)) {
            notes.at(key, "is missing from the index of its release")?;
        }
        let Some(release) = releases.get(id) else {
            return notes.at(key, "there is no such release");
        };
        let created = release.proposal.created == *revision;
        let before = newest.get(id).map(|newest| newest.state);
        // The entry before it may be gone; then nothing can be said.
        let fits = match change.before {
            None => created && before.is_none(),
            Some(state) => !created && before.is_none_or(|before| before == state),
        };
        if !fits {
            notes.at(key, "does not follow on the entry of its release before it")?;
        }
        match change.with(Arc::clone(&release.proposal)) {
            Ok(change) => {
                let (state, progress) = (change.release.state(), change.release.progress.clone());
                newest.insert(id.clone(), Newest { state, progress });
                Ok(())
            }
            Err(unreadable) => notes.note(unreadable.into()),
        }
    })?;
    for (revision, commit) in commits {
        let entries = found.remove(revision).unwrap_or_default();
        if entries != commit.changes {
            let problem = format!("{} entries belong in the log, {entries} are", commit.changes);
            notes.at(&Key::Commit(*revision), problem)?;
        }
    }
    for revision in found.into_keys() {
        notes.at(&Key::Commit(revision), "is missing, though the log has entries of it")?;
    }
    for (id, release) in releases {
        let logged = newest.get(id).map(|newest| &newest.progress);
        if release.progress.revision >= oldest && logged != Some(&release.progress) {
            notes.at(&Key::Progress(id.clone()), "is not what its last entry in the log says")?;
        }
    }
    for (id, named) in index {
        // A list goes when all of its entries have gone.
        for revision in named.into_iter().filter(|revision| *revision >= oldest) {
            notes.at(&Key::ChangeOf(id.clone(), revision), "there is no such entry")?;
        }
    }
    Ok(count)
}

struct Newest {
    state: ReleaseState,
    progress: Progress,
}

/// Which entries of the log the index names, by release.
fn read_index<T: Tree>(
    tree: &T,
    notes: &mut impl Notes,
) -> Result<BTreeMap<ReleaseId, BTreeSet<Revision>>, Error> {
    let mut index: BTreeMap<ReleaseId, BTreeSet<Revision>> = BTreeMap::new();
    let mut name = |key: &Key, id: ReleaseId, list: Vec<Revision>, notes: &mut _| {
        let named = index.entry(id).or_default();
        if named.last().zip(list.first()).is_some_and(|(last, first)| last >= first) {
            Notes::at(notes, key, "names entries that are named before it")?;
        }
        named.extend(list);
        Ok::<_, Error>(())
    };
    for entry in parts::scan(tree, Kind::ChangeOf.all(), Direction::Up) {
        let read = entry?.and_then(|(key, value)| {
            let (id, list) = index::list(&key, value.as_ref())?;
            Ok((key, id, list))
        });
        match read {
            Ok((key, id, list)) => name(&key, id, list, notes)?,
            Err(unreadable) => notes.note(unreadable.into())?,
        }
    }
    each(tree, Kind::Progress, notes, |key, NotIndexed(list), notes| {
        let Key::Progress(id) = key else { return Ok(()) };
        if !list.is_sorted_by(|a, b| a < b) {
            notes.at(key, "names entries of the log out of order")?;
        }
        name(key, id.clone(), list, notes)
    })?;
    Ok(index)
}

/// What is said of an end of the audit chain that is not there.
const CHAIN_ENDS: &str = "is missing: the audit chain ends before it";

/// Whether the audit chain ends where it should, with a whole entry.
pub(super) fn check_audit_end<T: Tree>(
    tree: &T,
    head: AuditHead,
    notes: &mut impl Notes,
) -> Result<(), Error> {
    for entry in parts::scan(tree, Kind::Audit.all(), Direction::Down).take(1) {
        let last = match entry? {
            Ok((Key::Audit(sequence), _)) => sequence,
            Ok((key, _)) => return notes.at(&key, "stands in the middle of the audit chain"),
            Err(unreadable) => return notes.note(unreadable.into()),
        };
        if last > head.sequence {
            notes.at(&Key::Audit(last), format!("is above the last one, {}", head.sequence))?;
        }
    }
    if head.sequence == 0 {
        return Ok(());
    }
    let key = Key::Audit(head.sequence);
    let Some(last) = stored::<_, StoredAudit>(tree, &key)? else {
        return notes.at(&key, CHAIN_ENDS);
    };
    match last.entry(head.sequence) {
        Ok(_) => Ok(()),
        Err(unreadable) => notes.note(unreadable.into()),
    }
}

/// Whether the audit chain is there from its first entry to its last, each following on the one
/// before.
pub(super) fn check_audit<T: Tree>(
    tree: &T,
    head: AuditHead,
    notes: &mut impl Notes,
) -> Result<usize, Error> {
    let (mut count, mut expected, mut previous) = (0, 1, Some(AuditHash::NONE));
    each_of_many(tree, Kind::Audit, notes, |key, stored: StoredAudit, notes| {
        let Key::Audit(sequence) = *key else { return Ok(()) };
        count += 1;
        if sequence > head.sequence {
            notes.at(key, format!("is above the last one, {}", head.sequence))?;
        }
        if sequence != expected {
            notes.at(key, format!("the entries from {expected} on are missing before it"))?;
            previous = None;
        }
        expected = sequence + 1;
        match stored.entry(sequence) {
            Ok(entry) => {
                if previous.is_some_and(|previous| previous != entry.previous) {
                    notes.at(key, "does not follow on the entry before it")?;
                }
                previous = Some(entry.hash);
                Ok(())
            }
            Err(unreadable) => {
                previous = None;
                notes.note(unreadable.into())
            }
        }
    })?;
    if expected <= head.sequence {
        notes.at(&Key::Audit(expected), CHAIN_ENDS)?;
    }
    Ok(count)
}
