//! The log, read for a page of a listing.

use crate::driver::{Handle, LogError, LogQuery, Order};
use phasegate_api::{
    convert::{self, EventOrder, ListReleaseEvents, LogPosition},
    v1::ReleaseEvent,
};
use phasegate_engine::id::Revision;

/// Compaction may move the beginning of the log between asking for it and reading. It moves once in
/// a while, so a second attempt is enough and a third is a courtesy.
const ATTEMPTS_MAX: usize = 3;

/// An event of a listing, and its place in the log.
pub(super) type Placed = (LogPosition, ReleaseEvent);

/// The events of a page in their order, and at least one more if there is one. They begin where the
/// log does, if that is later than asked for.
pub(super) async fn read(
    driver: &Handle,
    list: &ListReleaseEvents,
) -> Result<Vec<Placed>, LogError> {
    let mut attempt = 1;
    loop {
        match try_read(driver, list).await {
            Err(LogError::Compacted { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}

async fn try_read(driver: &Handle, list: &ListReleaseEvents) -> Result<Vec<Placed>, LogError> {
    let last = list.page.after.as_ref();
    let begins = before(driver.oldest());
    let mut query = LogQuery {
        after: list.after.max(begins),
        up_to: driver.state().revision(),
        release: list.release.clone(),
        order: match list.order {
            EventOrder::OldestFirst => Order::OldestFirst,
            EventOrder::NewestFirst => Order::NewestFirst,
        },
        // Every change has an event, so this is more than a page.
        limit: list.page.size + 1,
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
            let mut placed: Vec<Placed> = commit.iter().flat_map(|e| place(&e.change)).collect();
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
            Some(_) | None => return Ok(events),
        }
        if query.after >= query.up_to {
            return Ok(events);
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

fn before(revision: Revision) -> Revision {
    Revision::new(revision.get().saturating_sub(1))
}
