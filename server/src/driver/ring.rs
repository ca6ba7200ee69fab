//! The newest part of the log, in memory: what nearly every watch reads.

use crate::{
    store::{LogQuery, Order},
    watch::Entry,
};
use phasegate_engine::id::Revision;
use std::{collections::VecDeque, sync::Arc};

/// The newest part of the log, bounded by bytes.
#[derive(Debug)]
pub(super) struct Ring {
    /// By revision, then by release.
    entries: VecDeque<Arc<Entry>>,
    /// Every change above this revision is here.
    floor: Revision,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    /// Knows nothing up to `floor`, and everything from there on.
    pub(super) fn new(floor: Revision, bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), floor, bytes: 0, bytes_max }
    }

    /// Adds what newer commits did, and drops the oldest commits if it is too much. The newest
    /// commit stays in any case.
    pub(super) fn push(&mut self, entries: impl IntoIterator<Item = Arc<Entry>>) {
        for entry in entries {
            self.bytes += entry.approximate_bytes();
            self.entries.push_back(entry);
        }
        let newest = self.entries.back().map(|entry| entry.change.revision);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.entries.front().map(|entry| entry.change.revision)
            && Some(oldest) != newest
        {
            self.forget_up_to(oldest);
        }
    }

    /// Drops every change up to and with a revision.
    pub(super) fn forget_up_to(&mut self, revision: Revision) {
        let end = self.entries.partition_point(|e| e.change.revision <= revision);
        for entry in self.entries.drain(..end) {
            self.bytes -= entry.approximate_bytes();
        }
        self.floor = self.floor.max(revision);
    }

    /// The stretch of the log, if all of it is here.
    pub(super) fn read(&self, query: &LogQuery) -> Option<Vec<Arc<Entry>>> {
        let first = self.entries.partition_point(|e| e.change.revision <= query.after);
        let end = self.entries.partition_point(|e| e.change.revision <= query.up_to).max(first);
        let about = |entry: &&Arc<Entry>| {
            query.release.as_ref().is_none_or(|release| entry.change.release.id() == release)
        };
        let reaches_back = query.after >= self.floor;
        match query.order {
            Order::OldestFirst if reaches_back => {
                let mut read = Vec::new();
                let entries = self.entries.range(first..end).filter(about);
                take_commits(entries, query.limit, &mut read);
                Some(read)
            }
            Order::OldestFirst => None,
            Order::NewestFirst => {
                let mut read = Vec::new();
                let entries = self.entries.range(first..end).rev().filter(about);
                let end = take_commits(entries, query.limit, &mut read);
                // Inside a commit the releases stand in their order, whatever the order of commits.
                for commit in read.chunk_by_mut(|a, b| a.change.revision == b.change.revision) {
                    commit.reverse();
                }
                (reaches_back || end == End::Limit).then_some(read)
            }
        }
    }
}

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There was nothing more.
    Exhausted,
    /// The next commit would not have fitted.
    Limit,
}

/// Takes whole commits as long as they fit, but at least one.
fn take_commits<'a>(
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    limit: usize,
    taken: &mut Vec<Arc<Entry>>,
) -> End {
    let mut whole = 0;
    for entry in entries {
        let same_commit =
            taken.last().is_some_and(|last| last.change.revision == entry.change.revision);
        if !same_commit {
            whole = taken.len();
        }
        if taken.len() >= limit.max(1) && !(same_commit && whole == 0) {
            taken.truncate(whole);
            return End::Limit;
        }
        taken.push(Arc::clone(entry));
    }
    End::Exhausted
}
