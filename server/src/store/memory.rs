//! A store in memory, for tests and simulations: the bytes and the code are those of the store on
//! disk, only the tree is a map.

use super::{Batch, Direction, Error, Ledger, StoreId, tree::Tree};
use phasegate_engine::id::Revision;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A store in memory.
pub type MemoryStore = Ledger<MemoryTree>;

/// What survives: the place of a disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    durable: Arc<Mutex<Durable>>,
}

#[derive(Debug, Default)]
struct Durable {
    map: Map,
    noted: Revision,
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is on the disk behind the back of the store.
    pub fn tamper(&self, with: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
        with(&mut self.lock().map);
    }
}

/// Opens the store on a disk as it would be after a power cut: all that was not synced is lost. On an
/// empty disk a new store is made, with the identity `fresh`.
pub fn open(disk: &Disk, fresh: StoreId) -> Result<MemoryStore, Error> {
    match Ledger::open(MemoryTree::of(disk))? {
        Some(ledger) => Ok(ledger),
        None => Ledger::create(MemoryTree::of(disk), fresh),
    }
}

/// A map, and the disk that it is written to.
#[derive(Debug)]
pub struct MemoryTree {
    disk: Disk,
    current: Map,
    unsynced: Vec<Batch>,
}

impl MemoryTree {
    pub(super) fn of(disk: &Disk) -> Self {
        let current = disk.lock().map.clone();
        Self { disk: disk.clone(), current, unsynced: Vec::new() }
    }
}

fn write(map: &mut Map, batch: Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

impl Tree for MemoryTree {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.current.get(key).cloned())
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        // A map panics at a range that ends before it begins.
        let end = range.end.max(range.start.clone());
        let mut entries = self.current.range(range.start..end);
        std::iter::from_fn(move || {
            let next = match direction {
                Direction::Up => entries.next(),
                Direction::Down => entries.next_back(),
            };
            next.map(|(key, value)| Ok((key.clone(), value.clone())))
        })
    }

    fn apply(&mut self, batch: Batch) -> Result<(), Error> {
        write(&mut self.current, batch.clone());
        self.unsynced.push(batch);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let mut durable = self.disk.lock();
        for batch in self.unsynced.drain(..) {
            write(&mut durable.map, batch);
        }
        Ok(())
    }

    fn note_durable(&mut self, revision: Revision) -> Result<(), Error> {
        self.disk.lock().noted = revision;
        Ok(())
    }

    fn noted_durable(&self) -> Revision {
        self.disk.lock().noted
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}
