//! The timers that are armed, by when they are due. Rebuilt from the state at the start; nothing of
//! it is stored.

use phasegate_engine::{
    Timer, deadline,
    id::Revision,
    release::Release,
    time::Timestamp,
    wheel::{DueTimer, Progress, TimerId, Wheel},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Timers taken from the wheel at once: as many as are fired in one batch.
const TAKEN_AT_ONCE: usize = 1024;
/// How often the wheel is asked in one turn. Each time takes well below a millisecond, however many
/// timers are due; calls come in between turns.
const ASKED_IN_A_TURN: usize = 8;

/// A timer on its way to be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The commit that created the release.
    pub(super) created: Revision,
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
/// and then by creation of the release, so that a restart fires them in the order in which they
/// would have fired.
#[derive(Debug)]
pub(super) struct Alarms {
    wheel: Wheel,
    /// A tree, because a table of a million would be half empty.
    armed: BTreeMap<Revision, Armed>,
    due: BTreeSet<(Timestamp, Revision)>,
    overdue: BTreeSet<(Timestamp, Revision)>,
    progress: Progress,
}

/// By the revision that created the release: no other release has it.
#[derive(Clone, Copy, Debug)]
struct Armed {
    at: Timestamp,
    generation: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Wheel(TimerId),
    Due,
    Overdue,
}

impl Alarms {
    /// With the timers of these releases.
    pub(super) fn of<'a>(
        releases: impl IntoIterator<Item = &'a Arc<Release>>,
        now: Timestamp,
    ) -> Self {
        let mut wheel = Wheel::new(now);
        let armed = releases.into_iter().filter_map(|release| {
            let Timer { at, .. } = deadline(release, now)?;
            let created = release.proposal.created;
            let place = Place::Wheel(wheel.arm(at, created.get()));
            let generation = release.progress.timer_generation;
            Some((created, Armed { at, generation, place }))
        });
        // All at once, which leaves no page of the tree half empty.
        let armed = armed.collect();
        let (due, overdue) = (BTreeSet::new(), BTreeSet::new());
        Self { wheel, armed, due, overdue, progress: Progress::Done }
    }

    /// Arms the timer of a release, or disarms it, so that it is as the release says.
    pub(super) fn track(&mut self, release: &Release, now: Timestamp) {
        let wanted = deadline(release, now).map(|Timer { at, .. }| at);
        let generation = release.progress.timer_generation;
        let created = release.proposal.created;
        if let Some(armed) = self.armed.get(&created) {
            if Some(armed.at) == wanted && armed.generation == generation {
                return;
            }
            self.disarm(created);
        }
        if let Some(at) = wanted {
            let place = Place::Wheel(self.wheel.arm(at, created.get()));
            self.armed.insert(created, Armed { at, generation, place });
        }
    }

    fn disarm(&mut self, created: Revision) -> Option<Armed> {
        let armed = self.armed.remove(&created)?;
        match armed.place {
            Place::Wheel(timer) => self.wheel.cancel(timer),
            Place::Due => self.due.remove(&(armed.at, created)),
            Place::Overdue => self.overdue.remove(&(armed.at, created)),
        };
        Some(armed)
    }

    /// Moves what is due at `now` into the queues, or a part of it if it is very much.
    pub(super) fn collect_due(&mut self, now: Timestamp, urgency: impl Fn(Timestamp) -> Urgency) {
        let mut taken = Vec::new();
        for _ in 0..ASKED_IN_A_TURN {
            self.progress = self.wheel.pop_due(now, TAKEN_AT_ONCE, &mut taken);
            for DueTimer { deadline: at, key } in taken.drain(..) {
                let (queue, place) = match urgency(at) {
                    Urgency::Now => (&mut self.due, Place::Due),
                    Urgency::Paced => (&mut self.overdue, Place::Overdue),
                };
                let created = Revision::new(key);
                if let Some(armed) = self.armed.get_mut(&created) {
                    armed.place = place;
                    queue.insert((at, created));
                }
            }
            if self.progress == Progress::Done {
                return;
            }
        }
    }

    /// Takes the first one whose time has just come.
    pub(super) fn pop_due(&mut self) -> Option<Due> {
        let (_, created) = *self.due.first()?;
        self.pop(created)
    }

    /// Takes the first overdue one that is admitted.
    pub(super) fn pop_overdue(&mut self, admits: impl Fn(Revision) -> bool) -> Option<Due> {
        let (_, created) = *self.overdue.iter().find(|(_, created)| admits(*created))?;
        self.pop(created)
    }

    fn pop(&mut self, created: Revision) -> Option<Due> {
        let Armed { at, generation, .. } = self.disarm(created)?;
        Some(Due { created, at, generation })
    }

    /// When to look next, as far as the wheel knows: a deadline, or a moment before it.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.wheel.next()
    }

    /// True if some whose time has just come are not taken yet, or if the wheel may hold more that
    /// are due.
    pub(super) fn any_due(&self) -> bool {
        !self.due.is_empty() || self.progress == Progress::More
    }

    /// How many overdue ones wait.
    pub(super) fn overdue(&self) -> usize {
        self.overdue.len()
    }
}
