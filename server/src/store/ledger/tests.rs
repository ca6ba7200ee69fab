//! What becomes of a ledger when its tree fails.

use crate::store::{
    Batch, Compaction, Direction, Error, Ledger, LogQuery, Order, Store, StoreId, Tree, Writes,
    memory::{self, Disk, MemoryTree},
    testing::{History, START},
};
use phasegate_engine::{id::Revision, time::Span};
use std::{io, ops::Range, sync::Arc, sync::Mutex};
use uuid::Uuid;

const STORE: StoreId = StoreId(Uuid::from_u128(1));

/// Where a tree fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    Nowhere,
    InApply,
    InSync,
    InNote,
}

/// A tree in memory that fails when it is told to.
struct Failing {
    tree: MemoryTree,
    fails: Arc<Mutex<Fails>>,
}

impl Failing {
    fn at(&self, place: Fails) -> Result<(), Error> {
        if *self.fails.lock().unwrap() == place {
            Err(Error::Full(io::ErrorKind::StorageFull.into()))
        } else {
            Ok(())
        }
    }
}

impl Tree for Failing {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.tree.get(key)
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        self.tree.scan(range, direction)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), Error> {
        self.at(Fails::InApply)?;
        self.tree.apply(batch)
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.at(Fails::InSync)?;
        self.tree.sync()
    }

    fn note_durable(&mut self, revision: Revision) -> Result<(), Error> {
        self.at(Fails::InNote)?;
        self.tree.note_durable(revision)
    }

    fn noted_durable(&self) -> Revision {
        self.tree.noted_durable()
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.tree.free_space()
    }
}

fn check_failure(place: Fails, write: impl Fn(&mut Ledger<Failing>, &History) -> Error) {
    let history = History::full();
    let disk = Disk::new();
    drop(memory::open(&disk, STORE).unwrap());
    let fails = Arc::new(Mutex::new(Fails::Nowhere));
    let tree = Failing { tree: MemoryTree::of(&disk), fails: Arc::clone(&fails) };
    let mut ledger = Ledger::open(tree).unwrap().unwrap();
    let (first, rest) = history.records.split_at(4);
    ledger.commit(Writes::of(first)).unwrap();
    *fails.lock().unwrap() = place;
    assert!(matches!(write(&mut ledger, &history), Error::Full(_)), "{place:?}");
    // Even if it would work again: nobody knows what is there.
    *fails.lock().unwrap() = Fails::Nowhere;
    let query = LogQuery {
        after: Revision::ZERO,
        up_to: Revision::new(100),
        release: None,
        order: Order::OldestFirst,
        limit: 1,
    };
    assert!(matches!(ledger.load(), Err(Error::Failed)));
    assert!(matches!(ledger.verify(), Err(Error::Failed)));
    assert!(matches!(ledger.commit(Writes::of(rest)), Err(Error::Failed)));
    assert!(matches!(ledger.changes(&query), Err(Error::Failed)));
    assert!(matches!(ledger.compact(&everything()), Err(Error::Failed)));
    drop(ledger);
    // Opened again it holds the commit that failed, or it does not.
    let mut store = memory::open(&disk, STORE).unwrap();
    let revision = store.load().unwrap().state.revision().get();
    assert!([4, 5].contains(&revision), "{place:?}: {revision}");
}

fn everything() -> Compaction {
    let later = START + Span::DAY;
    Compaction { changes_before: later, requests_before: later, most: 100 }
}

#[test]
fn a_ledger_that_failed_to_commit_takes_nothing_more() {
    for place in [Fails::InApply, Fails::InSync, Fails::InNote] {
        check_failure(place, |ledger, history| {
            ledger.commit(Writes::of(&history.records[4..5])).unwrap_err()
        });
    }
}

#[test]
fn a_ledger_that_failed_to_compact_takes_nothing_more() {
    for place in [Fails::InApply, Fails::InSync, Fails::InNote] {
        check_failure(place, |ledger, _| ledger.compact(&everything()).unwrap_err());
    }
}

#[test]
fn what_was_not_synced_is_not_there_after_a_power_cut() {
    let history = History::full();
    let disk = Disk::new();
    memory::open(&disk, STORE).unwrap().commit(Writes::of(&history.records[..4])).unwrap();
    let mut tree = MemoryTree::of(&disk);
    let mut batch = Batch::default();
    batch.put(b"flag/a".to_vec(), Vec::new());
    tree.apply(batch).unwrap();
    drop(tree);
    let mut store = memory::open(&disk, STORE).unwrap();
    assert_eq!(store.load().unwrap().state.revision().get(), 4);
    assert_eq!(store.verify().unwrap().findings, []);
}
