//! What a run has come through, as far as commits and answers show it.

use crate::{
    history::{Asked, History},
    reached::Reached,
};
use phasegate_engine::{
    Refusal,
    command::Action,
    event::{Change, Happened},
    id::Revision,
    refusal::ReleaseRefusal,
    release::{EndReason, Held, HeldWait, PauseCause, Release, Stage, Wait},
    time::Timestamp,
};
use phasegate_server::driver::{Done, Error, Mode};

pub(super) fn mark_answer(
    reached: &mut Reached,
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
    head_before: Revision,
) {
    match answer {
        Ok(_) if asked.submission.mode == Mode::ValidateOnly => {
            reached.mark("a dry run was answered");
        }
        Ok(_) => {
            let Some(key) = asked.key() else { return };
            let Some((revision, _)) = history.requests_of(&key).last() else { return };
            if revision <= head_before {
                reached.mark("a repeated request was answered without being done");
                if asked.done_in < asked.process {
                    reached.mark("a repeated request was answered after a restart");
                }
            }
        }
        Err(Error::RequestIdReused) => reached.mark("an id was refused for another request"),
        Err(Error::DiskFull) => reached.mark("a full disk refused a call"),
        Err(Error::Refused(refusal)) => {
            let is_stale = matches!(
                refusal,
                Refusal::StaleEtag { .. } | Refusal::Release { why: ReleaseRefusal::StaleEtag, .. }
            );
            if is_stale {
                reached.mark("a stale etag was refused");
            }
            let aborts = matches!(asked.submission.call.action, Action::AbortRelease { .. });
            if let Refusal::Release { why: ReleaseRefusal::Over, standing } = refusal
                && standing.revision > head_before
                && aborts
            {
                reached.mark("an abort met a release that had just ended");
            }
        }
        // Flags here are few and small, and everybody may do everything.
        Err(
            Error::FlagSetTooLarge { .. }
            | Error::Forbidden { .. }
            | Error::Stopped
            | Error::Internal(_),
        ) => {}
    }
}

pub(super) fn mark_change(
    reached: &mut Reached,
    before: Option<&Release>,
    change: &Change,
    wall: Timestamp,
) {
    let release = &change.release;
    for event in &change.events {
        mark_event(reached, before, &event.happened, wall);
    }
    if release.progress.phases.iter().any(|phase| phase.bypassed) {
        reached.mark("an approval was gone round");
    }
    if let Some(end) = release.end_reason() {
        reached.mark(match end {
            EndReason::AllPhasesDone => "a release succeeded by its last phase",
            EndReason::FullRollout => "a release succeeded by a full rollout",
            EndReason::Superseded => "a release was superseded",
            EndReason::ApprovalExpired => "a release failed for want of approvals",
            EndReason::GuardFailed => "a release failed by a guard",
            EndReason::BaseChanged => "a release failed because its base changed",
            EndReason::AbortRequested | EndReason::ApprovalRejected => return,
        });
    }
}

fn mark_event(
    reached: &mut Reached,
    before: Option<&Release>,
    happened: &Happened,
    wall: Timestamp,
) {
    if let Happened::Started { timer } = happened {
        if timer.is_some() {
            reached.mark("a scheduled release started");
        } else if before.is_some() {
            reached.mark("a queued release started");
        }
    }
    if matches!(happened, Happened::WindowOpened { .. }) {
        reached.mark("a window opened");
    }
    if matches!(happened, Happened::BakeAdjusted { ends: None, .. }) {
        reached.mark("a bake was adjusted while paused");
    }
    if let Happened::Paused { held, cause } = happened {
        match cause {
            PauseCause::Overdue(_) => {
                reached.mark("a release was held because its timer was too late");
            }
            PauseCause::Guard(_) => reached.mark("a guard held a release"),
            PauseCause::Requested => {
                if let Held::Running { wait: HeldWait::Bake { remaining }, .. } = held
                    && remaining.is_zero()
                {
                    reached.mark("a pause came after the deadline and before the firing");
                }
            }
        }
    }
    if let (Happened::ApprovalRecorded { .. }, Some(before)) = (happened, before)
        && let Stage::Running { wait: Wait::Approval { expires: Some(at) }, .. } =
            before.progress.stage
        && at.since(wall).as_millis() <= 1
    {
        reached.mark("an approval came in the millisecond of the expiry");
    }
}
