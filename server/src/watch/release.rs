//! A watch of one release.

use super::{
    Config, Entry, Log, WatchEnd,
    life::{Life, Wake},
    slots::Slot,
    within,
};
use crate::store::{LogQuery, Order};
use async_stream::stream;
use futures_util::Stream;
use phasegate_engine::{
    id::{ReleaseId, Revision},
    release::Release,
};
use std::sync::Arc;

/// One item of a watch of one release.
#[derive(Clone, Debug)]
pub enum ReleaseItem {
    /// The release as of a revision; the first item of a watch that is not resumed.
    Snapshot {
        /// What it was.
        release: Arc<Release>,
        /// When.
        revision: Revision,
    },
    /// What one commit did to it.
    Change(Arc<Entry>),
    /// Everything up to here is delivered.
    Bookmark(Revision),
}

/// Where a watch of one release begins.
#[derive(Debug)]
pub(super) enum Begin {
    /// With the release as of a revision.
    Snapshot(Arc<Release>, Revision),
    /// After a revision up to which everything was delivered; the release may have ended by then.
    After(Revision, Progress),
}

/// Whether more can happen to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It can.
    MayMove,
    /// It ended.
    Over,
}

impl Progress {
    fn of(release: &Release) -> Self {
        if release.is_over() { Self::Over } else { Self::MayMove }
    }

    /// Of a release, as far as it is known who knows everything up to a revision.
    pub(super) fn known_at(release: &Release, revision: Revision) -> Self {
        if release.progress.revision <= revision { Self::of(release) } else { Self::MayMove }
    }
}

pub(super) fn stream<L: Log>(
    log: L,
    config: Arc<Config>,
    id: ReleaseId,
    from: Begin,
    mut life: Life,
    slot: Slot,
) -> impl Stream<Item = Result<ReleaseItem, WatchEnd>> + Send + use<L> {
    stream! {
        // Everything at or below is delivered.
        let mut cursor;
        let mut progress;
        match from {
            Begin::Snapshot(release, revision) => {
                cursor = revision;
                progress = Progress::of(&release);
                life.gives();
                yield Ok(ReleaseItem::Snapshot { release, revision });
                life.goes_on();
            }
            Begin::After(revision, known) => {
                cursor = revision;
                progress = known;
            }
        }
        // It is given back when the stream is dropped.
        slot.at(cursor);
        while progress == Progress::MayMove {
            if let Some(end) = life.over() {
                yield Err(end);
                return;
            }
            // Read first: what is not found then, is not there up to here.
            let head = life.head();
            let newest = log.last_change(&id);
            if newest > cursor {
                let query = LogQuery {
                    after: cursor,
                    up_to: newest,
                    release: Some(id.clone()),
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
                for entry in entries {
                    if life.is_slow() {
                        yield Err(WatchEnd::SlowConsumer);
                        return;
                    }
                    cursor = entry.change.revision;
                    progress = Progress::of(&entry.change.release);
                    life.gives();
                    yield Ok(ReleaseItem::Change(entry));
                    life.goes_on();
                    slot.at(cursor);
                }
                tokio::task::consume_budget().await;
                continue;
            }
            cursor = cursor.max(head);
            slot.at(cursor);
            match life.wait(cursor).await {
                Wake::Moved => {}
                Wake::Beat => {
                    life.gives();
                    yield Ok(ReleaseItem::Bookmark(cursor));
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
