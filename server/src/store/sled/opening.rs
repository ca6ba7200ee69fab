//! Opening the database so that a power cut in the middle of it leaves a snapshot by which sled can open
//! it again.
//!
//! A database that was written to since its last opening gets a new snapshot: sled writes and syncs it,
//! gives it its name, removes the older one, and then overwrites every segment that the new one does not
//! need. It never syncs the directory, so the power may go and leave no snapshot, or only the older one,
//! beside a database in which segments are zeros. sled then looks for the segment of which the newest
//! header says that all before it is on disk; if that is a zeroed one, sled finds no log at all and
//! overwrites the rest.
//!
//! sled has no option for this, but points at which its tests let it fail, and one is between the name and
//! the first removal. There we stop it, sync the directory, and open it again: it finds the new snapshot
//! and has none to write.

use super::{
    super::{Error, directory::DataDirectory},
    TREE, failed, text_of,
};
use sled::{Config, Db};
use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Bytes of pages that sled keeps in memory. Reads are served from the state, not from sled, so this
/// is for the pages that commits change: the ends of what grows, which is little. sled takes several times
/// what it is told. With 4 MiB commits were as fast as with 64, and the process 60 MiB smaller.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How often sled looks after its segments. It also syncs then, which nothing relies on: it only
/// logs when that fails.
const UPKEEP_MS: u64 = 500;

/// sled lets go of its file some time after it was dropped: two of fifty reopenings at once failed
/// when this was measured. Ten seconds are far more than that took, and a person can still wait so
/// long for the answer that somebody else has the file.
const ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Where sled is stopped: a new snapshot has its name, and nothing has been removed or overwritten.
const SNAPSHOT_NAMED: &str = "snap write mv post";

/// sled keeps its points of failure for the whole process, so one database is opened at a time.
static POINTS_OF_FAILURE: Mutex<()> = Mutex::new(());

pub(super) fn open(directory: &DataDirectory) -> Result<(sled::Tree, Db), Error> {
    for _ in 0..ATTEMPTS {
        match try_open(directory.path()) {
            Ok(opened) => return Ok(opened),
            // From here on the new snapshot is there, whatever happens.
            Err(sled::Error::FailPoint) => directory.sync()?,
            Err(sled::Error::Io(error)) if is_lock_held(&error) => thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(failed("open the database", error)),
        }
    }
    let dir = directory.path().display().to_string();
    Err(Error::Locked { dir, holder: "a process that has its file db open".into() })
}

/// Opens on a thread of its own: a panic in there ends that thread and not ours, and what it leaves
/// behind in thread-local places goes with it.
fn try_open(path: &Path) -> Result<(sled::Tree, Db), sled::Error> {
    // Made anew each time: it remembers that sled was stopped.
    let config = Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .use_compression(false)
        .flush_every_ms(Some(UPKEEP_MS));
    let open = move || {
        let database = open_up_to_a_snapshot(&config)?;
        Ok((database.open_tree(TREE)?, database))
    };
    let opened = thread::Builder::new().name("sled-open".into()).spawn(open)?.join();
    opened.unwrap_or_else(|panic| Err(sled::Error::ReportableBug(text_of(&*panic))))
}

/// Opens; stops if that makes a new snapshot.
fn open_up_to_a_snapshot(config: &Config) -> Result<Db, sled::Error> {
    // One that panicked leaves nothing that is not set here.
    let _alone = POINTS_OF_FAILURE.lock().unwrap_or_else(PoisonError::into_inner);
    // Once is enough: it does not go on after that.
    sled::fail::set(SNAPSHOT_NAMED, 1);
    let opened = config.open();
    sled::fail::reset();
    opened
}

/// sled gives this error no kind of its own.
fn is_lock_held(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
