//! Packs against a map in which every record has a key of its own.

use super::*;
use crate::store::memory::{Disk, MemoryTree};
use phasegate_engine::{
    id::{ReleaseId, Revision},
    time::Timestamp,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What is there, as anybody should see it.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// One thing that happens to a store.
#[derive(Clone, Debug)]
enum Step {
    /// A batch of records: for each its kind, and how long it is.
    Batch(Vec<(usize, usize)>),
    /// It is opened anew.
    Restart,
    /// The oldest records of a kind go, so many of a hundred.
    Remove(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![
        4 => 0..200_usize,
        2 => 500..700_usize,
        1 => FULL - 60..FULL + 10,
        1 => LONGEST - 10..3 * LONGEST,
    ];
    let records = proptest::collection::vec((0..PACKED.len(), length), 1..40);
    prop_oneof![
        6 => records.prop_map(Step::Batch),
        1 => Just(Step::Restart),
        2 => (0..PACKED.len(), 0..=100_usize).prop_map(|(kind, part)| Step::Remove(kind, part)),
    ]
}

struct World {
    tree: MemoryTree,
    packs: OpenPacks,
    model: Model,
    next: u64,
}

impl World {
    fn new() -> Self {
        let tree = MemoryTree::of(&Disk::new());
        Self { tree, packs: OpenPacks::default(), model: Model::new(), next: 1 }
    }

    /// The key of a record of a kind, the number of which grows. A few entries of the log are of one commit,
    /// and a few requests of one moment, in no order.
    fn key(kind: usize, first: u64, place: u64) -> Key {
        let number = first + place;
        match PACKED[kind] {
            Kind::Commit => Key::Commit(Revision::new(number)),
            Kind::Change => {
                let release = ReleaseId::parse(&format!("r-{}", place % 5)).unwrap();
                Key::Change(Revision::new(first + place / 3), release)
            }
            Kind::Audit => Key::Audit(number),
            Kind::RequestAt => {
                let time = i64::try_from(number / 7).unwrap();
                let digest = [u8::try_from(number.wrapping_mul(101) % 251).unwrap(); 32];
                Key::RequestAt(Timestamp::from_millis(time), digest)
            }
            other @ (Kind::Flag
            | Kind::Pipeline
            | Kind::PipelineAt
            | Kind::Proposal
            | Kind::Progress
            | Kind::ChangeOf
            | Kind::Request
            | Kind::Outbox
            | Kind::Reminder) => unreachable!("{other:?} lies in no packs"),
        }
    }

    fn take(&mut self, step: &Step) {
        let mut batch = Batch::default();
        match step {
            Step::Restart => self.packs = OpenPacks::default(),
            Step::Batch(records) => {
                let key = |(place, (kind, length)): (u64, &(usize, usize))| {
                    (Self::key(*kind, self.next, place), *length)
                };
                let mut keys: Vec<(Key, usize)> = (0..).zip(records).map(key).collect();
                self.next += records.len() as u64;
                let is_request = |key: &Key| matches!(key, Key::RequestAt(..));
                keys.sort_by_key(|(key, _)| (!is_request(key)).then(|| key.bytes()));
                for (key, length) in keys {
                    // As MessagePack might begin.
                    let value = [&[0x80][..], &vec![b'v'; length]].concat();
                    self.model.insert(key.bytes(), value.clone());
                    self.packs.add(&mut batch, &key, value);
                }
                self.packs.write(&mut batch);
            }
            Step::Remove(kind, part) => {
                let all = PACKED[*kind].all();
                let there = self.model.range(all.clone()).count();
                let mut left = there * part / 100;
                let mut gone = Vec::new();
                remove(&mut batch, &self.tree, all, |key, value| {
                    if left == 0 {
                        return Ok(Fate::Stop);
                    }
                    left -= 1;
                    gone.push((key.bytes(), value.to_vec()));
                    Ok(Fate::Remove)
                })
                .unwrap();
                self.packs = OpenPacks::default();
                assert_eq!((left, gone.len()), (0, there * part / 100));
                for (key, value) in gone {
                    assert_eq!(self.model.remove(&key), Some(value));
                }
            }
        }
        self.tree.apply(batch).unwrap();
    }

    fn read(&self, range: Range<Vec<u8>>, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = unpacked(&self.tree, range, direction);
        let entry = |entry: Result<Entry<Vec<u8>>, Error>| {
            let (key, value) = entry.unwrap().unwrap();
            (key.bytes(), value.as_ref().to_vec())
        };
        entries.map(entry).collect()
    }

    fn check(&self) {
        for kind in PACKED {
            let keys: Vec<&Vec<u8>> = self.model.range(kind.all()).map(|(key, _)| key).collect();
            let whole = kind.all();
            let places = [0, keys.len() / 3, keys.len() / 2, keys.len().saturating_sub(1)];
            let cuts = places.iter().filter_map(|place| keys.get(*place).map(|key| (*key).clone()));
            let mut ranges = vec![whole.clone()];
            for cut in cuts {
                ranges.push(whole.start.clone()..cut.clone());
                ranges.push(cut..whole.end.clone());
            }
            // What is asked of requests is whole moments, and they have no order in one.
            if kind == Kind::RequestAt {
                ranges.truncate(1);
                for key in keys.iter().step_by(5) {
                    let (Key::RequestAt(time, _), 0) = Key::parse(key).unwrap() else {
                        panic!("no request")
                    };
                    ranges.push(key::requests_at(time));
                    ranges.push(key::requests_at(time).start..whole.end.clone());
                }
            }
            for range in ranges {
                let mut expected: Vec<_> =
                    self.model.range(range.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
                let mut up = self.read(range.clone(), Direction::Up);
                let mut down = self.read(range, Direction::Down);
                if kind == Kind::RequestAt {
                    up.sort();
                    down.sort();
                    assert!(up == expected && down == expected);
                    continue;
                }
                assert!(up == expected);
                expected.reverse();
                assert!(down == expected);
            }
            for key in keys.iter().step_by(3) {
                let (whole, 0) = Key::parse(key).unwrap() else { panic!("a part") };
                let value = parts::get(&self.tree, &whole).unwrap().unwrap();
                assert!(value.as_ref() == self.model[*key]);
            }
        }
    }
}

proptest! {
    #[test]
    fn records_in_packs_are_read_and_removed_as_if_each_had_its_key(
        steps in proptest::collection::vec(step(), 1..30)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.check();
        let missing = Key::Commit(Revision::new(world.next));
        prop_assert!(parts::get(&world.tree, &missing).unwrap().is_none());
    }
}

#[test]
fn what_comes_one_at_a_time_lies_together_too() {
    let mut world = World::new();
    for _ in 0..300 {
        world.take(&Step::Batch(vec![(0, 30)]));
    }
    world.check();
    let keys = world.tree.scan(Kind::Commit.all(), Direction::Up).count();
    let in_one = (GOES_ON - MARK.len()) / (FRAME + 8 + 31) + 1;
    assert_eq!(keys, 300_usize.div_ceil(in_one));
}

#[test]
fn only_what_was_added_is_written_again() {
    let mut world = World::new();
    world.take(&Step::Batch(vec![(0, 30), (3, 30)]));
    let mut batch = Batch::default();
    let commit = Key::Commit(Revision::new(100));
    world.packs.add(&mut batch, &commit, vec![0x80]);
    world.packs.write(&mut batch);
    assert_eq!(batch.len(), 1);
}

fn pack_of(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut pack = MARK.to_vec();
    for (rest, value) in records {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap();
        extend(&mut pack, (length(rest), length(value)), rest, value);
    }
    pack
}

fn problem(key: &Key, pack: Vec<u8>) -> String {
    let mut tree = MemoryTree::of(&Disk::new());
    let mut batch = Batch::default();
    batch.put(key.bytes(), pack);
    tree.apply(batch).unwrap();
    let range = b"a".to_vec()..b"z".to_vec();
    let mut read: Vec<_> = unpacked(&tree, range, Direction::Up).collect();
    read.pop().unwrap().unwrap().map(|_| ()).unwrap_err().problem
}

#[test]
fn a_pack_that_is_none_is_told() {
    let [first, second] = [1_u64, 2].map(u64::to_be_bytes);
    let commit = Key::Commit(Revision::new(1));
    let good = pack_of(&[(&first, b"\x80"), (&second, b"\x80")]);
    let with = |pack| problem(&commit, pack);
    assert_eq!(with(good[..good.len() - 1].to_vec()), "the pack is cut off");
    assert_eq!(with(good[..20].to_vec()), "the pack is cut off");
    assert_eq!(with(MARK.to_vec()), "the pack is cut off");
    assert_eq!(with(pack_of(&[(&second, b"\x80")])), "the pack begins with another record");
    let twice = pack_of(&[(&first, b"\x80"), (&first, b"\x80")]);
    assert_eq!(with(twice), "the records of the pack are out of order");
    let strange = pack_of(&[(&first, b"\x80"), (b"x", b"\x80")]);
    assert_eq!(with(strange), "no key of this format");
    let part = [&second[..], &[0, 0, 1]].concat();
    let part = pack_of(&[(&first, b"\x80"), (&part, b"\x80")]);
    assert_eq!(with(part), "there is a part of a value in the pack");
    let flag = Key::Oldest;
    assert_eq!(problem(&flag, good), "nothing of its kind lies in packs");
}

#[test]
fn packs_that_lie_over_each_other_are_noticed_from_both_sides() {
    let [first, second, third] = [1_u64, 2, 3].map(u64::to_be_bytes);
    let commit = |number| Key::Commit(Revision::new(number));
    let mut tree = MemoryTree::of(&Disk::new());
    let mut batch = Batch::default();
    batch.put(commit(1).bytes(), pack_of(&[(&first, b"\x80"), (&third, b"\x80")]));
    batch.put(commit(2).bytes(), pack_of(&[(&second, b"\x80")]));
    tree.apply(batch).unwrap();
    for direction in [Direction::Up, Direction::Down] {
        let read = unpacked(&tree, Kind::Commit.all(), direction).map(Result::unwrap);
        let problems = read.filter_map(Result::err).map(|unreadable| unreadable.problem);
        assert_eq!(problems.collect::<Vec<_>>(), ["lies over what is beside it"]);
    }
}
