//! The disk with sled alone above it, and with nothing above it.

use phasegate_server::store::Batch;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// How long one `fdatasync` takes after a write over blocks that are there already, and after one that
/// makes the file longer: the medians of so many.
pub(crate) fn fdatasync(directory: &Path, times: usize) -> (Duration, Duration) {
    const BYTES: usize = 4096;
    let block = [7_u8; BYTES];
    let median = |mut took: Vec<Duration>| {
        took.sort();
        took[took.len() / 2]
    };
    let path = directory.join("fdatasync");
    let mut file = File::create(&path).expect("the directory is ours");
    let mut longer = Vec::new();
    for _ in 0..times {
        file.write_all(&block).expect("there is space");
        let begun = Instant::now();
        file.sync_data().expect("the disk takes it");
        longer.push(begun.elapsed());
    }
    let file = OpenOptions::new().write(true).open(&path).expect("it was made above");
    let mut over = Vec::new();
    for n in 0..times {
        file.write_all_at(&block, (n * BYTES) as u64).expect("it was written before");
        let begun = Instant::now();
        file.sync_data().expect("the disk takes it");
        over.push(begun.elapsed());
    }
    drop(file);
    std::fs::remove_file(&path).expect("it is ours");
    (median(over), median(longer))
}

/// sled with an `fdatasync` after each batch, and nothing else.
#[derive(Debug)]
pub(crate) struct Bare {
    database: sled::Db,
    barrier: File,
}

impl Bare {
    pub(crate) fn open(directory: &Path) -> Self {
        let database = sled::Config::new().path(directory).open().expect("it is empty");
        let barrier = File::open(directory.join("db")).expect("sled has made it");
        Self { database, barrier }
    }

    /// Writes a batch, and waits until it is durable.
    pub(crate) fn write(&self, batch: Batch) {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.database.apply_batch(writes).expect("the disk takes it");
        self.database.flush().expect("the disk takes it");
        self.barrier.sync_data().expect("the disk takes it");
    }
}

/// What a start needs of a store; the log and the audit it leaves alone.
const NEEDED: [&str; 10] = [
    "meta/",
    "flag/",
    "pipeline/",
    "pipeline-at/",
    "proposal/",
    "progress/",
    "commit/",
    "request-at/",
    "outbox/",
    "reminder/",
];

/// Opens a store of Phasegate's that nobody has open, and reads what a start needs as bytes: the least that a
/// start takes. Both find the file in the page cache.
pub(crate) fn scan(directory: &Path) -> Duration {
    let mut file = File::open(directory.join("db")).expect("it is there");
    io::copy(&mut file, &mut io::sink()).expect("it can be read");
    let begun = Instant::now();
    let config = sled::Config::new().path(directory).cache_capacity(16 << 20);
    let database = config.open().expect("it was closed");
    let tree = database.open_tree("s").expect("it is there");
    let entries = NEEDED.iter().flat_map(|prefix| tree.scan_prefix(prefix)).flatten();
    let bytes: usize = entries.map(|(key, value)| key.len() + value.len()).sum();
    let took = begun.elapsed();
    assert!(bytes > 0, "there is something in it");
    took
}

/// Updates of so many bytes that are durable in a second, in batches of so many.
pub(crate) fn updates_a_second(
    directory: &Path,
    batch: usize,
    bytes: usize,
    time: Duration,
) -> f64 {
    let bare = Bare::open(directory);
    let (begun, mut updates) = (Instant::now(), 0_usize);
    while begun.elapsed() < time {
        let mut writes = Batch::default();
        for n in updates..updates + batch {
            // Spread over as many keys as there are timers in the storm.
            let key = (n.wrapping_mul(7919) % 100_000).to_be_bytes().to_vec();
            writes.put(key, vec![b'v'; bytes]);
        }
        bare.write(writes);
        updates += batch;
    }
    updates as f64 / begun.elapsed().as_secs_f64()
}
