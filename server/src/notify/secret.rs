//! What must not be seen: read from files that nobody else can read, and never printed.

use crate::private::is_private;
use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Much more than any key, password or certificate has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A text that no message, log or debugger's print shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    /// Hides a text.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for who needs it to do its work.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a file of a secret is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Others can read it.
    #[error("can be read by others (mode {0:03o}); chmod 600 it")]
    Open(u32),
    /// It holds nothing.
    #[error("is empty")]
    Empty,
}

/// Reads a secret: one line, without the white space around it, out of a file that only its owner can
/// read.
pub(super) fn read(path: &Path) -> Result<Secret, Error> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !is_private(&metadata) {
        return Err(Error::Open(metadata.permissions().mode() & 0o777));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    match text.trim() {
        "" => Err(Error::Empty),
        secret => Ok(Secret::new(secret)),
    }
}

/// Reads a file that is no secret.
pub(super) fn read_public(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_secret_is_read_only_from_a_file_that_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "  hush\n").unwrap();
        for (mode, is_taken) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), is_taken, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = read(&path).unwrap();
        assert_eq!(secret.expose(), "hush");
        assert!(!format!("{secret:?}").contains("hush"));
        fs::write(&path, "\n").unwrap();
        assert!(matches!(read(&path), Err(Error::Empty)));
        assert!(matches!(read(&dir.path().join("none")), Err(Error::Read(_))));
    }
}
