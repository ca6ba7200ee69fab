//! The experiment, on one record.

use crate::{
    disk::Model,
    opening::{Case, open_all},
    record::{self, Event},
    recorded::{Recorded, events},
    recovery,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{env, sync::OnceLock};
use tokio::runtime::Runtime;

const SEED: u64 = 20_301_115;
/// For each model.
const POINTS: usize = 100;
/// So many points make one recovery that is crashed. Each is worth several images.
const POINTS_PER_RECOVERY: usize = 12;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seed() -> u64 {
    setting("SEED").unwrap_or(SEED)
}

fn count() -> usize {
    setting("POINTS").unwrap_or(POINTS)
}

/// One record serves all tests.
fn recorded() -> &'static Recorded {
    static RECORDED: OnceLock<Recorded> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let mut random = ChaCha8Rng::seed_from_u64(seed());
        Runtime::new().unwrap().block_on(Recorded::record(&mut random))
    })
}

#[test]
fn whatever_the_disk_keeps_of_a_crash_nothing_acknowledged_is_missing_and_nothing_half() {
    let (seed, count) = (seed(), count());
    println!("SEED={seed} POINTS={count}");
    let recorded = recorded();
    let mut random = ChaCha8Rng::seed_from_u64(seed + 1);
    let tallies = open_all(&recorded.truth, |send| {
        for model in Model::ALL {
            let points = recorded.points(count, &mut random);
            recorded.crash(model, points, &mut random, |events, image| {
                send.send(Case::of_crash(model, events, image)).unwrap();
            });
        }
    });
    println!("{tallies}");
    tallies.assert_good(seed);
}

#[test]
fn a_recovery_may_be_crashed_and_killed_again_and_again() {
    let (seed, count) = (seed(), count().div_ceil(POINTS_PER_RECOVERY));
    println!("SEED={seed} {count} recoveries");
    let recorded = recorded();
    let runtime = Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed + 2);
    let tallies = open_all(&recorded.truth, |send| {
        for model in Model::ALL {
            let points = recorded.points(count, &mut random);
            let mut choices = ChaCha8Rng::seed_from_u64(random.random());
            recorded.crash(model, points, &mut random, |events, image| {
                let case = Case::of_crash(model, events, image);
                let take = |case| send.send(case).unwrap();
                match model {
                    Model::Kill => recovery::kill_recovery(case, &mut choices, take),
                    Model::Protected | Model::Volatile => {
                        runtime.block_on(recovery::crash_recovery(case, &mut choices, take))
                    }
                }
            });
        }
    });
    println!("{tallies}");
    tallies.assert_good(seed);
}

/// What a killed process wrote may be in the page cache only, and sled notes in a snapshot how far it
/// goes. See `SledTree::open`.
#[test]
fn a_start_syncs_the_database_before_anything_is_made_of_it() {
    let recorded = recorded();
    let events = events(&recorded.bytes);
    let mut begin = 0;
    let mut starts = 0;
    for end in &recorded.lives {
        let life = &events[begin..*end];
        begin = *end;
        let is_about_it = |event: &&Event<'_>| {
            let (Event::Opened { path, .. } | Event::Created { path, .. }) = event else {
                return false;
            };
            path.ends_with(b"/db")
        };
        // A life that makes it has nothing to sync.
        let Some(Event::Opened { inode: database, .. }) = life.iter().find(is_about_it) else {
            continue;
        };
        let mut began = Vec::new();
        for event in life {
            if let Event::SyncBegan { sync, inode } = event
                && inode == database
            {
                began.push(*sync);
            }
            if matches!(event, Event::SyncEnded { sync } if began.contains(sync)) {
                starts += 1;
                break;
            }
            if let Event::Wrote { inode, .. } | Event::Resized { inode, .. } = event {
                assert_ne!(inode, database, "a start writes before it syncs");
            }
            if let Event::Created { path, .. } | Event::Renamed { to: path, .. } = event {
                let is_snapshot = path.windows(6).any(|name| name == b"/snap.");
                assert!(!is_snapshot, "a start makes a snapshot before it syncs");
            }
        }
    }
    assert!(starts > 5, "{starts} starts on a store that was there");
}

/// sled removes the older snapshot, and overwrites segments that the new one does not need, and syncs no
/// name before. See `server/src/store/sled/opening.rs`.
#[test]
fn a_snapshot_is_durable_by_name_before_anything_that_it_replaces_is_gone() {
    let recorded = recorded();
    let is_snapshot = |path: &[u8]| path.starts_with(b"data/snap.");
    let (mut database, mut directory) = (None, None);
    let (mut unsynced, mut sync_under_way) = (false, None);
    let mut snapshots = 0;
    for (at, event) in events(&recorded.bytes).into_iter().enumerate() {
        if recorded.lives.contains(&at) {
            // What was not synced stays so.
            sync_under_way = None;
        }
        match event {
            Event::Opened { path: b"data/db", inode }
            | Event::Created { path: b"data/db", inode } => database = Some(inode),
            Event::Opened { path: b"data", inode }
            | Event::MadeDirectory { path: b"data", inode } => directory = Some(inode),
            Event::Renamed { to, .. } if is_snapshot(to) => {
                snapshots += 1;
                (unsynced, sync_under_way) = (true, None);
            }
            Event::SyncBegan { sync, inode } if Some(inode) == directory => {
                sync_under_way = Some(sync);
            }
            Event::SyncEnded { sync } if Some(sync) == sync_under_way => unsynced = false,
            Event::Removed { path } if is_snapshot(path) => {
                assert!(!unsynced, "event {at} removes a snapshot that may be needed");
            }
            Event::Wrote { inode, .. } | Event::Resized { inode, .. } => {
                let overwrites = Some(inode) == database && unsynced;
                assert!(!overwrites, "event {at} writes what an older snapshot may need");
            }
            Event::Created { .. }
            | Event::Opened { .. }
            | Event::MadeDirectory { .. }
            | Event::Renamed { .. }
            | Event::Removed { .. }
            | Event::SyncBegan { .. }
            | Event::RangeSyncBegan { .. }
            | Event::SyncEnded { .. }
            | Event::Sent { .. } => {}
        }
    }
    assert!(snapshots > 5, "{snapshots} snapshots");
}

#[test]
fn an_entry_of_a_record_is_read_as_it_was_written_and_a_damaged_one_not_at_all() {
    let events = [
        Event::Opened { path: b"", inode: 1 },
        Event::Created { path: b"data/db", inode: 2 },
        Event::MadeDirectory { path: b"data", inode: 3 },
        Event::Renamed { from: b"a", to: b"b" },
        Event::Removed { path: b"a" },
        Event::Wrote { inode: 2, at: 512, data: &[0; 1000] },
        Event::Resized { inode: 2, length: 7 },
        Event::SyncBegan { sync: 8, inode: 2 },
        Event::RangeSyncBegan { sync: 9, inode: 2, from: 0, to: u64::MAX },
        Event::SyncEnded { sync: 8 },
        Event::Sent { connection: 1 << 40, data: b"HTTP" },
    ];
    let mut bytes = Vec::new();
    events.iter().for_each(|event| event.write(&mut bytes));
    let read = |bytes: &[u8]| {
        let mut rest = bytes;
        let mut found = Vec::new();
        while let Some(event) = record::read(&mut rest) {
            match event {
                Ok(event) => found.push(format!("{event:?}")),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    };
    let written: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(read(&bytes), Ok(written));
    assert!(read(&bytes[..bytes.len() - 1]).is_err());
    bytes[100] ^= 1;
    assert!(read(&bytes).is_err());
}
