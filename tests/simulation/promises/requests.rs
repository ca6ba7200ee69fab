//! What an answer means.

use super::{Broken, Step, Verdict};
use crate::history::{Asked, History};
use phasegate_engine::{
    command::{Action, Expected},
    id::Revision,
    time::Timestamp,
};
use phasegate_server::driver::{Done, Error, Mode};

/// The etag that an action carries.
fn expected(action: &Action) -> Option<Expected> {
    match action {
        Action::UpdateFlag { expected, .. }
        | Action::DeleteFlag { expected, .. }
        | Action::UpdatePipeline { expected, .. }
        | Action::DeletePipeline { expected, .. }
        | Action::ApprovePhase { expected, .. }
        | Action::RejectPhase { expected, .. }
        | Action::UnpauseRelease { expected, .. }
        | Action::SkipPhase { expected, .. }
        | Action::OverrideWindow { expected, .. }
        | Action::AdjustBake { expected, .. }
        | Action::FullRollout { expected, .. } => Some(*expected),
        Action::CreateFlag { .. }
        | Action::SetKillSwitch { .. }
        | Action::CreatePipeline { .. }
        | Action::TriggerRelease(_)
        | Action::PauseRelease { .. }
        | Action::AbortRelease { .. }
        | Action::ReportGuardSignal { .. } => None,
    }
}

pub(crate) fn a_stale_etag_changes_nothing(step: Step<'_>) -> Verdict {
    let Some(asked) = step.asked else { return Ok(()) };
    let mode = asked.submission.mode;
    hold!(a_stale_etag_changes_nothing, mode == Mode::Commit, "a dry run committed: {asked:?}");
    let action = &asked.submission.call.action;
    let now = if let Action::UpdateFlag { flag, .. } | Action::DeleteFlag { flag, .. } = action {
        step.before.flag(flag).map(|flag| flag.revision)
    } else if let Action::UpdatePipeline { pipeline, .. }
    | Action::DeletePipeline { pipeline, .. } = action
    {
        step.before.pipeline(pipeline).map(|pipeline| pipeline.revision)
    } else {
        let release = action.release().and_then(|id| step.before.release(id));
        release.map(|release| release.progress.revision)
    };
    let fresh = match expected(action) {
        None | Some(Expected::Anything) => true,
        Some(Expected::Revision(seen)) => Some(seen) == now,
        Some(Expected::Unknown) => false,
    };
    hold!(a_stale_etag_changes_nothing, fresh, "{action:?} at {now:?}");
    Ok(())
}

/// All promises that an answer can break. `head_before` is the head before the turn that answered.
pub(crate) fn check_answer(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
    head_before: Revision,
    kept_from: Timestamp,
) -> Verdict {
    an_answer_shows_what_is_durable(answer, history)?;
    a_request_is_done_once(asked, answer, history)?;
    a_refusal_changes_nothing(asked, answer, history, head_before, kept_from)?;
    an_id_stands_for_one_request(asked, answer, history)
}

pub(crate) fn an_answer_shows_what_is_durable(
    answer: &Result<Done, Error>,
    history: &History,
) -> Verdict {
    let Ok(done) = answer else { return Ok(()) };
    let (shown, head) = (done.state.revision(), history.state().revision());
    // The answer to a dry run shows one commit that never comes.
    hold!(an_answer_shows_what_is_durable, shown <= head.next(), "{shown} of {head}");
    Ok(())
}

pub(crate) fn a_request_is_done_once(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
) -> Verdict {
    let (Ok(done), Mode::Commit) = (answer, asked.submission.mode) else { return Ok(()) };
    let shown = done.state.revision();
    let head = history.state().revision();
    hold!(a_request_is_done_once, shown <= head, "an answer shows {shown} of {head}");
    let Some(key) = asked.key() else { return Ok(()) };
    let Some((revision, record)) = history.requests_of(&key).last() else {
        hold!(a_request_is_done_once, false, "accepted, and never done: {asked:?}");
        return Ok(());
    };
    hold!(a_request_is_done_once, revision <= shown, "done in {revision}, shown is {shown}");
    let same = record.subject == done.subject;
    hold!(a_request_is_done_once, same, "{:?} is not {:?}", done.subject, record.subject);
    Ok(())
}

/// A key is used again only after it may have been forgotten.
pub(crate) fn no_request_is_repeated(history: &History, kept_from: Timestamp) -> Verdict {
    let Some((key, newest)) = history.newest_request() else { return Ok(()) };
    let earlier = history.requests_of(key).rev().nth(1);
    let repeated = earlier.is_some_and(|(_, earlier)| earlier.time >= kept_from);
    hold!(no_request_is_repeated, !repeated, "{key:?} again: {earlier:?}, {newest:?}");
    Ok(())
}

pub(crate) fn a_refusal_changes_nothing(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
    head_before: Revision,
    kept_from: Timestamp,
) -> Verdict {
    match answer {
        Err(Error::Refused(_) | Error::Forbidden { .. } | Error::FlagSetTooLarge { .. }) => {}
        Err(Error::Internal(incident)) => {
            hold!(a_refusal_changes_nothing, false, "{asked:?} caused {incident}");
        }
        Ok(_) | Err(Error::RequestIdReused | Error::DiskFull | Error::Stopped) => return Ok(()),
    }
    let Some(key) = asked.key() else {
        let done = history.commits_of(asked.number).next();
        // Without an id the same call may have been done before, and is refused the second time.
        let first = asked.deliveries <= 1;
        hold!(a_refusal_changes_nothing, !first || done.is_none(), "{asked:?}: {done:?}");
        return Ok(());
    };
    let done = history
        .requests_of(&key)
        .find(|(revision, record)| *revision <= head_before && record.time >= kept_from);
    hold!(a_refusal_changes_nothing, done.is_none(), "{answer:?} for {asked:?}, {done:?}");
    Ok(())
}

pub(crate) fn an_id_stands_for_one_request(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
) -> Verdict {
    let Some(key) = asked.key() else { return Ok(()) };
    let payload = asked.submission.payload;
    let mut done = history.requests_of(&key);
    let right = match answer {
        Ok(_) if asked.submission.mode == Mode::Commit => {
            done.any(|(_, record)| record.payload == payload)
        }
        Err(Error::RequestIdReused) => done.any(|(_, record)| record.payload != payload),
        Ok(_) | Err(_) => true,
    };
    hold!(an_id_stands_for_one_request, right, "{answer:?} for {asked:?}");
    Ok(())
}

pub(crate) fn every_call_is_answered(waiting: usize) -> Verdict {
    hold!(every_call_is_answered, waiting == 0, "{waiting} calls wait for an answer");
    Ok(())
}
