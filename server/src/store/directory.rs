//! The data directory: whose it is, who holds it, and how far its making has got.
//!
//! Beside what sled puts there the directory has three files: `LOCK`, held while a process uses the
//! store, `PHASEGATE`, by which we know it again, and `ACKNOWLEDGED`, see [`super::sled`]. A directory
//! that holds anything without `PHASEGATE` is somebody else's and is left alone.

use super::Error;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

const LOCK: &str = "LOCK";
/// The note of what was acknowledged, see `sled::witness`.
const WITNESS: &str = "ACKNOWLEDGED";
const MARKER: &str = "PHASEGATE";
/// The marker before it gets its name.
const MARKER_DRAFT: &str = "PHASEGATE.draft";

/// What sled makes in its directory; snapshots come on top, see [`is_of_store`].
const DATABASE: &str = "db";
const SETTINGS: &str = "conf";
const BLOBS: &str = "blobs";
const SNAPSHOT_PREFIX: &str = "snap.";
/// A snapshot that was not finished. sled 0.34 takes it for the newest one and then fails its
/// checksum for ever (sled#1527, #1533), so it has to go before the database is opened. The newest
/// finished snapshot must never be removed.
const SNAPSHOT_DRAFT_SUFFIX: &str = ".generating";

/// A data directory that this process holds. The lock ends with it.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Holding it open is holding the lock.
    _lock: File,
}

/// How far the making of a store has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is nothing yet.
    Empty,
    /// A new store is being made: nothing was ever acknowledged.
    Creating,
    /// An export is being read into it: incomplete until [`Stage::Ready`].
    Importing,
    /// A store is there.
    Ready,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Creating => "creating",
            Self::Importing => "importing",
            Self::Ready => "ready",
        }
    }
}

impl DataDirectory {
    /// Takes the directory and its lock; makes it if it is missing.
    pub(super) fn claim(path: &Path) -> Result<(Self, Stage), Error> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_directory(parent(path))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(doing(format!("create {}", path.display()), source)),
        }
        Self::claim_existing(path)
    }

    /// Takes the directory and its lock.
    pub(super) fn claim_existing(path: &Path) -> Result<(Self, Stage), Error> {
        // Looked at before anything is written, and once more when nobody else can write.
        look(path)?;
        let directory = Self { path: path.to_owned(), _lock: lock(path)? };
        let stage = match look(path)? {
            Stage::Creating => {
                directory.remove_database()?;
                Stage::Empty
            }
            stage @ (Stage::Empty | Stage::Importing | Stage::Ready) => stage,
        };
        directory.keep_private(stage)?;
        Ok((directory, stage))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(super) fn witness(&self) -> PathBuf {
        self.path.join(WITNESS)
    }

    pub(super) fn settings(&self) -> PathBuf {
        self.path.join(SETTINGS)
    }

    /// Names of the files that sled keeps beside its database.
    pub(super) fn blobs(&self) -> Result<Vec<String>, Error> {
        names(&self.path.join(BLOBS))
    }

    /// Writes down how far the making has got, durably.
    pub(super) fn mark(&self, stage: Stage) -> Result<(), Error> {
        let (draft, marker) = (self.path.join(MARKER_DRAFT), self.path.join(MARKER));
        let text = format!(
            "This is a data directory of phasegate. Change nothing in it by hand.\nstage: {}\n",
            stage.name()
        );
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &marker)
        };
        write().map_err(|source| doing(format!("write {}", marker.display()), source))?;
        self.sync()
    }

    /// Makes the names in the directory durable, and its own name.
    pub(super) fn sync(&self) -> Result<(), Error> {
        sync_directory(&self.path)?;
        sync_directory(parent(&self.path))
    }

    /// Removes snapshots that sled did not finish, and only those.
    pub(super) fn remove_snapshot_drafts(&self) -> Result<(), Error> {
        for name in names(&self.path)? {
            if name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(SNAPSHOT_DRAFT_SUFFIX) {
                let path = self.path.join(name);
                fs::remove_file(&path)
                    .map_err(|source| doing(format!("remove {}", path.display()), source))?;
            }
        }
        Ok(())
    }

    /// Whether there is a snapshot that sled has finished.
    pub(super) fn has_snapshot(&self) -> Result<bool, Error> {
        Ok(!self.snapshots()?.is_empty())
    }

    /// Removes all snapshots but the newest, whose name must be durable.
    pub(super) fn remove_older_snapshots(&self) -> Result<(), Error> {
        let mut snapshots = self.snapshots()?;
        // The names are numbers of one length.
        snapshots.sort_unstable();
        snapshots.pop();
        for name in snapshots {
            let path = self.path.join(name);
            fs::remove_file(&path)
                .map_err(|source| doing(format!("remove {}", path.display()), source))?;
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<String>, Error> {
        let mut names = names(&self.path)?;
        names.retain(|name| {
            name.starts_with(SNAPSHOT_PREFIX) && !name.ends_with(SNAPSHOT_DRAFT_SUFFIX)
        });
        Ok(names)
    }

    /// Removes the database and its note. Only for a store that was never finished, and so never
    /// acknowledged anything.
    pub(super) fn remove_database(&self) -> Result<(), Error> {
        for name in names(&self.path)?.into_iter().filter(|name| is_of_store(name)) {
            let path = self.path.join(&name);
            let removed =
                if name == BLOBS { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| doing(format!("remove {}", path.display()), source))?;
        }
        Ok(())
    }

    /// Leaves the directory as it was before a store was made in it. Only for one that was never
    /// finished.
    pub(super) fn abandon(self) -> Result<(), Error> {
        self.remove_database()?;
        for name in [MARKER, LOCK] {
            let path = self.path.join(name);
            fs::remove_file(&path)
                .map_err(|source| doing(format!("remove {}", path.display()), source))?;
        }
        self.sync()
    }

    /// Sees to it that nobody else can read the directory: sled makes its files readable for all
    /// that get as far as here.
    fn keep_private(&self, stage: Stage) -> Result<(), Error> {
        let mode = fs::metadata(&self.path)
            .map_err(|source| doing(format!("look at {}", self.path.display()), source))?
            .permissions()
            .mode();
        if mode & 0o077 == 0 {
            return Ok(());
        }
        // An empty one becomes ours; one in use was opened up by somebody, who should know.
        let closed = stage == Stage::Empty
            && fs::set_permissions(&self.path, Permissions::from_mode(0o700)).is_ok();
        if closed { Ok(()) } else { Err(Error::Exposed { dir: display(&self.path), mode }) }
    }
}

/// What is in a directory; an error if it is not ours to touch.
fn look(path: &Path) -> Result<Stage, Error> {
    let foreign = |problem: String| Err(Error::Foreign { dir: display(path), problem });
    let names = names(path)?;
    let ours = |name: &String| [LOCK, MARKER, MARKER_DRAFT].contains(&name.as_str());
    if !names.iter().any(|name| name == MARKER) {
        return match names.iter().find(|name| !ours(name)) {
            Some(name) => foreign(format!("it holds {name}, and no file {MARKER}")),
            None => Ok(Stage::Empty),
        };
    }
    let marker = path.join(MARKER);
    let text = fs::read_to_string(&marker)
        .map_err(|source| doing(format!("read {}", marker.display()), source))?;
    let stage = text.lines().find_map(|line| line.strip_prefix("stage: "));
    let known = [Stage::Creating, Stage::Importing, Stage::Ready];
    match known.into_iter().find(|known| Some(known.name()) == stage) {
        Some(stage) => Ok(stage),
        None => foreign(format!("its file {MARKER} is not one that this version writes")),
    }
}

fn names(path: &Path) -> Result<Vec<String>, Error> {
    let read = || {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    read().map_err(|source| doing(format!("read the directory {}", path.display()), source))
}

fn is_of_store(name: &str) -> bool {
    [DATABASE, SETTINGS, BLOBS, WITNESS].contains(&name) || name.starts_with(SNAPSHOT_PREFIX)
}

/// Takes the lock, and writes into it who has it.
fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| doing(format!("open {}", path.display()), source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder may be about to write it, so it may be empty.
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim().into() } else { "another process".into() };
            return Err(Error::Locked { dir: display(directory), holder });
        }
        Err(TryLockError::Error(source)) => {
            return Err(doing(format!("lock {}", path.display()), source));
        }
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let holder = format!("process {} on {host}\n", std::process::id());
    let mut write = || {
        file.set_len(0)?;
        file.write_all(holder.as_bytes())
    };
    write().map_err(|source| doing(format!("write {}", path.display()), source))?;
    Ok(file)
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| doing(format!("sync the directory {}", path.display()), source))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        // The root directory is its own parent.
        None => path,
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn doing(doing: String, source: io::Error) -> Error {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&source.kind()) { Error::Full(source) } else { Error::Io { doing, source } }
}
