//! Timers that came due. One that was disarmed or re-armed since it was set is dropped.

use super::{
    draft::Draft,
    progress::{Window, window},
};
use crate::{
    command::{Fire, Lateness},
    deadline::{TimerKind, armed, owing},
    event::{Commit, Happened, TimerRecord},
    pipeline::Guard,
    release::{
        EndReason, GuardVerdict, Held, HeldWait, PauseCause, PhaseIndex, Release, Stage, Wait,
    },
    state::State,
    time::{Span, Timestamp},
};
use std::sync::Arc;

/// What a timer that came due does at `now`; none if it does nothing (any more).
pub(super) fn fire(state: &State, fire: &Fire, now: Timestamp) -> Option<Commit> {
    let release = state.release(&fire.release)?;
    if release.progress.timer_generation != fire.generation {
        return None;
    }
    let (kind, at) = armed(release)?;
    if at.is_some_and(|at| at > now) {
        return None;
    }
    if kind == TimerKind::Start && state.active_release(&release.proposal.flag).is_some() {
        // Its turn comes when the flag is free: then the settling looks at it.
        return None;
    }
    let mut draft = Draft::by_engine(state, now);
    match fire.lateness {
        Lateness::Hold(overdue) if kind.may_grow_exposure() => {
            hold(&mut draft, release, overdue);
            // Nothing else starts in its place: a release that came due in the same absence has a
            // timer of its own, which fires next and may be too late as well.
            return draft.close();
        }
        Lateness::Hold(_) | Lateness::Accepted => {
            let late = |at| TimerRecord { scheduled_for: at, late: now.since(at) };
            draft.timer = at.map(|at| (fire.release.clone(), late(at)));
            act(&mut draft, release, kind);
        }
    }
    if kind == TimerKind::Start {
        draft.settle(&release.proposal.flag);
    }
    draft.finish()
}

/// Nobody was watching when it should have fired: a person decides how to go on.
fn hold(draft: &mut Draft, release: &Release, overdue: Span) {
    let held = match &release.progress.stage {
        Stage::Running { phase, wait: Wait::Bake { .. } } => {
            let wait = HeldWait::Bake { remaining: Span::ZERO };
            Held::Running { phase: *phase, wait }
        }
        Stage::Running { phase, .. } => Held::Running { phase: *phase, wait: HeldWait::Window },
        Stage::Pending | Stage::Paused { .. } | Stage::Over { .. } => Held::Pending,
    };
    let cause = PauseCause::Overdue(overdue);
    draft.emit(release.id(), Happened::Paused { held, cause });
}

fn act(draft: &mut Draft, release: &Arc<Release>, kind: TimerKind) {
    let Some(phase) = release.current() else {
        // A start: the settling of the flag does it.
        return;
    };
    let id = release.id();
    match kind {
        TimerKind::Start => {}
        TimerKind::Expiry => {
            let timer = draft.take_timer(id);
            draft.emit(id, Happened::Failed { reason: EndReason::ApprovalExpired, timer });
        }
        TimerKind::Window => look_at_window(draft, release, phase),
        TimerKind::Bake => {
            let timer = draft.take_timer(id);
            draft.end_bake(id, phase, timer);
        }
        TimerKind::Guard => time_out_guards(draft, release, phase),
    }
}

fn look_at_window(draft: &mut Draft, release: &Release, phase: PhaseIndex) {
    let id = release.id();
    match window(release, phase, draft.now()) {
        Window::Open => {
            let timer = draft.take_timer(id);
            draft.emit(id, Happened::WindowOpened { phase, timer });
            draft.apply_phase(id, phase);
        }
        Window::Closed { opens } => {
            let known = match &release.progress.stage {
                Stage::Running { wait: Wait::Window { opens }, .. } => *opens,
                Stage::Pending
                | Stage::Running { .. }
                | Stage::Paused { .. }
                | Stage::Over { .. } => None,
            };
            if opens != known {
                draft.emit(id, Happened::WindowRescheduled { phase, opens });
            }
        }
    }
}

/// Guards whose limits are reached together fail together.
fn time_out_guards(draft: &mut Draft, release: &Release, phase: PhaseIndex) {
    let Stage::Running { wait: Wait::Guards { since, .. }, .. } = &release.progress.stage else {
        return;
    };
    let expired = |(index, limit): (usize, Option<Span>)| {
        let limit = limit.filter(|limit| *since + *limit <= draft.now())?;
        Some((&release.phase(phase).guards[index], limit))
    };
    let expired: Vec<(&Guard, Span)> = owing(release, phase).filter_map(expired).collect();
    for (guard, limit) in &expired {
        let voice = draft.voice.saying(format!("no PASS within {limit} after the bake"));
        let scheduled_for = *since + *limit;
        let timer = TimerRecord { scheduled_for, late: draft.now().since(scheduled_for) };
        let (guard, verdict, timer) = (guard.id.clone(), GuardVerdict::Fail, Some(timer));
        let happened = Happened::GuardReported { phase, guard, verdict, timer };
        draft.emit_as(release.id(), voice, happened);
    }
    let guards: Vec<&Guard> = expired.into_iter().map(|(guard, _)| guard).collect();
    draft.guards_failed(release.id(), &guards);
}
