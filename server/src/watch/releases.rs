//! A watch of all releases that a filter selects.

use super::{
    Config, Entry, Log, WatchEnd,
    entry::release_bytes,
    life::{Life, Wake},
    slots::Slot,
    within,
};
use crate::store::{LogQuery, Order};
use async_stream::stream;
use futures_util::Stream;
use phasegate_engine::{
    Among, State,
    id::Revision,
    release::{Release, ReleaseState},
};
use std::sync::Arc;

/// Which releases are wanted.
pub trait Select: Send + Sync + 'static {
    /// Whether a release is wanted when it is in this state. Apart from its state nothing that this
    /// looks at may change in the life of a release.
    fn matches(&self, release: &Release, state: ReleaseState) -> bool;

    /// Which releases the initial set is looked for in: all that match have to be among them.
    fn among(&self) -> Among<'_> {
        Among::All
    }
}

/// One item of a watch of many releases.
#[derive(Clone, Debug)]
pub enum ReleasesItem {
    /// Part of the initial set.
    Initial(Vec<Arc<Release>>),
    /// The initial set is complete, and of this revision.
    Synced(Revision),
    /// What one or several whole commits did.
    Changes {
        /// Everything up to here is delivered.
        revision: Revision,
        /// By revision, then by release.
        changes: Vec<(Arc<Entry>, Fate)>,
    },
    /// Everything up to here is delivered.
    Bookmark(Revision),
}

/// Whether a release that changed is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It matches the filter.
    Kept,
    /// It matched before, and does no longer.
    Removed,
}

/// Where a watch of many releases begins.
#[derive(Debug)]
pub(super) enum Begin {
    /// With all that match in this state.
    InitialSet(Box<State>),
    /// After a revision up to which everything was delivered.
    After(Revision),
}

/// Releases looked at between two chances for other tasks.
const RELEASES_A_TURN: usize = 256;

pub(super) fn stream<L: Log, S: Select>(
    log: L,
    config: Arc<Config>,
    select: S,
    from: Begin,
    mut life: Life,
    slot: Slot,
) -> impl Stream<Item = Result<ReleasesItem, WatchEnd>> + Send + use<L, S> {
    stream! {
        // Everything at or below is delivered.
        let mut cursor = match from {
            Begin::After(revision) => revision,
            Begin::InitialSet(state) => {
                let mut chunk = Chunk::default();
                let among: Box<dyn Iterator<Item = &Arc<Release>> + Send> = match select.among() {
                    Among::All => Box::new(state.releases()),
                    few @ (Among::Unfinished | Among::OfFlags(_) | Among::UnfinishedOf(_)) => {
                        state.releases_before(few, None)
                    }
                };
                for (index, release) in among.enumerate() {
                    if index % RELEASES_A_TURN == 0 {
                        tokio::task::consume_budget().await;
                    }
                    if !select.matches(release, release.state()) {
                        continue;
                    }
                    if let Some(full) = chunk.push(release, config.item_bytes) {
                        if life.is_slow() {
                            yield Err(WatchEnd::SlowConsumer);
                            return;
                        }
                        if let Some(end) = life.over() {
                            yield Err(end);
                            return;
                        }
                        life.gives();
                        yield Ok(ReleasesItem::Initial(full));
                        life.goes_on();
                    }
                }
                if !chunk.releases.is_empty() {
                    life.gives();
                    yield Ok(ReleasesItem::Initial(chunk.releases));
                    life.goes_on();
                }
                if life.is_slow() {
                    yield Err(WatchEnd::SlowConsumer);
                    return;
                }
                life.gives();
                yield Ok(ReleasesItem::Synced(state.revision()));
                life.goes_on();
                state.revision()
            }
        };
        loop {
            // It is given back when the stream is dropped.
            slot.at(cursor);
            if let Some(end) = life.over() {
                yield Err(end);
                return;
            }
            // Read first: what is not found then, is not there up to here.
            let head = life.head();
            if head > cursor {
                let query = LogQuery {
                    after: cursor,
                    up_to: head,
                    release: None,
                    order: Order::OldestFirst,
                    limit: config.read_entries,
                };
                let entries = match log.read(query).await {
                    Ok(entries) => within(entries, config.read_bytes),
                    Err(error) => {
                        yield Err(error.into());
                        return;
                    }
                };
                let read_up_to = entries.last().map_or(head, |entry| entry.change.revision);
                for (revision, changes) in items(&select, &entries, config.item_bytes) {
                    if life.is_slow() {
                        yield Err(WatchEnd::SlowConsumer);
                        return;
                    }
                    life.gives();
                    yield Ok(ReleasesItem::Changes { revision, changes });
                    life.goes_on();
                }
                cursor = read_up_to;
                if !life.is_silent() {
                    tokio::task::consume_budget().await;
                    continue;
                }
            }
            match life.wait(cursor).await {
                Wake::Moved => {}
                Wake::Beat => {
                    life.gives();
                    yield Ok(ReleasesItem::Bookmark(cursor));
                    life.goes_on();
                }
                Wake::End(end) => {
                    yield Err(end);
                    return;
                }
            }
        }
    }
}

/// Part of an initial set.
#[derive(Default)]
struct Chunk {
    releases: Vec<Arc<Release>>,
    bytes: usize,
}

impl Chunk {
    /// Adds a release; gives what was there before if it would not fit any more.
    fn push(&mut self, release: &Arc<Release>, bytes_max: usize) -> Option<Vec<Arc<Release>>> {
        let bytes = release_bytes(release);
        let is_full = !self.releases.is_empty() && self.bytes + bytes > bytes_max;
        let full = is_full.then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.releases)
        });
        self.bytes += bytes;
        self.releases.push(Arc::clone(release));
        full
    }
}

type Changes = Vec<(Arc<Entry>, Fate)>;

/// What is wanted of these entries, in items of whole commits, each with the last revision that it
/// has everything up to.
fn items(
    select: &impl Select,
    entries: &[Arc<Entry>],
    bytes_max: usize,
) -> Vec<(Revision, Changes)> {
    let mut items: Vec<(Revision, Changes)> = Vec::new();
    let mut bytes_of_last = 0;
    for commit in entries.chunk_by(|a, b| a.change.revision == b.change.revision) {
        let revision = commit[0].change.revision;
        let wanted: Changes = commit
            .iter()
            .filter_map(|entry| Some((Arc::clone(entry), fate(select, entry)?)))
            .collect();
        let bytes: usize = wanted.iter().map(|(entry, _)| entry.message_bytes()).sum();
        match items.last_mut() {
            Some((last, changes)) if wanted.is_empty() || bytes_of_last + bytes <= bytes_max => {
                *last = revision;
                changes.extend(wanted);
                bytes_of_last += bytes;
            }
            _ if wanted.is_empty() => {}
            _ => {
                items.push((revision, wanted));
                bytes_of_last = bytes;
            }
        }
    }
    items
}

/// What becomes of a release for somebody who watches a selection; none if it was not in it and is
/// not.
fn fate(select: &impl Select, entry: &Entry) -> Option<Fate> {
    let release = &*entry.change.release;
    let matched = |state| select.matches(release, state);
    if matched(release.state()) {
        Some(Fate::Kept)
    } else if entry.change.before.is_some_and(matched) {
        Some(Fate::Removed)
    } else {
        None
    }
}
