//! The memory of the wheel: entries of 24 bytes in chunks that never move, linked into circular
//! lists. The first entries are the heads of the lists.
//!
//! Entries are used again. A generation tells the timers of one entry apart; an entry that has used
//! up its generations is given up, which costs 24 bytes for every 65535 timers armed.

use crate::time::Timestamp;

/// Place of an entry or of the head of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Index(u32);

impl Index {
    /// Stands for "none" in a link.
    const NONE: Self = Self(u32::MAX);

    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(super) const fn get(self) -> u32 {
        self.0
    }
}

/// A timer, the head of a list, or an entry that is free.
#[derive(Clone, Copy)]
struct Entry {
    /// The deadline in the upper 48 bits, the generation in the lower 16.
    stamp: u64,
    key: u64,
    /// Next in its list. [`Index::NONE`] if it is in the heap or the last that is free.
    next: Index,
    /// Previous in its list. In the heap: its position there.
    prev: Index,
}

const GENERATION_BITS: u32 = 16;
const _: () = assert!(
    (Timestamp::MAX.as_millis() as u64) < 1 << (u64::BITS - GENERATION_BITS),
    "a deadline fits beside the generation"
);
const _: () = assert!(size_of::<Entry>() == 24, "the promise of the wheel is 32 bytes in all");

/// No timer has this generation: an entry that has reached it is given up.
const GENERATION_END: u16 = u16::MAX;

/// Entries in a chunk: 24 KiB are filled in a few microseconds, which is the most that arming a
/// timer costs beyond its share, and waste nothing that matters.
const CHUNK: usize = 1024;

pub(super) struct Slab {
    chunks: Vec<Box<[Entry; CHUNK]>>,
    /// The first entry that was never used.
    fresh: u32,
    /// The first entry that was used and is free.
    free: Index,
    len: usize,
}

impl Slab {
    /// No timers, and so many empty lists: the list `Index::new(n)` for n below `lists`.
    pub(super) fn new(lists: u32) -> Self {
        let mut slab = Self { chunks: Vec::new(), fresh: 0, free: Index::NONE, len: 0 };
        for _ in 0..lists {
            let head = slab.take_fresh();
            slab.link(head, head);
        }
        slab
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.len() * size_of::<[Entry; CHUNK]>()
            + self.chunks.capacity() * size_of::<Box<[Entry; CHUNK]>>()
    }

    /// A new timer, in no list.
    pub(super) fn insert(&mut self, deadline: Timestamp, key: u64) -> Index {
        let index = if self.free == Index::NONE {
            self.take_fresh()
        } else {
            let index = self.free;
            self.free = self.entry(index).next;
            index
        };
        self.len += 1;
        let entry = self.entry_mut(index);
        let generation = entry.stamp & u64::from(GENERATION_END);
        // A Timestamp is never negative.
        entry.stamp = deadline.as_millis().unsigned_abs() << GENERATION_BITS | generation;
        entry.key = key;
        entry.next = Index::NONE;
        index
    }

    /// Frees the entry of a timer that is in no list.
    pub(super) fn remove(&mut self, index: Index) {
        self.len -= 1;
        let free = self.free;
        let entry = self.entry_mut(index);
        // No overflow into the deadline: a live timer's generation is below its end.
        entry.stamp += 1;
        if entry.stamp as u16 != GENERATION_END {
            entry.next = free;
            self.free = index;
        }
    }

    /// True if the timer that got this index and generation was not removed since.
    pub(super) fn is_live(&self, index: Index, generation: u16) -> bool {
        // A free entry has the generation of the timer that comes next.
        index.0 < self.fresh && self.generation(index) == generation
    }

    pub(super) fn generation(&self, index: Index) -> u16 {
        self.entry(index).stamp as u16
    }

    pub(super) fn deadline(&self, index: Index) -> Timestamp {
        Timestamp::from_millis((self.entry(index).stamp >> GENERATION_BITS).cast_signed())
    }

    pub(super) fn key(&self, index: Index) -> u64 {
        self.entry(index).key
    }

    /// What timers are ordered by.
    pub(super) fn order(&self, index: Index) -> (u64, u64) {
        let entry = self.entry(index);
        (entry.stamp >> GENERATION_BITS, entry.key)
    }

    /// True if a live timer is in a list, false if it is in the heap.
    pub(super) fn is_listed(&self, index: Index) -> bool {
        self.entry(index).next != Index::NONE
    }

    /// Appends a timer that is in no list.
    pub(super) fn push(&mut self, list: Index, index: Index) {
        let last = self.entry(list).prev;
        self.link(last, index);
        self.link(index, list);
    }

    /// Takes a timer out of its list. If that is empty now, it is the result.
    pub(super) fn unlink(&mut self, index: Index) -> Option<Index> {
        let Entry { next, prev, .. } = *self.entry(index);
        self.link(prev, next);
        self.entry_mut(index).next = Index::NONE;
        // Only the head is its own neighbour.
        (prev == next).then_some(prev).filter(|&list| self.is_empty_list(list))
    }

    pub(super) fn is_empty_list(&self, list: Index) -> bool {
        self.entry(list).next == list
    }

    pub(super) fn first_of(&self, list: Index) -> Option<Index> {
        Some(self.entry(list).next).filter(|&first| first != list)
    }

    /// Moves all timers of one list to another one that is empty.
    pub(super) fn splice(&mut self, from: Index, to: Index) {
        let Entry { next: first, prev: last, .. } = *self.entry(from);
        if first != from {
            self.link(to, first);
            self.link(last, to);
            self.link(from, from);
        }
    }

    /// Position in the heap of a timer that is there.
    pub(super) fn heap_position(&self, index: Index) -> usize {
        self.entry(index).prev.0 as usize
    }

    pub(super) fn set_heap_position(&mut self, index: Index, position: usize) {
        // The heap holds no more timers than there are indexes.
        self.entry_mut(index).prev = Index(position as u32);
    }

    fn link(&mut self, before: Index, after: Index) {
        self.entry_mut(before).next = after;
        self.entry_mut(after).prev = before;
    }

    fn take_fresh(&mut self) -> Index {
        const EMPTY: Entry = Entry { stamp: 0, key: 0, next: Index::NONE, prev: Index::NONE };
        let index = Index(self.fresh);
        assert!(index != Index::NONE, "100 GB of timers");
        if index.0 as usize == self.chunks.len() * CHUNK {
            let chunk = vec![EMPTY; CHUNK].into_boxed_slice();
            self.chunks.push(chunk.try_into().ok().expect("the slice has CHUNK entries"));
        }
        self.fresh += 1;
        index
    }

    fn entry(&self, index: Index) -> &Entry {
        let index = index.0 as usize;
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    fn entry_mut(&mut self, index: Index) -> &mut Entry {
        let index = index.0 as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_given_up_rather_than_confused_with_an_older_timer() {
        let mut slab = Slab::new(1);
        let oldest = slab.insert(Timestamp::EPOCH, 0);
        let generation = slab.generation(oldest);
        slab.remove(oldest);
        let mut arms = 1_u32;
        loop {
            let index = slab.insert(Timestamp::MAX, u64::MAX);
            if index != oldest {
                break;
            }
            assert!(!slab.is_live(oldest, generation));
            assert_eq!(slab.deadline(index), Timestamp::MAX);
            slab.remove(index);
            arms += 1;
        }
        assert_eq!(arms, u32::from(GENERATION_END));
        assert!(!slab.is_live(oldest, generation));
    }
}
