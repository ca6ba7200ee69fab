//! How watches begin, wait and end.

use super::*;
use futures_util::StreamExt;
use phasegate_engine::release::Release;
use tokio::time::{Instant, advance};

/// A release `r` that was paused and unpaused three times, then aborted, in a log that is published
/// up to its trigger.
fn log_of_one() -> FakeLog {
    let mut actions = vec![trigger("f", "r", 1, ConflictPolicy::Fail)];
    actions.extend((0..3).flat_map(|_| [pause("r"), unpause("r")]));
    actions.push(abort("r"));
    let log = FakeLog::new(commits(actions));
    for _ in 0..4 {
        log.publish();
    }
    log
}

const CREATED: Revision = Revision::new(4);
const ENDED: Revision = Revision::new(11);

fn watches(log: &FakeLog) -> Watches<FakeLog> {
    Watches::new(log.clone(), Config::default())
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, WatchEnd>> + Send>>;

fn watch_r(log: &FakeLog) -> Boxed<ReleaseItem> {
    Box::pin(watches(log).release(watcher(), id("r")).unwrap())
}

fn resume_r(log: &FakeLog, after: Revision) -> Boxed<ReleaseItem> {
    Box::pin(watches(log).release(resuming(after), id("r")).unwrap())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The revision of an item, and which kind it is.
fn told(item: Option<Result<ReleaseItem, WatchEnd>>) -> (&'static str, u64) {
    match item.unwrap().unwrap() {
        ReleaseItem::Snapshot { revision, .. } => ("snapshot", revision.get()),
        ReleaseItem::Change(entry) => ("change", entry.change.revision.get()),
        ReleaseItem::Bookmark(revision) => ("bookmark", revision.get()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_first_and_the_end_of_the_release_is_the_end_of_the_stream() {
    let log = log_of_one();
    let mut stream = watch_r(&log);
    assert_eq!(told(stream.next().await), ("snapshot", 4));
    log.publish_all();
    for revision in 5..=11 {
        assert_eq!(told(stream.next().await), ("change", revision));
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_over_has_a_snapshot_and_an_end() {
    let log = log_of_one();
    log.publish_all();
    let mut stream = watch_r(&log);
    assert_eq!(told(stream.next().await), ("snapshot", 11));
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn resuming_at_or_after_the_end_of_a_release_ends_at_once() {
    let mut actions = vec![trigger("f", "r", 1, ConflictPolicy::Fail), abort("r")];
    actions.push(trigger("g", "s", 1, ConflictPolicy::Fail));
    let log = FakeLog::new(commits(actions));
    log.publish_all();
    assert_eq!(told(resume_r(&log, CREATED).next().await), ("change", 5));
    for after in [5, 6] {
        assert!(resume_r(&log, Revision::new(after)).next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_bookmark_within_fifteen_seconds() {
    let log = log_of_one();
    let mut stream = watch_r(&log);
    stream.next().await;
    for _ in 0..20 {
        let silent = Instant::now();
        assert_eq!(told(stream.next().await), ("bookmark", 4));
        let silent = silent.elapsed();
        // The timers of tokio have milliseconds.
        assert!(silent >= Duration::from_millis(13_500), "{silent:?}");
        assert!(silent <= Duration::from_millis(15_001), "{silent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_on_with_commits_that_do_not_concern_the_stream() {
    let mut actions = vec![trigger("f", "r", 1, ConflictPolicy::Fail)];
    actions.push(trigger("g", "s", 1, ConflictPolicy::Fail));
    actions.push(switch("g", SwitchTo::Engaged));
    let log = FakeLog::new(commits(actions));
    for _ in 0..4 {
        log.publish();
    }
    let mut stream = watch_r(&log);
    stream.next().await;
    log.publish_all();
    assert_eq!(told(stream.next().await), ("bookmark", 6));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_delivered_without_waiting_for_the_heartbeat() {
    let log = log_of_one();
    let mut stream = watch_r(&log);
    stream.next().await;
    assert!(poll(&mut stream).is_pending());
    let before = Instant::now();
    log.publish();
    assert_eq!(told(stream.next().await), ("change", 5));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_stream_expires_after_about_an_hour() {
    let log = log_of_one();
    let mut ages = Vec::new();
    for _ in 0..20 {
        let (begun, mut stream) = (Instant::now(), watch_r(&log));
        let end = loop {
            if let Err(end) = stream.next().await.unwrap() {
                break end;
            }
        };
        assert_eq!(end, WatchEnd::Expired);
        assert!(stream.next().await.is_none());
        ages.push(begun.elapsed());
    }
    assert!(ages.iter().all(|age| *age >= secs(3240)), "{ages:?}");
    assert!(ages.iter().all(|age| *age <= secs(3961)), "{ages:?}");
    let (youngest, oldest) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    assert!(*oldest - *youngest > secs(10), "{ages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_deadline_of_the_call() {
    let log = log_of_one();
    let watcher = Watcher { time_left: Some(secs(5)), ..watcher() };
    let begun = Instant::now();
    let stream = watches(&log).release(watcher, id("r")).unwrap();
    let last = stream.collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!(last.unwrap_err(), WatchEnd::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_millis(5_002), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_change_waiting_for_a_minute_is_too_slow() {
    // What it took last, and how long the next change waited.
    let check = async |polled_to_the_end: bool, waited: Duration| {
        let log = log_of_one();
        let mut stream = watch_r(&log);
        stream.next().await;
        if polled_to_the_end {
            assert!(poll(&mut stream).is_pending());
        }
        log.publish();
        advance(waited).await;
        stream.next().await.unwrap()
    };
    for polled_to_the_end in [true, false] {
        assert!(check(polled_to_the_end, secs(60)).await.is_ok());
        let end = check(polled_to_the_end, secs(61)).await.unwrap_err();
        assert_eq!(end, WatchEnd::SlowConsumer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_away_while_nothing_happened_is_not_too_slow() {
    let log = log_of_one();
    let mut stream = watch_r(&log);
    stream.next().await;
    advance(secs(600)).await;
    assert_eq!(told(stream.next().await), ("bookmark", 4));
    log.publish();
    assert_eq!(told(stream.next().await), ("change", 5));
}

#[tokio::test(start_paused = true)]
async fn draining_refuses_new_watches_and_ends_the_others_within_ten_seconds() {
    let log = log_of_one();
    let watches = watches(&log);
    let open = |_| Box::pin(watches.release(watcher(), id("r")).unwrap());
    let streams: Vec<_> = (0..50).map(open).collect();
    watches.drain();
    let begun = Instant::now();
    let refused = watches.release(watcher(), id("r")).err().unwrap();
    assert_eq!(refused, WatchRefusal::Draining);
    let mut ends = Vec::new();
    let drained = streams.into_iter().map(|stream| async move {
        let last = stream.collect::<Vec<_>>().await.pop().unwrap();
        assert_eq!(last.unwrap_err(), WatchEnd::Draining);
        begun.elapsed()
    });
    for end in futures_util::future::join_all(drained).await {
        assert!(end <= Duration::from_millis(10_001), "{end:?}");
        ends.push(end);
    }
    // They do not all come back at once.
    assert!(ends.iter().any(|end| *end < secs(5)), "{ends:?}");
    assert!(ends.iter().any(|end| *end > secs(5)), "{ends:?}");
    assert_eq!(watches.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_hears_of_draining() {
    let log = log_of_one();
    let watches = watches(&log);
    let mut stream = Box::pin(watches.release(watcher(), id("r")).unwrap());
    stream.next().await;
    let (end, ()) = tokio::join!(stream.next(), async { watches.drain() });
    assert_eq!(end.unwrap().unwrap_err(), WatchEnd::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_writer_is_gone() {
    let log = log_of_one();
    let mut stream = watch_r(&log);
    stream.next().await;
    log.head.close();
    assert_eq!(stream.next().await.unwrap().unwrap_err(), WatchEnd::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_gives_its_slot_back() {
    let log = log_of_one();
    let config = Config { streams_of_a_principal: 2, ..Config::default() };
    let watches = Watches::new(log.clone(), config);
    let never_polled = watches.release(watcher(), id("r")).unwrap();
    let mut polled = Box::pin(watches.release(watcher(), id("r")).unwrap());
    polled.next().await;
    let refused = watches.releases(watcher(), Everything).err().unwrap();
    assert_eq!(refused, WatchRefusal::TooMany(TooMany::OfPrincipal(2)));
    drop((never_polled, polled));
    assert_eq!(watches.open(), 0);
    assert!(watches.releases(watcher(), Everything).is_ok());
}

#[test]
fn a_watch_that_cannot_begin_says_why_in_the_order_of_the_checks() {
    let log = log_of_one();
    log.publish_all();
    log.shown.lock().unwrap().oldest = Revision::new(7);
    let watches = Watches::new(log, Config { streams: 0, ..Config::default() });
    let check = |release: &str, store_id: &str, after: u64| {
        let watcher =
            Watcher { store_id: Some(store_id.to_owned()), ..resuming(Revision::new(after)) };
        watches.release(watcher, id(release)).err().unwrap()
    };
    let ours = StoreId(Uuid::from_u128(7)).to_string();
    assert_eq!(check("none", "another", 0), WatchRefusal::NotFound(id("none")));
    assert_eq!(check("r", "another", 0), WatchRefusal::StoreReplaced);
    let compacted = WatchRefusal::Compacted { oldest: Revision::new(7) };
    assert_eq!(check("r", &ours, 5), compacted);
    assert_eq!(check("r", &ours, 12), WatchRefusal::InFuture { head: ENDED });
    let too_many = WatchRefusal::TooMany(TooMany::InAll(0));
    for after in [6, 11] {
        assert_eq!(check("r", &ours, after), too_many);
        assert_eq!(check("r", "", after), too_many);
    }
    watches.drain();
    assert_eq!(check("none", "another", 0), WatchRefusal::Draining);
}

struct Everything;

impl Select for Everything {
    fn matches(&self, _: &Release, _: ReleaseState) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_initial_set_comes_in_parts_before_it_is_complete() {
    let flag = |index: usize| ["f", "g"][index % 2];
    let policy = ConflictPolicy::Supersede;
    let actions = (0..20).map(|index| trigger(flag(index), &format!("r-{index}"), 1, policy));
    let log = FakeLog::new(commits(actions));
    log.publish_all();
    let config = Config { item_bytes: 2_000, ..Config::default() };
    let watches = Watches::new(log, config);
    let mut stream = Box::pin(watches.releases(watcher(), Everything).unwrap());
    let mut parts = Vec::new();
    let revision = loop {
        match stream.next().await.unwrap().unwrap() {
            ReleasesItem::Initial(releases) => parts.push(releases.len()),
            ReleasesItem::Synced(revision) => break revision,
            other @ (ReleasesItem::Changes { .. } | ReleasesItem::Bookmark(_)) => {
                panic!("{other:?}")
            }
        }
    };
    assert_eq!(revision.get(), 23);
    assert_eq!(parts.iter().sum::<usize>(), 20);
    assert!(parts.iter().all(|part| (2..=5).contains(part)), "{parts:?}");
}

#[tokio::test(start_paused = true)]
async fn commits_that_fit_share_an_item_and_a_large_one_goes_alone() {
    let log = log_of_one();
    let check = async |item_bytes: usize| {
        let config = Config { item_bytes, ..Config::default() };
        let watches = Watches::new(log.clone(), config);
        let mut stream = Box::pin(watches.releases(resuming(CREATED), Everything).unwrap());
        let mut items = Vec::new();
        while let ReleasesItem::Changes { revision, changes } =
            stream.next().await.unwrap().unwrap()
        {
            items.push((revision.get(), changes.len()));
        }
        items
    };
    log.publish_all();
    assert_eq!(check(1 << 20).await, [(11, 7)]);
    assert_eq!(check(1).await, [5, 6, 7, 8, 9, 10, 11].map(|revision| (revision, 1)));
}
