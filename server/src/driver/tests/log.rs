//! Reading the log, from memory and from the store.

use super::*;
use crate::{driver::LogError, store::Order, watch::Entry};

fn revisions(entries: &[Arc<Entry>]) -> Vec<(u64, String)> {
    let of =
        |entry: &Arc<Entry>| (entry.change.revision.get(), entry.change.release.id().to_string());
    entries.iter().map(of).collect()
}

/// A world whose log has commits of no release, of one, and of two.
fn world(log_bytes: usize) -> World<ManualClock> {
    let config = Config { log_memory: crate::driver::LogMemory(log_bytes), ..Config::default() };
    let mut world = World::new(ManualClock::new(START), config);
    for id in ["f", "g"] {
        world.add_flag(id, &[HOUR]);
    }
    for round in 0..4 {
        for id in ["f", "g"] {
            let release = format!("r-{id}-{round}");
            let mut superseding = trigger_at(id, &release, None);
            superseding.conflict_policy = ConflictPolicy::Supersede;
            world.call(Action::TriggerRelease(superseding)).unwrap();
            world.call(pause(&release)).unwrap();
            world.call(kill(id)).unwrap();
        }
    }
    world
}

#[test]
fn what_is_read_from_memory_is_what_is_read_from_the_store() {
    let all_in_memory = world(usize::MAX);
    let mut some_in_memory = world(8_000);
    let mut none_in_memory = world(usize::MAX);
    none_in_memory.restart();
    let head = all_in_memory.handle.state().revision();
    let mut sources = [0; 2];
    for after in 0..=head.get() {
        for up_to in [after, after + 3, head.get()] {
            for order in [Order::OldestFirst, Order::NewestFirst] {
                for (limit, release) in [(1, None), (2, None), (5, None), (99, None)]
                    .into_iter()
                    .chain([(1, Some("r-f-1")), (9, Some("r-g-2"))])
                {
                    let query = LogQuery {
                        after: Revision::new(after),
                        up_to: Revision::new(up_to),
                        release: release.map(super::release),
                        order,
                        limit,
                    };
                    let memory = all_in_memory.writer.published().recent(&query).unwrap();
                    let store = none_in_memory.read(query.clone()).unwrap();
                    assert_eq!(revisions(&memory), revisions(&store), "{query:?}");
                    let events = |entries: &[Arc<Entry>]| {
                        entries.iter().map(|entry| entry.change.clone()).collect::<Vec<_>>()
                    };
                    assert_eq!(events(&memory), events(&store), "{query:?}");
                    match some_in_memory.writer.published().recent(&query) {
                        Some(part) => {
                            sources[0] += 1;
                            assert_eq!(revisions(&part), revisions(&store), "{query:?}");
                        }
                        None => {
                            sources[1] += 1;
                            let part = some_in_memory.read(query.clone()).unwrap();
                            assert_eq!(revisions(&part), revisions(&store), "{query:?}");
                        }
                    }
                }
            }
        }
    }
    // Both ways were tried.
    assert!(sources.iter().all(|count| *count > 10), "{sources:?}");
}

#[test]
fn the_changes_of_one_commit_are_never_torn_apart() {
    let world = world(usize::MAX);
    let query = LogQuery {
        after: Revision::ZERO,
        up_to: world.handle.state().revision(),
        release: None,
        order: Order::OldestFirst,
        limit: 2,
    };
    let first = world.writer.published().recent(&query).unwrap();
    assert_eq!(revisions(&first), [(5, "r-f-0".to_owned()), (6, "r-f-0".to_owned())]);
    let after = Revision::new(9);
    let query = LogQuery { after, limit: 2, ..query };
    // The next commit after this one supersedes a release: it is alone.
    let next = world.writer.published().recent(&query).unwrap();
    assert_eq!(revisions(&next).len(), 2);
    assert_eq!(next[0].change.revision, next[1].change.revision);
    let query = LogQuery { limit: 1, ..query };
    assert_eq!(revisions(&world.writer.published().recent(&query).unwrap()), revisions(&next));
}

#[test]
fn the_newest_commit_stays_in_memory_however_little_there_is() {
    let world = world(0);
    let head = world.handle.state().revision();
    let query = LogQuery {
        after: Revision::new(head.get() - 1),
        up_to: head,
        release: None,
        order: Order::OldestFirst,
        limit: 9,
    };
    assert_eq!(world.writer.published().recent(&query).map(|read| read.len()), Some(1));
    let query = LogQuery { after: Revision::ZERO, ..query };
    assert!(world.writer.published().recent(&query).is_none());
}

#[tokio::test]
async fn reading_forwards_from_before_the_log_begins_is_an_error() {
    let mut world = world(usize::MAX);
    world.advance(secs(8 * 86_400));
    let head = world.handle.state().revision();
    let oldest = world.handle.oldest();
    assert!(oldest > Revision::new(5), "{oldest}");
    let query = |after, order| LogQuery { after, up_to: head, release: None, order, limit: 99 };
    let too_early = query(Revision::new(oldest.get() - 2), Order::OldestFirst);
    assert_eq!(
        world.handle.log(too_early.clone()).await.unwrap_err(),
        LogError::Compacted { oldest }
    );
    assert_eq!(world.read(too_early).unwrap_err(), LogError::Compacted { oldest });
    let early_enough = query(Revision::new(oldest.get() - 1), Order::OldestFirst);
    let forwards = world.handle.log(early_enough).await.unwrap();
    let mut backwards = world.read(query(Revision::ZERO, Order::NewestFirst)).unwrap();
    backwards.reverse();
    let numbers = |entries: &[Arc<Entry>]| revisions(entries).into_iter().map(|(n, _)| n).collect();
    let (forwards, backwards): (Vec<u64>, Vec<u64>) = (numbers(&forwards), numbers(&backwards));
    assert_eq!(forwards, backwards);
}
