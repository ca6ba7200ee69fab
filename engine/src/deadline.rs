//! When a release must be looked at again.

use crate::{
    id::FlagId,
    pipeline::PassRequirement,
    release::{GuardVerdict, PhaseIndex, Release, Stage, Wait},
    state::State,
    time::{Span, Timestamp},
};
use std::sync::Arc;

/// The one timer of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// What it is for.
    pub kind: TimerKind,
    /// When it is due.
    pub at: Timestamp,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// A PENDING release's `schedule_time`.
    Start,
    /// Approvals run out.
    Expiry,
    /// The window opens, or it is time to look whether an opening has come into sight.
    Window,
    /// The bake is over.
    Bake,
    /// A guard that owes a PASS runs out of time.
    Guard,
}

impl TimerKind {
    /// True if exposure may grow when it fires. Only such a timer is held for a person when it was
    /// found much too late; the others take exposure back or hold it anyway.
    pub fn may_grow_exposure(self) -> bool {
        match self {
            Self::Start | Self::Window | Self::Bake => true,
            Self::Expiry | Self::Guard => false,
        }
    }
}

/// The timer of a release, armed since its last commit. `now` matters only for a window without an
/// opening in sight, which is looked at once a day from when the phase was entered.
///
/// A PENDING release keeps its start timer after it was due: whether that starts anything depends on
/// the flag.
pub fn deadline(release: &Release, now: Timestamp) -> Option<Timer> {
    let (kind, at) = armed(release)?;
    let at = at.unwrap_or_else(|| next_look(release, now));
    Some(Timer { kind, at })
}

/// The timer without the help of a clock: none as its time means that it recurs daily.
pub(crate) fn armed(release: &Release) -> Option<(TimerKind, Option<Timestamp>)> {
    match &release.progress.stage {
        Stage::Pending => release.proposal.schedule_time.map(|at| (TimerKind::Start, Some(at))),
        Stage::Running { phase, wait } => match wait {
            Wait::Approval { expires } => expires.map(|at| (TimerKind::Expiry, Some(at))),
            Wait::Window { opens } => Some((TimerKind::Window, *opens)),
            Wait::Bake { ends } => Some((TimerKind::Bake, Some(*ends))),
            Wait::Guards { since, .. } => {
                let limits = owing(release, *phase).filter_map(|(_, timeout)| timeout);
                limits.min().map(|nearest| (TimerKind::Guard, Some(*since + nearest)))
            }
        },
        Stage::Paused { .. } | Stage::Over { .. } => None,
    }
}

/// The guards of a phase that owe a PASS, as indexes, each with its limit.
pub(crate) fn owing(
    release: &Release,
    phase: PhaseIndex,
) -> impl Iterator<Item = (usize, Option<Span>)> + '_ {
    let verdicts = &release.progress.phases[phase.get()].guards;
    let guards = release.phase(phase).guards.iter().zip(verdicts).enumerate();
    guards.filter_map(|(index, (guard, progress))| match guard.pass {
        PassRequirement::Required { timeout } if progress.verdict != Some(GuardVerdict::Pass) => {
            Some((index, timeout))
        }
        PassRequirement::Required { .. } | PassRequirement::Optional => None,
    })
}

fn next_look(release: &Release, now: Timestamp) -> Timestamp {
    let entered = release
        .current()
        .and_then(|phase| release.progress.phases[phase.get()].enter_time)
        .unwrap_or(release.progress.update_time);
    let days = now.since(entered).as_millis() / Span::DAY.as_millis() + 1;
    entered + Span::from_millis(days * Span::DAY.as_millis())
}

/// The release of a flag whose timer is due at `now` and would do something, oldest deadline first,
/// then oldest release. Whoever acts on a flag commits these first.
pub fn next_due<'a>(
    state: &'a State,
    flag: &FlagId,
    now: Timestamp,
) -> Option<(&'a Arc<Release>, Timer)> {
    let taken = state.active_release(flag).is_some();
    state
        .unfinished(flag)
        .filter_map(|release| deadline(release, now).map(|timer| (release, timer)))
        .filter(|(_, timer)| timer.at <= now && !(taken && timer.kind == TimerKind::Start))
        .min_by_key(|(release, timer)| (timer.at, release.proposal.created))
}
