//! Approve and reject: opinions about the current phase.

use super::{check_current, check_etag, draft::Draft, find, find_phase, refuse};
use crate::{
    command::{Caller, Expected},
    event::Happened,
    id::{Group, PhaseId, ReleaseId},
    pipeline::{ApprovalRequirement, SelfApproval},
    refusal::{Refusal, ReleaseRefusal},
    release::{EndReason, Held, HeldWait, PhaseIndex, Release, ReviewVerdict, Stage, Wait},
};

/// Whether a phase that awaits approval moves when the last one comes.
enum Motion {
    Free,
    Held,
}

pub(super) fn approve(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
    phase_id: &PhaseId,
    caller: &Caller,
) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    let (phase, motion, requirement) = reviewable(&release, expected, phase_id, caller)?;
    let is_creator = release.proposal.creator == caller.principal;
    if is_creator && requirement.self_approval == SelfApproval::Forbidden {
        return Err(refuse(&release, ReleaseRefusal::SelfApproval));
    }
    let mut reviews = release.progress.phases[phase.get()].reviews.iter();
    if reviews.any(|r| r.verdict == ReviewVerdict::Approved && r.principal == caller.principal) {
        return Err(refuse(&release, ReleaseRefusal::AlreadyReviewed(phase_id.clone())));
    }
    draft.is_about(id);
    let groups = groups_that_count(requirement, caller);
    let met = release.approvals_missing_with(phase, &[&groups]) == 0;
    let moves = met && matches!(motion, Motion::Free);
    let then = if moves { draft.window_wait(&release, phase) } else { None };
    draft.emit(id, Happened::ApprovalRecorded { phase, groups, then });
    if moves && then.is_none() {
        draft.apply_phase(id, phase);
    }
    Ok(())
}

pub(super) fn reject(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
    phase_id: &PhaseId,
    caller: &Caller,
) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    let (phase, _, requirement) = reviewable(&release, expected, phase_id, caller)?;
    draft.is_about(id);
    let groups = groups_that_count(requirement, caller);
    draft.emit(id, Happened::ApprovalRejected { phase, groups });
    draft.emit(id, Happened::Aborted { reason: EndReason::ApprovalRejected });
    Ok(())
}

/// The checks that both share, in their order.
fn reviewable<'a>(
    release: &'a Release,
    expected: Expected,
    phase_id: &PhaseId,
    caller: &Caller,
) -> Result<(PhaseIndex, Motion, &'a ApprovalRequirement), Refusal> {
    find_phase(release, phase_id)?;
    check_etag(release, expected)?;
    let phase = check_current(release, phase_id)?;
    let motion = match &release.progress.stage {
        Stage::Running { wait: Wait::Approval { .. }, .. } => Some(Motion::Free),
        Stage::Paused { held: Held::Running { wait: HeldWait::Approval { .. }, .. }, .. } => {
            Some(Motion::Held)
        }
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => None,
    };
    let (Some(motion), Some(requirement)) = (motion, &release.phase(phase).approval) else {
        let why = ReleaseRefusal::PhaseNotAwaitingApproval(phase_id.clone());
        return Err(refuse(release, why));
    };
    let reviewers = &requirement.reviewer_groups;
    let may_review =
        reviewers.is_empty() || reviewers.iter().any(|group| caller.groups.contains(group));
    if may_review {
        Ok((phase, motion, requirement))
    } else {
        Err(refuse(release, ReleaseRefusal::NotAnApprover(phase_id.clone())))
    }
}

/// The caller's groups that a quota of the phase names; the others are nobody's business.
fn groups_that_count(requirement: &ApprovalRequirement, caller: &Caller) -> Vec<Group> {
    let quotas = requirement.quotas.iter().map(|quota| &quota.group);
    quotas.filter(|group| caller.groups.contains(group)).cloned().collect()
}
