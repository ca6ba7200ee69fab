//! What every store promises: one function for each promise, run on every store.

use super::{
    AuditQuery, Compaction, CompactionProgress, Error, Image, LogQuery, Order, RequestKey,
    RequestPlace, Store, StoreId, Write, Writes,
    audit::{Act, AuditEntry, AuditHash, AuditHead, Suppressed},
    memory,
    outbox::{Notification, NotificationKind, OutboxKey, OutboxRow, OutboxState, Reminder},
    record::{encode, parts::LONGEST},
    sled,
    testing::{History, START, check_requests, describe_flag, release, trigger},
};
use phasegate_engine::{
    State,
    command::{Action, ConflictPolicy, Expected},
    event::Change,
    flag::Flag,
    id::{Principal, ReleaseId, RequestId, Revision},
    time::{Span, Timestamp},
};
use proptest::prelude::*;
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

/// Opens the same store again and again; the one before is dropped first.
type Home<'a> = &'a mut dyn FnMut() -> Box<dyn Store>;

const STORE: StoreId = StoreId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

macro_rules! every_store_keeps {
    ($($promise:ident)*) => {
        mod in_memory {
            use super::*;

            $(#[test]
            fn $promise() {
                let disk = memory::Disk::new();
                super::$promise(&mut || Box::new(memory::open(&disk, STORE).unwrap()));
            })*
        }

        mod in_sled {
            use super::*;

            $(#[test]
            fn $promise() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("data");
                super::$promise(&mut || Box::new(sled::open(&path, STORE).unwrap()));
                // A value that went there would not be durable.
                assert_eq!(std::fs::read_dir(path.join("blobs")).unwrap().count(), 0);
            })*
        }
    };
}

every_store_keeps! {
    a_new_store_is_empty_and_keeps_its_identity
    what_was_committed_is_there_after_a_restart
    records_of_one_commit_may_touch_the_same_things
    values_of_any_length_come_back
    a_value_may_grow_and_shrink
    a_record_out_of_order_is_rejected_and_nothing_is_written
    the_log_answers_as_a_list_would
    compaction_takes_whole_commits_and_keeps_the_releases
    compaction_goes_in_steps
    old_requests_are_forgotten
    a_request_is_found_wherever_it_lies
    the_audit_chain_is_kept_to_the_byte_and_read_from_either_end
    an_entry_that_does_not_follow_is_rejected_and_nothing_is_written
    nothing_is_removed_from_the_audit_chain
    rows_of_the_outbox_come_with_their_commit_and_may_change_and_go
    what_comes_without_a_commit_leaves_the_revision_as_it_is
}

/// Entries that follow on a head, one long.
fn entries(mut head: AuditHead, count: u64) -> Vec<AuditEntry> {
    let mut made = Vec::new();
    for number in 0..count {
        let reason = if number == 1 { "x".repeat(3 * LONGEST) } else { format!("NO_{number}") };
        let suppressed = Suppressed {
            principal: None,
            peer: Some("192.0.2.1".into()),
            reason: Some(reason.into()),
            count: number + 1,
        };
        let entry = AuditEntry::after(head, START, STORE, Act::Suppressed(suppressed));
        head = entry.head();
        made.push(entry);
    }
    made
}

fn chain(store: &mut dyn Store) -> Vec<AuditEntry> {
    let query = AuditQuery { after: 0, up_to: u64::MAX, order: Order::OldestFirst, limit: 1000 };
    store.audit(&query).unwrap()
}

fn row(reason: &str) -> OutboxRow {
    OutboxRow::new(Notification {
        id: "n-1".into(),
        kind: NotificationKind::ReleaseHeld,
        time: START,
        revision: Revision::new(4),
        flag: Some(History::begin().flag("search").id.clone()),
        release: Some(release("r-1")),
        pipeline: None,
        phase: None,
        guard: None,
        principal: None,
        creator: None,
        reason: reason.into(),
        end: None,
        until: None,
        labels: std::collections::BTreeMap::from([("team".into(), "web".into())]),
        trace: None,
    })
}

fn outbox_key(sink: &str, sequence: u64) -> OutboxKey {
    OutboxKey { sink: phasegate_engine::id::SinkId::parse(sink).unwrap(), sequence }
}

fn the_audit_chain_is_kept_to_the_byte_and_read_from_either_end(home: Home<'_>) {
    let history = History::full();
    let written = entries(AuditHead::EMPTY, 5);
    let mut store = home();
    assert_eq!(load(&mut *store).audit, AuditHead::EMPTY);
    store.commit(Writes { audit: &written[..2], ..Writes::of(&history.records) }).unwrap();
    store.commit(Writes { audit: &written[2..], ..Writes::default() }).unwrap();
    for _ in 0..2 {
        assert_eq!(chain(&mut *store), written);
        assert_eq!(load(&mut *store).audit, written[4].head());
        let query = AuditQuery { after: 1, up_to: 4, order: Order::NewestFirst, limit: 2 };
        assert_eq!(store.audit(&query).unwrap(), [written[3].clone(), written[2].clone()]);
        let nothing = AuditQuery { after: 5, ..query };
        assert_eq!(store.audit(&nothing).unwrap(), []);
        check_holds(&mut *store, &history);
        drop(store);
        store = home();
    }
    for entry in written {
        assert_eq!(entry.hash, AuditHash::of(entry.json.as_bytes()));
        assert_eq!(entry.content().unwrap().sequence, entry.sequence);
    }
}

fn an_entry_that_does_not_follow_is_rejected_and_nothing_is_written(home: Home<'_>) {
    let history = History::full();
    let written = entries(AuditHead::EMPTY, 3);
    let mut store = home();
    store.commit(Writes { audit: &written[..1], ..Writes::default() }).unwrap();
    let forged = AuditEntry::after(
        AuditHead { sequence: 1, hash: AuditHash([7; 32]) },
        START,
        STORE,
        Act::Imported { from: STORE, revision: Revision::new(1) },
    );
    for bad in [&written[..1], &written[2..], &[forged][..]] {
        let rejected = store.commit(Writes { audit: bad, ..Writes::of(&history.records) });
        assert!(matches!(rejected, Err(Error::Rejected(_))));
    }
    assert_eq!(load(&mut *store).state, State::default());
    store.commit(Writes { audit: &written[1..], ..Writes::of(&history.records) }).unwrap();
    assert_eq!(chain(&mut *store), written);
}

fn nothing_is_removed_from_the_audit_chain(home: Home<'_>) {
    let history = History::full();
    let written = entries(AuditHead::EMPTY, 4);
    let mut store = home();
    store.commit(Writes { audit: &written, ..Writes::of(&history.records) }).unwrap();
    let later = history.now + Span::DAY;
    let limits = Compaction { changes_before: later, requests_before: later, most: 1000 };
    assert!(store.compact(&limits).unwrap().changes > 0);
    assert_eq!(chain(&mut *store), written);
    drop(store);
    assert_eq!(load(&mut *home()).audit, written[3].head());
}

fn rows_of_the_outbox_come_with_their_commit_and_may_change_and_go(home: Home<'_>) {
    let history = History::full();
    let (first, second) = (outbox_key("on-call", 1), outbox_key("web", 2));
    let put = |key: &OutboxKey, row: &OutboxRow| Write::Put(key.clone(), Arc::new(row.clone()));
    let mut store = home();
    let long = row(&"long ".repeat(2000));
    let both = [put(&first, &long), put(&second, &row("short"))];
    store.commit(Writes { outbox: &both, ..Writes::of(&history.records) }).unwrap();
    let expected = vec![(first.clone(), long), (second.clone(), row("short"))];
    assert_eq!(load(&mut *store).outbox, expected);
    let tried = OutboxRow {
        attempts: 3,
        next_at: START + Span::DAY,
        last_error: "refused".into(),
        state: OutboxState::Dead(START),
        ..row("short")
    };
    let changed = [put(&first, &tried), Write::Delete(second)];
    store.commit(Writes { outbox: &changed, ..Writes::default() }).unwrap();
    drop(store);
    assert_eq!(load(&mut *home()).outbox, [(first, tried)]);
}

fn what_comes_without_a_commit_leaves_the_revision_as_it_is(home: Home<'_>) {
    let history = History::full();
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    let reminder = Reminder { expires: START + Span::DAY };
    let put = [Write::Put(release("r-1"), Arc::new(reminder))];
    store.commit(Writes { reminders: &put, ..Writes::default() }).unwrap();
    check_holds(&mut *store, &history);
    drop(store);
    store = home();
    check_holds(&mut *store, &history);
    assert_eq!(load(&mut *store).reminders, [(release("r-1"), reminder)]);
    store
        .commit(Writes { reminders: &[Write::Delete(release("r-1"))], ..Writes::default() })
        .unwrap();
    assert_eq!(load(&mut *store).reminders, []);
}

fn load(store: &mut dyn Store) -> Image {
    store.load().unwrap()
}

fn everything() -> LogQuery {
    LogQuery {
        after: Revision::ZERO,
        up_to: Revision::new(u64::MAX >> 1),
        release: None,
        order: Order::OldestFirst,
        limit: 1_000_000,
    }
}

fn log(store: &mut dyn Store) -> Vec<Arc<Change>> {
    store.changes(&everything()).unwrap()
}

/// Whether a store holds a history and nothing else.
fn check_holds(store: &mut dyn Store, history: &History) {
    let image = load(store);
    assert_eq!(image.state, history.state);
    check_requests(store, &history.requests());
    assert_eq!(log(store), history.changes());
}

fn a_new_store_is_empty_and_keeps_its_identity(home: Home<'_>) {
    for _ in 0..2 {
        let image = load(&mut *home());
        assert_eq!(image.store_id, STORE);
        assert_eq!(image.oldest, Revision::ZERO);
        assert_eq!(image.state, State::default());
        assert!(image.requests.is_empty());
    }
}

fn what_was_committed_is_there_after_a_restart(home: Home<'_>) {
    let history = History::full();
    let mut store = home();
    for record in &history.records {
        store.commit(Writes::of(std::slice::from_ref(record))).unwrap();
    }
    check_holds(&mut *store, &history);
    drop(store);
    check_holds(&mut *home(), &history);
}

fn records_of_one_commit_may_touch_the_same_things(home: Home<'_>) {
    let mut history = History::full();
    for length in [3 * LONGEST, 10, 2 * LONGEST] {
        history.call(describe_flag("search", &"x".repeat(length)));
    }
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    store.commit(Writes::of(&[])).unwrap();
    check_holds(&mut *store, &history);
    drop(store);
    check_holds(&mut *home(), &history);
}

/// A description with which the flag takes so many bytes.
fn description_for(history: &History, bytes: usize) -> String {
    let bare = encode(&with_description(history, "")).len();
    (0..8)
        .map(|head| "x".repeat(bytes - bare - head))
        .find(|text| encode(&with_description(history, text)).len() == bytes)
        .unwrap()
}

/// The flag, as describing it anew would leave it.
fn with_description(history: &History, text: &str) -> Flag {
    let mut flag = (**history.flag("search")).clone();
    flag.description = text.into();
    flag.revision = history.state.revision().next();
    flag
}

fn values_of_any_length_come_back(home: Home<'_>) {
    let mut history = History::begin();
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    let kib = 1024;
    let lengths = [LONGEST - 1, LONGEST, LONGEST + 1, 8 * kib - 1, 8 * kib, 8 * kib + 1, 600 * kib];
    for length in lengths {
        let description = description_for(&history, length);
        let record = history.call(describe_flag("search", &description));
        store.commit(Writes::of(&[record])).unwrap();
        assert_eq!(encode(history.flag("search")).len(), length);
        check_holds(&mut *store, &history);
        drop(store);
        store = home();
        check_holds(&mut *store, &history);
    }
}

fn a_value_may_grow_and_shrink(home: Home<'_>) {
    let mut history = History::begin();
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    for length in [100 * 1024, 10, 9 * 1024, 300 * 1024, 20 * 1024, 1] {
        let record = history.call(describe_flag("search", &"y".repeat(length)));
        store.commit(Writes::of(&[record])).unwrap();
        check_holds(&mut *store, &history);
    }
    drop(store);
    check_holds(&mut *home(), &history);
}

fn a_record_out_of_order_is_rejected_and_nothing_is_written(home: Home<'_>) {
    let history = History::full();
    let mut store = home();
    let (first, rest) = history.records.split_at(3);
    store.commit(Writes::of(first)).unwrap();
    let mut early = rest[0].clone();
    early.time = Timestamp::EPOCH;
    let mut unstored = rest[0].clone();
    unstored.releases.clear();
    for bad in [&[rest[1].clone()][..], &[first[2].clone()], &[early], &[unstored]] {
        assert!(matches!(store.commit(Writes::of(bad)), Err(Error::Rejected(_))));
    }
    // The first of these would have been good.
    let torn = [rest[0].clone(), rest[2].clone()];
    assert!(matches!(store.commit(Writes::of(&torn)), Err(Error::Rejected(_))));
    store.commit(Writes::of(rest)).unwrap();
    check_holds(&mut *store, &history);
}

/// What a list of all changes would answer.
fn answer_of_a_list(all: &[Arc<Change>], query: &LogQuery) -> Vec<Arc<Change>> {
    let asked = |change: &&Arc<Change>| {
        query.after < change.revision
            && change.revision <= query.up_to
            && query.release.as_ref().is_none_or(|id| change.release.id() == id)
    };
    let asked: Vec<_> = all.iter().filter(asked).cloned().collect();
    let mut commits: Vec<&[Arc<Change>]> =
        asked.chunk_by(|a, b| a.revision == b.revision).collect();
    if query.order == Order::NewestFirst {
        commits.reverse();
    }
    let mut answer: Vec<Arc<Change>> = Vec::new();
    for commit in commits {
        if !answer.is_empty() && answer.len() + commit.len() > query.limit {
            break;
        }
        answer.extend_from_slice(commit);
    }
    answer
}

fn any_query(last: u64, releases: Vec<ReleaseId>) -> impl Strategy<Value = LogQuery> {
    let order = prop_oneof![Just(Order::OldestFirst), Just(Order::NewestFirst)];
    let release = proptest::option::of(proptest::sample::select(releases));
    (0..=last + 2, 0..=last + 2, release, order, 0..12_usize).prop_map(
        |(after, up_to, release, order, limit)| LogQuery {
            after: Revision::new(after),
            up_to: Revision::new(up_to),
            release,
            order,
            limit,
        },
    )
}

fn the_log_answers_as_a_list_would(home: Home<'_>) {
    let mut history = History::long();
    for round in 0..8 {
        history.call(trigger("search", &format!("s-q{round}"), ConflictPolicy::Queue));
    }
    // This one touches all that wait, and must never be torn apart.
    history.call(trigger("search", "s-last", ConflictPolicy::Supersede));
    let mut store = home();
    let (one_by_one, together) = history.records.split_at(60);
    for record in one_by_one {
        store.commit(Writes::of(std::slice::from_ref(record))).unwrap();
    }
    store.commit(Writes::of(together)).unwrap();
    let all = history.changes();
    assert!(all.chunk_by(|a, b| a.revision == b.revision).any(|commit| commit.len() > 5));
    let ids = ["r-1", "s-1", "r-2", "a-3", "s-last", "nobody"].map(release).to_vec();
    let last = history.state.revision().get();
    let store = std::cell::RefCell::new(store);
    proptest::test_runner::TestRunner::deterministic()
        .run(&any_query(last, ids), |query| {
            let answer = store.borrow_mut().changes(&query).unwrap();
            prop_assert_eq!(answer, answer_of_a_list(&all, &query));
            Ok(())
        })
        .unwrap();
}

fn nothing_is_too_old() -> Compaction {
    Compaction { changes_before: START, requests_before: START, most: 1000 }
}

fn compaction_takes_whole_commits_and_keeps_the_releases(home: Home<'_>) {
    let history = History::long();
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    let untouched = store.compact(&nothing_is_too_old()).unwrap();
    assert_eq!((untouched.oldest, untouched.changes), (Revision::ZERO, 0));
    assert_eq!(log(&mut *store), history.changes());

    let mut cuts: Vec<Timestamp> = history.records.iter().map(|record| record.time).collect();
    cuts.push(history.now + Span::from_millis(1));
    let mut gone = 0;
    for changes_before in cuts {
        let compacted = store.compact(&Compaction { changes_before, ..nothing_is_too_old() });
        let compacted = compacted.unwrap();
        assert_eq!(compacted.progress, CompactionProgress::Done);
        let kept: Vec<_> = history.changes();
        let kept: Vec<_> = kept.into_iter().filter(|c| c.time >= changes_before).collect();
        let first = history.records.iter().find(|record| record.time >= changes_before);
        let begins =
            first.map_or_else(|| history.state.revision().next(), |record| record.revision);
        if compacted.oldest > Revision::ZERO {
            assert_eq!(compacted.oldest, begins);
        }
        gone += compacted.changes;
        assert_eq!(gone, history.changes().len() - kept.len());
        assert_eq!(log(&mut *store), kept);
        let of_one = LogQuery { release: Some(release("s-1")), ..everything() };
        let kept_of_one: Vec<_> =
            kept.iter().filter(|change| *change.release.id() == release("s-1")).cloned().collect();
        assert_eq!(store.changes(&of_one).unwrap(), kept_of_one);
        drop(store);
        store = home();
        let image = load(&mut *store);
        assert_eq!(image.oldest, compacted.oldest);
        assert_eq!(image.state, history.state);
        assert_eq!(log(&mut *store), kept);
    }
    assert_eq!(log(&mut *store), []);
    // The log goes on after it was emptied.
    let mut history = history;
    history.wait(Span::DAY);
    let record = history.call(trigger("search", "s-9", ConflictPolicy::Queue));
    store.commit(Writes::of(std::slice::from_ref(&record))).unwrap();
    assert_eq!(log(&mut *store), record.changes);
    assert_eq!(load(&mut *store).state, history.state);
}

fn compaction_goes_in_steps(home: Home<'_>) {
    let history = History::full();
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    let after_all = history.now + Span::from_millis(1);
    let limits = Compaction { changes_before: after_all, requests_before: START, most: 4 };
    let mut steps = 0;
    loop {
        let compacted = store.compact(&limits).unwrap();
        steps += 1;
        let kept = |change: &Arc<Change>| change.revision >= compacted.oldest;
        let kept: Vec<_> = history.changes().into_iter().filter(kept).collect();
        assert_eq!(log(&mut *store), kept);
        assert_eq!(load(&mut *store).oldest, compacted.oldest);
        if compacted.progress == CompactionProgress::Done {
            break;
        }
        assert_eq!(compacted.oldest, Revision::new(4 * steps + 1));
    }
    assert_eq!(steps, history.records.len().div_ceil(4) as u64);
}

fn old_requests_are_forgotten(home: Home<'_>) {
    let history = History::full();
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    let requests_before = START + Span::from_secs(15);
    let limits = Compaction { requests_before, changes_before: START, most: 3 };
    let mut forgotten = Vec::new();
    loop {
        let compacted = store.compact(&limits).unwrap();
        forgotten.extend(compacted.requests);
        if compacted.progress == CompactionProgress::Done {
            break;
        }
        assert_eq!(forgotten.len() % 3, 0);
    }
    let (old, kept): (Vec<_>, Vec<_>) =
        history.requests().into_iter().partition(|(_, record)| record.time < requests_before);
    let old: HashSet<RequestPlace> =
        old.iter().map(|(key, record)| RequestPlace::of(key, record.time)).collect();
    assert_eq!(forgotten.iter().copied().collect::<HashSet<_>>(), old);
    assert_eq!(forgotten.len(), old.len());
    assert!(old.len() > 3 && !kept.is_empty());
    for place in forgotten {
        assert!(matches!(store.request(place), Err(Error::Damaged(_))));
    }
    assert_eq!(log(&mut *store), history.changes());
    drop(store);
    check_requests(&mut *home(), &kept);
}

/// Many batches of one moment and of the next, long requests between short ones, and a clock that goes back.
fn a_request_is_found_wherever_it_lies(home: Home<'_>) {
    let mut history = History::begin();
    history.call(trigger("search", "s", ConflictPolicy::Fail));
    let mut store = home();
    store.commit(Writes::of(&history.records)).unwrap();
    let mut expected = history.requests();
    let mut number = 0;
    // In seconds, and how many requests the batch has.
    for (moment, count) in [
        (1, 1),
        (1, 60),
        (1, 2),
        (2, 1),
        (2, 70),
        (2, 1),
        (3, 40),
        (3, 1),
        (4, 1),
        (9, 30),
        (5, 50),
    ]
    .into_iter()
    .chain((0..40).map(|batch| (6 + batch / 8, 1 + batch % 3)))
    .chain([(8, 300), (7, 2), (9, 1)])
    {
        let mut records = Vec::new();
        for _ in 0..count {
            number += 1;
            let action = if number % 2 == 1 {
                Action::PauseRelease { release: release("s") }
            } else {
                let (release, expected) = (release("s"), Expected::Anything);
                Action::UnpauseRelease { release, expected }
            };
            let mut record = history.call(action);
            let id = "i".repeat(if number % 17 == 0 { 2 * LONGEST } else { 1 });
            let id = RequestId::new(format!("{id}{number}"));
            let key = RequestKey::new(&Principal::new("ada@example.com"), "Any", &id);
            let (_, mut done) = record.request.take().unwrap();
            done.time = START + Span::from_secs(moment);
            record.request = Some((key, done));
            expected.extend(record.request.clone());
            records.push(record);
        }
        store.commit(Writes::of(&records)).unwrap();
    }
    check_requests(&mut *store, &expected);
    // Another one of the same half, which no test can make the texts of.
    let (key, record) = &expected[100];
    let mut place = RequestPlace::of(key, record.time);
    place.digest[31] ^= 1;
    assert!(load(&mut *store).requests.has(place));
    assert_eq!(store.request(place).unwrap(), None);
    place.digest[0] ^= 1;
    assert!(matches!(store.request(place), Err(Error::Damaged(_))));
    drop(store);
    let mut store = home();
    check_requests(&mut *store, &expected);
    // What was there is read once, whatever comes meanwhile, also into the pack that was read last.
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let stretch = store.requests(after.as_ref()).unwrap();
        seen.extend(stretch.requests);
        after = stretch.end;
        if after.is_none() {
            break;
        }
        history.wait(Span::from_secs(1));
        let text = format!("described {}", seen.len());
        let one = history.call(describe_flag("search", &text));
        let other = history.call(describe_flag("checkout", &text));
        store.commit(Writes::of(&[one, other])).unwrap();
    }
    assert!(seen.len() > 2 * 256);
    for request in &expected {
        assert_eq!(seen.iter().filter(|seen| *seen == request).count(), 1, "{request:?}");
    }
}
