//! The timers that are armed, by when they are due. Rebuilt from the state at the start; nothing of
//! it is stored.

use phasegate_engine::{Timer, deadline, id::ReleaseId, release::Release, time::Timestamp};
use std::collections::{BTreeSet, HashMap};

/// A timer on its way to be fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) release: ReleaseId,
    pub(super) at: Timestamp,
    pub(super) generation: u64,
}

/// How a timer that is due is to be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Its time has just come.
    Now,
    /// Its time came while nobody looked: with a limited rate.
    Paced,
}

/// One timer for each release that has a deadline. Those that are due are in two queues, by deadline
/// and then by release, so that a restart fires them in the order in which they would have fired.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    // Only ever asked for a release, so its order does not matter.
    armed: HashMap<ReleaseId, Armed>,
    ahead: BTreeSet<(Timestamp, ReleaseId)>,
    due: BTreeSet<(Timestamp, ReleaseId)>,
    overdue: BTreeSet<(Timestamp, ReleaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    at: Timestamp,
    generation: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Ahead,
    Due,
    Overdue,
}

impl Alarms {
    /// Arms the timer of a release, or disarms it, so that it is as the release says.
    pub(super) fn track(&mut self, release: &Release, now: Timestamp) {
        let wanted = deadline(release, now).map(|Timer { at, .. }| at);
        let generation = release.progress.timer_generation;
        if let Some(armed) = self.armed.get(release.id()) {
            if Some(armed.at) == wanted && armed.generation == generation {
                return;
            }
            self.disarm(release.id());
        }
        if let Some(at) = wanted {
            let armed = Armed { at, generation, place: Place::Ahead };
            self.armed.insert(release.id().clone(), armed);
            self.ahead.insert((at, release.id().clone()));
        }
    }

    fn disarm(&mut self, release: &ReleaseId) -> Option<Armed> {
        let armed = self.armed.remove(release)?;
        let queue = match armed.place {
            Place::Ahead => &mut self.ahead,
            Place::Due => &mut self.due,
            Place::Overdue => &mut self.overdue,
        };
        queue.remove(&(armed.at, release.clone()));
        Some(armed)
    }

    /// Moves what is due at `now` into the queues.
    pub(super) fn collect_due(&mut self, now: Timestamp, urgency: impl Fn(Timestamp) -> Urgency) {
        while let Some((at, release)) = self.ahead.first().filter(|(at, _)| *at <= now) {
            let (at, release) = (*at, release.clone());
            self.ahead.pop_first();
            let (queue, place) = match urgency(at) {
                Urgency::Now => (&mut self.due, Place::Due),
                Urgency::Paced => (&mut self.overdue, Place::Overdue),
            };
            if let Some(armed) = self.armed.get_mut(&release) {
                armed.place = place;
            }
            queue.insert((at, release));
        }
    }

    /// Takes the first one whose time has just come.
    pub(super) fn pop_due(&mut self) -> Option<Due> {
        let (_, release) = self.due.first()?.clone();
        self.pop(release)
    }

    /// Takes the first overdue one that is admitted.
    pub(super) fn pop_overdue(&mut self, admits: impl Fn(&ReleaseId) -> bool) -> Option<Due> {
        let (_, release) = self.overdue.iter().find(|(_, release)| admits(release))?.clone();
        self.pop(release)
    }

    fn pop(&mut self, release: ReleaseId) -> Option<Due> {
        let Armed { at, generation, .. } = self.disarm(&release)?;
        Some(Due { release, at, generation })
    }

    /// The next deadline of those that were not due when [`Self::collect_due`] looked.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.ahead.first().map(|(at, _)| *at)
    }

    /// True if some whose time has just come are not taken yet.
    pub(super) fn any_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// How many overdue ones wait.
    pub(super) fn overdue(&self) -> usize {
        self.overdue.len()
    }
}
