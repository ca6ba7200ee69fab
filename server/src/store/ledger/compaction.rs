//! What goes: commits with their entries of the log, and requests, when they are too old to keep.

use super::{Ledger, index, requests};
use crate::store::{
    Compacted, Compaction, CompactionProgress, Error, RequestPlace,
    record::{
        CommitRecord, Oldest, Unreadable, decode, encode,
        key::{self, Key},
        packs::{self, Fate, OpenPacks},
        parts,
    },
    tree::{Batch, Direction, Tree},
};
use phasegate_engine::id::Revision;
use std::collections::BTreeSet;

/// How many commits one batch of a compaction removes. A batch is written in one go, and its keys are
/// listed in the head, so this bounds both.
const COMMITS_PER_COMPACTION_BATCH: usize = 256;

impl<T: Tree> Ledger<T> {
    /// Removes some of what is too old: first makes the new beginning of the log durable, then deletes below it.
    pub(super) fn remove_old(&mut self, limits: &Compaction) -> Result<Compacted, Error> {
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
            requests: forgotten.places,
            changes,
            progress: if removable.more || forgotten.more {
                CompactionProgress::More
            } else {
                CompactionProgress::Done
            },
        })
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
        let mut removed = 0;
        for commits in commits.chunks(COMMITS_PER_COMPACTION_BATCH) {
            let [first, ..] = *commits else { continue };
            let end = commits[commits.len() - 1].next();
            let mut batch = Batch::default();
            let mut releases = BTreeSet::new();
            let entries = key::changes_between(first, end);
            packs::remove(&mut batch, &self.tree, entries, |key, _| {
                if let Key::Change(_, release) = key {
                    releases.insert(release.clone());
                    removed += 1;
                }
                Ok(Fate::Remove)
            })?;
            for release in releases {
                index::remove(&mut batch, &self.tree, &release, first, end)?;
            }
            // Commits go with their entries, or the next compaction would not find them.
            let commits = key::commits_between(first, end);
            packs::remove(&mut batch, &self.tree, commits, |_, _| Ok(Fate::Remove))?;
            self.packs = OpenPacks::default();
            self.write(batch, self.revision, self.time)?;
        }
        Ok(removed)
    }

    fn remove_requests(&mut self, limits: &Compaction) -> Result<ForgottenRequests, Error> {
        let mut batch = Batch::default();
        let mut forgotten = ForgottenRequests { places: Vec::new(), more: false };
        let mut apart = Vec::new();
        let mut seen = 0;
        let range = key::requests_before(limits.requests_before);
        packs::remove(&mut batch, &self.tree, range, |at, value| {
            let Key::RequestAt(time, digest) = *at else {
                return Err(Unreadable::at(at, "stands in the middle of the requests").into());
            };
            if seen == limits.most {
                forgotten.more = true;
                return Ok(Fate::Stop);
            }
            seen += 1;
            let place = RequestPlace { time, digest };
            if value.is_empty() {
                apart.push(place);
            } else {
                forgotten.places.push(place);
            }
            Ok(Fate::Remove)
        })?;
        for place in apart {
            if requests::apart(&self.tree, place)?.is_some() {
                parts::delete(&mut batch, &self.tree, &Key::Request(place.digest))?;
                forgotten.places.push(place);
            }
        }
        if !batch.is_empty() {
            self.packs = OpenPacks::default();
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
    places: Vec<RequestPlace>,
    more: bool,
}
