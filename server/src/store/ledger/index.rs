//! The index of the log by release: which commits touched it.
//!
//! The newest entries of a release are named where its progress is, which is written with each of them
//! anyway. When those are many they go into a list under a key of their own, that of the last of them. So
//! an entry costs no key, and whoever wants those of one release reads a key for each
//! [`INDEXED_AT_ONCE`] of them. Up to version 3 each entry had a key, with nothing under it.

use super::Stretch;
use crate::store::{
    Error, Order,
    record::{
        INDEXED_AT_ONCE, NotIndexed, StoredProgress, Unreadable, decode, encode,
        key::{self, Key},
        parts,
    },
    tree::{Batch, Direction, Tree},
};
use phasegate_engine::{
    id::{ReleaseId, Revision},
    release::Release,
};
use std::{borrow::Cow, collections::BTreeMap};

/// Writes the progress of a release, and the entry of the log that goes with it, if there is one. What the
/// log does not hold any more is not named again.
pub(super) fn put_progress<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    release: &Release,
    entry: Option<Revision>,
    oldest: Revision,
) -> Result<(), Error> {
    let key = Key::Progress(release.id().clone());
    let mut full = Vec::new();
    parts::update(batch, tree, &key, |stored| {
        let mut log = match stored {
            Some(stored) => decode::<NotIndexed>(&key, stored)?.0,
            None => Vec::new(),
        };
        log.retain(|revision| *revision >= oldest);
        log.extend(entry);
        if log.len() >= INDEXED_AT_ONCE {
            full = std::mem::take(&mut log);
        }
        Ok(encode(&StoredProgress { progress: Cow::Borrowed(&release.progress), log }))
    })?;
    put_list(batch, release.id(), &full);
    Ok(())
}

fn put_list(batch: &mut Batch, release: &ReleaseId, list: &[Revision]) {
    if let Some(last) = list.last() {
        parts::insert(batch, &Key::ChangeOf(release.clone(), *last), encode(&list));
    }
}

/// What is under a key of the index: entries of one release, the last of which the key names.
pub(in crate::store) fn list(
    key: &Key,
    value: &[u8],
) -> Result<(ReleaseId, Vec<Revision>), Unreadable> {
    let Key::ChangeOf(release, last) = key else {
        return Err(Unreadable::at(key, "stands in the middle of the log index"));
    };
    let list = if value.is_empty() { vec![*last] } else { decode::<Vec<Revision>>(key, value)? };
    if list.last() != Some(last) || !list.is_sorted_by(|a, b| a < b) {
        return Err(Unreadable::at(key, "is no list that ends with its key"));
    }
    Ok((release.clone(), list))
}

/// The entries of the log about one release, as far as a query asks for them.
pub(super) fn entries<T: Tree>(
    tree: &T,
    release: &ReleaseId,
    query: &Stretch,
) -> Result<Vec<Revision>, Error> {
    let limit = query.limit.max(1);
    let mut found = Vec::new();
    let mut take = |list: Vec<Revision>| {
        let asked = list.into_iter().filter(|revision| (query.from..query.to).contains(revision));
        match query.order {
            Order::OldestFirst => found.extend(asked),
            Order::NewestFirst => found.extend(asked.collect::<Vec<_>>().into_iter().rev()),
        }
        found.len() >= limit
    };
    let lists = |range, direction| {
        parts::scan(tree, range, direction).map(|entry| {
            let (key, value) = entry??;
            Ok::<_, Error>(list(&key, value.as_ref())?.1)
        })
    };
    // A list is under the last of its entries: the one that has an entry is the first at or above it.
    match query.order {
        Order::OldestFirst => {
            let mut full = false;
            let mut above = false;
            for list in lists(key::changes_of_from(release, query.from), Direction::Up) {
                let list = list?;
                above = list.last().is_some_and(|last| *last >= query.to);
                full = take(list);
                if full || above {
                    break;
                }
            }
            if !full && !above {
                take(not_indexed(tree, release)?);
            }
        }
        Order::NewestFirst => {
            let mut full = take(not_indexed(tree, release)?);
            if !full
                && let Some(list) =
                    lists(key::changes_of_from(release, query.to), Direction::Up).next()
            {
                full = take(list?);
            }
            let below = key::changes_of_between(release, query.from, query.to);
            for list in lists(below, Direction::Down) {
                if full {
                    break;
                }
                full = take(list?);
            }
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The entries that are named where the progress is.
fn not_indexed<T: Tree>(tree: &T, release: &ReleaseId) -> Result<Vec<Revision>, Error> {
    let key = Key::Progress(release.clone());
    let Some(value) = parts::get(tree, &key)? else { return Ok(Vec::new()) };
    Ok(decode::<NotIndexed>(&key, value.as_ref())?.0)
}

/// Removes what names entries of a release below a revision and none above. What is below the first
/// revision is gone already.
pub(super) fn remove<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    release: &ReleaseId,
    from: Revision,
    to: Revision,
) -> Result<(), Error> {
    for entry in tree.scan(key::changes_of_between(release, from, to), Direction::Up) {
        batch.delete(entry?.0.as_ref().to_vec());
    }
    Ok(())
}

/// The index of a log that is written from its beginning on, in an import.
#[derive(Debug, Default)]
pub(in crate::store) struct Gathered(BTreeMap<ReleaseId, Vec<Revision>>);

impl Gathered {
    /// Adds the next entry of a release.
    pub(in crate::store) fn add(
        &mut self,
        batch: &mut Batch,
        release: &ReleaseId,
        revision: Revision,
    ) {
        let list = self.0.entry(release.clone()).or_default();
        list.push(revision);
        if list.len() >= INDEXED_AT_ONCE {
            put_list(batch, release, list);
            list.clear();
        }
    }

    /// What is left at the end: one release at a time.
    pub(in crate::store) fn finish(self) -> impl Iterator<Item = impl FnOnce(&mut Batch)> {
        self.0
            .into_iter()
            .map(|(release, list)| move |batch: &mut Batch| put_list(batch, &release, &list))
    }
}
