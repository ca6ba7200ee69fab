//! The log, read for a page of a listing.

use crate::{
    access::{Grants, Permission},
    driver::{Handle, LogError, LogQuery, Order},
};
use phasegate_api::{
    convert::{self, EventOrder, ListReleaseEvents, LogPosition},
    v1::ReleaseEvent,
};
use phasegate_engine::id::{ReleaseId, Revision};

/// Compaction may move the beginning of the log between asking for it and reading. It moves once in
/// a while, so a second attempt is enough and a third is a courtesy.
const ATTEMPTS_MAX: usize = 3;

/// An event of a listing, and its place in the log.
pub(super) type Placed = (LogPosition, ReleaseEvent);

/// A page ends after so many entries that the caller does not see: no listing keeps the writer from
/// everybody else's calls.
const UNSEEN_MAX: usize = 20_000;
/// Entries read at once for a caller who does not see all of them.
const READ_SCOPED: usize = 1000;

/// What was read for a page.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The events, in their order.
    pub events: Vec<Placed>,
    /// Where to go on if reading was cut short; it names no release that there is.
    pub cut: Option<LogPosition>,
}

/// The events of a page in their order, and at least one more if there is one. They begin where the
/// log does, if that is later than asked for.
pub(super) async fn read(
    driver: &Handle,
    list: &ListReleaseEvents,
    grants: &Grants,
) -> Result<Read, LogError> {
    let mut attempt = 1;
    loop {
        match try_read(driver, list, grants).await {
            Err(LogError::Compacted { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}

async fn try_read(
    driver: &Handle,
    list: &ListReleaseEvents,
    grants: &Grants,
) -> Result<Read, LogError> {
    let sees_all = grants.everywhere(Permission::Read);
    let state = driver.state();
    let mut unseen = 0;
    let last = list.page.after.as_ref();
    let begins = before(driver.oldest());
    let mut query = LogQuery {
        after: list.after.max(begins),
        up_to: state.revision(),
        release: list.release.clone(),
        order: match list.order {
            EventOrder::OldestFirst => Order::OldestFirst,
            EventOrder::NewestFirst => Order::NewestFirst,
        },
        // Every change has an event, so this is more than a page.
        limit: if sees_all { list.page.size + 1 } else { READ_SCOPED },
    };
    // The rest of the commit that the page before ended in comes first.
    match (list.order, last) {
        (_, None) => {}
        (EventOrder::OldestFirst, Some(last)) => {
            query.after = query.after.max(before(last.revision));
        }
        (EventOrder::NewestFirst, Some(last)) => query.up_to = query.up_to.min(last.revision),
    }
    let mut events = Vec::new();
    loop {
        let entries = driver.log(query.clone()).await?;
        for commit in entries.chunk_by(|a, b| a.change.revision == b.change.revision) {
            let seen = commit
                .iter()
                .filter(|entry| sees_all || grants.sees_release(&state, &entry.change.release));
            let mut count = 0;
            let mut placed: Vec<Placed> =
                seen.inspect(|_| count += 1).flat_map(|e| place(&e.change)).collect();
            unseen += commit.len() - count;
            if list.order == EventOrder::NewestFirst {
                placed.reverse();
            }
            placed.retain(|(position, _)| match (list.order, last) {
                (_, None) => true,
                (EventOrder::OldestFirst, Some(last)) => position > last,
                (EventOrder::NewestFirst, Some(last)) => position < last,
            });
            events.extend(placed);
        }
        // Commits are not torn apart, so a read may end before its limit though there is more.
        match entries.last() {
            Some(entry) if events.len() <= list.page.size => match list.order {
                EventOrder::OldestFirst => query.after = entry.change.revision,
                EventOrder::NewestFirst => query.up_to = before(entry.change.revision),
            },
            Some(_) | None => return Ok(Read { events, cut: None }),
        }
        if query.after >= query.up_to {
            return Ok(Read { events, cut: None });
        }
        if unseen > UNSEEN_MAX {
            let cut = match list.order {
                EventOrder::OldestFirst => end_of(query.after),
                EventOrder::NewestFirst => beginning_of(query.up_to.next()),
            };
            return Ok(Read { events, cut: Some(cut) });
        }
    }
}

fn place(change: &phasegate_engine::event::Change) -> impl Iterator<Item = Placed> {
    let position = |ordinal| LogPosition {
        revision: change.revision,
        release: change.release.id().clone(),
        ordinal,
    };
    let ordinals = change.events.iter().map(|event| event.ordinal);
    ordinals.map(position).zip(convert::events_to_wire(change))
}

/// Behind everything that a commit did.
fn end_of(revision: Revision) -> LogPosition {
    let last = ReleaseId::parse(&"z".repeat(63)).expect("63 letters are an id");
    LogPosition { revision, release: last, ordinal: u32::MAX }
}

/// Before everything that a commit did.
fn beginning_of(revision: Revision) -> LogPosition {
    let first = ReleaseId::parse("0").expect("a digit is an id");
    LogPosition { revision, release: first, ordinal: 0 }
}

fn before(revision: Revision) -> Revision {
    Revision::new(revision.get().saturating_sub(1))
}
