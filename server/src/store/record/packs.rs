//! Packs: records that are only ever added, many under one key.
//!
//! What sled does, keeps in memory and writes again when it tidies its file goes by keys, hardly by bytes.
//! Commits, entries of the log, requests and entries of the audit chain come in a row and are read and
//! removed in a row, so they are written in packs: a value that begins with [`MARK`] and holds records in
//! order, each behind the rest of its key and both behind their lengths in two bytes. A pack stands under
//! the key of its first record. The next batch goes on with it while it is short, so also short records that
//! come one at a time lie together.
//!
//! A record that stands under its own key is one too: those of before version 4 do, and long ones.

use super::{
    Unreadable,
    key::{self, Key, Kind},
    parts::{self, CUT, Entry, LONGEST, Whole},
};
use crate::store::{
    Error,
    tree::{Batch, Direction, Tree},
};
use std::{ops::Range, sync::Arc};

/// What a pack begins with: as a value that was cut into no parts.
const MARK: [u8; 3] = [CUT, 0, 0];
/// How long a pack may get, in bytes.
const FULL: usize = LONGEST;
/// How long a pack may be for the next batch to go on with it, in bytes. It is written anew each time, and
/// sled's file grows with that: at 300 single actions a second by 57 MB a minute with 300 bytes here, by 102
/// with 1 KiB and by 230 with 4 KiB; by 73 without packs.
const GOES_ON: usize = 512;
/// Two lengths.
const FRAME: usize = 4;

/// Kinds that lie in packs.
const PACKED: [Kind; 4] = [Kind::Commit, Kind::Change, Kind::RequestAt, Kind::Audit];

/// Whether a value is a pack.
pub(super) fn is_pack(value: &[u8]) -> bool {
    value.starts_with(&MARK)
}

/// The kind of a key, and the rest of the key, if it lies in packs.
fn split(key: &[u8]) -> Option<(Kind, &[u8])> {
    PACKED.into_iter().find_map(|kind| Some((kind, key.strip_prefix(kind.prefix())?)))
}

/// Whether a key may follow on another in one pack. Requests of one moment have no order.
fn may_follow(kind: Kind, last: &[u8], key: &[u8]) -> bool {
    if kind == Kind::RequestAt { moment(last) <= moment(key) } else { last < key }
}

/// The packs that are not full yet, one for each kind.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct OpenPacks([Option<OpenPack>; PACKED.len()]);

#[derive(Clone, Debug)]
struct OpenPack {
    key: Vec<u8>,
    value: Vec<u8>,
    /// Key of its last record.
    last: Vec<u8>,
    stored: Stored,
}

/// Whether the store has all of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    All,
    NotAll,
}

impl OpenPack {
    fn write(self, batch: &mut Batch) {
        if self.stored == Stored::NotAll {
            batch.put(self.key, self.value);
        }
    }
}

impl OpenPacks {
    /// Adds a record of a kind that lies in packs. Its key is above all of its kind so far.
    pub(in crate::store) fn add(&mut self, batch: &mut Batch, key: &Key, value: Vec<u8>) {
        let bytes = key.bytes();
        let place = split(&bytes).and_then(|(kind, rest)| {
            let open = self.0.iter_mut().zip(PACKED).find(|(_, packed)| *packed == kind)?.0;
            Some((open, kind, rest))
        });
        let Some((open, kind, rest)) = place else { return parts::insert(batch, key, value) };
        let takes = FRAME + rest.len() + value.len();
        let lengths = u16::try_from(rest.len()).ok().zip(u16::try_from(value.len()).ok());
        let Some(lengths) = lengths.filter(|_| MARK.len() + takes <= FULL) else {
            // What comes next must not lie before it.
            if let Some(full) = open.take() {
                full.write(batch);
            }
            return parts::insert(batch, key, value);
        };
        let full = open.take_if(|open| {
            open.value.len() + takes > FULL || !may_follow(kind, &open.last, &bytes)
        });
        if let Some(full) = full {
            full.write(batch);
        }
        let open = open.get_or_insert_with(|| OpenPack {
            key: bytes.clone(),
            value: MARK.to_vec(),
            last: Vec::new(),
            stored: Stored::NotAll,
        });
        extend(&mut open.value, lengths, rest, &value);
        open.last = bytes;
        open.stored = Stored::NotAll;
    }

    /// Puts into a batch what was added since the last.
    pub(in crate::store) fn write(&mut self, batch: &mut Batch) {
        for open in self.0.iter_mut().flatten() {
            if open.stored == Stored::NotAll {
                batch.put(open.key.clone(), open.value.clone());
                open.stored = Stored::All;
            }
        }
        for open in &mut self.0 {
            open.take_if(|open| open.value.len() > GOES_ON);
        }
    }
}

fn extend(pack: &mut Vec<u8>, lengths: (u16, u16), rest: &[u8], value: &[u8]) {
    pack.extend(lengths.0.to_be_bytes());
    pack.extend(lengths.1.to_be_bytes());
    pack.extend(rest);
    pack.extend(value);
}

/// A record in a pack.
struct Packed {
    key: Key,
    /// Where its lengths are.
    begins: usize,
    /// Where its value is.
    value: Range<usize>,
}

/// What lies in a pack.
fn records(first: &Key, pack: &[u8]) -> Result<Vec<Packed>, Unreadable> {
    let bad = |problem| Unreadable::at(first, problem);
    let mut last = first.bytes();
    let Some((kind, _)) = split(&last) else {
        return Err(bad("nothing of its kind lies in packs"));
    };
    let mut records = Vec::new();
    let mut at = MARK.len();
    while at < pack.len() || records.is_empty() {
        let cut = || bad("the pack is cut off");
        let frame: &[u8; FRAME] = pack.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
        let [key_high, key_low, value_high, value_low] = *frame;
        let rest = at + FRAME..at + FRAME + usize::from(u16::from_be_bytes([key_high, key_low]));
        let end = rest.end + usize::from(u16::from_be_bytes([value_high, value_low]));
        let value = rest.end..end;
        if end > pack.len() {
            return Err(cut());
        }
        let bytes = [kind.prefix(), &pack[rest]].concat();
        let (key, 0) = Key::parse(&bytes)? else {
            return Err(bad("there is a part of a value in the pack"));
        };
        if records.is_empty() && key != *first {
            return Err(bad("the pack begins with another record"));
        }
        if !records.is_empty() && !may_follow(kind, &last, &bytes) {
            return Err(bad("the records of the pack are out of order"));
        }
        records.push(Packed { key, begins: at, value });
        (last, at) = (bytes, end);
    }
    Ok(records)
}

/// What the keys of all requests of one moment begin with; none if this is no key of a request.
fn moment(key: &[u8]) -> Option<&[u8]> {
    let prefix = Kind::RequestAt.prefix();
    if !key.starts_with(prefix) {
        return None;
    }
    key.get(..prefix.len() + size_of::<u64>())
}

/// Where to begin to read, so that a pack is read too that begins before a range and reaches into it.
fn start_before<T: Tree>(tree: &T, start: &[u8]) -> Result<Vec<u8>, Error> {
    if moment(start).is_none() {
        let pack = pack_before(tree, start)?;
        return Ok(pack.map_or_else(|| start.to_vec(), |(first, _)| first.bytes()));
    }
    // Of those that begin in the moment before, any may be the last.
    let earlier = Kind::RequestAt.prefix().to_vec()..start.to_vec();
    let before = tree.scan(earlier, Direction::Down).next().transpose()?;
    let first = before.as_ref().and_then(|(first, _)| moment(first.as_ref()));
    Ok(first.unwrap_or(start).to_vec())
}

/// The pack that begins before a key and may reach it.
fn pack_before<T: Tree>(tree: &T, key: &[u8]) -> Result<Option<(Key, T::Bytes)>, Error> {
    let Some((kind, _)) = split(key) else { return Ok(None) };
    let before = kind.prefix().to_vec()..key.to_vec();
    let Some(entry) = tree.scan(before, Direction::Down).next() else { return Ok(None) };
    let (key, value) = entry?;
    // A part of a long value may look like anything.
    let whole = Key::parse(key.as_ref()).ok().filter(|(_, part)| *part == 0);
    Ok(whole.filter(|_| is_pack(value.as_ref())).map(|(key, _)| (key, value)))
}

/// Reads a value that stands under no key of its own.
pub(super) fn find<T: Tree>(
    tree: &T,
    key: &Key,
    bytes: &[u8],
) -> Result<Option<Whole<T::Bytes>>, Error> {
    if let Key::RequestAt(time, _) = *key {
        // It may lie in any of its moment, and in one that begins before.
        for entry in unpacked(tree, key::requests_at(time), Direction::Up) {
            let (found, value) = entry??;
            if found == *key {
                return Ok(Some(value));
            }
        }
        return Ok(None);
    }
    match pack_before(tree, bytes)? {
        Some((first, pack)) => Ok(pick(&first, key, pack)?),
        None => Ok(None),
    }
}

/// Takes a value out of a pack, if it is there.
pub(super) fn pick<B: AsRef<[u8]>>(
    first: &Key,
    key: &Key,
    pack: B,
) -> Result<Option<Whole<B>>, Unreadable> {
    let found = records(first, pack.as_ref())?.into_iter().find(|packed| packed.key == *key);
    Ok(found.map(|packed| Whole::Packed(Arc::new(pack), packed.value)))
}

/// Reads the values of a range of keys, those in packs too. A range of requests is one of whole moments.
pub(super) fn unpacked<T: Tree>(
    tree: &T,
    range: Range<Vec<u8>>,
    direction: Direction,
) -> impl Iterator<Item = Result<Entry<T::Bytes>, Error>> {
    let (mut failed, start) = match start_before(tree, &range.start) {
        Ok(start) => (None, start),
        Err(error) => (Some(error), range.end.clone()),
    };
    // Before the range may stand what is no pack.
    let is_early = start < range.start;
    let mut stored = parts::stored(tree, start..range.end.clone(), direction);
    let mut waiting = Vec::new().into_iter();
    let mut edge = Edge { direction, key: None };
    std::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            return Some(Err(error));
        }
        loop {
            if let Some(entry) = waiting.next() {
                return Some(Ok(Ok(entry)));
            }
            let (first, pack) = match stored.next()? {
                Ok(Ok((key, Whole::Stored(value)))) if is_pack(value.as_ref()) => (key, value),
                Ok(Ok((key, _))) if is_early && key.bytes() < range.start => continue,
                Ok(Ok((key, value))) => return Some(Ok(edge.pass(&key).map(|()| (key, value)))),
                other @ (Ok(Err(_)) | Err(_)) => return Some(other),
            };
            let records = records(&first, pack.as_ref())
                .and_then(|records| edge.pass_pack(&records).map(|()| records));
            let mut records = match records {
                Ok(records) => records,
                Err(unreadable) => return Some(Ok(Err(unreadable))),
            };
            if direction == Direction::Down {
                records.reverse();
            }
            let pack = Arc::new(pack);
            let asked = records.into_iter().filter(|packed| range.contains(&packed.key.bytes()));
            let entry =
                |packed: Packed| (packed.key, Whole::Packed(Arc::clone(&pack), packed.value));
            waiting = asked.map(entry).collect::<Vec<_>>().into_iter();
        }
    })
}

/// A pack: under which key it stands, and the records in it. What stands alone is a pack of one.
type Pack<B> = (Key, Vec<(Key, Whole<B>)>);

/// Reads what stands in a range, pack by pack.
pub(in crate::store) fn whole<T: Tree>(
    tree: &T,
    range: Range<Vec<u8>>,
) -> impl Iterator<Item = Result<Pack<T::Bytes>, Error>> {
    parts::stored(tree, range, Direction::Up).map(|entry| {
        let (first, pack) = match entry?? {
            (first, Whole::Stored(value)) if is_pack(value.as_ref()) => (first, value),
            (key, value) => return Ok((key.clone(), vec![(key, value)])),
        };
        let records = records(&first, pack.as_ref())?;
        let pack = Arc::new(pack);
        let entry = |packed: Packed| (packed.key, Whole::Packed(Arc::clone(&pack), packed.value));
        Ok((first, records.into_iter().map(entry).collect()))
    })
}

/// Where the last thing ended that was read, so that packs that lie over each other are noticed.
struct Edge {
    direction: Direction,
    key: Option<Vec<u8>>,
}

impl Edge {
    fn pass(&mut self, key: &Key) -> Result<(), Unreadable> {
        self.pass_from_to(key, key)
    }

    fn pass_pack(&mut self, records: &[Packed]) -> Result<(), Unreadable> {
        match (records.first(), records.last()) {
            (Some(first), Some(last)) => self.pass_from_to(&first.key, &last.key),
            (None, _) | (_, None) => Ok(()),
        }
    }

    fn pass_from_to(&mut self, first: &Key, last: &Key) -> Result<(), Unreadable> {
        let bytes = first.bytes();
        // Requests of one moment may.
        if split(&bytes).is_none_or(|(kind, _)| kind == Kind::RequestAt) {
            return Ok(());
        }
        let (fits, edge) = match self.direction {
            Direction::Up => (self.key.as_ref().is_none_or(|edge| *edge < bytes), last.bytes()),
            Direction::Down => (self.key.as_ref().is_none_or(|edge| last.bytes() < *edge), bytes),
        };
        self.key = Some(edge);
        if fits { Ok(()) } else { Err(Unreadable::at(first, "lies over what is beside it")) }
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Fate {
    /// It goes.
    Remove,
    /// It stays, and so do all after it.
    Stop,
}

/// Removes records of a range of keys, from the lowest on, until one is to stay.
pub(in crate::store) fn remove<T: Tree>(
    batch: &mut Batch,
    tree: &T,
    range: Range<Vec<u8>>,
    mut judge: impl FnMut(&Key, &[u8]) -> Result<Fate, Error>,
) -> Result<(), Error> {
    let start = start_before(tree, &range.start)?;
    for entry in parts::stored(tree, start..range.end.clone(), Direction::Up) {
        let (first, value) = entry??;
        let value = value.as_ref();
        if !is_pack(value) {
            if first.bytes() < range.start {
                continue;
            }
            match judge(&first, value)? {
                Fate::Remove => parts::delete(batch, tree, &first)?,
                Fate::Stop => return Ok(()),
            }
            continue;
        }
        let records = records(&first, value)?;
        let mut kept = Vec::new();
        let mut fate = Fate::Remove;
        for packed in &records {
            if fate == Fate::Remove && range.contains(&packed.key.bytes()) {
                fate = judge(&packed.key, &value[packed.value.clone()])?;
                if fate == Fate::Remove {
                    continue;
                }
            }
            kept.push(packed);
        }
        if kept.len() < records.len() {
            batch.delete(first.bytes());
            put_kept(batch, value, &kept);
        }
        if fate == Fate::Stop {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes what stays of a pack.
fn put_kept(batch: &mut Batch, pack: &[u8], kept: &[&Packed]) {
    let Some(first) = kept.first() else { return };
    let mut rest = MARK.to_vec();
    kept.iter().for_each(|packed| rest.extend(&pack[packed.begins..packed.value.end]));
    batch.put(first.key.bytes(), rest);
}

#[cfg(test)]
mod tests;
