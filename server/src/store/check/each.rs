//! Reading all values of one kind.

use super::Notes;
use crate::store::{
    Error,
    directory::doing,
    record::{
        Unreadable, decode,
        key::{Key, Kind},
        parts,
    },
    tree::{Direction, Tree},
};
use serde::de::DeserializeOwned;
use std::{
    collections::VecDeque,
    panic,
    sync::mpsc::{self, SyncSender, TrySendError},
    thread,
};

/// Values that are handed over at once. A store that has fewer is read without a second thread.
const CHUNK: usize = 1024;
/// Chunks that wait to be decoded.
const WAITING: usize = 8;
/// Chunks that were decoded while those waited, and wait too.
const AHEAD: usize = 16;

/// Reads all values of one kind, in order of their keys.
pub(super) fn each<T: Tree, V: DeserializeOwned, N: Notes>(
    tree: &T,
    kind: Kind,
    notes: &mut N,
    mut check: impl FnMut(&Key, V, &mut N) -> Result<(), Error>,
) -> Result<(), Error> {
    for entry in parts::scan(tree, kind.all(), Direction::Up) {
        take(entry?, notes, &mut check)?;
    }
    Ok(())
}

/// The same of what there may be a million of: this thread reads the values while another decodes and checks
/// them. If that one does not keep up, this one decodes too, instead of waiting. All reads stay on one
/// thread, as sled wants it, and values are checked in order.
pub(super) fn each_of_many<T: Tree, V: DeserializeOwned + Send, N: Notes>(
    tree: &T,
    kind: Kind,
    notes: &mut N,
    mut check: impl FnMut(&Key, V, &mut N) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let mut entries = parts::scan(tree, kind.all(), Direction::Up);
    let mut take = |chunk: Chunk<T, V>| -> Result<(), Error> {
        match chunk {
            Chunk::Read(read) => {
                read.into_iter().try_for_each(|entry| take(entry, notes, &mut check))
            }
            Chunk::Decoded(decoded) => {
                decoded.into_iter().try_for_each(|value| judge(value, notes, &mut check))
            }
        }
    };
    let first: Vec<_> = entries.by_ref().take(CHUNK).collect::<Result<_, _>>()?;
    if first.len() < CHUNK {
        return take(Chunk::Read(first));
    }
    thread::scope(|scope| {
        let (hand_over, handed_over) = mpsc::sync_channel(WAITING);
        let decode = move || {
            take(Chunk::Read(first))?;
            handed_over.into_iter().try_for_each(take)
        };
        let decoding = thread::Builder::new().name("decoding".into()).spawn_scoped(scope, decode);
        let decoding = decoding.map_err(|source| doing("start a thread".into(), source))?;
        let mut ahead = VecDeque::new();
        let read = loop {
            let chunk = entries.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>();
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => break Err(error),
            };
            if chunk.is_empty() {
                break Ok(());
            }
            // What was decoded here stands before it.
            let chunk = match hand_over_first(&hand_over, &mut ahead) {
                Handed::All => match hand_over.try_send(Chunk::Read(chunk)) {
                    Ok(()) => continue,
                    Err(TrySendError::Full(chunk)) => chunk,
                    Err(TrySendError::Disconnected(_)) => break Ok(()),
                },
                Handed::Some => Chunk::Read(chunk),
                Handed::Gone => break Ok(()),
            };
            ahead.push_back(chunk.decoded());
            if ahead.len() > AHEAD
                && ahead.pop_front().is_some_and(|first| hand_over.send(first).is_err())
            {
                break Ok(());
            }
        };
        // If it takes no more it has found something.
        let _ = ahead.into_iter().try_for_each(|chunk| hand_over.send(chunk));
        drop(hand_over);
        match decoding.join() {
            // What it has found stands before what could not be read.
            Ok(decoded) => decoded.and(read),
            Err(panicked) => panic::resume_unwind(panicked),
        }
    })
}

/// What is handed over.
enum Chunk<T: Tree, V> {
    Read(Vec<parts::Entry<T::Bytes>>),
    Decoded(Vec<Result<(Key, V), Unreadable>>),
}

impl<T: Tree, V: DeserializeOwned> Chunk<T, V> {
    fn decoded(self) -> Self {
        match self {
            Self::Read(read) => Self::Decoded(read.into_iter().map(decoded).collect()),
            Self::Decoded(_) => self,
        }
    }
}

/// How far chunks were taken.
enum Handed {
    All,
    /// The others have to wait.
    Some,
    /// No more are taken: something was found.
    Gone,
}

/// Hands over as many chunks as are taken without waiting.
fn hand_over_first<T: Tree, V>(
    hand_over: &SyncSender<Chunk<T, V>>,
    ahead: &mut VecDeque<Chunk<T, V>>,
) -> Handed {
    while let Some(first) = ahead.pop_front() {
        match hand_over.try_send(first) {
            Ok(()) => {}
            Err(TrySendError::Full(first)) => {
                ahead.push_front(first);
                return Handed::Some;
            }
            Err(TrySendError::Disconnected(_)) => return Handed::Gone,
        }
    }
    Handed::All
}

fn decoded<B: AsRef<[u8]>, V: DeserializeOwned>(
    entry: parts::Entry<B>,
) -> Result<(Key, V), Unreadable> {
    let (key, value) = entry?;
    let value = decode(&key, value.as_ref())?;
    Ok((key, value))
}

fn judge<V, N: Notes>(
    decoded: Result<(Key, V), Unreadable>,
    notes: &mut N,
    check: &mut impl FnMut(&Key, V, &mut N) -> Result<(), Error>,
) -> Result<(), Error> {
    match decoded {
        Ok((key, value)) => check(&key, value, notes),
        Err(unreadable) => notes.note(unreadable.into()),
    }
}

fn take<B: AsRef<[u8]>, V: DeserializeOwned, N: Notes>(
    entry: parts::Entry<B>,
    notes: &mut N,
    check: &mut impl FnMut(&Key, V, &mut N) -> Result<(), Error>,
) -> Result<(), Error> {
    judge(decoded(entry), notes, check)
}

#[cfg(test)]
mod tests {
    use super::{super::Finding, *};
    use crate::store::{
        Batch, StoreId, memory,
        record::{CommitRecord, encode},
    };
    use phasegate_engine::{id::Revision, time::Timestamp};
    use uuid::Uuid;

    /// What was noted, up to a limit, at which it is too much.
    struct Limited(Vec<String>, usize);

    impl Notes for Limited {
        fn note(&mut self, finding: Finding) -> Result<(), Error> {
            self.0.push(finding.key.clone());
            if self.0.len() < self.1 { Ok(()) } else { Err(finding.into()) }
        }
    }

    /// What comes of reading so many commits, of which some are unreadable: those that were checked, what
    /// was noted, and how it ended.
    fn outcomes(
        commits: u64,
        unreadable: &[u64],
        limit: usize,
    ) -> [(Vec<u64>, Vec<String>, bool); 2] {
        let disk = memory::Disk::new();
        let mut batch = Batch::default();
        for number in 1..=commits {
            let commit = CommitRecord { time: Timestamp::from_millis(7), changes: 0 };
            let value = if unreadable.contains(&number) { vec![0xc0] } else { encode(&commit) };
            batch.put(Key::Commit(Revision::new(number)).bytes(), value);
        }
        let mut ledger = memory::open(&disk, StoreId(Uuid::nil())).unwrap();
        ledger.tree.apply(batch).unwrap();
        let outcome = |read: Reader| {
            let (mut checked, mut notes) = (Vec::new(), Limited(Vec::new(), limit));
            let ended = read(&ledger.tree, &mut notes, &mut |key| {
                let Key::Commit(revision) = key else { panic!("{key} is none") };
                checked.push(revision.get());
            });
            (checked, notes.0, ended.is_ok())
        };
        [outcome(one_after_the_other), outcome(with_another_thread)]
    }

    type Reader =
        fn(&memory::MemoryTree, &mut Limited, &mut (dyn FnMut(&Key) + Send)) -> Result<(), Error>;

    fn one_after_the_other(
        tree: &memory::MemoryTree,
        notes: &mut Limited,
        seen: &mut (dyn FnMut(&Key) + Send),
    ) -> Result<(), Error> {
        each(tree, Kind::Commit, notes, |key, _: CommitRecord, _| {
            seen(key);
            Ok(())
        })
    }

    fn with_another_thread(
        tree: &memory::MemoryTree,
        notes: &mut Limited,
        seen: &mut (dyn FnMut(&Key) + Send),
    ) -> Result<(), Error> {
        each_of_many(tree, Kind::Commit, notes, |key, _: CommitRecord, _| {
            seen(key);
            Ok(())
        })
    }

    #[test]
    fn many_are_read_as_few_are() {
        let chunk = CHUNK as u64;
        for commits in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 40 * chunk + 5] {
            let [alone, together] = outcomes(commits, &[], usize::MAX);
            assert_eq!(alone, together, "{commits}");
            assert_eq!(together.0, (1..=commits).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_not_taken_yet_waits_in_its_order() {
        type Waiting = Chunk<memory::MemoryTree, CommitRecord>;
        let chunk = |_| Waiting::Decoded(Vec::new());
        let (hand_over, handed_over) = mpsc::sync_channel(2);
        let mut ahead: VecDeque<Waiting> = (0..3).map(chunk).collect();
        ahead[2] = Waiting::Read(Vec::new());
        assert!(matches!(hand_over_first(&hand_over, &mut ahead), Handed::Some));
        assert!(matches!(ahead.make_contiguous(), [Chunk::Read(_)]));
        assert!(matches!(handed_over.recv(), Ok(Chunk::Decoded(_))));
        assert!(matches!(hand_over_first(&hand_over, &mut ahead), Handed::All));
        assert!(ahead.is_empty());
        ahead.push_back(chunk(0));
        drop(handed_over);
        assert!(matches!(hand_over_first(&hand_over, &mut ahead), Handed::Gone));
    }

    #[test]
    fn what_cannot_be_read_among_many_is_noted_and_the_first_that_is_too_much_ends_it() {
        let chunk = CHUNK as u64;
        let unreadable = [3, chunk + 1, 5 * chunk, 11 * chunk];
        for limit in 1..=unreadable.len() + 1 {
            let [alone, together] = outcomes(12 * chunk, &unreadable, limit);
            assert_eq!(alone, together, "{limit}");
            assert_eq!(together.1.len(), limit.min(unreadable.len()));
            assert_eq!(together.2, limit > unreadable.len());
        }
    }
}
