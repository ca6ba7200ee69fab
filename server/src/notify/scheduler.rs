//! What to send next, and what to write down of what was sent. Pure: rows, the time and chance are
//! arguments, and nothing is sent here.
//!
//! Promises: a row that is handed out is not handed out again before it was settled; a row is left
//! pending, delivered, or dead, and nothing else; what one sink does changes nothing for another.

use super::{
    breaker::{Breaker, Permit},
    schedule::{self, RETRY_AFTER_MAX},
};
use crate::driver::{Outbox, OutboxKey, OutboxRow, OutboxUpdate};
use phasegate_engine::{
    id::SinkId,
    time::{Span, Timestamp},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// Attempts at a time for one sink: some slow answers hold nobody up, and no receiver is flooded.
pub const ATTEMPTS_AT_A_TIME: usize = 4;

/// Rows that are given up at a time: a batch that the writer takes without being held up.
const GIVEN_UP_AT_A_TIME: usize = 256;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may not have it.
    Failed(Fault),
}

/// Why a receiver may not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What follows from it.
    pub kind: FaultKind,
    /// For people; without anything secret.
    pub text: String,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing was heard, or not in time.
    Unreachable,
    /// The receiver cannot now; it may say when to come back.
    Overloaded(Option<Span>),
    /// The receiver answers, and does not take this.
    Refused,
    /// The receiver wants nothing any more.
    Gone,
    /// Our own rules or settings keep it from being sent.
    Forbidden,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Rows to send. Each is taken: [`Scheduler::finished`] is to be told of it.
    pub(super) start: Vec<OutboxKey>,
    /// Rows that are given up without an attempt. Each is taken until [`Scheduler::settled`].
    pub(super) given_up: Vec<OutboxUpdate>,
    /// When to ask again, if nothing happens before.
    pub(super) wake: Option<Timestamp>,
}

/// What is known of one sink beside its rows.
#[derive(Debug, Default)]
struct Lane {
    /// Rows that are being sent.
    running: BTreeSet<u64>,
    /// Rows whose end is being written down.
    settling: BTreeSet<u64>,
    breaker: Breaker,
    /// The receiver has asked to be left alone until then.
    throttled_until: Option<Timestamp>,
    /// Why nothing is sent, and all rows are given up.
    closed: Option<&'static str>,
}

/// Whether a sink is sent to, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Open,
    /// It did not answer some times, and is left alone until then.
    Paused(Timestamp),
    /// It has answered 410, and is sent nothing until the settings change.
    Gone,
}

/// Decides over all sinks.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    lanes: BTreeMap<SinkId, Lane>,
}

impl Scheduler {
    /// For these sinks, none of which is known to be in trouble.
    pub(super) fn new(sinks: impl IntoIterator<Item = SinkId>) -> Self {
        Self { lanes: sinks.into_iter().map(|sink| (sink, Lane::default())).collect() }
    }

    /// The settings have changed: what was held against a sink is forgotten. What is under way stays so.
    pub(super) fn configure(&mut self, sinks: impl IntoIterator<Item = SinkId>) {
        let mut old = std::mem::take(&mut self.lanes);
        for sink in sinks {
            let lane = old.remove(&sink).unwrap_or_default();
            let lane = Lane { running: lane.running, settling: lane.settling, ..Lane::default() };
            self.lanes.insert(sink, lane);
        }
        // Rows of a sink that is no more may be under way still, and must not be taken twice.
        for (sink, lane) in old {
            if !(lane.running.is_empty() && lane.settling.is_empty()) {
                self.lanes.insert(sink, Lane { closed: Some(NO_SUCH_SINK), ..lane });
            }
        }
    }

    /// Takes what is to be sent now, the oldest rows of each sink first.
    pub(super) fn plan(&mut self, rows: &Outbox, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let mut next = rows.keys().next();
        while let Some(OutboxKey { sink, .. }) = next {
            let mut slots = self.slots(sink, now, &mut plan);
            let first = OutboxKey { sink: sink.clone(), sequence: 0 };
            for (key, row) in rows.range(first..).take_while(|(key, _)| key.sink == *sink) {
                // A sink that takes nothing more costs nothing more, however much waits for it.
                if matches!(slots, Slots::Send(0)) {
                    break;
                }
                if row.is_pending() {
                    self.consider(key, row, now, &mut slots, &mut plan);
                }
            }
            let last = OutboxKey { sink: sink.clone(), sequence: u64::MAX };
            next = rows.range((Bound::Excluded(last), Bound::Unbounded)).next().map(|(key, _)| key);
        }
        plan
    }

    fn slots(&self, sink: &SinkId, now: Timestamp, plan: &mut Plan) -> Slots {
        let Some(lane) = self.lanes.get(sink) else { return Slots::GiveUp(NO_SUCH_SINK) };
        if let Some(why) = lane.closed {
            return Slots::GiveUp(why);
        }
        if let Some(until) = lane.throttled_until.filter(|until| now < *until) {
            plan.wake_at(until);
            return Slots::Send(0);
        }
        let free = ATTEMPTS_AT_A_TIME.saturating_sub(lane.running.len());
        match lane.breaker.permit(now) {
            Permit::Any => Slots::Send(free),
            Permit::One => Slots::Send(free.min(1)),
            Permit::None(until) => {
                until.into_iter().for_each(|until| plan.wake_at(until));
                Slots::Send(0)
            }
        }
    }

    fn consider(
        &mut self,
        key: &OutboxKey,
        row: &OutboxRow,
        now: Timestamp,
        slots: &mut Slots,
        plan: &mut Plan,
    ) {
        let lane = match slots {
            Slots::Send(0) => return,
            Slots::Send(_) | Slots::GiveUp(_) => {
                self.lanes.entry(key.sink.clone()).or_insert_with(|| {
                    // Only to remember what is under way; see `configure`.
                    Lane { closed: Some(NO_SUCH_SINK), ..Lane::default() }
                })
            }
        };
        if lane.running.contains(&key.sequence) || lane.settling.contains(&key.sequence) {
            return;
        }
        match slots {
            Slots::GiveUp(why) => {
                if plan.given_up.len() < GIVEN_UP_AT_A_TIME {
                    lane.settling.insert(key.sequence);
                    let error = (*why).into();
                    plan.given_up.push(OutboxUpdate::Dead { key: key.clone(), error });
                }
            }
            Slots::Send(free) => {
                if now < row.next_at {
                    plan.wake_at(row.next_at);
                    return;
                }
                *free -= 1;
                lane.breaker = lane.breaker.probing();
                lane.running.insert(key.sequence);
                plan.start.push(key.clone());
            }
        }
    }

    /// An attempt has ended. Gives what is to be written down; until [`Self::settled`] is told of it,
    /// the row stays taken. `attempts` were made before this one.
    pub(super) fn finished(
        &mut self,
        key: &OutboxKey,
        attempts: u32,
        outcome: Outcome,
        now: Timestamp,
        random: u64,
    ) -> OutboxUpdate {
        let lane = self.lanes.entry(key.sink.clone()).or_default();
        lane.running.remove(&key.sequence);
        lane.settling.insert(key.sequence);
        let key = key.clone();
        let Fault { kind, text } = match outcome {
            Outcome::Delivered => {
                lane.breaker = lane.breaker.answered();
                return OutboxUpdate::Delivered(key);
            }
            Outcome::Failed(fault) => fault,
        };
        let attempts = attempts.saturating_add(1);
        let error = text.into();
        let wanted = match kind {
            FaultKind::Unreachable => {
                lane.breaker = lane.breaker.failed(now, random);
                None
            }
            FaultKind::Overloaded(later) => {
                lane.breaker = lane.breaker.failed(now, random);
                let later = later.map(|later| later.min(RETRY_AFTER_MAX));
                lane.throttled_until = later.map(|later| now + later).max(lane.throttled_until);
                later
            }
            FaultKind::Refused => {
                lane.breaker = lane.breaker.answered();
                None
            }
            FaultKind::Gone => {
                lane.closed = Some(GONE);
                return OutboxUpdate::Dead { key, error };
            }
            // Nobody was asked, so nothing is known about the receiver, and a probe has shown nothing.
            FaultKind::Forbidden => {
                lane.breaker = match lane.breaker {
                    Breaker::Probing { .. } => lane.breaker.failed(now, random),
                    other @ (Breaker::Closed { .. } | Breaker::Open { .. }) => other,
                };
                None
            }
        };
        match schedule::delay(attempts, random) {
            Some(delay) => {
                let next_at = now + wanted.map_or(delay, |wanted| wanted.max(delay));
                OutboxUpdate::Failed { key, error, next_at }
            }
            None => OutboxUpdate::Dead { key, error },
        }
    }

    /// What was to be written down of these rows is durable, and the rows that are planned with next
    /// show it.
    pub(super) fn settled<'a>(&mut self, keys: impl IntoIterator<Item = &'a OutboxKey>) {
        for key in keys {
            if let Some(lane) = self.lanes.get_mut(&key.sink) {
                lane.settling.remove(&key.sequence);
            }
        }
    }

    /// How a sink stands.
    pub(super) fn standing(&self, sink: &SinkId, now: Timestamp) -> Standing {
        let Some(lane) = self.lanes.get(sink) else { return Standing::Open };
        if lane.closed.is_some() {
            return Standing::Gone;
        }
        let paused = match lane.breaker.permit(now) {
            Permit::None(until) => until,
            Permit::Any | Permit::One => None,
        };
        let until = lane.throttled_until.filter(|until| now < *until).max(paused);
        until.map_or(Standing::Open, Standing::Paused)
    }
}

/// What the rows of one sink may do.
enum Slots {
    /// So many may be sent.
    Send(usize),
    /// All are given up.
    GiveUp(&'static str),
}

const NO_SUCH_SINK: &str = "the file of notifications names no such sink";
const GONE: &str =
    "the receiver has answered 410 Gone and is sent nothing until the settings change";

impl Plan {
    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

#[cfg(test)]
mod tests;
