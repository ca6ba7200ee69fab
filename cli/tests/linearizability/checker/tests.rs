//! The checker on histories that are told in a line: a register that can be read, written, written
//! if it holds something, and incremented once for each request id.

use super::*;
use std::collections::BTreeSet;

struct Register;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Call {
    Read,
    Write(i32),
    /// From the first to the second.
    Swap(i32, i32),
    /// Once for each id.
    Increment(u32),
}
use Call::{Increment, Read, Swap, Write};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    value: i32,
    done: BTreeSet<u32>,
}

/// What is answered: the value after the call, or no.
type Answer = Option<i32>;

fn judge(state: &State, call: &Call) -> (State, Answer) {
    let mut after = state.clone();
    match call {
        Read => {}
        Write(value) => after.value = *value,
        Swap(from, to) if state.value == *from => after.value = *to,
        Swap(..) => return (after, None),
        Increment(id) if after.done.insert(*id) => after.value += 1,
        Increment(_) => {}
    }
    let value = after.value;
    (after, Some(value))
}

impl Specification for Register {
    type State = State;
    type Call = Call;
    type Answer = Answer;

    fn answered(&self, state: &State, call: &Call, answer: &Answer) -> Option<State> {
        let (after, legal) = judge(state, call);
        (legal == *answer).then_some(after)
    }

    fn is_idle(&self, state: &State, call: &Call, answer: &Answer) -> bool {
        let is_repeated = matches!(call, Increment(id) if state.done.contains(id));
        *call == Read || answer.is_none() || is_repeated
    }

    fn may_lead_to(&self, _: &State, _: &Answer) -> bool {
        true
    }

    fn unanswered(&self, state: &State, call: &Call) -> Option<State> {
        Some(judge(state, call).0).filter(|after| after != state)
    }
}

type History = Vec<Operation<Call, Answer>>;

/// Answered with a value.
fn told(began: u64, ended: u64, call: Call, value: i32) -> Operation<Call, Answer> {
    Operation { call, began, ended, outcome: Outcome::Answered(Some(value)) }
}

/// Answered with no.
fn refused(began: u64, ended: u64, call: Call) -> Operation<Call, Answer> {
    Operation { call, began, ended, outcome: Outcome::Answered(None) }
}

/// Not answered, and without effect after its end.
fn unknown(began: u64, ended: u64, call: Call) -> Operation<Call, Answer> {
    Operation { call, began, ended, outcome: Outcome::Unknown }
}

const LIMITS: Limits = Limits { steps: 100_000, time: Duration::from_secs(60) };

#[track_caller]
fn accepted(history: History, order: &[usize]) {
    let verdict = check(&Register, State::default(), &history, LIMITS).verdict;
    assert_eq!(verdict, Verdict::Linearizable { order: order.to_vec() });
}

/// `order` fits, and the first of `open` has no place.
#[track_caller]
fn rejected(history: History, order: &[usize], open: &[usize]) {
    let verdict = check(&Register, State::default(), &history, LIMITS).verdict;
    let (order, open) = (order.to_vec(), open.to_vec());
    assert_eq!(verdict, Verdict::NotLinearizable(Stuck { order, open }));
}

#[test]
fn what_came_one_after_the_other_is_legal_in_that_order() {
    accepted(vec![], &[]);
    accepted(
        vec![told(1, 2, Write(5), 5), told(3, 4, Read, 5), refused(5, 6, Swap(4, 7))],
        &[0, 1, 2],
    );
}

#[test]
fn concurrent_operations_are_legal_in_any_order_that_explains_the_answers() {
    // The read saw the second write, which ended after it.
    accepted(
        vec![told(1, 10, Write(1), 1), told(2, 9, Write(2), 2), told(3, 4, Read, 2)],
        &[1, 2, 0],
    );
    // Of two swaps from the same value one wins; the refusal tells which.
    accepted(vec![refused(1, 4, Swap(0, 1)), told(2, 5, Swap(0, 2), 2)], &[1, 0]);
}

#[test]
fn a_lost_update_is_not_legal() {
    // Both swapped from 0, one of them over the other.
    rejected(vec![told(1, 4, Swap(0, 1), 1), told(2, 5, Swap(0, 2), 2)], &[0], &[1]);
    // Acknowledged, and not there any more.
    rejected(vec![told(1, 2, Write(5), 5), told(3, 4, Read, 0)], &[0], &[1]);
}

#[test]
fn a_stale_read_is_not_legal() {
    let history = vec![told(1, 2, Write(1), 1), told(3, 4, Write(2), 2), told(5, 6, Read, 1)];
    rejected(history, &[0, 1], &[2]);
    // While the second write is under way it is.
    accepted(
        vec![told(1, 2, Write(1), 1), told(3, 7, Write(2), 2), told(5, 6, Read, 1)],
        &[0, 2, 1],
    );
}

#[test]
fn reads_that_go_back_are_not_legal() {
    let history = vec![told(1, 9, Write(1), 1), told(2, 3, Read, 1), told(4, 5, Read, 0)];
    rejected(history, &[0, 1], &[2]);
}

#[test]
fn a_refusal_for_a_state_that_was_not_is_not_legal() {
    rejected(vec![told(1, 2, Write(1), 1), refused(3, 4, Swap(1, 2))], &[0], &[1]);
}

#[test]
fn a_value_from_nowhere_is_not_legal() {
    rejected(vec![told(1, 4, Write(1), 1), told(2, 3, Read, 7)], &[0], &[1]);
}

#[test]
fn a_request_that_was_done_twice_is_not_legal() {
    accepted(vec![told(1, 2, Increment(7), 1), told(3, 4, Increment(7), 1)], &[0, 1]);
    rejected(vec![told(1, 2, Increment(7), 1), told(3, 4, Increment(7), 2)], &[0], &[1]);
}

#[test]
fn an_unknown_operation_may_have_taken_effect_or_not() {
    for ended in [2, u64::MAX] {
        let seen = |value| vec![unknown(1, ended, Write(1)), told(3, 4, Read, value)];
        accepted(seen(0), &[1]);
        accepted(seen(1), &[0, 1]);
        rejected(seen(2), &[0], &[1]);
    }
}

#[test]
fn an_unknown_operation_takes_effect_once_and_then_stays() {
    let history = vec![
        unknown(1, u64::MAX, Write(1)),
        told(2, 3, Read, 1),
        told(4, 5, Write(2), 2),
        told(6, 7, Read, 1),
    ];
    rejected(history, &[0, 1, 2], &[3]);
}

#[test]
fn an_unknown_operation_has_no_effect_after_its_end() {
    let history = |value| {
        vec![
            unknown(1, 5, Write(1)),
            told(2, 3, Read, 0),
            told(6, 7, Read, value),
            told(8, 9, Read, 1),
        ]
    };
    accepted(history(1), &[1, 0, 2, 3]);
    // It came to light too late.
    rejected(history(0), &[1, 2], &[3]);
}

#[test]
fn the_retry_of_an_unknown_request_resolves_it() {
    // Done at the first attempt, at the second, and twice.
    let history = |value| vec![unknown(1, 9, Increment(7)), told(2, 3, Increment(7), value)];
    accepted(history(1), &[1]);
    rejected(history(2), &[0], &[1]);
}

#[test]
fn a_search_that_reaches_its_limits_does_not_pass() {
    let history: History = (0..8).map(|n| told(1, 2, Write(n), n)).collect();
    let history = [history, vec![told(3, 4, Read, 99)]].concat();
    let limits = Limits { steps: 100, ..LIMITS };
    let search = check(&Register, State::default(), &history, limits);
    assert!(matches!(search.verdict, Verdict::Undecided(_)), "{:?}", search.verdict);
    // With its memory it is finite: what counts is who is left and who wrote last.
    let search = check(&Register, State::default(), &history, LIMITS);
    assert!(matches!(search.verdict, Verdict::NotLinearizable(_)), "{:?}", search.verdict);
    assert!(search.steps < 8 * 8 * (1 << 8), "{}", search.steps);
}

/// Every history of a few operations, judged by trying all orders.
#[test]
fn the_search_agrees_with_trying_every_order() {
    use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut legal = 0;
    for _ in 0..20_000 {
        let count: u64 = random.random_range(1..=5);
        let mut instants: Vec<u64> = (0..count * 2).collect();
        instants.shuffle(&mut random);
        let history: History = (0..count)
            .map(|_| {
                let (a, b) = (instants.pop().unwrap(), instants.pop().unwrap());
                let call = match random.random_range(0..4) {
                    0 => Read,
                    1 => Write(random.random_range(0..2)),
                    2 => Swap(random.random_range(0..2), random.random_range(0..2)),
                    _ => Increment(random.random_range(0..2)),
                };
                let outcome = match random.random_range(0..4) {
                    0 => Outcome::Unknown,
                    1 => Outcome::Answered(None),
                    _ => Outcome::Answered(Some(random.random_range(0..2))),
                };
                Operation { call, began: a.min(b), ended: a.max(b), outcome }
            })
            .collect();
        let expected =
            some_order_is_legal(&history, &vec![false; history.len()], &State::default());
        let verdict = check(&Register, State::default(), &history, LIMITS).verdict;
        assert_eq!(matches!(verdict, Verdict::Linearizable { .. }), expected, "{history:?}");
        legal += u32::from(expected);
    }
    assert!((2000..18_000).contains(&legal), "both happen: {legal}");
}

/// Next comes anything that nothing left begins after the end of; unknown ones may be left out.
fn some_order_is_legal(history: &History, placed: &[bool], state: &State) -> bool {
    let left: Vec<usize> = (0..history.len()).filter(|o| !placed[*o]).collect();
    let is_unknown = |o: &usize| matches!(history[*o].outcome, Outcome::Unknown);
    if left.iter().all(is_unknown) {
        return true;
    }
    left.iter().any(|&next| {
        let before = |other: &usize| history[*other].ended < history[next].began;
        if left.iter().any(|other| before(other) && !is_unknown(other)) {
            return false;
        }
        // What is unknown and ended before this one cannot come after it any more.
        let passed: Vec<usize> = left.iter().copied().filter(|o| before(o)).collect();
        let (after, legal) = judge(state, &history[next].call);
        let fits = match &history[next].outcome {
            Outcome::Answered(answer) => legal == *answer,
            Outcome::Unknown => true,
        };
        let mut placed = placed.to_vec();
        placed[next] = true;
        passed.iter().for_each(|o| placed[*o] = true);
        fits && some_order_is_legal(history, &placed, &after)
    })
}
