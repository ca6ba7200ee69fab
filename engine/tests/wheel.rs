//! The timer wheel beside a model that cannot be wrong: a sorted map.

#![allow(clippy::unwrap_used, reason = "tests")]

use phasegate_engine::{
    time::{Span, Timestamp},
    wheel::{DueTimer, MOVES_MAX, Progress, TimerId, Wheel},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::collections::BTreeMap;

const START: Timestamp = Timestamp::from_millis(1_900_000_000_000);
const NO_LIMIT: usize = usize::MAX;

fn at(offset_millis: i64) -> Timestamp {
    Timestamp::from_millis(START.as_millis() + offset_millis)
}

/// Pops until nothing more is due.
fn pop_all(wheel: &mut Wheel, now: Timestamp) -> Vec<DueTimer> {
    let mut popped = Vec::new();
    while wheel.pop_due(now, NO_LIMIT, &mut popped) == Progress::More {}
    popped
}

/// The keys of what is due, in the order in which it comes.
fn pop_keys(wheel: &mut Wheel, now: Timestamp) -> Vec<u64> {
    pop_all(wheel, now).iter().map(|timer| timer.key).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Relative to the present. The rank is the upper byte of the key.
    Arm { offset_millis: i64, rank: u8 },
    /// More than one call can move, with the same deadline.
    ArmMany { offset_millis: i64 },
    /// One of all timers that ever were armed, so many of these are stale.
    Cancel(Index),
    /// Forwards or backwards.
    Turn { by_millis: i64 },
    /// One call with this limit.
    Pop { limit: usize },
    /// Calls until nothing more is due.
    PopAll,
}

/// Lengths of time of every magnitude, from nothing to some thousand years.
fn millis() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..3_i64,
        4 => 0..200_i64,
        2 => 0..10_000_i64,
        2 => 0..100_000_000_i64,
        2 => (0..48_u32).prop_flat_map(|bits| (1_i64 << bits) - 2..=(1_i64 << bits) + 2),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let arm = |sign: i64| {
        (millis(), any::<u8>())
            .prop_map(move |(millis, rank)| Step::Arm { offset_millis: sign * millis, rank })
    };
    let turn = |sign: i64| millis().prop_map(move |millis| Step::Turn { by_millis: sign * millis });
    prop_oneof![
        8 => arm(1),
        2 => arm(-1),
        3 => any::<Index>().prop_map(Step::Cancel),
        3 => turn(1),
        1 => turn(-1),
        3 => (0..5_usize).prop_map(|limit| Step::Pop { limit }),
        2 => Just(Step::PopAll),
    ]
}

fn step_with_many() -> impl Strategy<Value = Step> {
    let arm_many = millis().prop_map(|offset_millis| Step::ArmMany { offset_millis });
    prop_oneof![1 => arm_many, 9 => step()]
}

/// The wheel and its model, and the time as both are told it.
struct Pair {
    wheel: Wheel,
    model: BTreeMap<(Timestamp, u64), TimerId>,
    ever_armed: Vec<(Timestamp, u64, TimerId)>,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        let wheel = Wheel::new(START);
        Self { wheel, model: BTreeMap::new(), ever_armed: Vec::new(), now: START }
    }

    fn check(&mut self, step: &Step) {
        match step {
            Step::Arm { offset_millis, rank } => self.arm(*offset_millis, *rank),
            Step::ArmMany { offset_millis } => {
                for number in 0..MOVES_MAX * 3 / 2 {
                    self.arm(*offset_millis, number as u8);
                }
            }
            Step::Cancel(_) if self.ever_armed.is_empty() => {}
            Step::Cancel(index) => {
                let (deadline, key, id) = *index.get(&self.ever_armed);
                let is_armed = self.model.remove(&(deadline, key)).is_some();
                assert_eq!(self.wheel.cancel(id), is_armed, "{deadline} {key}");
            }
            Step::Turn { by_millis } => {
                self.now = Timestamp::from_millis(self.now.as_millis() + by_millis);
            }
            Step::Pop { limit } => {
                let mut popped = Vec::new();
                let progress = self.wheel.pop_due(self.now, *limit, &mut popped);
                assert!(popped.len() <= *limit);
                self.expect(&popped, progress);
            }
            Step::PopAll => {
                let popped = pop_all(&mut self.wheel, self.now);
                self.expect(&popped, Progress::Done);
            }
        }
        let first = self.model.keys().next().map(|(deadline, _)| *deadline);
        assert_eq!(self.wheel.len(), self.model.len());
        assert_eq!(self.wheel.next().is_some(), first.is_some());
        assert!(self.wheel.next() <= first, "{:?} is later than {first:?}", self.wheel.next());
    }

    fn arm(&mut self, offset_millis: i64, rank: u8) {
        let deadline = Timestamp::from_millis(self.now.as_millis() + offset_millis);
        let key = u64::from(rank) << 56 | self.ever_armed.len() as u64;
        let id = self.wheel.arm(deadline, key);
        self.model.insert((deadline, key), id);
        self.ever_armed.push((deadline, key, id));
    }

    /// What was popped are the first timers of the model, and due; takes them out of it.
    fn expect(&mut self, popped: &[DueTimer], progress: Progress) {
        for timer in popped {
            let ((deadline, key), _) = self.model.pop_first().unwrap();
            assert_eq!(*timer, DueTimer { deadline, key });
            assert!(deadline <= self.now, "{deadline} fired at {}", self.now);
        }
        if progress == Progress::Done {
            let first = self.model.keys().next();
            assert!(first.is_none_or(|(deadline, _)| *deadline > self.now), "{first:?} is due");
            assert!(self.wheel.next().is_none_or(|next| next > self.now));
        }
    }
}

fn check(steps: &[Step]) {
    let mut pair = Pair::new();
    for step in steps {
        pair.check(step);
    }
    pair.now = Timestamp::MAX;
    pair.check(&Step::PopAll);
    assert!(pair.wheel.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_wheel_does_what_a_sorted_map_does(steps in vec(step(), 1..120)) {
        check(&steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn so_it_does_when_one_call_cannot_move_all(steps in vec(step_with_many(), 1..60)) {
        check(&steps);
    }
}

#[test]
fn a_timer_fires_at_its_millisecond_and_not_before() {
    for millis in [1, 63, 64, 65, 4_095, 4_096, 262_144, 86_400_000, 90 * 86_400_000] {
        let mut wheel = Wheel::new(START);
        wheel.arm(at(millis), 7);
        assert!(pop_keys(&mut wheel, at(millis - 1)).is_empty(), "{millis}");
        assert_eq!(pop_keys(&mut wheel, at(millis)), [7], "{millis}");
    }
}

#[test]
fn deadlines_reach_from_1970_to_9999() {
    let mut wheel = Wheel::new(Timestamp::EPOCH);
    wheel.arm(Timestamp::MAX, 2);
    wheel.arm(Timestamp::EPOCH, 1);
    assert_eq!(pop_keys(&mut wheel, Timestamp::EPOCH), [1]);
    let last = Timestamp::from_millis(Timestamp::MAX.as_millis() - 1);
    assert!(pop_keys(&mut wheel, last).is_empty());
    assert_eq!(pop_keys(&mut wheel, Timestamp::MAX), [2]);
}

#[test]
fn a_deadline_that_is_past_is_due_at_once_and_before_later_ones() {
    let mut wheel = Wheel::new(START);
    wheel.arm(at(0), 1);
    wheel.arm(at(-1), 2);
    wheel.arm(Timestamp::EPOCH, 3);
    assert_eq!(wheel.next(), Some(Timestamp::EPOCH));
    assert_eq!(pop_keys(&mut wheel, START), [3, 2, 1]);
}

#[test]
fn equal_deadlines_are_told_apart_by_key_and_not_by_when_they_were_armed() {
    let mut wheel = Wheel::new(START);
    for key in [3, u64::MAX, 1, 0, 2, 2] {
        wheel.arm(at(100), key);
    }
    let mut popped = Vec::new();
    while wheel.pop_due(at(500), 1, &mut popped) == Progress::More {}
    let keys: Vec<_> = popped.iter().map(|timer| timer.key).collect();
    assert_eq!(keys, [0, 1, 2, 2, 3, u64::MAX]);
}

#[test]
fn time_may_step_back_without_firing_early_or_losing_anything() {
    let mut wheel = Wheel::new(START);
    wheel.arm(at(1_000), 1);
    assert!(pop_keys(&mut wheel, at(900)).is_empty());
    wheel.arm(at(300), 2);
    wheel.arm(at(5_000_000), 3);
    assert!(pop_keys(&mut wheel, at(-10_000_000)).is_empty());
    wheel.arm(at(-9_000_000), 4);
    assert_eq!(wheel.next(), Some(at(-9_000_000)));
    assert!(pop_keys(&mut wheel, at(-9_000_001)).is_empty());
    assert_eq!(pop_keys(&mut wheel, at(-9_000_000)), [4]);
    assert!(pop_keys(&mut wheel, at(299)).is_empty());
    assert_eq!(pop_keys(&mut wheel, at(999)), [2]);
    assert_eq!(pop_keys(&mut wheel, at(5_000_000)), [1, 3]);
}

#[test]
fn time_may_step_back_while_a_slot_is_half_moved() {
    let timers = 2 * MOVES_MAX as u64;
    let mut wheel = Wheel::new(START);
    for key in 0..timers {
        wheel.arm(at(10_000_000), key);
    }
    let mut popped = Vec::new();
    assert_eq!(wheel.pop_due(at(10_000_000), NO_LIMIT, &mut popped), Progress::More);
    wheel.arm(at(5_000), timers);
    assert!(pop_keys(&mut wheel, at(4_999)).is_empty());
    assert_eq!(pop_keys(&mut wheel, at(5_000)), [timers]);
    assert!(pop_keys(&mut wheel, at(9_999_999)).is_empty());
    assert!(pop_keys(&mut wheel, at(10_000_000)).into_iter().eq(0..timers));
}

#[test]
fn a_stale_id_cancels_nothing() {
    let mut wheel = Wheel::new(START);
    let fired = wheel.arm(at(1), 1);
    assert_eq!(pop_keys(&mut wheel, at(1)), [1]);
    let cancelled = wheel.arm(at(2), 2);
    assert!(wheel.cancel(cancelled));
    wheel.arm(at(3), 3);
    assert!(!wheel.cancel(fired));
    assert!(!wheel.cancel(cancelled));
    assert_eq!(pop_keys(&mut wheel, at(3)), [3]);
}

#[test]
fn a_timer_can_be_cancelled_until_it_was_popped() {
    let mut wheel = Wheel::new(START);
    let ids: Vec<_> = (0..20).map(|key| wheel.arm(at(50), key)).collect();
    let mut popped = Vec::new();
    // The limit leaves the others in the heap.
    assert_eq!(wheel.pop_due(at(50), 1, &mut popped), Progress::More);
    for key in (0..20).step_by(3) {
        assert_eq!(wheel.cancel(ids[key]), key != 0);
    }
    let left: Vec<_> = (0..20).filter(|key| key % 3 != 0).collect();
    assert_eq!(pop_keys(&mut wheel, at(50)), left);
}

#[test]
fn whoever_sleeps_until_next_gets_to_a_deadline_in_nine_turns() {
    for millis in [1, 100, 5_000, 90 * 86_400_000, 7_000 * 365 * 86_400_000] {
        let mut wheel = Wheel::new(START);
        wheel.arm(at(millis), 1);
        let mut turns = 0;
        let mut now = START;
        while let Some(next) = wheel.next() {
            assert!(next > now && next <= at(millis), "{millis}: {next}");
            now = next;
            pop_all(&mut wheel, now);
            turns += 1;
        }
        assert_eq!(now, at(millis));
        assert!(turns <= 9, "{turns} turns for {millis} ms");
    }
}

#[test]
fn one_call_moves_no_more_than_it_may() {
    let timers = 10 * MOVES_MAX as u64;
    let mut wheel = Wheel::new(START);
    for key in (0..timers).rev() {
        wheel.arm(at(100_000), key);
    }
    let mut popped = Vec::new();
    for _ in 0..10 {
        assert!(popped.is_empty(), "the order is not certain before all of them were moved");
        assert_eq!(wheel.pop_due(at(100_000), NO_LIMIT, &mut popped), Progress::More);
    }
    assert!(pop_keys(&mut wheel, at(100_000)).into_iter().eq(0..timers));
}

#[test]
fn a_million_timers_take_less_than_32_bytes_each_even_when_all_are_due() {
    const TIMERS: usize = 1_000_000;
    let mut wheel = Wheel::new(START);
    for key in 0..TIMERS as u64 {
        wheel.arm(at(86_400_000), key);
    }
    let per_timer = |wheel: &Wheel| wheel.memory_bytes() as f64 / TIMERS as f64;
    assert!(per_timer(&wheel) < 24.1, "{} while they wait", per_timer(&wheel));
    let mut popped = Vec::new();
    let mut calls = 0;
    while popped.is_empty() {
        wheel.pop_due(at(86_400_000), 1, &mut popped);
        calls += 1;
    }
    assert!(calls > TIMERS / MOVES_MAX);
    assert!(per_timer(&wheel) <= 32.0, "{} when they are due", per_timer(&wheel));
}

#[test]
fn memory_is_used_again() {
    let mut wheel = Wheel::new(START);
    let mut arm_and_fire = |hour: i64| {
        let begin = at(hour * 3_600_000);
        for key in 0..5_000_u64 {
            wheel.arm(begin + Span::from_millis(key.cast_signed() % 977), key);
        }
        assert_eq!(pop_all(&mut wheel, begin + Span::from_secs(1)).len(), 5_000);
        wheel.memory_bytes()
    };
    let warm = arm_and_fire(0);
    for hour in 1..20 {
        assert_eq!(arm_and_fire(hour), warm);
    }
}
