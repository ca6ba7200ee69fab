//! What only the store on disk promises: whose the directory is, and what happens to a damaged one.

use super::super::{
    Error, LogQuery, Order, Store, StoreId, Writes, sled,
    testing::{History, describe_flag},
};
use phasegate_engine::{State, event::Change, id::Revision};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use uuid::Uuid;

const STORE: StoreId = StoreId(Uuid::from_u128(1));

/// A directory with a store in it, closed.
fn directory_with(history: &History) -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    let mut store = sled::open(&path, STORE).unwrap();
    for record in &history.records {
        store.commit(Writes::of(std::slice::from_ref(record))).unwrap();
    }
    (temporary, path)
}

/// The files of a directory and what is in them.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A history long enough for several leaves, of long values too.
fn long_history() -> History {
    let mut history = History::full();
    for round in 0..30 {
        history.call(describe_flag("search", &format!("{round}, ").repeat(3000)));
    }
    history
}

fn problem_of(opened: Result<sled::SledStore, Error>) -> String {
    opened.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_second_open_is_told_who_has_the_store() {
    let (_temporary, path) = directory_with(&History::begin());
    let _held = sled::open(&path, STORE).unwrap();
    for second in [sled::open(&path, STORE), sled::open_existing(&path)] {
        let Err(Error::Locked { holder, .. }) = second else { panic!("it was opened twice") };
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
    }
}

#[test]
fn a_new_directory_is_closed_to_others() {
    let (_temporary, path) = directory_with(&History::begin());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_empty_directory_is_closed_to_others() {
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    sled::open(temporary.path(), STORE).unwrap();
    let mode = fs::metadata(temporary.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_store_that_others_can_read_is_refused() {
    let (_temporary, path) = directory_with(&History::begin());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(sled::open(&path, STORE), Err(Error::Exposed { .. })));
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path();
    for name in ["db", "notes.txt", "snap.1.generating"] {
        fs::write(path.join(name), "mine").unwrap();
    }
    let before = files(path);
    let opened = sled::open(path, STORE);
    assert!(matches!(opened, Err(Error::Foreign { .. })));
    assert_eq!(files(path), before);
    assert!(matches!(sled::open_existing(path), Err(Error::Foreign { .. })));
    assert_eq!(files(path), before);
}

#[test]
fn a_directory_without_a_store_is_not_made_into_one_by_looking() {
    let temporary = tempfile::tempdir().unwrap();
    let missing = temporary.path().join("data");
    assert!(matches!(sled::open_existing(&missing), Err(Error::Io { .. })));
    assert!(!missing.exists());
    let problem = problem_of(sled::open_existing(temporary.path()));
    assert!(problem.ends_with("there is no store in it"), "{problem}");
}

#[test]
fn a_file_is_no_directory() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(sled::open(&path, STORE), Err(Error::Io { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_and_stays_as_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    let opened = without_privileges({
        let path = path.clone();
        move || sled::open(&path, STORE).map(drop)
    });
    assert!(matches!(opened, Err(Error::Io { .. })), "{opened:?}");
    assert_eq!(files(&path), BTreeMap::new());
    let opened = without_privileges(move || sled::open(&path.join("data"), STORE).map(drop));
    assert!(matches!(opened, Err(Error::Io { .. })), "{opened:?}");
}

/// Runs something on a thread for which permissions count, though root may run the test.
fn without_privileges<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        let mut mine = rustix::thread::capabilities(None).unwrap();
        mine.effective = rustix::thread::CapabilitySet::empty();
        rustix::thread::set_capabilities(None, mine).unwrap();
        run()
    };
    std::thread::spawn(run).join().unwrap()
}

fn snapshots(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.starts_with("snap.")).collect()
}

#[test]
fn a_new_snapshot_takes_the_place_of_the_older_one() {
    let mut history = History::full();
    let (_temporary, path) = directory_with(&history);
    let mut before = Vec::new();
    for round in 0..5 {
        let mut store = sled::open(&path, STORE).unwrap();
        assert_eq!(store.load().unwrap().state, history.state);
        let now = snapshots(&path);
        assert_eq!(now.len(), 1, "round {round}");
        assert_ne!(now, before, "round {round}");
        before = now;
        let records = [history.call(describe_flag("search", &round.to_string()))];
        store.commit(Writes::of(&records)).unwrap();
    }
}

/// A power cut could leave that behind by an earlier version: sled would find no log and overwrite
/// the rest.
#[test]
fn a_store_that_needs_its_snapshot_is_refused_without_it_and_left_as_it_is() {
    const SEGMENT_BYTES: usize = 512 * 1024;
    let mut history = long_history();
    for round in 0..10 {
        history.call(describe_flag("search", &format!("{round}, ").repeat(60_000)));
    }
    let (_temporary, path) = directory_with(&history);
    // Opened once, it has none, and needs none.
    assert_eq!(snapshots(&path), Vec::<String>::new());
    assert_eq!(read_all(&path).unwrap(), (history.state.clone(), history.changes()));

    for snapshot in snapshots(&path) {
        fs::remove_file(path.join(snapshot)).unwrap();
    }
    let sound = fs::read(path.join("db")).unwrap();
    assert!(sound.len() > 3 * SEGMENT_BYTES, "{}", sound.len());
    for kept in 1..sound.len().div_ceil(SEGMENT_BYTES) {
        // At an opening the others may all have become zeros, because nothing in them was needed.
        let mut bytes = sound.clone();
        let segments = bytes.chunks_mut(SEGMENT_BYTES).enumerate();
        segments.filter(|(at, _)| *at != kept).for_each(|(_, segment)| segment.fill(0));
        if bytes[kept * SEGMENT_BYTES..][..4] == [0; 4] {
            // It was zeros before.
            continue;
        }
        fs::write(path.join("db"), bytes).unwrap();
        let before = files(&path);
        let problem = problem_of(sled::open(&path, STORE));
        assert!(problem.ends_with("no file snap.* is there"), "{kept}: {problem}");
        assert_eq!(files(&path), before, "{kept}");
    }
}

#[test]
fn a_snapshot_that_was_not_finished_is_removed_and_a_finished_one_is_not() {
    let history = History::full();
    let (_temporary, path) = directory_with(&history);
    // sled writes one when it opens a database.
    drop(sled::open(&path, STORE).unwrap());
    let finished = snapshots(&path);
    assert!(!finished.is_empty());
    // It sorts after all others, and would be taken for the newest.
    fs::write(path.join("snap.ffffffffffffffff.generating"), "half of").unwrap();
    let mut store = sled::open(&path, STORE).unwrap();
    assert_eq!(store.load().unwrap().state, history.state);
    assert!(!path.join("snap.ffffffffffffffff.generating").exists());
    assert_eq!(snapshots(&path), finished);
}

#[test]
fn a_store_whose_making_was_cut_short_is_made_anew() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    drop(sled::open(&path, StoreId(Uuid::from_u128(2))).unwrap());
    let ready = fs::read_to_string(path.join("PHASEGATE")).unwrap();
    fs::write(path.join("PHASEGATE"), ready.replace("ready", "creating")).unwrap();
    fs::write(path.join("conf"), "torn").unwrap();
    let mut store = sled::open(&path, STORE).unwrap();
    assert_eq!(store.load().unwrap().store_id, STORE);
}

#[test]
fn a_store_of_another_making_is_refused() {
    let (_temporary, path) = directory_with(&History::begin());
    let ready = fs::read_to_string(path.join("PHASEGATE")).unwrap();
    for (stage, expected) in [("importing", "an import into it"), ("better", "its file PHASEGATE")]
    {
        fs::write(path.join("PHASEGATE"), ready.replace("ready", stage)).unwrap();
        let before = files(&path);
        let problem = problem_of(sled::open(&path, STORE));
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(files(&path), before);
    }
}

#[test]
fn a_missing_database_is_not_replaced_by_an_empty_one() {
    for file in ["db", "conf"] {
        let (_temporary, path) = directory_with(&History::begin());
        fs::remove_file(path.join(file)).unwrap();
        let before = files(&path);
        assert!(matches!(sled::open(&path, STORE), Err(Error::Damaged(_))));
        assert_eq!(files(&path), before);
    }
}

/// What may happen to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    CutInHalf,
    Emptied,
    Overwritten,
    /// 4 KiB of it became zeros, so many quarters from its beginning.
    Hole(usize),
    /// One bit in each block of 1000 bytes fell over.
    Rotten,
}

fn damaged(sound: &[u8], damage: Damage) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    match damage {
        Damage::CutInHalf => bytes.truncate(sound.len() / 2),
        Damage::Emptied => bytes.clear(),
        Damage::Overwritten => bytes.fill(0xaa),
        Damage::Hole(quarters) => {
            let from = sound.len() / 4 * quarters;
            let to = sound.len().min(from + 4096);
            bytes[from..to].fill(0);
        }
        Damage::Rotten => bytes.iter_mut().step_by(1000).for_each(|byte| *byte ^= 0x10),
    }
    bytes
}

#[test]
fn a_damaged_file_is_an_error_or_does_no_harm_and_nothing_is_removed() {
    let history = long_history();
    let (_temporary, path) = directory_with(&history);
    check_damage(&history, &path);
}

#[test]
fn damage_behind_a_snapshot_is_an_error_or_does_no_harm_and_nothing_is_removed() {
    let history = long_history();
    let (_temporary, path) = directory_with(&history);
    drop(sled::open(&path, STORE).unwrap());
    check_damage(&history, &path);
}

fn check_damage(history: &History, path: &Path) {
    let sound = files(path);
    let sleds = sound.iter().filter(|(file, _)| {
        let name = file.file_name().unwrap().to_str().unwrap();
        ["db", "conf"].contains(&name) || name.starts_with("snap.")
    });
    let holes = (0..4).map(Damage::Hole);
    let kinds = [Damage::CutInHalf, Damage::Emptied, Damage::Overwritten, Damage::Rotten];
    let kinds: Vec<Damage> = kinds.into_iter().chain(holes).collect();
    for (file, bytes) in sleds {
        let mut errors = 0;
        for kind in &kinds {
            files(path).keys().for_each(|file| fs::remove_file(file).unwrap());
            sound.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
            fs::write(file, damaged(bytes, *kind)).unwrap();
            match read_all(path) {
                // sled does not need every byte of its files.
                Ok(read) => assert!(read == (history.state.clone(), history.changes())),
                Err(Error::Damaged(_)) => errors += 1,
                Err(error) => panic!("{kind:?} of {}: {error}", file.display()),
            }
            assert!(sound.keys().all(|file| file.exists()), "{kind:?} of {}", file.display());
        }
        assert!(errors > 1, "{} does not seem to matter", file.display());
    }
}

fn read_all(path: &Path) -> Result<(State, Vec<Arc<Change>>), Error> {
    let mut store = sled::open(path, STORE)?;
    let state = store.load()?.state;
    let everything = LogQuery {
        after: Revision::ZERO,
        up_to: state.revision(),
        release: None,
        order: Order::OldestFirst,
        limit: usize::MAX,
    };
    let changes = store.changes(&everything)?;
    Ok((state, changes))
}

/// Set for the process that is killed: where its store is.
const KILLED_STORE: &str = "PHASEGATE_TEST_KILLED_STORE";

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    let mut acknowledged = 0;
    // Each process goes on where the one before was killed, some while they open the store.
    for more in [0, 1, 30, 0, 7, 0, 2, 60, 0, 15] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("store::sled::tests::commits_until_it_is_killed")
            .env(KILLED_STORE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut revisions =
            lines.filter_map(|line| line.unwrap().strip_prefix("at ")?.parse().ok());
        // The first is where it begins.
        // The pipe stays open, or the child would end of itself before it is killed.
        let told: Vec<u64> = revisions.by_ref().take(more).collect();
        assert_eq!(told.len(), more, "it ended by itself");
        acknowledged = told.last().map_or(acknowledged, |last| acknowledged.max(*last));
        child.kill().unwrap();
        child.wait().unwrap();

        let mut store = sled::open(&path, STORE).unwrap();
        assert_eq!(store.verify().unwrap().findings, []);
        let revision = store.load().unwrap().state.revision().get();
        assert!(revision >= acknowledged, "{acknowledged} were acknowledged, {revision} are there");
    }
    assert!(acknowledged > 100);
}

#[test]
#[ignore = "run by another test, in a process that is killed"]
fn commits_until_it_is_killed() {
    let path = PathBuf::from(std::env::var_os(KILLED_STORE).unwrap());
    let mut store = sled::open(&path, STORE).unwrap();
    let mut history = History { state: store.load().unwrap().state, ..History::new() };
    if history.state.revision() == Revision::ZERO {
        history = History::begin();
        store.commit(Writes::of(&history.records)).unwrap();
    }
    loop {
        let revision = history.state.revision().get();
        println!("at {revision}");
        let description = format!("{revision}, {}", "w".repeat(revision as usize * 7919 % 50_000));
        store.commit(Writes::of(&[history.call(describe_flag("search", &description))])).unwrap();
    }
}

#[test]
fn no_value_becomes_a_file_of_its_own() {
    let mut history = History::begin();
    let (_temporary, path) = directory_with(&history);
    let mut store = sled::open(&path, STORE).unwrap();
    // Growing, shrinking and compacting makes sled split and merge its leaves.
    for round in 0..60_usize {
        let length = round * 7919 % 200_000 + 1;
        let record = history.call(describe_flag("search", &"z".repeat(length)));
        store.commit(Writes::of(&[record])).unwrap();
        assert_eq!(fs::read_dir(path.join("blobs")).unwrap().count(), 0, "round {round}");
    }
    assert_eq!(store.load().unwrap().state, history.state);
}
