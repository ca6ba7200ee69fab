//! What must be noticed, shown on stores that were tampered with.

use crate::store::{
    Compaction, CompactionProgress, Error, LogQuery, Order, Record, Store, StoreId, Write, Writes,
    audit::{Act, AuditEntry, AuditHead, Suppressed},
    memory::{self, Disk},
    outbox::{OutboxKey, Reminder},
    record::{ChangeRecord, Format, Oldest, StoredAudit, StoredProgress, decode, encode, key::Key},
    testing::{History, START, as_in_version_3, check_requests, describe_flag, release},
};
use phasegate_engine::{
    event::{Change, Happened},
    id::{FlagId, PipelineId, Revision, SinkId},
    pipeline::Pipeline,
    release::{GuardProgress, PhaseIndex, Progress, Proposal, Stage, Wait},
    time::Span,
};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

const STORE: StoreId = StoreId(Uuid::from_u128(1));

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Who notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    /// Already the start of a server.
    ByLoad,
    /// Only a walk through the whole log.
    ByVerify,
}
use Noticed::{ByLoad, ByVerify};

/// A history whose last commit is about a flag with a long description.
fn history() -> History {
    let mut history = History::full();
    history.call(describe_flag("search", &"long ".repeat(3000)));
    history
}

fn check(tamper: impl FnOnce(&mut Map), noticed: Noticed, expected: &str) {
    let disk = Disk::new();
    memory::open(&disk, STORE).unwrap().commit(Writes::of(&history().records)).unwrap();
    // Each record has a key, which it can be found and changed by.
    as_in_version_3(&disk);
    check_on(&disk, history(), tamper, noticed, expected);
}

/// The same where records lie in packs.
fn check_packed(tamper: impl FnOnce(&mut Map), noticed: Noticed, expected: &str) {
    let disk = Disk::new();
    let history = History::long();
    memory::open(&disk, STORE).unwrap().commit(Writes::of(&history.records)).unwrap();
    check_on(&disk, history, tamper, noticed, expected);
}

fn check_on(
    disk: &Disk,
    mut history: History,
    tamper: impl FnOnce(&mut Map),
    noticed: Noticed,
    expected: &str,
) {
    // Another batch, so that what is tampered with is not in the last one.
    let last = history.call(describe_flag("checkout", "another"));
    memory::open(disk, STORE).unwrap().commit(Writes::of(&[last])).unwrap();
    assert_eq!(memory::open(disk, STORE).unwrap().verify().unwrap().findings, []);
    disk.tamper(tamper);
    let mut store = memory::open(disk, STORE).unwrap();
    let findings = store.verify().unwrap().findings;
    let found = findings.iter().any(|finding| finding.to_string() == expected);
    assert!(found, "verify finds {findings:#?}, not {expected:?}");
    match (store.load(), noticed) {
        (Ok(_), ByVerify) => {}
        (Err(Error::Damaged(_)), ByLoad) => {}
        (loaded, _) => panic!("{expected:?}: load says {loaded:?}"),
    }
}

fn remove(key: Key) -> impl FnOnce(&mut Map) {
    move |map| drop(map.remove(&key.bytes()).unwrap())
}

fn rename(from: Key, to: Key) -> impl FnOnce(&mut Map) {
    move |map| {
        let value = map.remove(&from.bytes()).unwrap();
        map.insert(to.bytes(), value);
    }
}

fn revision(number: u64) -> Revision {
    Revision::new(number)
}

fn flag(id: &str) -> Key {
    Key::Flag(FlagId::parse(id).unwrap())
}

#[test]
fn an_untouched_store_is_sound() {
    let disk = Disk::new();
    let mut store = memory::open(&disk, STORE).unwrap();
    assert_eq!(store.verify().unwrap().findings, []);
    store.commit(Writes::of(&history().records)).unwrap();
    let verified = store.verify().unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!(verified.counts.changes, history().changes().len());
    assert_eq!(verified.counts.commits, history().records.len());
    assert_eq!(verified.counts.requests, history().requests().len());
    store.load().unwrap();
}

#[test]
fn a_torn_batch_is_noticed() {
    let disk = Disk::new();
    let history = history();
    let (last, first) = history.records.split_last().unwrap();
    memory::open(&disk, STORE).unwrap().commit(Writes::of(first)).unwrap();
    let mut before = Map::new();
    disk.tamper(|map| before.clone_from(map));
    memory::open(&disk, STORE).unwrap().commit(Writes::of(std::slice::from_ref(last))).unwrap();
    let mut after = Map::new();
    disk.tamper(|map| after.clone_from(map));
    let head = Key::Head.bytes();
    let written: Vec<Vec<u8>> =
        after.iter().filter(|(k, v)| before.get(*k) != Some(v)).map(|(k, _)| k.clone()).collect();
    assert!(written.len() > 5);
    for key in written.iter().filter(|key| **key != head) {
        // Everything of the last batch but this got to the disk.
        disk.tamper(|map| {
            map.clone_from(&after);
            match before.get(key) {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        });
        let loaded = memory::open(&disk, STORE).and_then(|mut store| store.load());
        assert!(matches!(loaded, Err(Error::Damaged(_))), "{}", key.escape_ascii());
    }
}

#[test]
fn a_store_that_went_back_in_time_is_noticed() {
    let disk = Disk::new();
    let history = history();
    let (last, first) = history.records.split_last().unwrap();
    memory::open(&disk, STORE).unwrap().commit(Writes::of(first)).unwrap();
    let mut before = Map::new();
    disk.tamper(|map| before.clone_from(map));
    memory::open(&disk, STORE).unwrap().commit(Writes::of(std::slice::from_ref(last))).unwrap();
    disk.tamper(|map| *map = before);
    let opened = memory::open(&disk, STORE).map(drop).unwrap_err().to_string();
    let (noted, there) = (last.revision, first.last().unwrap().revision);
    let expected = format!(
        "the store is damaged: commits up to revision {noted} were acknowledged, \
         but the store ends at {there}"
    );
    assert_eq!(opened, expected);
}

/// A store with five entries in its audit chain, all in one batch that is not the last one.
fn check_chain(tamper: impl FnOnce(&mut Map), noticed: Noticed, expected: &str) {
    let disk = Disk::new();
    let mut head = AuditHead::EMPTY;
    let mut entries = Vec::new();
    for count in 1..=5 {
        let suppressed = Suppressed { principal: None, peer: None, reason: None, count };
        let act = Act::Suppressed(suppressed);
        entries.push(AuditEntry::after(head, history().now, STORE, act));
        head = entries[entries.len() - 1].head();
    }
    let writes = Writes { audit: &entries, ..Writes::default() };
    memory::open(&disk, STORE).unwrap().commit(writes).unwrap();
    as_in_version_3(&disk);
    memory::open(&disk, STORE).unwrap().commit(Writes::of(&history().records)).unwrap();
    assert_eq!(memory::open(&disk, STORE).unwrap().verify().unwrap().counts.audit, 5);
    disk.tamper(tamper);
    let mut store = memory::open(&disk, STORE).unwrap();
    let findings = store.verify().unwrap().findings;
    let found = findings.iter().any(|finding| finding.to_string() == expected);
    assert!(found, "verify finds {findings:#?}, not {expected:?}");
    match (store.load(), noticed) {
        (Ok(_), ByVerify) | (Err(Error::Damaged(_)), ByLoad) => {}
        (loaded, _) => panic!("{expected:?}: load says {loaded:?}"),
    }
}

fn rewrite(key: Key, with: impl FnOnce(AuditEntry) -> AuditEntry) -> impl FnOnce(&mut Map) {
    move |map| {
        let value = map.get_mut(&key.bytes()).unwrap();
        let Key::Audit(sequence) = key else { panic!("{key}") };
        let stored: StoredAudit = decode(&key, value).unwrap();
        *value = encode(&StoredAudit::from(&with(stored.entry(sequence).unwrap())));
    }
}

#[test]
fn a_chain_that_was_touched_is_noticed() {
    check_chain(
        remove(Key::Audit(2)),
        ByVerify,
        "audit/3: the entries from 2 on are missing before it",
    );
    check_chain(
        remove(Key::Audit(5)),
        ByLoad,
        "audit/5: is missing: the audit chain ends before it",
    );
    check_chain(rename(Key::Audit(5), Key::Audit(6)), ByLoad, "audit/6: is above the last one, 5");
    // A forger who makes the hash of the entry good breaks the link of the next one.
    let forge = |entry: AuditEntry| {
        let before = AuditHead { sequence: entry.sequence - 1, hash: entry.previous };
        let suppressed = Suppressed { principal: None, peer: None, reason: None, count: 99 };
        AuditEntry::after(before, START, STORE, Act::Suppressed(suppressed))
    };
    check_chain(
        rewrite(Key::Audit(3), forge),
        ByVerify,
        "audit/4: does not follow on the entry before it",
    );
    let touch = |entry: AuditEntry| AuditEntry {
        json: entry.json.replace("\"count\":3", "\"count\":4").into(),
        ..entry
    };
    check_chain(
        rewrite(Key::Audit(3), touch),
        ByVerify,
        "audit/3: its hash is not that of its text",
    );
}

#[test]
fn a_reminder_of_a_release_that_is_not_there_is_noticed() {
    let key = Key::Reminder(release("nobody"));
    let put = |map: &mut Map| {
        map.insert(key.bytes(), encode(&Reminder { expires: history().now }));
    };
    check(put, ByLoad, "reminder/nobody: there is no such release");
}

#[test]
fn a_store_of_an_earlier_format_is_of_a_later_one_from_the_first_on_that_it_would_not_know() {
    let disk = Disk::new();
    let format = |disk: &Disk| {
        let mut found = 0;
        disk.tamper(|map| {
            found = decode::<Format>(&Key::Format, &map[&Key::Format.bytes()]).unwrap().format;
        });
        found
    };
    drop(memory::open(&disk, STORE).unwrap());
    disk.tamper(|map| {
        map.insert(Key::Format.bytes(), encode(&Format { format: 1, store_id: STORE }));
    });
    memory::open(&disk, STORE).unwrap().commit(Writes::default()).unwrap();
    assert_eq!(format(&disk), 1);
    let key = OutboxKey { sink: SinkId::parse("on-call").unwrap(), sequence: 1 };
    let nothing = [Write::Delete(key)];
    let writes = Writes { outbox: &nothing, ..Writes::default() };
    memory::open(&disk, STORE).unwrap().commit(writes).unwrap();
    assert_eq!(format(&disk), 2);
    memory::open(&disk, STORE).unwrap().commit(Writes::of(&history().records)).unwrap();
    assert_eq!(format(&disk), 4);
    assert_eq!(memory::open(&disk, STORE).unwrap().verify().unwrap().findings, []);
}

#[test]
fn a_store_of_version_3_is_read_and_goes_on() {
    let history = History::long();
    let query = |release: Option<&str>, order| LogQuery {
        after: Revision::ZERO,
        up_to: Revision::LAST,
        release: release.map(self::release),
        order,
        limit: usize::MAX,
    };
    // What came before is turned into the older form at several places in the life of a release.
    for turned in [5, 30, 60, 90] {
        let disk = Disk::new();
        let (before, after) = history.records.split_at(turned);
        memory::open(&disk, STORE).unwrap().commit(Writes::of(before)).unwrap();
        as_in_version_3(&disk);
        let mut store = memory::open(&disk, STORE).unwrap();
        for record in after {
            store.commit(Writes::of(std::slice::from_ref(record))).unwrap();
        }
        assert_eq!(store.verify().unwrap().findings, []);
        assert_eq!(store.load().unwrap().state, history.state);
        for id in [None, Some("s-1"), Some("r-1")] {
            let of_it =
                |change: &Arc<Change>| id.is_none_or(|id| change.release.id() == &release(id));
            let mut expected: Vec<_> = history.changes().into_iter().filter(of_it).collect();
            assert_eq!(store.changes(&query(id, Order::OldestFirst)).unwrap(), expected);
            if id.is_some() {
                expected.reverse();
                assert_eq!(store.changes(&query(id, Order::NewestFirst)).unwrap(), expected);
            }
        }
        // And goes as a whole, some at a time, sound at each step.
        let later = history.now + Span::DAY;
        let limits = Compaction { changes_before: later, requests_before: later, most: 7 };
        let mut gone = 0;
        loop {
            let compacted = store.compact(&limits).unwrap();
            gone += compacted.changes;
            assert_eq!(store.verify().unwrap().findings, []);
            if compacted.progress == CompactionProgress::Done {
                break;
            }
        }
        assert_eq!(gone, history.changes().len());
        drop(store);
        let mut left = Vec::new();
        disk.tamper(|map| {
            left = map.keys().filter(|key| key.starts_with(b"log")).cloned().collect()
        });
        assert_eq!(left, Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_copy_of_a_pipeline_that_was_touched_is_noticed() {
    let web = PipelineId::parse("web").unwrap();
    let copy = |number| Key::PipelineAt(web.clone(), revision(number));
    // The pipeline itself has the same, as long as nobody changes it.
    check_packed(remove(copy(1)), ByLoad, "proposal/a-3: its copy of the pipeline is missing");
    let other = "pipeline-at/web/2: holds a copy of another pipeline or revision";
    check_packed(rename(copy(1), copy(2)), ByLoad, other);
    let change = |map: &mut Map| {
        let key = copy(1).bytes();
        let mut pipeline: Pipeline = decode(&copy(1), &map[&key]).unwrap();
        pipeline.template.phases[0].bake = Span::ZERO;
        map.insert(key, encode(&pipeline));
    };
    let other = "pipeline-at/web/1: is not the pipeline of the same revision";
    check_packed(change, ByLoad, other);
    let half = |map: &mut Map| {
        let key = Key::Proposal(release("s-1")).bytes();
        let state = History::long().state;
        let mut other = (*state.release(&release("s-1")).unwrap().proposal).clone();
        let pipeline = Arc::make_mut(&mut other.pipeline);
        pipeline.template.phases[0].bake = Span::ZERO;
        map.insert(key, encode(&other));
    };
    let other = "proposal/s-1: its copy of web is not that of the same revision";
    check_packed(half, ByLoad, other);
}

#[test]
fn a_pack_or_a_list_that_was_touched_is_noticed() {
    let commits = Key::Commit(revision(1));
    check_packed(
        remove(commits.clone()),
        ByLoad,
        "commit/96: the commits from 1 on are missing before it",
    );
    let moved = rename(commits.clone(), Key::Commit(revision(2)));
    check_packed(moved, ByLoad, "commit/2: the pack begins with another record");
    let cut = |map: &mut Map| map.get_mut(&commits.bytes()).unwrap().truncate(100);
    check_packed(cut, ByLoad, "commit/1: the pack is cut off");
    let list = |last| Key::ChangeOf(release("s-1"), revision(last));
    let write = |last, revisions: [u64; 2]| {
        move |map: &mut Map| {
            map.insert(list(last).bytes(), encode(&revisions)).unwrap();
        }
    };
    let missing = "log/5/s-1: is missing from the index of its release";
    check_packed(remove(list(46)), ByVerify, missing);
    let missing = "log/16/s-1: is missing from the index of its release";
    check_packed(write(46, [5, 46]), ByVerify, missing);
    let wrong = "log-of/s-1/46: is no list that ends with its key";
    check_packed(write(46, [5, 45]), ByVerify, wrong);
    check_packed(write(46, [46, 46]), ByVerify, wrong);
    let twice = "log-of/s-1/78: names entries that are named before it";
    check_packed(write(78, [46, 78]), ByVerify, twice);
    check_packed(write(46, [4, 46]), ByVerify, "log-of/s-1/4: there is no such entry");
    let key = Key::Progress(release("s-1"));
    let rest = |change: fn(&mut Vec<Revision>)| {
        let key = key.clone();
        move |map: &mut Map| {
            let mut stored: StoredProgress<'_> = decode(&key, &map[&key.bytes()]).unwrap();
            assert!(stored.log.len() > 5);
            change(&mut stored.log);
            map.insert(key.bytes(), encode(&stored));
        }
    };
    let order = "progress/s-1: names entries of the log out of order";
    check_packed(rest(|log| log.swap(0, 1)), ByVerify, order);
    let missing = "log/95/s-1: is missing from the index of its release";
    check_packed(rest(|log| log.truncate(log.len() - 1)), ByVerify, missing);
}

#[test]
fn a_store_of_another_format_is_not_read() {
    let disk = Disk::new();
    memory::open(&disk, STORE).unwrap();
    disk.tamper(|map| {
        let format = map.get_mut(&Key::Format.bytes()).unwrap();
        let four = format.iter().position(|byte| *byte == 4).unwrap();
        format[four] = 5;
    });
    let opened = memory::open(&disk, STORE);
    assert!(matches!(opened, Err(Error::Format { found: 5, ours: 4 })));
}

/// Writes requests as version 2 had them: under their digests, and nothing under their times.
fn as_in_version_2(map: &mut Map) {
    let at: Vec<Vec<u8>> =
        map.keys().filter(|key| key.starts_with(b"request-at/")).cloned().collect();
    assert!(!at.is_empty());
    for bytes in at {
        let (Key::RequestAt(_, digest), 0) = Key::parse(&bytes).unwrap() else { unreachable!() };
        let value = std::mem::take(map.get_mut(&bytes).unwrap());
        map.insert(Key::Request(digest).bytes(), value);
    }
}

/// A store with requests as version 2 had them. Its last batch is one that has none.
fn of_version_2() -> Disk {
    let disk = Disk::new();
    let mut store = memory::open(&disk, STORE).unwrap();
    let mut records = history().records;
    let last = records.pop().unwrap();
    store.commit(Writes::of(&records)).unwrap();
    drop(store);
    as_in_version_3(&disk);
    disk.tamper(as_in_version_2);
    let last = Record { request: None, ..last };
    memory::open(&disk, STORE).unwrap().commit(Writes::of(&[last])).unwrap();
    disk
}

#[test]
fn requests_of_version_2_are_read_and_forgotten_like_others() {
    let disk = of_version_2();
    let mut store = memory::open(&disk, STORE).unwrap();
    let mut requests = history().requests();
    requests.pop();
    check_requests(&mut store, &requests);
    let verified = store.verify().unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!(verified.counts.requests, requests.len());
    let later = START + Span::from_secs(1_000_000);
    let limits = Compaction { changes_before: START, requests_before: later, most: 1000 };
    assert_eq!(store.compact(&limits).unwrap().requests.len(), requests.len());
    drop(store);
    let mut left = 0;
    disk.tamper(|map| left = map.keys().filter(|key| key.starts_with(b"request")).count());
    assert_eq!(left, 0);
}

#[test]
fn data_without_a_format_is_not_taken_for_a_new_store() {
    let disk = Disk::new();
    disk.tamper(|map| drop(map.insert(flag("search").bytes(), Vec::new())));
    assert!(matches!(memory::open(&disk, STORE), Err(Error::Damaged(_))));
}

#[test]
fn a_missing_commit_is_noticed() {
    check(
        remove(Key::Commit(revision(5))),
        ByLoad,
        "commit/6: the commits from 5 on are missing before it",
    );
    check(
        rename(Key::Commit(revision(5)), Key::Commit(revision(99))),
        ByLoad,
        "commit/99: is above the head, 17",
    );
}

#[test]
fn a_log_that_begins_after_its_end_is_noticed() {
    let change = |map: &mut Map| {
        let oldest = Oldest { revision: revision(99) };
        map.insert(Key::Oldest.bytes(), encode(&oldest));
    };
    check(change, ByLoad, "meta/oldest: is 99, above the head, 17");
}

#[test]
fn a_missing_or_strange_resource_is_noticed() {
    let web = Key::Pipeline(PipelineId::parse("web").unwrap());
    check(remove(web.clone()), ByLoad, "flag/search: its pipeline web is missing");
    let mobile = Key::Pipeline(PipelineId::parse("mobile").unwrap());
    check(rename(web, mobile), ByLoad, "pipeline/mobile: holds another pipeline, web");
    check(
        rename(flag("checkout"), flag("find")),
        ByLoad,
        "flag/find: holds another flag, checkout",
    );
}

#[test]
fn a_release_of_which_a_part_is_missing_is_noticed() {
    let (proposal, progress) = (Key::Proposal(release("r-1")), Key::Progress(release("r-1")));
    check(remove(proposal), ByLoad, "progress/r-1: has no proposal");
    check(remove(progress.clone()), ByLoad, "proposal/r-1: has no progress");
    let cut = |map: &mut Map| {
        let mut changed: Progress = decode(&progress, &map[&progress.bytes()]).unwrap();
        changed.phases.pop();
        map.insert(progress.bytes(), encode(&changed));
    };
    check(cut, ByLoad, "progress/r-1: has not as many phases as its pipeline");
    let later = |map: &mut Map| {
        let mut changed: Progress = decode(&progress, &map[&progress.bytes()]).unwrap();
        changed.revision = revision(99);
        map.insert(progress.bytes(), encode(&changed));
    };
    check(later, ByLoad, "progress/r-1: is of revision 99, which is not in its life");
    let other = |map: &mut Map| {
        let mut changed: Progress = decode(&progress, &map[&progress.bytes()]).unwrap();
        changed.timer_generation += 1;
        map.insert(progress.bytes(), encode(&changed));
    };
    check(other, ByVerify, "progress/r-1: is not what its last entry in the log says");
}

#[test]
fn a_release_that_speaks_of_a_phase_or_a_guard_that_is_not_there_is_noticed() {
    let key = Key::Progress(release("r-1"));
    let change = |change: fn(&mut Progress)| {
        let key = key.clone();
        move |map: &mut Map| {
            let mut progress: Progress = decode(&key, &map[&key.bytes()]).unwrap();
            change(&mut progress);
            map.insert(key.bytes(), encode(&progress));
        }
    };
    let expected = "progress/r-1: speaks of a phase or a guard that its pipeline has not";
    let beyond = |progress: &mut Progress| {
        let phase = PhaseIndex::new(progress.phases.len());
        progress.stage = Stage::Running { phase, wait: Wait::Window { opens: None } };
    };
    check(change(beyond), ByLoad, expected);
    let guard = |progress: &mut Progress| progress.phases[1].guards.push(GuardProgress::default());
    check(change(guard), ByLoad, expected);
}

#[test]
fn an_event_of_a_phase_that_is_not_there_is_noticed() {
    let key = Key::Change(revision(4), release("r-1"));
    let change = |map: &mut Map| {
        let mut entry: ChangeRecord<'_> = decode(&key, &map[&key.bytes()]).unwrap();
        let phase = PhaseIndex::new(2);
        entry.events.to_mut()[0].happened = Happened::WindowOverridden { phase };
        let entry = encode(&entry);
        map.insert(key.bytes(), entry);
    };
    let expected = "log/4/r-1: speaks of a phase or a guard that its pipeline has not";
    check(change, ByVerify, expected);
}

#[test]
fn two_releases_of_one_commit_are_noticed() {
    let key = Key::Proposal(release("s-1"));
    let change = |map: &mut Map| {
        let mut proposal: Proposal = decode(&key, &map[&key.bytes()]).unwrap();
        proposal.created = revision(4);
        map.insert(key.bytes(), encode(&proposal));
    };
    check(change, ByLoad, "progress/s-1: commit 4 created another release too");
}

#[test]
fn a_hole_in_the_log_is_noticed() {
    let entry = Key::Change(revision(4), release("r-1"));
    check(remove(entry), ByVerify, "commit/4: 1 entries belong in the log, 0 are");
    let entry = Key::Change(revision(6), release("r-1"));
    check(
        remove(entry),
        ByVerify,
        "log/7/r-1: does not follow on the entry of its release before it",
    );
    let index = Key::ChangeOf(release("r-1"), revision(4));
    check(remove(index.clone()), ByVerify, "log/4/r-1: is missing from the index of its release");
    let wrong = Key::ChangeOf(release("r-1"), revision(5));
    check(rename(index, wrong), ByVerify, "log-of/r-1/5: there is no such entry");
}

#[test]
fn an_index_of_requests_that_does_not_fit_is_noticed() {
    let first = |prefix: &'static [u8]| {
        move |map: &mut Map| {
            let key = map.keys().find(|key| key.starts_with(prefix)).unwrap().clone();
            map.remove(&key).unwrap();
        }
    };
    let disk = of_version_2();
    disk.tamper(first(b"request-at/"));
    let error = memory::open(&disk, STORE).unwrap().load().unwrap_err();
    let missing = "request-at/: 1 requests are missing from the index of times";
    assert!(error.to_string().contains(missing), "{error}");
    let disk = of_version_2();
    disk.tamper(first(b"request/"));
    let error = memory::open(&disk, STORE).unwrap().load().unwrap_err();
    assert!(error.to_string().contains("there is no such request"), "{error}");
}

#[test]
fn a_request_under_another_time_is_noticed() {
    let disk = of_version_2();
    disk.tamper(|map| {
        let key = map.keys().find(|key| key.starts_with(b"request-at/")).unwrap().clone();
        let (Key::RequestAt(time, digest), 0) = Key::parse(&key).unwrap() else { unreachable!() };
        let value = map.remove(&Key::Request(digest).bytes()).unwrap();
        map.remove(&key);
        map.insert(Key::RequestAt(time + Span::from_secs(1), digest).bytes(), value);
    });
    let error = memory::open(&disk, STORE).unwrap().load().unwrap_err();
    let problem = "its time or its digest is not that of the request";
    assert!(error.to_string().contains(problem), "{error}");
}

#[test]
fn a_value_in_pieces_is_noticed() {
    let key = flag("search");
    let missing = |map: &mut Map| drop(map.remove(&key.part(2)).unwrap());
    check(missing, ByLoad, "flag/search: a part of the value is missing");
    let first = |map: &mut Map| drop(map.remove(&key.bytes()).unwrap());
    check(first, ByLoad, "flag/search: a part of a value that is not there");
    let rotten = |map: &mut Map| map.get_mut(&key.part(2)).unwrap()[7] ^= 1;
    check(rotten, ByLoad, "flag/search: the parts of the value do not fit together");
}

#[test]
fn a_key_of_no_kind_is_noticed() {
    let strange = |map: &mut Map| drop(map.insert(b"strange/\x01".to_vec(), Vec::new()));
    check(strange, ByVerify, "strange/\\x01: no key of this format");
}
