//! The form of a record: what a process did to a directory, in the order in which it was done.
//!
//! The recorder writes it and `cli/tests/crash_images` reads it; both compile this file. An entry is
//! its length and its CRC-32, four bytes each, and then its kind and its fields. Numbers are
//! little-endian, byte strings stand after their length in four bytes. An entry is written by one
//! call, so a process that is killed leaves whole entries.

use std::fmt;

/// What was done. Paths are relative to the recorded directory, which is the empty path itself.
///
/// Files are told apart by the numbers of their inodes. A number that is free again may come back
/// with [`Event::Created`] or [`Event::MadeDirectory`], and is another file from there on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file or a directory that was there already was opened.
    Opened { path: &'a [u8], inode: u64 },
    /// A file was made.
    Created { path: &'a [u8], inode: u64 },
    /// A directory was made.
    MadeDirectory { path: &'a [u8], inode: u64 },
    /// A name was given to what had another, instead of what had it before.
    Renamed { from: &'a [u8], to: &'a [u8] },
    /// A file or an empty directory lost its name.
    Removed { path: &'a [u8] },
    /// Bytes were written into a file.
    Wrote { inode: u64, at: u64, data: &'a [u8] },
    /// A file was cut off or lengthened.
    Resized { inode: u64, length: u64 },
    /// Somebody asked for an fsync or an fdatasync, and waits.
    SyncBegan { sync: u64, inode: u64 },
    /// Somebody asked for the pages of a range to be written back, and waits.
    RangeSyncBegan { sync: u64, inode: u64, from: u64, to: u64 },
    /// A sync succeeded.
    SyncEnded { sync: u64 },
    /// Bytes were sent through a connection.
    Sent { connection: u64, data: &'a [u8] },
}

/// Bytes of a length and a checksum.
const HEADER: usize = 8;

impl Event<'_> {
    /// Appends the entry of this event.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend([0; HEADER]);
        match *self {
            Self::Opened { path, inode } => entry(out, 0, &[inode], &[path]),
            Self::Created { path, inode } => entry(out, 1, &[inode], &[path]),
            Self::MadeDirectory { path, inode } => entry(out, 2, &[inode], &[path]),
            Self::Renamed { from, to } => entry(out, 3, &[], &[from, to]),
            Self::Removed { path } => entry(out, 4, &[], &[path]),
            Self::Wrote { inode, at, data } => entry(out, 5, &[inode, at], &[data]),
            Self::Resized { inode, length } => entry(out, 6, &[inode, length], &[]),
            Self::SyncBegan { sync, inode } => entry(out, 7, &[sync, inode], &[]),
            Self::RangeSyncBegan { sync, inode, from, to } => {
                entry(out, 8, &[sync, inode, from, to], &[]);
            }
            Self::SyncEnded { sync } => entry(out, 9, &[sync], &[]),
            Self::Sent { connection, data } => entry(out, 10, &[connection], &[data]),
        }
        let body = begin + HEADER;
        let length = (out.len() - body) as u32;
        let checksum = crc32fast::hash(&out[body..]);
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        out[begin + 4..body].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn entry(out: &mut Vec<u8>, kind: u8, numbers: &[u64], texts: &[&[u8]]) {
    out.push(kind);
    for number in numbers {
        out.extend(number.to_le_bytes());
    }
    for text in texts {
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(*text);
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |path| String::from_utf8_lossy(path);
        match *self {
            Self::Opened { path, inode } => write!(f, "open {:?} ({inode})", text(path)),
            Self::Created { path, inode } => write!(f, "create {:?} ({inode})", text(path)),
            Self::MadeDirectory { path, inode } => write!(f, "mkdir {:?} ({inode})", text(path)),
            Self::Renamed { from, to } => write!(f, "rename {:?} {:?}", text(from), text(to)),
            Self::Removed { path } => write!(f, "remove {:?}", text(path)),
            Self::Wrote { inode, at, data } => {
                write!(f, "write ({inode}) {} bytes at {at}", data.len())
            }
            Self::Resized { inode, length } => write!(f, "resize ({inode}) to {length}"),
            Self::SyncBegan { sync, inode } => write!(f, "sync #{sync} ({inode}) begins"),
            Self::RangeSyncBegan { sync, inode, from, to } => {
                write!(f, "sync #{sync} ({inode}) of {from}..{to} begins")
            }
            Self::SyncEnded { sync } => write!(f, "sync #{sync} ends"),
            Self::Sent { connection, data } => {
                write!(f, "send {} bytes through {connection}", data.len())
            }
        }
    }
}

/// Takes the first entry off a record; none at its end.
pub fn read<'a>(record: &mut &'a [u8]) -> Option<Result<Event<'a>, String>> {
    if record.is_empty() {
        return None;
    }
    Some(take_entry(record).ok_or_else(|| "the record is cut off or damaged".to_owned()))
}

fn take_entry<'a>(record: &mut &'a [u8]) -> Option<Event<'a>> {
    let (header, rest) = record.split_at_checked(HEADER)?;
    let (length, checksum) = header.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let (mut body, rest) = rest.split_at_checked(length as usize)?;
    if crc32fast::hash(body).to_le_bytes() != checksum {
        return None;
    }
    *record = rest;
    let (kind, fields) = body.split_first()?;
    body = fields;
    let event = match kind {
        0 => Event::Opened { inode: number(&mut body)?, path: text(&mut body)? },
        1 => Event::Created { inode: number(&mut body)?, path: text(&mut body)? },
        2 => Event::MadeDirectory { inode: number(&mut body)?, path: text(&mut body)? },
        3 => Event::Renamed { from: text(&mut body)?, to: text(&mut body)? },
        4 => Event::Removed { path: text(&mut body)? },
        5 => Event::Wrote {
            inode: number(&mut body)?,
            at: number(&mut body)?,
            data: text(&mut body)?,
        },
        6 => Event::Resized { inode: number(&mut body)?, length: number(&mut body)? },
        7 => Event::SyncBegan { sync: number(&mut body)?, inode: number(&mut body)? },
        8 => Event::RangeSyncBegan {
            sync: number(&mut body)?,
            inode: number(&mut body)?,
            from: number(&mut body)?,
            to: number(&mut body)?,
        },
        9 => Event::SyncEnded { sync: number(&mut body)? },
        10 => Event::Sent { connection: number(&mut body)?, data: text(&mut body)? },
        _ => return None,
    };
    body.is_empty().then_some(event)
}

fn number(body: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u64::from_le_bytes(*bytes))
}

fn text<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = body.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *body = rest;
    Some(text)
}
