//! What sled's recovery needs to find in the database if there is no snapshot.
//!
//! Without one sled reads its log from the beginning. It takes it for empty, and overwrites every segment
//! that it finds, if one is missing of which the headers say that it was written. A store that was never
//! opened a second time has no snapshot yet, and such a segment is never missing there: segments in use are
//! overwritten at an opening only. So it tells a young store from one that has lost its snapshot.

use super::super::{Error, directory::doing};
use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// Of sled's default configuration, which is written down in `conf` and cannot change later.
const SEGMENT_BYTES: u64 = 512 * 1024;

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Where in the log it begins.
    begins: i64,
    /// Up to where all of the log was written when this segment was begun.
    written_up_to: i64,
}

/// An error if sled would take the database for an empty one.
pub(super) fn check_without_snapshot(database: &Path) -> Result<(), Error> {
    let headers = headers(database)
        .map_err(|source| doing(format!("read {}", database.display()), source))?;
    let Some(written) = headers.iter().map(|header| header.written_up_to).max() else {
        return Ok(());
    };
    let segment = SEGMENT_BYTES.cast_signed();
    // Before the first segment it is -1.
    let expected = written.max(0) / segment * segment;
    if headers.iter().any(|header| header.begins == expected) {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "{} cannot be read without its snapshot, and no file snap.* is there",
        database.display()
    )))
}

fn headers(database: &Path) -> io::Result<Vec<Header>> {
    let file = File::open(database)?;
    let length = file.metadata()?.len();
    let mut headers = Vec::new();
    for at in (0..length).step_by(SEGMENT_BYTES as usize) {
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, at) {
            Ok(()) => headers.extend(read(&bytes)),
            // Cut off: not one that sled reads either.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(headers)
}

/// A checksum and two numbers.
const HEADER_BYTES: usize = 20;

/// None if it is not one, or torn.
fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    let (checksum, rest) = bytes.split_first_chunk()?;
    let (begins, up_to) = rest.split_first_chunk()?;
    let number = |bytes: [u8; 8]| i64::from_le_bytes(bytes) ^ i64::MAX;
    let header = Header { begins: number(*begins), written_up_to: number(up_to.try_into().ok()?) };
    (u32::from_le_bytes(*checksum) == !crc32fast::hash(rest)).then_some(header)
}
