//! A note beside the database: up to which revision commits were acknowledged.
//!
//! sled takes damage near the end of its log for a torn write and silently goes back to what was
//! before it, which may be an hour ago. The note is written after each commit is durable and not
//! synced, so it costs next to nothing and is never ahead of what is durable; after a power cut it
//! may be some seconds behind, and then it proves less. It survives a crash of the process as it is.

use crate::store::{Error, directory::doing};
use phasegate_engine::id::Revision;
use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// The open note.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    revision: Revision,
}

impl Witness {
    /// Opens the note, or begins one.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            Ok(Self { file, revision: read(&text).unwrap_or(Revision::ZERO) })
        };
        open().map_err(|source| doing(format!("read {}", path.display()), source))
    }

    /// Up to where commits are known to have been acknowledged.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Notes that commits up to this one are durable.
    pub(super) fn note(&mut self, revision: Revision) -> Result<(), Error> {
        // Always of the same length, and far shorter than a sector.
        self.file
            .write_all_at(write(revision).as_bytes(), 0)
            .map_err(|source| doing("note the last revision".into(), source))?;
        self.revision = revision;
        Ok(())
    }
}

fn write(revision: Revision) -> String {
    let text = format!("acknowledged {:020}", revision.get());
    format!("{text} crc32 {:08x}\n", crc32fast::hash(text.as_bytes()))
}

/// A note that is torn says nothing.
fn read(note: &[u8]) -> Option<Revision> {
    let text = std::str::from_utf8(note).ok()?;
    let number = text.strip_prefix("acknowledged ")?.get(..20)?;
    let revision = Revision::new(number.parse().ok()?);
    (text == write(revision)).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_a_torn_one_not_at_all() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("note");
        let noted = || Witness::open(&path).unwrap().revision().get();
        assert_eq!(noted(), 0);
        for revision in [7, 1_000_000, 8] {
            Witness::open(&path).unwrap().note(Revision::new(revision)).unwrap();
            assert_eq!(noted(), revision);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for torn in [&text[..text.len() - 1], &text.replace('8', "9"), "", "acknowledged 8"] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(noted(), 0, "{torn:?}");
        }
    }
}
