//! What the store needs of whatever holds the bytes: one ordered tree, atomic batches, a barrier.
//!
//! sled and memory both are one; a disk that fails on purpose can be another. There are no
//! transactions, no second tree, no iterators that outlive a write and no background work in this
//! interface: the less is asked for, the less can be got wrong.

use super::Error;
use phasegate_engine::id::Revision;
use std::{collections::BTreeMap, ops::Range, time::Duration};

/// An ordered map of byte strings that survives.
pub trait Tree: Send + 'static {
    /// A key or a value, as the tree hands it out.
    type Bytes: AsRef<[u8]> + Send + Sync;

    /// The value at a key.
    fn get(&self, key: &[u8]) -> Result<Option<Self::Bytes>, Error>;

    /// The keys of a range with their values, in order of the keys, or against it.
    fn scan(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(Self::Bytes, Self::Bytes), Error>>;

    /// Writes a batch: after a crash all of it is there or none of it, and if it is there then so are
    /// all batches before it. Reads see it at once; durable it is only after [`Tree::sync`].
    fn apply(&mut self, batch: Batch) -> Result<(), Error>;

    /// Makes all batches so far survive a power cut.
    fn sync(&mut self) -> Result<(), Error>;

    /// Notes that commits up to this one are durable, somewhere else than in the tree. The note need
    /// not be durable itself, but must never be ahead.
    fn note_durable(&mut self, revision: Revision) -> Result<(), Error>;

    /// The last such note that survived. A tree that ends before it has lost something.
    fn noted_durable(&self) -> Revision;

    /// Bytes that can still be written; none if there is no such bound.
    fn free_space(&self) -> Result<Option<u64>, Error>;

    /// How long the last [`Tree::sync`] took; none if it has nothing to wait for.
    fn sync_took(&self) -> Option<Duration> {
        None
    }
}

/// Which way to go through keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key.
    Up,
    /// From the highest key.
    Down,
}

/// Writes that belong together. Of several writes to one key the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// What the batch says of a key: a value, or that it is gone; none if it says nothing.
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.writes.get(key).map(Option::as_deref)
    }

    /// The writes, by key; none is a removal.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// How many keys it writes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True if it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl IntoIterator for Batch {
    type Item = (Vec<u8>, Option<Vec<u8>>);
    type IntoIter = std::collections::btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.writes.into_iter()
    }
}
