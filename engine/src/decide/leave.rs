//! Leaving: skip a phase, abort, give the change to everyone.

use super::{
    check_etag, check_not_over, check_not_paused, check_started,
    draft::Draft,
    find, find_at,
    progress::{Window, window},
    refuse,
};
use crate::{
    command::{Expected, Gate},
    event::{Bypass, Happened},
    id::{PhaseId, ReleaseId},
    refusal::{Refusal, ReleaseRefusal},
    release::{EndReason, PhaseIndex, Release, ReleaseState},
    time::Timestamp,
};

pub(super) fn skip(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
    phase_id: &PhaseId,
    approvals: Gate,
) -> Result<(), Refusal> {
    let (release, phase) = find_at(draft.state(), id, expected, phase_id)?;
    check_not_paused(&release)?;
    let awaits_approval = release.state() == ReleaseState::AwaitingApproval;
    if awaits_approval && approvals == Gate::Respect {
        return Err(refuse(&release, ReleaseRefusal::ApprovalPending(vec![phase_id.clone()])));
    }
    // Leaving the last phase gives the change to everyone, which would be entry by another name.
    let is_last = phase.next().get() == release.phases().len();
    let is_applied = release.progress.phases[phase.get()].applied;
    if is_last && !is_applied && is_closed(&release, phase, draft.now()) {
        return Err(refuse(&release, ReleaseRefusal::WindowClosed(vec![phase_id.clone()])));
    }
    draft.is_about(id);
    let bypass = if awaits_approval { Bypass::OnRecord } else { Bypass::None };
    draft.emit(id, Happened::PhaseSkipped { phase, bypass });
    draft.enter(id, phase.next());
    Ok(())
}

pub(super) fn abort(draft: &mut Draft, id: &ReleaseId) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    check_not_over(&release)?;
    draft.is_about(id);
    draft.emit(id, Happened::Aborted { reason: EndReason::AbortRequested });
    Ok(())
}

pub(super) fn full_rollout(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
    approvals: Gate,
    windows: Gate,
) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    check_etag(&release, expected)?;
    let current = check_started(&release)?;
    check_not_paused(&release)?;
    let now = draft.now();
    // Earlier phases are done: whoever went round one of them did so on record.
    let rest = || (current.get()..release.phases().len()).map(PhaseIndex::new);
    let unapplied = || rest().filter(|phase| !release.progress.phases[phase.get()].applied);
    let ids = |phases: Vec<PhaseIndex>| -> Vec<PhaseId> {
        phases.into_iter().map(|phase| release.phase(phase).id.clone()).collect()
    };
    let unapproved: Vec<_> =
        unapplied().filter(|phase| release.approvals_missing(*phase) > 0).collect();
    if approvals == Gate::Respect && !unapproved.is_empty() {
        return Err(refuse(&release, ReleaseRefusal::ApprovalPending(ids(unapproved))));
    }
    let closed: Vec<_> = unapplied().filter(|phase| is_closed(&release, *phase, now)).collect();
    if windows == Gate::Respect && !closed.is_empty() {
        return Err(refuse(&release, ReleaseRefusal::WindowClosed(ids(closed))));
    }
    draft.is_about(id);
    for phase in rest() {
        let stood_in_the_way = unapproved.contains(&phase) || closed.contains(&phase);
        let bypass = if stood_in_the_way { Bypass::OnRecord } else { Bypass::None };
        draft.emit(id, Happened::PhaseSkipped { phase, bypass });
    }
    draft.succeed(id, EndReason::FullRollout);
    Ok(())
}

fn is_closed(release: &Release, phase: PhaseIndex, now: Timestamp) -> bool {
    matches!(window(release, phase, now), Window::Closed { .. })
}
