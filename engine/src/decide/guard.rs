//! Guards: verdicts that outside systems push.

use super::{check_started, draft::Draft, find, find_phase, refuse};
use crate::{
    deadline::owing,
    event::Happened,
    id::{GuardId, PhaseId, ReleaseId},
    pipeline::{Guard, OnFail},
    refusal::{Refusal, ReleaseRefusal, Resource},
    release::{
        EndReason, GuardVerdict, Held, HeldWait, PauseCause, PhaseIndex, Release, Stage, Wait,
    },
};

pub(super) fn report(
    draft: &mut Draft,
    id: &ReleaseId,
    phase_id: &PhaseId,
    guard_id: &GuardId,
    verdict: GuardVerdict,
) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    let phase = find_phase(&release, phase_id)?;
    let guard = find_guard(&release, phase, guard_id)?;
    check_reportable(&release, phase, verdict)?;
    draft.is_about(id);
    draft
        .emit(id, Happened::GuardReported { phase, guard: guard_id.clone(), verdict, timer: None });
    match verdict {
        GuardVerdict::Fail => draft.guards_failed(id, &[guard]),
        GuardVerdict::Pass => {
            let waits_for_guards =
                matches!(&release.progress.stage, Stage::Running { wait: Wait::Guards { .. }, .. });
            if waits_for_guards && owing(&draft.release(id), phase).next().is_none() {
                draft.end_bake(id, phase, None);
            }
        }
    }
    Ok(())
}

impl Draft {
    /// Acts on guards that failed together. Ending the release wins over holding it.
    pub(super) fn guards_failed(&mut self, id: &ReleaseId, guards: &[&Guard]) {
        if guards.iter().any(|guard| guard.on_fail == OnFail::Fail) {
            self.emit(id, Happened::Failed { reason: EndReason::GuardFailed, timer: None });
        } else if let Some(guard) = guards.first() {
            self.hold(id, PauseCause::Guard(guard.id.clone()));
        }
    }
}

fn find_guard<'a>(
    release: &'a Release,
    phase: PhaseIndex,
    id: &GuardId,
) -> Result<&'a Guard, Refusal> {
    let phase = release.phase(phase);
    let missing = || {
        let resource = Resource::Guard(release.id().clone(), phase.id.clone(), id.clone());
        refuse(release, ReleaseRefusal::NoSuchPart(resource))
    };
    phase.guards.iter().find(|guard| guard.id == *id).ok_or_else(missing)
}

/// A verdict counts for the current phase while it bakes, paused or not. A FAIL counts for every
/// applied phase: its exposure is live, so late bad news counts.
fn check_reportable(
    release: &Release,
    phase: PhaseIndex,
    verdict: GuardVerdict,
) -> Result<(), Refusal> {
    let current = check_started(release)?;
    let phase_id = || release.phase(phase).id.clone();
    if phase != current {
        let is_live = release.progress.phases[phase.get()].applied;
        return if verdict == GuardVerdict::Fail && is_live {
            Ok(())
        } else {
            Err(refuse(release, ReleaseRefusal::PhaseNotCurrent(phase_id())))
        };
    }
    match &release.progress.stage {
        Stage::Running { wait: Wait::Bake { .. } | Wait::Guards { .. }, .. }
        | Stage::Paused {
            held: Held::Running { wait: HeldWait::Bake { .. } | HeldWait::Guards { .. }, .. },
            ..
        } => Ok(()),
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => {
            Err(refuse(release, ReleaseRefusal::PhaseNotBaking(phase_id())))
        }
    }
}
