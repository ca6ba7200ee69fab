//! Firing timers: those that are due, those that a call waits for, and those on the way of a manual
//! clock.

use super::{Batch, StoreFailed, Writer, duration, upkeep::Cleaning};
use crate::{
    clock::Clock,
    driver::{
        alarms::{Due, Urgency},
        handle::Error,
        notify::By,
        trust::Firing,
    },
};
use phasegate_engine::{
    Command, State, TimerKind,
    command::{Fire, Lateness},
    deadline::{deadline, next_due},
    id::{FlagId, Revision},
    time::{Span, Timestamp},
};
use std::sync::Arc;

/// Timers fired in one batch, besides those that calls wait for. As many as calls, so that neither
/// starves the other.
pub(super) const BATCH_TIMERS_MAX: usize = 1024;
/// Timers of one flag that are fired before one call. A flag has at most eleven releases, each with
/// at most fifty phases and some timers in each; more than this is a defect.
const FIRES_BEFORE_CALL_MAX: usize = 2000;

/// Whether a timer did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fired {
    Something,
    Nothing,
}

impl Writer {
    pub(super) fn may_fire(&self) -> bool {
        self.trust.firing() == Firing::Allowed && !self.space.is_short()
    }

    /// Fires what is due: what has just come due, then what is overdue, as fast as it may.
    pub(super) fn fire_due(&mut self, now: Timestamp, batch: &mut Batch) {
        if self.may_fire() {
            let trust = &self.trust;
            self.alarms.collect_due(now, |at| {
                if trust.is_overdue(at) { Urgency::Paced } else { Urgency::Now }
            });
            for _ in 0..BATCH_TIMERS_MAX {
                let Some(due) = self.alarms.pop_due() else { break };
                self.fire(&due, now, batch);
            }
            while self.pacing.has_room() {
                let (state, pacing) = (&self.state, &self.pacing);
                let admits = |created: Revision| {
                    let release = state.release_created(created);
                    release.is_none_or(|release| pacing.has_room_for(&release.proposal.flag))
                };
                let Some(due) = self.alarms.pop_overdue(admits) else { break };
                if let Some(release) = state.release_created(due.created) {
                    self.pacing.count(&release.proposal.flag);
                }
                self.fire(&due, now, batch);
            }
        }
        self.published().metrics.timers_overdue.set(self.alarms.overdue());
    }

    /// Fires a timer, after those of its flag that were due before it.
    fn fire(&mut self, due: &Due, now: Timestamp, batch: &mut Batch) {
        let generation = |state: &State| {
            state.release_created(due.created).map(|release| release.progress.timer_generation)
        };
        if generation(&self.state) != Some(due.generation) {
            self.published().metrics.timers_stale.add(1);
            return;
        }
        let Some(release) = self.state.release_created(due.created).map(Arc::clone) else { return };
        // Not those that came due after it: older ones of other flags come before them.
        self.fire_flag(&release.proposal.flag, due.at, now, batch);
        if generation(&self.state) != Some(due.generation) {
            // That was the timer itself.
            return;
        }
        // All that it does is to look: at a flag that is taken, or for an opening of a window.
        self.fire_one(due, TimerKind::Window, now, batch);
        if let Some(release) = self.state.release_created(due.created)
            && deadline(release, now).is_some_and(|timer| timer.at > now)
        {
            self.alarms.track(release, now);
        }
    }

    /// Fires the timers of a flag that were due at `up_to` and are at `now`, oldest deadline first.
    pub(super) fn fire_flag(
        &mut self,
        flag: &FlagId,
        up_to: Timestamp,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        if !self.may_fire() {
            return;
        }
        for _ in 0..FIRES_BEFORE_CALL_MAX {
            let next = next_due(&self.state, flag, now).filter(|(_, timer)| timer.at <= up_to);
            let Some((release, timer)) = next else { return };
            let due = Due {
                created: release.proposal.created,
                at: timer.at,
                generation: release.progress.timer_generation,
            };
            if self.fire_one(&due, timer.kind, now, batch) == Fired::Nothing {
                // The way out of a release must not depend on its timers, so the call goes on.
                tracing::error!(%flag, "a due timer does nothing");
                return;
            }
        }
        tracing::error!(%flag, "more timers of a flag are due than it can have");
    }

    fn fire_one(&mut self, due: &Due, kind: TimerKind, now: Timestamp, batch: &mut Batch) -> Fired {
        let Due { created, at, generation } = *due;
        let Some(release) = self.state.release_created(created) else { return Fired::Nothing };
        let release = release.id().clone();
        let lateness = self.trust.lateness(at, now);
        let fire = Fire { release: release.clone(), generation, lateness };
        let Ok(Some((commit, after))) = self.judge(&Command::Fire(fire), now) else {
            return Fired::Nothing;
        };
        self.stage(&commit, after, None, &By::default(), now, batch);
        let metrics = &self.published().metrics;
        metrics.timers_fired.add(1);
        metrics.timer_lateness.record(duration(now.since(at)));
        if let Lateness::Hold(late) = lateness
            && kind.may_grow_exposure()
        {
            metrics.timers_held.add(1);
            tracing::warn!(%release, late_ms = late.as_millis(), "a timer was found too late");
        }
        Fired::Something
    }

    /// Moves the manual clock from deadline to deadline.
    pub(super) fn advance(&mut self, by: Span) -> Result<Result<Timestamp, Error>, StoreFailed> {
        let clock = Arc::clone(&self.clock);
        let Some(manual) = clock.as_manual() else {
            // The handle does not send this without a manual clock.
            return Ok(Err(Error::Stopped));
        };
        let target = manual.now() + by;
        loop {
            self.look();
            if self.space.is_short() {
                return Ok(Err(Error::DiskFull));
            }
            let mut batch = Batch::default();
            self.fire_due(manual.now(), &mut batch);
            self.remind(manual.now(), &mut batch);
            self.finish(batch)?;
            if self.alarms.any_due() {
                continue;
            }
            match self.next_moment() {
                Some(at) if at <= target => manual.move_to(at),
                Some(_) | None => break,
            }
        }
        manual.move_to(target);
        self.cleaning = Cleaning::Now;
        Ok(Ok(target))
    }
}
