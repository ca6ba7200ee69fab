//! Files that must not be anybody's: read only if their mode says so, and noticed when they change.

use crate::private::is_private;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What such a file may hold at most. A bundle of certificates has some hundred kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Who may read a file besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Anybody, but nobody may write it: what it says decides who is let in.
    Anybody,
    /// Nobody: it is a secret. A group, if it is root's.
    Nobody,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why it could not be read.
        source: io::Error,
    },
    /// Others may do with it what they must not.
    #[error("{} has mode {mode:03o}, so others can {what} it: `chmod {wanted} {}`",
        path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What others could do.
        what: &'static str,
        /// The mode that is wanted.
        wanted: &'static str,
    },
    /// It is larger than anything of its kind.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file, unless others can write or read what they must not. The mode is asked of the open
/// file, so that it is that of what is read.
pub fn read(path: &Path, readers: Readers) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    let exposed = |what, wanted| ReadError::Exposed { path: path.to_owned(), mode, what, wanted };
    match readers {
        Readers::Nobody if !is_private(&metadata) => return Err(exposed("read or write", "600")),
        Readers::Anybody if mode & 0o022 != 0 => return Err(exposed("write", "go-w")),
        Readers::Nobody | Readers::Anybody => {}
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// What tells whether files have changed: when each was changed, how large it is, and which it is.
/// Links are followed, because that is how files of a cluster's secrets are replaced.
pub fn fingerprint<'a>(
    paths: impl IntoIterator<Item = &'a PathBuf>,
) -> BTreeMap<PathBuf, Option<(SystemTime, u64, u64)>> {
    let of = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    paths.into_iter().map(|path| (path.clone(), of(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn check(mode: u32, readers: Readers) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        read(&path, readers).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        for good in [0o600, 0o400] {
            assert_eq!(check(good, Readers::Nobody), Ok(b"x".to_vec()));
        }
        for bad in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666] {
            let refused = check(bad, Readers::Nobody).unwrap_err();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        for good in [0o600, 0o644, 0o444] {
            assert_eq!(check(good, Readers::Anybody), Ok(b"x".to_vec()));
        }
        for bad in [0o660, 0o622, 0o602, 0o666] {
            let refused = check(bad, Readers::Anybody).unwrap_err();
            assert!(refused.contains("chmod go-w"), "{refused}");
        }
    }

    #[test]
    fn a_file_that_is_replaced_has_another_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("file")];
        let none = fingerprint(&paths);
        fs::write(&paths[0], "x").unwrap();
        let one = fingerprint(&paths);
        assert_ne!(none, one);
        assert_eq!(one, fingerprint(&paths));
        fs::write(folder.path().join("new"), "y").unwrap();
        fs::rename(folder.path().join("new"), &paths[0]).unwrap();
        assert_ne!(one, fingerprint(&paths), "same size, another file");
    }
}
