//! The timers that are due, or were when time was later: a heap with the least `(deadline, key)` at
//! the top. It holds indexes only, and each timer knows its position, so that it can be cancelled.

use super::slab::{Index, Slab};

/// Children of a node. Four make the heap half as deep as two would, and comparing them costs less
/// than going deeper, where every step is a cache miss.
const ARITY: usize = 4;

/// Room for this many timers more, at least, whenever the heap grows: 1 KiB.
const LEAST_GROWTH: usize = 256;

#[derive(Default)]
pub(super) struct DueHeap {
    heap: Vec<Index>,
}

impl DueHeap {
    /// The least timer.
    pub(super) fn first(&self) -> Option<Index> {
        self.heap.first().copied()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Index>()
    }

    /// Adds a timer that is in no list.
    pub(super) fn push(&mut self, slab: &mut Slab, index: Index) {
        if self.heap.len() == self.heap.capacity() {
            // By half, not to twice the size: 24 bytes of the slab and 6 here are below 32.
            self.heap.reserve_exact((self.heap.len() / 2).max(LEAST_GROWTH));
        }
        self.heap.push(index);
        self.sift_up(slab, self.heap.len() - 1, index);
    }

    /// Takes out a timer that is here.
    pub(super) fn remove(&mut self, slab: &mut Slab, index: Index) {
        let position = slab.heap_position(index);
        let Some(last) = self.heap.pop() else { return };
        if position < self.heap.len() {
            let moved_up = self.sift_up(slab, position, last);
            if moved_up == position {
                self.sift_down(slab, position, last);
            }
        }
    }

    /// Puts a timer at a position or, if its ancestors are greater, nearer to the top. Returns
    /// where it came to stand.
    fn sift_up(&mut self, slab: &mut Slab, mut position: usize, index: Index) -> usize {
        let order = slab.order(index);
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if slab.order(self.heap[parent]) <= order {
                break;
            }
            self.put(slab, position, self.heap[parent]);
            position = parent;
        }
        self.put(slab, position, index);
        position
    }

    /// Puts a timer at a position or, if its descendants are less, further down.
    fn sift_down(&mut self, slab: &mut Slab, mut position: usize, index: Index) {
        let order = slab.order(index);
        loop {
            let first_child = position * ARITY + 1;
            let children = first_child..(first_child + ARITY).min(self.heap.len());
            let least = children.map(|child| (slab.order(self.heap[child]), child)).min();
            let Some((_, child)) = least.filter(|(least, _)| *least < order) else { break };
            self.put(slab, position, self.heap[child]);
            position = child;
        }
        self.put(slab, position, index);
    }

    fn put(&mut self, slab: &mut Slab, position: usize, index: Index) {
        self.heap[position] = index;
        slab.set_heap_position(index, position);
    }
}
