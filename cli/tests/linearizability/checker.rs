//! Is there a legal sequential order of what concurrent callers did and were told?
//!
//! The search of Wing and Gong with the just-in-time rule and the memory of Lowe: the history is read
//! in order of time, and an operation takes its place in the order only when the end of one forces
//! it. What changes nothing from some state on gets its place where it first is legal, because there
//! it stands in nobody's way. A place that was reached before with the same state and the same operations ahead of their
//! end is not searched again. The search knows nothing of what it checks but a [`Specification`],
//! and it is bounded: a history that is too hard is [`Verdict::Undecided`], never passed.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    hash::Hash,
    time::{Duration, Instant},
};

#[cfg(test)]
mod tests;

/// What one thing does when nobody is concurrent.
pub(crate) trait Specification {
    /// Everything that later answers depend on.
    type State: Clone + Eq + Hash;
    /// What may be asked.
    type Call;
    /// What may be answered.
    type Answer;

    /// The state after a call that was answered so; none if this answer is not legal here.
    fn answered(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: &Self::Answer,
    ) -> Option<Self::State>;

    /// True if a call that was answered so changes nothing, in this state and whatever comes after.
    fn is_idle(&self, state: &Self::State, call: &Self::Call, answer: &Self::Answer) -> bool;

    /// False only if this can never be answered from this state on, whatever comes between.
    fn may_lead_to(&self, state: &Self::State, answer: &Self::Answer) -> bool;

    /// The state after a call whose answer nobody got; none if it would change nothing.
    fn unanswered(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

/// One call, from its beginning to its end. It took effect at one instant between the two.
#[derive(Clone, Debug)]
pub(crate) struct Operation<C, A> {
    /// What was asked.
    pub(crate) call: C,
    /// No effect before this instant.
    pub(crate) began: u64,
    /// No effect after this instant.
    pub(crate) ended: u64,
    /// What was answered.
    pub(crate) outcome: Outcome<A>,
}

/// What the caller was told.
#[derive(Clone, Debug)]
pub(crate) enum Outcome<A> {
    /// This.
    Answered(A),
    /// Nothing. It took effect before its end, or never.
    Unknown,
}

/// How much is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Attempts to give one operation the next place.
    pub(crate) steps: u64,
    /// Time for all of them.
    pub(crate) time: Duration,
}

/// What became of the search.
#[derive(Debug)]
pub(crate) struct Search {
    /// Whether there is an order.
    pub(crate) verdict: Verdict,
    /// Attempts to give one operation the next place.
    pub(crate) steps: u64,
    /// How long it took.
    pub(crate) time: Duration,
}

/// Whether there is a legal order. Operations are named by their index in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is, for example this one. Unknown operations that it leaves out never took effect.
    Linearizable {
        /// The operations in that order.
        order: Vec<usize>,
    },
    /// There is none.
    NotLinearizable(Stuck),
    /// The limits were reached.
    Undecided(Stuck),
}

/// As far as a legal order could be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stuck {
    /// The longest legal order of a beginning of the history.
    pub(crate) order: Vec<usize>,
    /// What was under way when it ended and has no place in it. The first has none at all: its end
    /// is what nothing could go beyond.
    pub(crate) open: Vec<usize>,
}

/// Looks for a legal order, from a state.
pub(crate) fn check<Spec: Specification>(
    specification: &Spec,
    initial: Spec::State,
    history: &[Operation<Spec::Call, Spec::Answer>],
    limits: Limits,
) -> Search {
    let begun = Instant::now();
    let timeline = Timeline::new(history);
    let mut searcher = Searcher { specification, history, timeline, limits, begun, steps: 0 };
    let verdict = searcher.search(initial);
    Search { verdict, steps: searcher.steps, time: begun.elapsed() }
}

struct Searcher<'a, Spec: Specification> {
    specification: &'a Spec,
    history: &'a [Operation<Spec::Call, Spec::Answer>],
    timeline: Timeline<'a, Spec::Call, Spec::Answer>,
    limits: Limits,
    begun: Instant,
    steps: u64,
}

/// A place in the search: the end of an operation that has no place in the order yet.
struct Place<S> {
    at: Forced,
    state: S,
    /// The place that led here, and what came next in the order between the two.
    from: Option<usize>,
    placed: Vec<usize>,
    /// How long the order is.
    length: usize,
    /// How many of the order were not answered.
    unknown: usize,
    /// What may come next; the one that has to comes first.
    candidates: Vec<usize>,
}

/// A candidate of a place that is to be tried. The largest is next: where most of the history has
/// been read. Where that is the same, answered operations go deep and are tried first, because
/// their answers soon tell whether they were right; unknown ones fit almost anywhere, so few are
/// tried before many.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    event: usize,
    unknown: Reverse<usize>,
    length: usize,
    place: usize,
    candidate: usize,
}

impl<Spec: Specification> Searcher<'_, Spec> {
    fn search(&mut self, initial: Spec::State) -> Verdict {
        let mut placed = Vec::new();
        let start = self.timeline.next_forced(0, Vec::new());
        let Some(at) = self.settle(start, &initial, &mut placed) else {
            return Verdict::Linearizable { order: placed };
        };
        let mut seen = HashSet::new();
        let mut turns = BinaryHeap::new();
        let mut places = vec![self.place(at, initial, None, placed, &[])];
        let mut deepest = 0;
        turns.extend(self.turn(&places, 0, 0));
        while let Some(Turn { place, candidate, .. }) = turns.pop() {
            if self.steps >= self.limits.steps || self.begun.elapsed() >= self.limits.time {
                return Verdict::Undecided(stuck(&places, deepest));
            }
            turns.extend(self.turn(&places, place, candidate + 1));
            let Place { at, state, candidates, .. } = &places[place];
            let operation = candidates[candidate];
            let Some(state) = self.step(state, operation) else { continue };
            let mut placed = vec![operation];
            let next = self.timeline.after(at, operation);
            let Some(at) = self.settle(next, &state, &mut placed) else {
                let order = [order(&places, place), placed].concat();
                return Verdict::Linearizable { order };
            };
            if !self.is_hopeful(&at, &state) || !seen.insert((at.clone(), state.clone())) {
                continue;
            }
            let index = places.len();
            places.push(self.place(at, state, Some(place), placed, &places));
            let depth = |index: usize| (places[index].at.event, places[index].length);
            if depth(index) > depth(deepest) {
                deepest = index;
            }
            turns.extend(self.turn(&places, index, 0));
        }
        Verdict::NotLinearizable(stuck(&places, deepest))
    }

    fn place(
        &self,
        at: Forced,
        state: Spec::State,
        from: Option<usize>,
        placed: Vec<usize>,
        places: &[Place<Spec::State>],
    ) -> Place<Spec::State> {
        let is_unknown = |operation: &&usize| !self.history[**operation].is_answered();
        let (length, unknown) =
            from.map_or((0, 0), |from| (places[from].length, places[from].unknown));
        let length = length + placed.len();
        let unknown = unknown + placed.iter().filter(is_unknown).count();
        let candidates = self.timeline.open(&at);
        Place { at, state, from, placed, length, unknown, candidates }
    }

    /// The turn of a candidate, if the place has so many.
    fn turn(&self, places: &[Place<Spec::State>], place: usize, candidate: usize) -> Option<Turn> {
        let Place { at, length, unknown, candidates, .. } = &places[place];
        let is_unknown = !self.history[*candidates.get(candidate)?].is_answered();
        let unknown = Reverse(unknown + usize::from(is_unknown));
        Some(Turn { event: at.event, unknown, length: *length, place, candidate })
    }

    /// The state after an operation, if it may come next.
    fn step(&mut self, state: &Spec::State, operation: usize) -> Option<Spec::State> {
        self.steps += 1;
        let Operation { call, outcome, .. } = &self.history[operation];
        match outcome {
            Outcome::Answered(answer) => self.specification.answered(state, call, answer),
            Outcome::Unknown => self.specification.unanswered(state, call),
        }
    }

    /// True unless the next end can never be reached from here.
    fn is_hopeful(&self, at: &Forced, state: &Spec::State) -> bool {
        let Event::End(forced) = self.timeline.events[at.event] else { return true };
        match &self.history[forced].outcome {
            Outcome::Answered(answer) => self.specification.may_lead_to(state, answer),
            Outcome::Unknown => true,
        }
    }

    /// Gives everything its place that may come next and changes nothing from here on.
    fn settle(
        &mut self,
        mut at: Option<Forced>,
        state: &Spec::State,
        order: &mut Vec<usize>,
    ) -> Option<Forced> {
        let mut tried = HashSet::new();
        while let Some(here) = &at {
            let open = self.timeline.open(here);
            let is_unknown = |operation: &&usize| !self.history[**operation].is_answered();
            // What began later than this would keep an unknown one from having its place.
            let limit = open.iter().filter(is_unknown).map(|o| self.history[*o].ended).min();
            let idle = open.into_iter().find(|operation| {
                let Operation { call, began, outcome, .. } = &self.history[*operation];
                let Outcome::Answered(answer) = outcome else { return false };
                self.specification.is_idle(state, call, answer)
                    && limit.is_none_or(|limit| *began <= limit)
                    && tried.insert(*operation)
                    && self.step(state, *operation).as_ref() == Some(state)
            });
            let Some(operation) = idle else { break };
            order.push(operation);
            at = self.timeline.after(here, operation);
        }
        at
    }
}

/// The order that led to a place.
fn order<S>(places: &[Place<S>], place: usize) -> Vec<usize> {
    let parts = std::iter::successors(Some(place), |place| places[*place].from);
    let mut parts: Vec<&[usize]> = parts.map(|place| places[place].placed.as_slice()).collect();
    parts.reverse();
    parts.concat()
}

fn stuck<S>(places: &[Place<S>], place: usize) -> Stuck {
    Stuck { order: order(places, place), open: places[place].candidates.clone() }
}

#[derive(Clone, Copy)]
enum Event {
    Begin(usize),
    End(usize),
}

/// An end that nothing goes beyond before its operation has a place in the order.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Forced {
    /// Index of that end among the events.
    event: usize,
    /// What has its place and is still under way here, by index.
    ahead: Vec<usize>,
}

/// A history as it went by.
///
/// An operation that was answered is under way until its end. One that was not is under way a little
/// longer: until something that began after its end has its place. So it need not be decided at its
/// end whether it took effect, but only when an answer tells.
struct Timeline<'a, C, A> {
    history: &'a [Operation<C, A>],
    events: Vec<Event>,
    /// What is under way at each end of an answered operation: that one first, then the other
    /// answered ones by their end, then those that only may have a place.
    open: Vec<Vec<usize>>,
    /// What is under way at each end of an answered operation and not after it.
    passed: Vec<Vec<usize>>,
}

impl<'a, C, A> Timeline<'a, C, A> {
    fn new(history: &'a [Operation<C, A>]) -> Self {
        let mut events: Vec<(u64, u8, Event)> = Vec::with_capacity(history.len() * 2);
        for (index, operation) in history.iter().enumerate() {
            assert!(operation.began <= operation.ended, "operation {index} ended before it began");
            // At one instant beginnings come first: what touches is concurrent.
            events.push((operation.began, 0, Event::Begin(index)));
            if operation.is_answered() {
                events.push((operation.ended, 1, Event::End(index)));
            }
        }
        events.sort_by_key(|(at, kind, _)| (*at, *kind));
        let events: Vec<Event> = events.into_iter().map(|(_, _, event)| event).collect();
        let mut under_way: Vec<usize> = Vec::new();
        let (mut open, mut passed) = (Vec::new(), Vec::new());
        for event in &events {
            match event {
                Event::Begin(operation) => {
                    under_way.push(*operation);
                    open.push(Vec::new());
                    passed.push(Vec::new());
                }
                Event::End(ending) => {
                    under_way.sort_by_key(|o| {
                        let operation = &history[*o];
                        (o != ending, !operation.is_answered(), operation.ended)
                    });
                    open.push(under_way.clone());
                    let is_over = |o: &mut usize| {
                        let operation = &history[*o];
                        let is_too_late = operation.ended < history[*ending].began;
                        *o == *ending || (!operation.is_answered() && is_too_late)
                    };
                    passed.push(under_way.extract_if(.., is_over).collect());
                }
            }
        }
        Self { history, events, open, passed }
    }

    /// What may come next.
    fn open(&self, at: &Forced) -> Vec<usize> {
        let last_begun = at.ahead.iter().map(|operation| self.history[*operation].began).max();
        let may_come = |operation: &usize| {
            at.ahead.binary_search(operation).is_err()
                && last_begun.is_none_or(|began| began <= self.history[*operation].ended)
        };
        self.open[at.event].iter().copied().filter(may_come).collect()
    }

    /// Where an operation leads that gets its place here.
    fn after(&self, at: &Forced, operation: usize) -> Option<Forced> {
        let mut ahead = at.ahead.clone();
        let index = ahead.partition_point(|other| *other < operation);
        ahead.insert(index, operation);
        self.next_forced(at.event, ahead)
    }

    /// The next end, from an event on, of an operation that has no place yet. None: everything that
    /// was answered has its place.
    fn next_forced(&self, from: usize, mut ahead: Vec<usize>) -> Option<Forced> {
        for (event, what) in self.events.iter().enumerate().skip(from) {
            let Event::End(operation) = what else { continue };
            if ahead.binary_search(operation).is_err() {
                return Some(Forced { event, ahead });
            }
            ahead.retain(|operation| !self.passed[event].contains(operation));
        }
        None
    }
}

impl<C, A> Operation<C, A> {
    fn is_answered(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(_))
    }
}
