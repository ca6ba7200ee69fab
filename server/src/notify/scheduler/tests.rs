use super::*;
use crate::{
    driver::OutboxState,
    notify::{
        schedule::ATTEMPTS_MAX,
        testing::{START, approval_due},
    },
};
use proptest::prelude::*;
use std::sync::Arc;

/// Leaves delays as they are.
const STRAIGHT: u64 = 200;

fn sink(name: &str) -> SinkId {
    SinkId::parse(name).unwrap()
}

fn key(name: &str, sequence: u64) -> OutboxKey {
    OutboxKey { sink: sink(name), sequence }
}

/// Which row an update is about.
fn about(update: &OutboxUpdate) -> &OutboxKey {
    match update {
        OutboxUpdate::Delivered(key) | OutboxUpdate::Replay(key) | OutboxUpdate::Discard(key) => {
            key
        }
        OutboxUpdate::Failed { key, .. } | OutboxUpdate::Dead { key, .. } => key,
        OutboxUpdate::Add { .. } => panic!("nothing is added here"),
    }
}

fn failed(kind: FaultKind) -> Outcome {
    Outcome::Failed(Fault { kind, text: "why".into() })
}

/// Rows, and what the scheduler makes of them.
struct World {
    rows: Outbox,
    scheduler: Scheduler,
    now: Timestamp,
}

impl World {
    fn new(sinks: &[&str]) -> Self {
        let scheduler = Scheduler::new(sinks.iter().map(|name| sink(name)));
        Self { rows: Outbox::new(), scheduler, now: START }
    }

    fn add(&mut self, name: &str, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            let row = OutboxRow::new(approval_due(&format!("r-{sequence}")));
            self.rows.insert(key(name, sequence), Arc::new(row));
        }
    }

    fn plan(&mut self) -> Plan {
        self.scheduler.plan(&self.rows, self.now)
    }

    /// There is nothing to do now; when there will be.
    fn idle(&mut self) -> Option<Timestamp> {
        let plan = self.plan();
        assert!(plan.start.is_empty() && plan.given_up.is_empty(), "{plan:?}");
        plan.wake
    }

    fn started(&mut self) -> Vec<(String, u64)> {
        let start = self.plan().start;
        start.into_iter().map(|key| (key.sink.to_string(), key.sequence)).collect()
    }

    fn wait(&mut self, seconds: u32) {
        self.now = self.now + Span::from_secs(seconds);
    }

    /// An attempt has ended, and what follows is durable.
    fn finish(&mut self, key: &OutboxKey, outcome: Outcome) -> OutboxUpdate {
        let attempts = self.rows[key].attempts;
        let update = self.scheduler.finished(key, attempts, outcome, self.now, STRAIGHT);
        self.write(update.clone());
        self.scheduler.settled([key]);
        update
    }

    fn write(&mut self, update: OutboxUpdate) {
        match update.clone() {
            OutboxUpdate::Delivered(key) => {
                self.rows.remove(&key);
            }
            OutboxUpdate::Failed { key, next_at, error } => {
                let row = Arc::make_mut(self.rows.get_mut(&key).unwrap());
                (row.next_at, row.last_error) = (next_at, error);
                row.attempts += 1;
            }
            OutboxUpdate::Dead { key, error } => {
                let row = Arc::make_mut(self.rows.get_mut(&key).unwrap());
                row.attempts += 1;
                row.last_error = error;
                row.state = OutboxState::Dead(self.now);
            }
            OutboxUpdate::Replay(key) => {
                let row = Arc::make_mut(self.rows.get_mut(&key).unwrap());
                (row.attempts, row.next_at) = (0, self.now);
                row.state = OutboxState::Pending;
            }
            OutboxUpdate::Discard(_) | OutboxUpdate::Add { .. } => panic!("{update:?}"),
        }
    }
}

fn named(name: &str, sequences: impl IntoIterator<Item = u64>) -> Vec<(String, u64)> {
    sequences.into_iter().map(|sequence| (name.to_owned(), sequence)).collect()
}

#[test]
fn the_oldest_rows_come_first_and_four_at_a_time() {
    let mut world = World::new(&["a"]);
    world.add("a", 1..10);
    assert_eq!(world.started(), named("a", 1..5));
    assert_eq!(world.started(), []);
    world.finish(&key("a", 2), Outcome::Delivered);
    assert_eq!(world.started(), named("a", [5]));
    assert!(!world.rows.contains_key(&key("a", 2)));
}

#[test]
fn a_row_is_tried_ten_times_over_the_schedule_and_then_it_is_dead() {
    let mut world = World::new(&["a"]);
    world.add("a", 1..2);
    let mut waits = Vec::new();
    for attempt in 1..=ATTEMPTS_MAX {
        assert_eq!(world.started(), named("a", [1]), "{attempt}");
        match world.finish(&key("a", 1), failed(FaultKind::Refused)) {
            OutboxUpdate::Failed { next_at, .. } => {
                assert_eq!(world.rows[&key("a", 1)].attempts, attempt);
                assert_eq!(world.idle(), Some(next_at));
                waits.push(next_at.since(world.now));
                world.now = next_at;
            }
            OutboxUpdate::Dead { error, .. } => {
                assert_eq!((attempt, &*error), (ATTEMPTS_MAX, "why"));
            }
            update @ (OutboxUpdate::Delivered(_)
            | OutboxUpdate::Replay(_)
            | OutboxUpdate::Discard(_)
            | OutboxUpdate::Add { .. }) => panic!("{update:?}"),
        }
    }
    assert_eq!(waits, schedule::DELAYS);
    assert_eq!(world.idle(), None);
    // Somebody wants it sent all the same: from the beginning.
    world.write(OutboxUpdate::Replay(key("a", 1)));
    assert_eq!(world.started(), named("a", [1]));
}

#[test]
fn a_sink_that_fails_or_hangs_changes_nothing_for_another() {
    let mut world = World::new(&["a", "b", "c"]);
    ["a", "b", "c"].into_iter().for_each(|name| world.add(name, 1..100));
    // All of a hang.
    let started = world.started();
    assert_eq!(started.len(), 3 * ATTEMPTS_AT_A_TIME);
    // b fails, and is left alone after a while.
    for sequence in 1..20 {
        if world.scheduler.lanes[&sink("b")].running.contains(&sequence) {
            world.finish(&key("b", sequence), failed(FaultKind::Unreachable));
            world.started();
        }
    }
    assert!(matches!(world.scheduler.standing(&sink("b"), world.now), Standing::Paused(_)));
    // c gets everything.
    while let Some(next) = world.scheduler.lanes[&sink("c")].running.first().copied() {
        world.finish(&key("c", next), Outcome::Delivered);
        let started = world.started();
        assert!(started.iter().all(|(name, _)| name == "c"), "{started:?}");
    }
    assert_eq!(world.rows.keys().filter(|key| key.sink == sink("c")).count(), 0);
    assert_eq!(world.rows.keys().filter(|key| key.sink == sink("a")).count(), 99);
}

#[test]
fn a_receiver_that_asks_to_be_left_alone_is_and_within_limits() {
    let mut world = World::new(&["a", "b"]);
    world.add("a", 1..3);
    world.add("b", 1..2);
    assert_eq!(world.started().len(), 3);
    let hour = Span::from_secs(3600);
    let update = world.finish(&key("a", 1), failed(FaultKind::Overloaded(Some(hour))));
    let OutboxUpdate::Failed { next_at, .. } = update else { panic!("{update:?}") };
    assert_eq!(next_at, world.now + hour);
    // A wish that is shorter than the schedule changes nothing.
    let soon = Some(Span::from_secs(1));
    let update = world.finish(&key("b", 1), failed(FaultKind::Overloaded(soon)));
    let OutboxUpdate::Failed { next_at, .. } = update else { panic!("{update:?}") };
    assert_eq!(next_at, world.now + Span::from_secs(5));
    // Other rows of the sink wait too.
    world.finish(&key("a", 2), Outcome::Delivered);
    world.add("a", 3..4);
    world.wait(3599);
    assert_eq!(world.started(), named("b", [1]));
    world.wait(1);
    assert_eq!(world.started(), named("a", [1, 3]));
    // No receiver keeps a row for ever.
    let ages = Some(Span::from_secs(u32::MAX));
    let update = world.finish(&key("a", 3), failed(FaultKind::Overloaded(ages)));
    let OutboxUpdate::Failed { next_at, .. } = update else { panic!("{update:?}") };
    assert_eq!(next_at, world.now + RETRY_AFTER_MAX);
}

#[test]
fn a_receiver_that_is_gone_is_sent_nothing_until_the_settings_change() {
    let mut world = World::new(&["a", "b"]);
    world.add("a", 1..6);
    world.add("b", 1..2);
    world.started();
    let update = world.finish(&key("a", 1), failed(FaultKind::Gone));
    assert!(matches!(update, OutboxUpdate::Dead { .. }), "{update:?}");
    assert_eq!(world.scheduler.standing(&sink("a"), world.now), Standing::Gone);
    // What waits is dead without an attempt; what is under way is not touched.
    let plan = world.plan();
    assert!(plan.start.is_empty());
    let given_up: Vec<_> = plan.given_up.iter().map(|update| about(update).clone()).collect();
    assert_eq!(given_up, [key("a", 5)]);
    assert_eq!(world.idle(), None, "nothing is given up twice");
    plan.given_up.into_iter().for_each(|update| world.write(update));
    world.scheduler.settled(&given_up);
    world.scheduler.configure([sink("a"), sink("b")]);
    world.add("a", 6..7);
    assert_eq!(world.started(), named("a", [6]));
}

#[test]
fn rows_of_a_sink_that_is_no_more_are_given_up_and_none_is_taken_twice() {
    let mut world = World::new(&["a"]);
    world.add("a", 1..6);
    world.add("old", 1..2);
    let plan = world.plan();
    assert_eq!(plan.start.len(), 4);
    assert_eq!(plan.given_up.len(), 1);
    let OutboxUpdate::Dead { key: given_up, error } = &plan.given_up[0] else { panic!() };
    assert_eq!((given_up, &**error), (&key("old", 1), NO_SUCH_SINK));
    // a goes and comes back while its rows are under way.
    world.scheduler.configure([]);
    let plan = world.plan();
    assert!(plan.start.is_empty());
    assert_eq!(plan.given_up.iter().map(|u| about(u).sequence).collect::<Vec<_>>(), [5]);
    world.scheduler.configure([sink("a")]);
    assert_eq!(world.idle(), None);
    world.finish(&key("a", 1), Outcome::Delivered);
}

#[test]
fn what_our_own_rules_forbid_is_tried_again_and_says_nothing_about_the_receiver() {
    let mut world = World::new(&["a"]);
    world.add("a", 1..20);
    for sequence in 1..20 {
        assert!(world.started().len() <= ATTEMPTS_AT_A_TIME);
        let update = world.finish(&key("a", sequence), failed(FaultKind::Forbidden));
        assert!(matches!(update, OutboxUpdate::Failed { .. }), "{update:?}");
    }
    assert_eq!(world.scheduler.standing(&sink("a"), world.now), Standing::Open);
}

/// What may happen to a scheduler.
#[derive(Clone, Debug)]
enum Act {
    /// A notification for one of the sinks.
    Add(usize),
    /// The settings change: which sinks there are.
    Configure(u8),
    Plan,
    /// One of the attempts that are under way ends.
    Finish(usize, u8),
    /// What is to be written down becomes durable.
    Settle,
    Wait(u32),
    /// A dead letter is sent again.
    Replay(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3usize).prop_map(Act::Add),
        1 => (0..8u8).prop_map(Act::Configure),
        6 => Just(Act::Plan),
        6 => (any::<usize>(), 0..6u8).prop_map(|(which, how)| Act::Finish(which, how)),
        3 => Just(Act::Settle),
        3 => (0..200_000u32).prop_map(Act::Wait),
        1 => any::<usize>().prop_map(Act::Replay),
    ]
}

const SINKS: [&str; 3] = ["a", "b", "c"];

proptest! {
    /// Whatever happens: every row is pending, delivered once, or dead; none is under way twice; no sink
    /// has more under way than it may. And when receivers come back, all that waits is delivered.
    #[test]
    fn nothing_is_lost_and_nothing_is_delivered_twice(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::new(&SINKS);
        let mut added = 0;
        let mut running: Vec<OutboxKey> = Vec::new();
        let mut unsettled: Vec<OutboxUpdate> = Vec::new();
        let mut delivered: BTreeMap<OutboxKey, u32> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Add(which) => {
                    added += 1;
                    world.add(SINKS[which], added..added + 1);
                }
                Act::Configure(mask) => {
                    let named = SINKS.iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0);
                    world.scheduler.configure(named.map(|(_, name)| sink(name)));
                }
                Act::Plan => {
                    let plan = world.plan();
                    for key in plan.start {
                        prop_assert!(!running.contains(&key), "{key} is under way twice");
                        prop_assert!(!unsettled.iter().any(|u| about(u) == &key), "{key} has ended");
                        prop_assert!(world.rows[&key].is_pending());
                        prop_assert!(world.rows[&key].next_at <= world.now);
                        running.push(key);
                    }
                    for name in SINKS {
                        let under_way = running.iter().filter(|key| key.sink == sink(name)).count();
                        prop_assert!(under_way <= ATTEMPTS_AT_A_TIME);
                    }
                    unsettled.extend(plan.given_up);
                }
                Act::Finish(which, how) => {
                    if running.is_empty() {
                        continue;
                    }
                    let key = running.swap_remove(which % running.len());
                    let outcome = match how {
                        0 | 1 => Outcome::Delivered,
                        2 => failed(FaultKind::Unreachable),
                        3 => failed(FaultKind::Overloaded(Some(Span::from_secs(60)))),
                        4 => failed(FaultKind::Refused),
                        _ => failed(FaultKind::Gone),
                    };
                    if outcome == Outcome::Delivered {
                        *delivered.entry(key.clone()).or_default() += 1;
                    }
                    let attempts = world.rows[&key].attempts;
                    let update =
                        world.scheduler.finished(&key, attempts, outcome, world.now, u64::from(how));
                    unsettled.push(update);
                }
                Act::Settle => {
                    for update in unsettled.drain(..) {
                        let key = about(&update).clone();
                        world.write(update);
                        world.scheduler.settled([&key]);
                    }
                }
                Act::Wait(seconds) => world.wait(seconds),
                Act::Replay(which) => {
                    let dead: Vec<_> =
                        world.rows.iter().filter(|(_, row)| !row.is_pending()).map(|(key, _)| key.clone()).collect();
                    if !dead.is_empty() {
                        world.write(OutboxUpdate::Replay(dead[which % dead.len()].clone()));
                    }
                }
            }
            prop_assert!(delivered.values().all(|times| *times == 1), "{delivered:?}");
        }
        // The receivers come back.
        world.scheduler.configure(SINKS.map(sink));
        for round in 0.. {
            let plan = world.plan();
            running.extend(plan.start);
            unsettled.extend(plan.given_up);
            for key in running.drain(..) {
                *delivered.entry(key.clone()).or_default() += 1;
                unsettled.push(world.scheduler.finished(&key, 0, Outcome::Delivered, world.now, 0));
            }
            let is_idle = unsettled.is_empty();
            for update in unsettled.drain(..) {
                let key = about(&update).clone();
                world.write(update);
                world.scheduler.settled([&key]);
            }
            match plan.wake {
                Some(wake) if is_idle => world.now = wake,
                None if is_idle => break,
                Some(_) | None => {}
            }
            prop_assert!(round < 1000, "it never ends");
        }
        prop_assert!(world.rows.values().all(|row| !row.is_pending()), "something waits for ever");
        prop_assert!(delivered.values().all(|times| *times == 1), "{delivered:?}");
        let dead = world.rows.len() as u64;
        prop_assert_eq!(delivered.len() as u64 + dead, added, "something is lost");
    }
}
