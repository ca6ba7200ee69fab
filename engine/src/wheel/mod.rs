//! The timer wheel: which of very many timers is due, at a bounded cost for each question.
//!
//! What it promises:
//! - **Order.** Whatever is popped is the least timer by `(deadline, key)` of all that are armed at
//!   that moment. So what is due at one `now` comes out in that order over any number of calls.
//! - **Never early.** A timer is popped only by a `now` that has reached its deadline, whatever
//!   other calls have said before. Time may step back: nothing fires early and nothing is lost.
//! - **Bounded turns.** One [`Wheel::pop_due`] pops at most `limit` timers and moves at most
//!   [`MOVES_MAX`] others nearer, also if a million fall due together. It says if it has to be
//!   called again.
//! - **Bounded memory.** 24 bytes for each timer, and 4 to 6 more while it is due; 24 KiB are the
//!   least. Memory is kept for the next timers, so once warm, nothing is allocated.
//!
//! What is deliberately absent: a clock, a thread, a callback. Nothing survives a restart either:
//! the deadlines are part of the releases, and the wheel is armed anew from them.
//!
//! How it works. A deadline is a number of eight digits to the base 64, and so is the cursor, which
//! follows the time. A timer lies in the slot of the highest digit in which the two differ:
//!
//! ```text
//! level 0   64 slots of    1 ms   deadlines that share all higher digits with the cursor
//! level 1   64 slots of   64 ms
//! level 2   64 slots of  4.1 s
//! ...
//! level 7   64 slots of  139 years
//! ```
//!
//! The first occupied slot of the lowest occupied level is thus the next one in time. When the
//! cursor gets to it, its timers are moved one by one to lower levels, or, if they are due, into a
//! heap by `(deadline, key)`. A half-moved slot is resumed by the next call.

mod due;
mod slab;

use crate::time::Timestamp;
use due::DueHeap;
use slab::{Index, Slab};
use std::fmt;

/// Most timers that one [`Wheel::pop_due`] moves nearer to being due. With a million timers, a call
/// that makes use of all of them and pops 256 takes 0.2 to 0.35 ms (`benches/wheel.rs`): well below
/// the millisecond that commands may have to wait for.
pub const MOVES_MAX: usize = 1024;

const DIGIT_BITS: u32 = 6;
const SLOTS: u32 = 1 << DIGIT_BITS;
const LEVELS: u32 = 8;
const _: () = assert!(
    (Timestamp::MAX.as_millis() as u64) < 1 << (LEVELS * DIGIT_BITS),
    "the digits of all levels hold any deadline"
);

/// The list of the slot that is being moved; those of the slots come before it.
const MOVING: Index = Index::new(LEVELS * SLOTS);
const LISTS: u32 = LEVELS * SLOTS + 1;

/// An armed timer. Harmless once that timer was popped or cancelled: no other one ever gets the
/// same id from the same wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    index: Index,
    generation: u16,
}

/// A timer that came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueTimer {
    /// When it was due.
    pub deadline: Timestamp,
    /// What it was armed with.
    pub key: u64,
}

/// Whether a call of [`Wheel::pop_due`] came to the end of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that is armed is due.
    Done,
    /// The call stopped at one of its limits. Call again with a time that is no earlier, at once
    /// or after more urgent work. It may have popped nothing, and the next call may find nothing.
    More,
}

/// A hierarchical timer wheel with a resolution of one millisecond.
pub struct Wheel {
    slab: Slab,
    /// For each level, one bit for each slot that is not empty.
    occupied: [u64; LEVELS as usize],
    /// Every timer in a slot is later than this, and every timer in the heap is not. Never later
    /// than the latest time that the wheel was told.
    cursor: u64,
    due: DueHeap,
}

impl Wheel {
    /// A wheel without timers. It works with any `now`, but costs least if that is the present.
    pub fn new(now: Timestamp) -> Self {
        Self {
            slab: Slab::new(LISTS),
            occupied: [0; LEVELS as usize],
            cursor: millis(now),
            due: DueHeap::default(),
        }
    }

    /// Arms a timer. A deadline that is past is due at once. Keys need not be unique, but timers
    /// of equal deadline and key come out in any order.
    pub fn arm(&mut self, deadline: Timestamp, key: u64) -> TimerId {
        let index = self.slab.insert(deadline, key);
        self.place(index);
        TimerId { index, generation: self.slab.generation(index) }
    }

    /// Disarms a timer; false if it was popped or cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        if !self.slab.is_live(id.index, id.generation) {
            return false;
        }
        if self.slab.is_listed(id.index) {
            if let Some(emptied) = self.slab.unlink(id.index) {
                self.mark_empty(emptied);
            }
        } else {
            self.due.remove(&mut self.slab, id.index);
        }
        self.slab.remove(id.index);
        true
    }

    /// An instant no later than the earliest deadline, `None` if nothing is armed. It is the
    /// deadline itself if that is past or shares all but its lowest base-64 digit with the latest
    /// `now`, and else the beginning of its slot: so whoever sleeps until then and calls
    /// [`Self::pop_due`] sleeps eight times at most for one timer. After [`Progress::Done`] it is
    /// later than that `now`.
    pub fn next(&self) -> Option<Timestamp> {
        let due = self.due.first().map(|index| self.slab.deadline(index));
        let later = if self.slab.is_empty_list(MOVING) {
            self.next_slot().map(|(_, start)| start)
        } else {
            Some(self.cursor)
        };
        [due, later.map(timestamp)].into_iter().flatten().min()
    }

    /// Appends to `due` what has a deadline at or before `now`, in the order of `(deadline, key)`:
    /// at most `limit` timers. Whether there may be more is the result.
    pub fn pop_due(&mut self, now: Timestamp, limit: usize, due: &mut Vec<DueTimer>) -> Progress {
        let mut pops_left = limit;
        let mut moves_left = MOVES_MAX;
        while pops_left > 0 && moves_left > 0 {
            if let Some(first) = self.first_certain().filter(|&i| self.slab.deadline(i) <= now) {
                pops_left -= 1;
                due.push(DueTimer {
                    deadline: self.slab.deadline(first),
                    key: self.slab.key(first),
                });
                self.due.remove(&mut self.slab, first);
                self.slab.remove(first);
            } else if let Some(index) = self.slab.first_of(MOVING) {
                moves_left -= 1;
                self.slab.unlink(index);
                self.place(index);
            } else if let Some((slot, start)) =
                self.next_slot().filter(|(_, start)| *start <= millis(now))
            {
                self.cursor = start;
                self.slab.splice(slot, MOVING);
                self.mark_empty(slot);
            } else {
                break;
            }
        }
        if self.next().is_some_and(|next| next <= now) {
            return Progress::More;
        }
        // No slot begins at or before `now`, so every timer stays in the slot that is right for it.
        self.cursor = self.cursor.max(millis(now));
        Progress::Done
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in use or kept for later.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.slab.memory_bytes() + self.due.memory_bytes()
    }

    /// The first timer of the heap, if none of the half-moved slot can come before it.
    fn first_certain(&self) -> Option<Index> {
        let first = self.due.first()?;
        let certain =
            self.slab.is_empty_list(MOVING) || millis(self.slab.deadline(first)) < self.cursor;
        certain.then_some(first)
    }

    /// Puts a timer that is in no list where its deadline belongs.
    fn place(&mut self, index: Index) {
        let deadline = millis(self.slab.deadline(index));
        if deadline <= self.cursor {
            self.due.push(&mut self.slab, index);
            return;
        }
        let level = (deadline ^ self.cursor).ilog2() / DIGIT_BITS;
        let digit = (deadline >> (level * DIGIT_BITS)) as u32 % SLOTS;
        self.slab.push(Index::new(level * SLOTS + digit), index);
        self.occupied[level as usize] |= 1 << digit;
    }

    /// The occupied slot that is next in time, and when it begins.
    fn next_slot(&self) -> Option<(Index, u64)> {
        let (level, slots) = (0..).zip(&self.occupied).find(|(_, slots)| **slots != 0)?;
        let digit = slots.trailing_zeros();
        let shift = level * DIGIT_BITS;
        let higher_digits = self.cursor >> (shift + DIGIT_BITS);
        let start = (higher_digits << DIGIT_BITS | u64::from(digit)) << shift;
        Some((Index::new(level * SLOTS + digit), start))
    }

    /// Notes that a list has become empty.
    fn mark_empty(&mut self, list: Index) {
        if list != MOVING {
            self.occupied[(list.get() / SLOTS) as usize] &= !(1 << (list.get() % SLOTS));
        }
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len())
            .field("cursor", &timestamp(self.cursor))
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}

fn millis(time: Timestamp) -> u64 {
    // A Timestamp is never negative.
    time.as_millis().unsigned_abs()
}

fn timestamp(millis: u64) -> Timestamp {
    // Slots begin no later than a deadline in them, so this is a Timestamp's number again.
    Timestamp::from_millis(millis.cast_signed())
}
