//! Long values are cut into parts, because sled moves long ones into files that it never syncs.
//!
//! A value that fits is stored as it is. A longer one begins with a header (a byte that MessagePack
//! never uses, number of parts, length, CRC-32) and goes on under [`Key::part`]. Whoever reads through this
//! module sees the records that lie in [packs](super::packs) as if each stood under its own key.

use super::{Unreadable, key::Key, packs};
use crate::store::{
    Error,
    tree::{Batch, Direction, Tree},
};
use std::{iter::Peekable, ops::Range, sync::Arc};

/// The longest value that a tree is given.
///
/// sled writes a leaf as one, and moves what is above 128 KiB (a quarter of its segment) into a file
/// that it never syncs. A leaf is split when it has more than 16 entries, but may take in a
/// neighbour of up to 3 before it is, so 20 entries must fit, with keys of up to 140 bytes: 6 KiB
/// each is what is left. 8 KiB were seen to be too many; 4 KiB leave room for what was overlooked.
pub(in crate::store) const LONGEST: usize = 4 * 1024;

/// The one byte that begins no MessagePack.
pub(super) const CUT: u8 = 0xc1;
/// [`CUT`], number of parts, length and CRC-32 of the whole value.
const HEADER: usize = 1 + 2 + 4 + 4;

/// Writes a value under a key that holds none yet.
pub(in crate::store) fn insert(batch: &mut Batch, key: &Key, value: Vec<u8>) {
    if value.len() <= LONGEST {
        batch.put(key.bytes(), value);
        return;
    }
    let (first, rest) = value.split_at(LONGEST - HEADER);
    let parts = 1 + rest.len().div_ceil(LONGEST);
    let parts =
        u16::try_from(parts).expect("a quarter of a GiB is far above any limit of the contract");
    let length = u32::try_from(value.len()).expect("65535 parts of 4 KiB are below 4 GiB");
    let mut head = Vec::with_capacity(LONGEST);
    head.push(CUT);
    head.extend(parts.to_be_bytes());
    head.extend(length.to_be_bytes());
    head.extend(crc32fast::hash(&value).to_be_bytes());
    head.extend(first);
    batch.put(key.bytes(), head);
    for (number, part) in (1..).zip(rest.chunks(LONGEST)) {
        batch.put(key.part(number), part.to_vec());
    }
}

/// Writes a value under a key that may hold one already.
pub(in crate::store) fn replace<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    key: &Key,
    value: Vec<u8>,
) -> Result<(), Error> {
    delete(batch, tree, key)?;
    insert(batch, key, value);
    Ok(())
}

/// Writes a value in place of the one that a key has, which says what it is to be. Not for what lies in
/// packs.
pub(in crate::store) fn update<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    key: &Key,
    change: impl FnOnce(Option<&[u8]>) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    let read = |bytes: &[u8]| match batch.get(bytes) {
        Some(written) => Ok::<_, Error>(written.map(<[u8]>::to_vec)),
        None => Ok(tree.get(bytes)?.map(|stored| stored.as_ref().to_vec())),
    };
    let before = read(&key.bytes())?;
    let parts = before.as_deref().map_or(1, parts_of);
    let mut rest = Vec::new();
    for number in 1..parts {
        rest.push(read(&key.part(number))?.ok_or_else(|| Unreadable::at(key, PART_MISSING))?);
    }
    let before = before.map(|first| join(key, first, rest)).transpose()?;
    let value = change(before.as_ref().map(AsRef::as_ref))?;
    (1..parts).for_each(|number| batch.delete(key.part(number)));
    insert(batch, key, value);
    Ok(())
}

/// Removes a value with all its parts.
pub(in crate::store) fn delete<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    key: &Key,
) -> Result<(), Error> {
    let bytes = key.bytes();
    let parts = match batch.get(&bytes) {
        Some(written) => written.map_or(1, parts_of),
        None => tree.get(&bytes)?.map_or(1, |stored| parts_of(stored.as_ref())),
    };
    batch.delete(bytes);
    for number in 1..parts {
        batch.delete(key.part(number));
    }
    Ok(())
}

/// A whole value.
#[derive(Debug)]
pub(in crate::store) enum Whole<B> {
    /// It was stored in one piece.
    Stored(B),
    /// It was put together.
    Joined(Vec<u8>),
    /// It lies in a pack.
    Packed(Arc<B>, Range<usize>),
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Whole<B> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes.as_ref(),
            Self::Joined(bytes) => bytes,
            Self::Packed(pack, place) => &(**pack).as_ref()[place.clone()],
        }
    }
}

/// Reads the value at a key.
pub(in crate::store) fn get<T: Tree>(
    tree: &T,
    key: &Key,
) -> Result<Option<Whole<T::Bytes>>, Error> {
    let bytes = key.bytes();
    let Some(first) = tree.get(&bytes)? else { return packs::find(tree, key, &bytes) };
    if packs::is_pack(first.as_ref()) {
        return Ok(packs::pick(key, key, first)?);
    }
    let mut rest = Vec::new();
    for number in 1..parts_of(first.as_ref()) {
        let part = tree.get(&key.part(number))?;
        rest.push(part.ok_or_else(|| Unreadable::at(key, PART_MISSING))?);
    }
    Ok(Some(join(key, first, rest)?))
}

const PART_MISSING: &str = "a part of the value is missing";

/// What stands under one key, or why that cannot be told.
pub(in crate::store) type Entry<B> = Result<(Key, Whole<B>), Unreadable>;

/// Reads the values of a range of keys.
pub(in crate::store) fn scan<T: Tree>(
    tree: &T,
    range: Range<Vec<u8>>,
    direction: Direction,
) -> impl Iterator<Item = Result<Entry<T::Bytes>, Error>> {
    packs::unpacked(tree, range, direction)
}

/// The same, with packs as they are.
pub(super) fn stored<T: Tree>(
    tree: &T,
    range: Range<Vec<u8>>,
    direction: Direction,
) -> impl Iterator<Item = Result<Entry<T::Bytes>, Error>> {
    let mut stored = tree.scan(range, direction).peekable();
    std::iter::from_fn(move || match direction {
        Direction::Up => next_up(&mut stored),
        Direction::Down => next_down(&mut stored),
    })
}

type Stored<B> = Result<(B, B), Error>;

/// The first part, then those that follow it.
fn next_up<B: AsRef<[u8]>>(
    stored: &mut Peekable<impl Iterator<Item = Stored<B>>>,
) -> Option<Result<Entry<B>, Error>> {
    let (key, first) = match stored.next()? {
        Ok((bytes, value)) => match Key::parse(bytes.as_ref()) {
            Ok((key, 0)) => (key, value),
            Ok((key, _)) => return Some(Ok(Err(stray(&key)))),
            Err(unreadable) => return Some(Ok(Err(unreadable))),
        },
        Err(error) => return Some(Err(error)),
    };
    let mut rest = Vec::new();
    while rest.len() + 1 < usize::from(parts_of(first.as_ref())) {
        let part = key.part(next_number(&rest));
        match stored.next_if(|next| next.as_ref().is_ok_and(|(k, _)| k.as_ref() == part)) {
            Some(Ok((_, value))) => rest.push(value),
            Some(Err(_)) | None => break,
        }
    }
    Some(Ok(join(&key, first, rest).map(|value| (key, value))))
}

/// The last part, then those before it down to the first.
fn next_down<B: AsRef<[u8]>>(
    stored: &mut Peekable<impl Iterator<Item = Stored<B>>>,
) -> Option<Result<Entry<B>, Error>> {
    let mut rest: Vec<B> = Vec::new();
    let mut of: Option<Key> = None;
    loop {
        let (key, number, value) = match stored.next() {
            Some(Ok((bytes, value))) => match Key::parse(bytes.as_ref()) {
                Ok((key, number)) => (key, number, value),
                Err(unreadable) => return Some(Ok(Err(unreadable))),
            },
            Some(Err(error)) => return Some(Err(error)),
            None => return of.map(|key| Ok(Err(stray(&key)))),
        };
        if number == 0 {
            rest.reverse();
            let entry = match of {
                Some(of) if of != key => Err(stray(&of)),
                Some(_) | None => join(&key, value, rest).map(|value| (key, value)),
            };
            return Some(Ok(entry));
        }
        rest.push(value);
        of = Some(key);
    }
}

fn next_number<B>(rest: &[B]) -> u16 {
    // Called only while there are fewer parts than a u16 counts.
    u16::try_from(rest.len() + 1).unwrap_or(u16::MAX)
}

fn stray(key: &Key) -> Unreadable {
    Unreadable::at(key, "a part of a value that is not there")
}

/// How many keys a value takes, judged by its first part.
fn parts_of(first: &[u8]) -> u16 {
    match first {
        [CUT, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 1,
    }
}

fn join<B: AsRef<[u8]>>(key: &Key, first: B, rest: Vec<B>) -> Result<Whole<B>, Unreadable> {
    let bytes = first.as_ref();
    if bytes.first() != Some(&CUT) || packs::is_pack(bytes) {
        return match rest.is_empty() {
            true => Ok(Whole::Stored(first)),
            false => Err(stray(key)),
        };
    }
    let header = || {
        let (header, body) = bytes.split_first_chunk::<HEADER>()?;
        let [_, _, _, length @ .., c0, c1, c2, c3] = header;
        let length = u32::from_be_bytes(*length);
        Some((length, u32::from_be_bytes([*c0, *c1, *c2, *c3]), body))
    };
    let (length, crc, body) =
        header().ok_or_else(|| Unreadable::at(key, "the header of the value is cut off"))?;
    let mut whole = body.to_vec();
    rest.iter().for_each(|part| whole.extend(part.as_ref()));
    if whole.len() != length as usize {
        return Err(Unreadable::at(key, PART_MISSING));
    }
    if crc32fast::hash(&whole) != crc {
        return Err(Unreadable::at(key, "the parts of the value do not fit together"));
    }
    Ok(Whole::Joined(whole))
}
