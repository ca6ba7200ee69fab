//! What a pause and a bake are: clocks that stand still, and clocks that run their whole time.

use super::{Broken, Step, Verdict, timers::timer};
use phasegate_engine::{
    event::{Actor, Happened, ReleaseEvent},
    pipeline::LONGEST_WAIT,
    release::{Held, HeldWait, Release, ReleaseState, Stage, Wait},
    time::Timestamp,
};
use std::collections::BTreeMap;

pub(crate) fn a_pause_keeps_what_was_left(step: Step<'_>) -> Verdict {
    let wall = step.wall;
    for (before, release, change) in step.motions() {
        let Some(before) = before else { continue };
        let id = release.id();
        for event in &change.events {
            match (&event.happened, &before.progress.stage) {
                (
                    Happened::Paused { held: Held::Running { phase, wait }, cause },
                    Stage::Running { phase: was_at, wait: was },
                ) if phase == was_at => {
                    let kept = match (was, wait) {
                        (Wait::Bake { ends }, HeldWait::Bake { remaining }) => {
                            *remaining == ends.since(wall).min(LONGEST_WAIT)
                        }
                        (Wait::Approval { expires }, HeldWait::Approval { remaining }) => {
                            *remaining == expires.map(|at| at.since(wall).min(LONGEST_WAIT))
                        }
                        (Wait::Guards { ended, .. }, HeldWait::Guards { ended: kept }) => {
                            ended == kept
                        }
                        (Wait::Bake { ends }, HeldWait::Guards { .. }) => *ends <= wall,
                        (Wait::Window { .. }, HeldWait::Window) => true,
                        _ => false,
                    };
                    hold!(a_pause_keeps_what_was_left, kept, "{id} at {wall}: {was:?}, {event:?}");
                }
                (
                    Happened::Unpaused { to: Some(Wait::Bake { ends }) },
                    Stage::Paused {
                        held: Held::Running { wait: HeldWait::Bake { remaining }, .. },
                        ..
                    },
                ) => {
                    let kept = *ends == wall + *remaining;
                    hold!(a_pause_keeps_what_was_left, kept, "{id} had {remaining}: {event:?}");
                }
                (
                    Happened::Unpaused { to: Some(Wait::Approval { expires }) },
                    Stage::Paused {
                        held: Held::Running { wait: HeldWait::Approval { remaining }, .. },
                        ..
                    },
                ) => {
                    let kept = *expires == remaining.map(|remaining| wall + remaining);
                    hold!(a_pause_keeps_what_was_left, kept, "{id} had {remaining:?}: {event:?}");
                }
                _ => {}
            }
        }
    }
    Ok(())
}

pub(crate) fn a_paused_release_stands_still(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let Some(before) = before.filter(|before| before.state() == ReleaseState::Paused) else {
            continue;
        };
        let id = release.id();
        let events = &change.events;
        let unpaused = events.iter().any(|e| matches!(e.happened, Happened::Unpaused { .. }));
        let is_timer =
            |event: &ReleaseEvent| event.actor == Actor::Engine && timer(&event.happened).is_some();
        let by_timer = !unpaused && events.iter().any(is_timer);
        let by_engine = !unpaused && step.asked.is_none();
        hold!(a_paused_release_stands_still, !by_timer && !by_engine, "{id}: {events:?}");
        if unpaused || release.is_over() {
            continue;
        }
        let still = release.state() == ReleaseState::Paused
            && release.current() == before.current()
            && applied(release) == applied(before);
        hold!(a_paused_release_stands_still, still, "{id}: {events:?}");
        let (Stage::Paused { held: was, .. }, Stage::Paused { held: is, .. }) =
            (&before.progress.stage, &release.progress.stage)
        else {
            continue;
        };
        let adjusted = events.iter().any(|e| matches!(e.happened, Happened::BakeAdjusted { .. }));
        hold!(a_paused_release_stands_still, was == is || adjusted, "{id}: {was:?}, {is:?}");
    }
    Ok(())
}

fn applied(release: &Release) -> Vec<bool> {
    release.progress.phases.iter().map(|phase| phase.applied).collect()
}

/// Counts how long each bake ran, by the clock, whatever the engine says of deadlines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(BTreeMap<String, Meter>);

#[derive(Clone, Debug)]
struct Meter {
    phase: usize,
    required: i64,
    ran: i64,
    since: Option<Timestamp>,
    elapsed: bool,
}

impl Meter {
    fn total(&self, now: Timestamp) -> i64 {
        self.ran + self.since.map_or(0, |since| now.as_millis() - since.as_millis())
    }
}

impl Meters {
    pub(crate) fn a_bake_is_never_cut_short(&mut self, step: Step<'_>) -> Verdict {
        let wall = step.wall;
        for (_, release, change) in step.motions() {
            let id = release.id().to_string();
            for event in &change.events {
                match &event.happened {
                    Happened::PhaseApplied { phase, .. } => {
                        let required = release.phase(*phase).bake.as_millis();
                        let (phase, since) = (phase.get(), Some(wall));
                        let meter = Meter { phase, required, ran: 0, since, elapsed: false };
                        self.0.insert(id.clone(), meter);
                    }
                    Happened::BakeAdjusted { remaining, ends, .. } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        meter.required = meter.total(wall) + remaining.as_millis();
                        meter.elapsed = false;
                        if ends.is_some() && meter.since.is_none() {
                            meter.since = Some(wall);
                        }
                    }
                    Happened::Paused { .. } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        // What a clock that was set back adds is not kept beyond the longest wait.
                        let least = meter.required - LONGEST_WAIT.as_millis();
                        meter.ran = meter.total(wall).max(least);
                        meter.since = None;
                    }
                    Happened::Unpaused { to } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        if matches!(to, Some(Wait::Bake { .. })) {
                            meter.since = Some(wall);
                        }
                    }
                    Happened::BakeElapsed { phase, .. }
                    | Happened::PhaseSucceeded { phase, .. } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        let ran = meter.total(wall);
                        let long_enough = meter.elapsed || ran >= meter.required;
                        hold!(
                            a_bake_is_never_cut_short,
                            meter.phase == phase.get() && long_enough,
                            "{id} left {phase:?} after {ran} ms: {meter:?}"
                        );
                        meter.elapsed = true;
                    }
                    Happened::Triggered
                    | Happened::Started { .. }
                    | Happened::PhaseEntered { .. }
                    | Happened::ApprovalRecorded { .. }
                    | Happened::ApprovalRejected { .. }
                    | Happened::WindowOpened { .. }
                    | Happened::WindowRescheduled { .. }
                    | Happened::WindowOverridden { .. }
                    | Happened::GuardReported { .. }
                    | Happened::PhaseSkipped { .. }
                    | Happened::Succeeded { .. }
                    | Happened::Aborted { .. }
                    | Happened::Failed { .. } => {}
                }
            }
        }
        Ok(())
    }
}
