//! When timers fire, and when they do not.

use super::{Broken, Step, Verdict};
use crate::world::Overdue;
use phasegate_engine::{
    State,
    deadline::{TimerKind, deadline},
    event::{Change, Happened, TimerRecord},
    id::Revision,
    release::{PauseCause, ReleaseState, Stage, Wait},
    time::{Span, Timestamp},
};
use std::time::Duration;

/// True if a timer of the release itself led to this; it may also be what another one's led to.
pub(crate) fn fired(change: &Change) -> bool {
    change.events.iter().any(|event| {
        let held = matches!(event.happened, Happened::Paused { cause: PauseCause::Overdue(_), .. });
        held || timer(&event.happened).is_some()
    })
}

/// The timer that led to something.
pub(super) fn timer(happened: &Happened) -> Option<TimerRecord> {
    match happened {
        Happened::Started { timer }
        | Happened::WindowOpened { timer, .. }
        | Happened::BakeElapsed { timer, .. }
        | Happened::GuardReported { timer, .. }
        | Happened::PhaseSucceeded { timer, .. }
        | Happened::Failed { timer, .. } => *timer,
        Happened::Triggered
        | Happened::PhaseEntered { .. }
        | Happened::ApprovalRecorded { .. }
        | Happened::ApprovalRejected { .. }
        | Happened::WindowRescheduled { .. }
        | Happened::WindowOverridden { .. }
        | Happened::PhaseApplied { .. }
        | Happened::BakeAdjusted { .. }
        | Happened::PhaseSkipped { .. }
        | Happened::Paused { .. }
        | Happened::Unpaused { .. }
        | Happened::Succeeded { .. }
        | Happened::Aborted { .. } => None,
    }
}

pub(crate) fn a_timer_fires_at_its_time_and_once(step: Step<'_>) -> Verdict {
    let wall = step.wall;
    let mut was_due = false;
    for (before, release, change) in step.motions() {
        let armed = before.and_then(|before| deadline(before, wall));
        let looks_daily = before.is_some_and(|before| {
            matches!(
                before.progress.stage,
                Stage::Running { wait: Wait::Window { opens: None }, .. }
            )
        });
        was_due |= looks_daily || armed.is_some_and(|timer| timer.at <= wall);
        for event in &change.events {
            let id = release.id();
            if let Happened::Paused { cause: PauseCause::Overdue(late), .. } = &event.happened {
                let late = *late;
                let fits =
                    armed.is_some_and(|timer| timer.at <= wall && wall.since(timer.at) == late);
                hold!(a_timer_fires_at_its_time_and_once, fits, "{id}: {armed:?}, {event:?}");
            }
            let Some(TimerRecord { scheduled_for, late }) = timer(&event.happened) else {
                continue;
            };
            let mine = armed.is_some_and(|timer| {
                // Guards whose limits are over together fail together, each with its own.
                timer.at == scheduled_for
                    || timer.kind == TimerKind::Guard && timer.at <= scheduled_for
            });
            let fits = mine && scheduled_for <= wall && wall.since(scheduled_for) == late;
            hold!(
                a_timer_fires_at_its_time_and_once,
                fits,
                "{id} at {wall}: armed {armed:?}, {event:?}"
            );
        }
    }
    let by_engine = step.asked.is_none();
    hold!(
        a_timer_fires_at_its_time_and_once,
        !by_engine || was_due,
        "at {wall} nothing was due: {:?}",
        step.commit
    );
    Ok(())
}

/// A wait is at most ninety days, a window at most a year away.
const FARTHEST: Span = Span::from_secs(400 * 86_400);

/// Of timers that a commit arms. A clock that is set back moves those that are armed away, and a
/// start stands where somebody put it.
pub(crate) fn no_deadline_is_out_of_reach(step: Step<'_>) -> Verdict {
    for (before, release, _) in step.motions() {
        let was = before.and_then(|before| deadline(before, step.wall));
        let armed = deadline(release, step.wall).filter(|timer| Some(*timer) != was);
        if let Some(timer) = armed.filter(|timer| timer.kind != TimerKind::Start) {
            let ahead = timer.at.since(step.wall);
            hold!(no_deadline_is_out_of_reach, ahead <= FARTHEST, "{}: {timer:?}", release.id());
        }
    }
    Ok(())
}

/// A step that cannot be taken for the little steps of some seconds that add up, in milliseconds. A
/// minute is the limit.
pub(crate) const SURELY_STEPPED: i64 = 66_000;
/// How long timers are withheld then.
pub(crate) const WITHHELD: Duration = Duration::from_secs(30);

/// After the clock was set ahead by more than a minute no timer fires for half a minute. `origins` are
/// those of the commits of a turn.
pub(crate) fn nothing_fires_right_after_a_step_ahead(
    is_withheld: bool,
    origins: &[Option<usize>],
) -> Verdict {
    let fired = origins.iter().any(Option::is_none);
    hold!(nothing_fires_right_after_a_step_ahead, !(is_withheld && fired), "{origins:?}");
    Ok(())
}

/// Timers that were due when the server came back fire in the order of deadlines, then of creation.
pub(crate) fn overdue_timers_fire_in_order(fired: &[(Timestamp, Revision)]) -> Verdict {
    hold!(overdue_timers_fire_in_order, fired.is_sorted(), "{fired:?}");
    Ok(())
}

/// A timer that was due at a start fired in this change. If it was found later than the limit, and
/// exposure could have grown by it, a person has to look first.
pub(crate) fn nothing_grows_by_a_timer_found_too_late(
    due: Overdue,
    wall: Timestamp,
    limit: Span,
    change: &Change,
) -> Verdict {
    let too_late = !limit.is_zero() && due.found.since(due.timer.at) > limit;
    // A clock that was set back since makes nothing late any more.
    if !too_late || wall < due.found || !due.timer.kind.may_grow_exposure() {
        return Ok(());
    }
    let held = change.release.state() == ReleaseState::Paused;
    hold!(nothing_grows_by_a_timer_found_too_late, held, "{due:?} at {wall}: {:?}", change.events);
    Ok(())
}

/// After the last fault, with the clock right and time enough, nothing is due any more.
pub(crate) fn no_timer_is_forgotten(state: &State, wall: Timestamp) -> Verdict {
    for release in state.all_unfinished() {
        let taken = state.active_release(&release.proposal.flag).is_some();
        let timer = deadline(release, wall)
            .filter(|timer| !(taken && timer.kind == TimerKind::Start) && timer.at <= wall);
        hold!(no_timer_is_forgotten, timer.is_none(), "{}: {timer:?} at {wall}", release.id());
    }
    Ok(())
}

pub(crate) fn the_writer_comes_to_rest(turns: usize) -> Verdict {
    hold!(the_writer_comes_to_rest, turns < 5_000, "{turns} turns without a rest");
    Ok(())
}
