//! A disk that fails on purpose, and a tree of bytes on it for the store's own code.
//!
//! The tree is a journal: a frame for each batch, chained by checksums, as a write-ahead log has it.
//! The disk keeps what was written since the last barrier apart. At a power cut each of those writes
//! is kept, dropped, or torn at the sectors of 512 bytes that it touches. A process that was merely
//! killed leaves its writes in the page cache: a later process reads them, and a later power cut may
//! still take them, unless a barrier came between.

use crate::clock::MachineClock;
use phasegate_engine::id::Revision;
use phasegate_server::store::{Batch, Direction, Error, Tree};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

const SECTOR: usize = 512;
/// Length and checksum of a frame.
const FRAME_HEAD: usize = 8;
/// What `free_space` tells when there is room, and when there is none.
const MUCH: u64 = 1 << 40;

/// What goes wrong at one call of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine loses power. What of the last writes survives is drawn from this seed.
    PowerCut(u64),
    /// The call fails with EIO, once.
    Eio,
    /// The call fails with ENOSPC, once; a write may have written a part.
    Enospc,
}

/// Where the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutAt {
    Write,
    BeforeBarrier,
    AfterBarrier,
    Note,
}

/// What happened to the disk, for the list of what a run has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Damage {
    pub(crate) kept: u32,
    pub(crate) dropped: u32,
    pub(crate) torn: u32,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    platter: Arc<Mutex<Platter>>,
    clock: Arc<MachineClock>,
}

#[derive(Debug, Default)]
struct Platter {
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    /// The note as the page cache has it, and the oldest that a power cut may bring back.
    noted: Revision,
    noted_at_least: Revision,
    fuse: Option<(u32, Fault)>,
    blown: Option<(Fault, CutAt)>,
    slow_barrier: u64,
    full: bool,
}

#[derive(Clone, Debug)]
struct Write {
    at: usize,
    bytes: Vec<u8>,
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk {
    pub(crate) fn new(clock: Arc<MachineClock>) -> Self {
        Self { platter: Arc::default(), clock }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("nothing panics while it holds the disk")
    }

    /// The call after so many others fails like this.
    pub(crate) fn lay_fuse(&self, calls: u32, fault: Fault) {
        self.platter().fuse = Some((calls, fault));
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        let mut platter = self.platter();
        (platter.fuse, platter.full, platter.slow_barrier) = (None, false, 0);
    }

    /// The fault that struck, once.
    pub(crate) fn take_blown(&self) -> Option<(Fault, CutAt)> {
        self.platter().blown.take()
    }

    /// The next barrier takes so long.
    pub(crate) fn slow_down(&self, millis: u64) {
        self.platter().slow_barrier = millis;
    }

    pub(crate) fn set_full(&self, full: Room) {
        self.platter().full = full == Room::None;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.platter().full
    }

    /// The machine loses power: what was written since the last barrier is kept, dropped or torn.
    pub(crate) fn cut(&self, seed: u64) -> Damage {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut platter = self.platter();
        let mut damage = Damage::default();
        for write in std::mem::take(&mut platter.unsynced) {
            match random.random_range(0..3) {
                0 => {
                    put(&mut platter.durable, write.at, &write.bytes);
                    damage.kept += 1;
                }
                1 => damage.dropped += 1,
                _ => {
                    damage.torn += 1;
                    let end = write.at + write.bytes.len();
                    let mut at = write.at;
                    while at < end {
                        let sector_end = (at / SECTOR + 1) * SECTOR;
                        let part = at - write.at..sector_end.min(end) - write.at;
                        if random.random_bool(0.5) {
                            put(&mut platter.durable, at, &write.bytes[part]);
                        }
                        at = sector_end;
                    }
                }
            }
        }
        let (low, high) = (platter.noted_at_least.get(), platter.noted.get());
        platter.noted = Revision::new(random.random_range(low..=high));
        platter.noted_at_least = platter.noted;
        damage
    }

    /// What would be left if no write since the last barrier survived.
    pub(crate) fn worst_case(&self) -> Self {
        let platter = self.platter();
        let durable = platter.durable.clone();
        let (noted, noted_at_least) = (platter.noted_at_least, platter.noted_at_least);
        let platter = Platter { durable, noted, noted_at_least, ..Platter::default() };
        Self { platter: Arc::new(Mutex::new(platter)), clock: Arc::clone(&self.clock) }
    }

    /// Changes one bit of what lies on the platter; false if there is nothing on it.
    pub(crate) fn flip_bit(&self, place: u64) -> bool {
        let mut platter = self.platter();
        let bits = platter.durable.len() as u64 * 8;
        if bits == 0 {
            return false;
        }
        let bit = place % bits;
        let byte = usize::try_from(bit / 8).expect("the disk fits into memory");
        platter.durable[byte] ^= 1 << (bit % 8);
        true
    }

    /// The note as a power cut may leave it at worst.
    pub(crate) fn noted(&self) -> Revision {
        self.platter().noted
    }

    fn content(&self) -> Vec<u8> {
        let platter = self.platter();
        let mut content = platter.durable.clone();
        for write in &platter.unsynced {
            put(&mut content, write.at, &write.bytes);
        }
        content
    }

    fn write(&self, at: usize, bytes: Vec<u8>) -> Result<(), Error> {
        let mut platter = self.platter();
        let struck = platter.burn(CutAt::Write);
        if struck == Some(Fault::Enospc) {
            let part = bytes[..bytes.len() / 2].to_vec();
            platter.unsynced.push(Write { at, bytes: part });
            return Err(failure(Fault::Enospc));
        }
        if struck == Some(Fault::Eio) {
            return Err(failure(Fault::Eio));
        }
        platter.unsynced.push(Write { at, bytes });
        struck.map_or(Ok(()), |fault| Err(failure(fault)))
    }

    fn barrier(&self) -> Result<(), Error> {
        let mut platter = self.platter();
        // After a barrier that failed nobody knows what the page cache still has: the writes stay
        // among those that may be lost.
        if let Some(fault) = platter.burn(CutAt::BeforeBarrier) {
            return Err(failure(fault));
        }
        self.clock.run(std::mem::take(&mut platter.slow_barrier));
        for write in std::mem::take(&mut platter.unsynced) {
            put(&mut platter.durable, write.at, &write.bytes);
        }
        platter.burn(CutAt::AfterBarrier).map_or(Ok(()), |fault| Err(failure(fault)))
    }

    fn note(&self, revision: Revision) -> Result<(), Error> {
        let mut platter = self.platter();
        if let Some(fault) = platter.burn(CutAt::Note) {
            return Err(failure(fault));
        }
        platter.noted = revision;
        Ok(())
    }
}

/// Whether there is room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Plenty,
    None,
}

impl Platter {
    fn burn(&mut self, at: CutAt) -> Option<Fault> {
        let (calls, fault) = self.fuse?;
        if calls > 0 {
            self.fuse = Some((calls - 1, fault));
            return None;
        }
        self.fuse = None;
        self.blown = Some((fault, at));
        Some(fault)
    }
}

fn failure(fault: Fault) -> Error {
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    match fault {
        Fault::Enospc => Error::Full(full()),
        Fault::Eio | Fault::PowerCut(_) => {
            Error::Io { doing: "write".into(), source: io::Error::other(format!("{fault:?}")) }
        }
    }
}

/// A tree on a disk.
#[derive(Debug)]
pub(crate) struct JournalTree {
    disk: Disk,
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    end: usize,
    chain: u32,
}

impl JournalTree {
    /// Reads the journal up to the first frame that is not whole. Like every recovery it begins with
    /// a barrier, for what it has read may be in the page cache only.
    pub(crate) fn open(disk: &Disk) -> Result<Self, Error> {
        disk.barrier()?;
        let content = disk.content();
        let mut tree = Self { disk: disk.clone(), map: BTreeMap::new(), end: 0, chain: 0 };
        while let Some((batch, length, chain)) = frame(&content[tree.end..], tree.chain) {
            for (key, value) in batch {
                tree.set(key, value);
            }
            tree.end += length;
            tree.chain = chain;
        }
        Ok(tree)
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.map.insert(key, value),
            None => self.map.remove(&key),
        };
    }
}

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The frame at the beginning of these bytes, its length and its checksum; none if it is not whole,
/// or does not follow on the one with this checksum.
fn frame(bytes: &[u8], chain: u32) -> Option<(Writes, usize, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = number(0)? as usize;
    let payload = bytes.get(FRAME_HEAD..FRAME_HEAD.checked_add(length)?)?;
    let checksum = number(4)?;
    // A journal never has an empty batch, and fresh disk is zero.
    if length == 0 || checksum != chained(chain, payload) {
        return None;
    }
    let mut writes = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let (key, after) = piece(rest)?;
        let (present, after) = after.split_first()?;
        rest = after;
        let mut value = None;
        if *present == 1 {
            let (bytes, after) = piece(rest)?;
            value = Some(bytes);
            rest = after;
        }
        writes.push((key, value));
    }
    Some((writes, FRAME_HEAD + length, checksum))
}

fn chained(chain: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn piece(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (length, rest) = bytes.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (piece, rest) = rest.split_at_checked(length)?;
    Some((piece.to_vec(), rest))
}

fn put_piece(payload: &mut Vec<u8>, bytes: &[u8]) {
    payload.extend((bytes.len() as u32).to_le_bytes());
    payload.extend(bytes);
}

impl Tree for JournalTree {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        // A map panics at a range that ends before it begins.
        let end = range.end.max(range.start.clone());
        let mut entries = self.map.range(range.start..end);
        std::iter::from_fn(move || {
            let next = match direction {
                Direction::Up => entries.next(),
                Direction::Down => entries.next_back(),
            };
            next.map(|(key, value)| Ok((key.clone(), value.clone())))
        })
    }

    fn apply(&mut self, batch: Batch) -> Result<(), Error> {
        let mut payload = Vec::new();
        for (key, value) in batch.iter() {
            put_piece(&mut payload, key);
            payload.push(u8::from(value.is_some()));
            if let Some(value) = value {
                put_piece(&mut payload, value);
            }
        }
        if payload.is_empty() {
            return Ok(());
        }
        let checksum = chained(self.chain, &payload);
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(payload);
        let length = bytes.len();
        self.disk.write(self.end, bytes)?;
        self.end += length;
        self.chain = checksum;
        for (key, value) in batch {
            self.set(key, value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.disk.barrier()
    }

    fn note_durable(&mut self, revision: Revision) -> Result<(), Error> {
        self.disk.note(revision)
    }

    fn noted_durable(&self) -> Revision {
        self.disk.noted()
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        Ok(Some(if self.disk.platter().full { 0 } else { MUCH }))
    }
}
