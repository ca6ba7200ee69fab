//! The store on disk: a [`Ledger`] in sled 0.34.7, and what has to be done around sled so that an
//! acknowledgement means something. The reasons, with what was measured, are in
//! `docs/adr/0001-sled-with-our-own-fdatasync.md`.
//!
//! * sled's `flush` does not sync on Linux: after it comes an `fdatasync` of our own.
//! * Its docs and its open tickets name calls that hang or lose data; none of them is used: no
//!   `flush_async`, no subscriber, no transaction, no id generator, no second tree with data in it.
//! * It takes damage for a torn write and goes back in time without a word: `witness` knows better.
//! * It replaces its snapshot by names that it does not sync, and then overwrites what only the old one
//!   needs: `opening` stops it in between.
//! * It may panic on bytes that it does not expect: every call is caught.
//!
//! All calls come from one thread, and none may be made on an async worker: they block.

mod opening;
mod segments;
mod witness;

use super::{
    Batch, Direction, Error, Ledger, StoreId,
    directory::{DataDirectory, Stage, doing},
    tree::Tree,
};
use phasegate_engine::id::Revision;
use sled::{Db, IVec};
use std::{
    any::Any,
    fs::File,
    io,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};
use witness::Witness;

/// The one tree.
const TREE: &str = "s";

/// A store on disk.
pub type SledStore = Ledger<SledTree>;

/// Opens the store in a directory. If the directory is missing or empty a new store is made in it,
/// with the identity `fresh`.
pub fn open(path: &Path, fresh: StoreId) -> Result<SledStore, Error> {
    let (directory, stage) = DataDirectory::claim(path)?;
    match stage {
        Stage::Empty | Stage::Creating => {
            directory.mark(Stage::Creating)?;
            let ledger = Ledger::create(SledTree::open(directory)?, fresh)?;
            ledger.tree.directory.mark(Stage::Ready)?;
            Ok(ledger)
        }
        Stage::Importing | Stage::Ready => open_claimed(directory, stage),
    }
}

/// Opens the store in a directory; an error if there is none.
pub fn open_existing(path: &Path) -> Result<SledStore, Error> {
    let (directory, stage) = DataDirectory::claim_existing(path)?;
    open_claimed(directory, stage)
}

fn open_claimed(directory: DataDirectory, stage: Stage) -> Result<SledStore, Error> {
    let foreign = |problem: &str| {
        let dir = directory.path().display().to_string();
        Err(Error::Foreign { dir, problem: problem.into() })
    };
    match stage {
        Stage::Empty | Stage::Creating => foreign("there is no store in it"),
        Stage::Importing => {
            foreign("an import into it was not finished: empty it, and import once more")
        }
        Stage::Ready => {
            // sled would make a new database in place of one that is gone.
            for file in [directory.database(), directory.settings()] {
                if !file.exists() {
                    return Err(Error::Damaged(format!("{} is missing", file.display())));
                }
            }
            if !directory.has_snapshot()? {
                segments::check_without_snapshot(&directory.database())?;
            }
            let opened = Ledger::open(SledTree::open(directory)?)?;
            opened.ok_or_else(|| Error::Damaged("the database is empty".into()))
        }
    }
}

/// Makes a store in an empty or missing directory that cannot be opened until it is finished.
pub(super) fn create_unfinished(path: &Path, store_id: StoreId) -> Result<SledStore, Error> {
    let (directory, stage) = DataDirectory::claim(path)?;
    if stage != Stage::Empty {
        let dir = path.display().to_string();
        return Err(Error::Foreign { dir, problem: "there is a store in it already".into() });
    }
    directory.mark(Stage::Importing)?;
    Ledger::create(SledTree::open(directory)?, store_id)
}

/// From here on the store can be opened.
pub(super) fn finish(store: SledStore) -> Result<(), Error> {
    store.tree.directory.mark(Stage::Ready)
}

/// Removes a store that is not finished, with all its files.
pub(super) fn abandon(store: SledStore) -> Result<(), Error> {
    let SledTree { tree, database, barrier, witness, directory, took: _ } = store.tree;
    drop((tree, database, barrier, witness));
    directory.abandon()
}

/// The tree in sled. The order of the fields is the order in which they are dropped: the lock goes
/// last.
pub struct SledTree {
    tree: sled::Tree,
    database: Db,
    /// The file that sled writes, opened a second time: a sync through any descriptor covers what
    /// was written through all, and one that was opened before a failed write is sure to be told.
    barrier: File,
    witness: Witness,
    directory: DataDirectory,
    /// How long the last barrier took.
    took: Option<Duration>,
}

impl std::fmt::Debug for SledTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // sled prints whole trees.
        f.debug_struct("SledTree").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl SledTree {
    fn open(directory: DataDirectory) -> Result<Self, Error> {
        directory.remove_snapshot_drafts()?;
        // A process that was killed has left its last writes in the page cache. sled reads them there, and
        // may note in a snapshot, which it syncs, how far they go: if the power went then, the snapshot
        // would speak of what is gone.
        if directory.database().exists() {
            sync(&directory.database())?;
        }
        // The same goes for names: sled overwrites what the snapshot that it finds does not need.
        directory.sync()?;
        let (tree, database) = opening::open(&directory)?;
        directory.remove_older_snapshots()?;
        let barrier = sync(&directory.database())?;
        // sled never syncs its settings, nor the names of its files.
        sync(&directory.settings())?;
        let witness = Witness::open(&directory.witness())?;
        directory.sync()?;
        Ok(Self { tree, database, barrier, witness, directory, took: None })
    }

    /// Names of the files into which sled has moved what was too long for it.
    pub(super) fn files_never_synced(&self) -> Result<Vec<String>, Error> {
        self.directory.blobs()
    }
}

fn sync(file: &Path) -> Result<File, Error> {
    let synced = File::open(file).and_then(|file| file.sync_all().map(|()| file));
    synced.map_err(|source| doing(format!("sync {}", file.display()), source))
}

/// Calls sled. A panic is an error like any other: the store does not know what it holds then.
fn call<T>(what: &str, sled: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, Error> {
    // Nothing that sled left half done is looked at afterwards: after an error the store is not used.
    match catch_unwind(AssertUnwindSafe(sled)) {
        Ok(result) => result.map_err(|error| failed(what, error)),
        Err(panic) => Err(failed(what, sled::Error::ReportableBug(text_of(&*panic)))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}

fn failed(what: &str, error: sled::Error) -> Error {
    match error {
        // An error of the operating system has its number, but sled copies errors without it.
        sled::Error::Io(error) if !says_damage(error.kind()) => doing(what.into(), error),
        error @ (sled::Error::Io(_)
        | sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::FailPoint
        | sled::Error::Corruption { .. }) => Error::Damaged(format!("failed to {what}: {error}")),
    }
}

fn says_damage(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

impl Tree for SledTree {
    type Bytes = IVec;

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, Error> {
        call("read", || self.tree.get(key))
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(IVec, IVec), Error>> {
        let mut entries = Some(self.tree.range(range));
        std::iter::from_fn(move || {
            let iter = entries.as_mut()?;
            let next = call("read", || match direction {
                Direction::Up => iter.next().transpose(),
                Direction::Down => iter.next_back().transpose(),
            });
            if next.is_err() {
                // It would fail at the same place for ever.
                entries = None;
            }
            next.transpose()
        })
    }

    fn apply(&mut self, batch: Batch) -> Result<(), Error> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        call("write", || self.tree.apply_batch(writes))
    }

    fn sync(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        call("write to the page cache", || self.database.flush())?;
        let synced = self.barrier.sync_data();
        self.took = Some(begun.elapsed());
        synced.map_err(|source| doing("sync the database".into(), source))
    }

    fn note_durable(&mut self, revision: Revision) -> Result<(), Error> {
        self.witness.note(revision)
    }

    fn noted_durable(&self) -> Revision {
        self.witness.revision()
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        let path = self.directory.path();
        let space = rustix::fs::statvfs(path)
            .map_err(|errno| doing(format!("ask how full {} is", path.display()), errno.into()))?;
        Ok(Some(space.f_bavail.saturating_mul(space.f_frsize)))
    }

    fn sync_took(&self) -> Option<Duration> {
        self.took
    }
}

#[cfg(test)]
mod tests;
