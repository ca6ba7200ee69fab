//! Pause and unpause. A pause is about motion: exposure stays, timers stand still.

use super::{check_etag, check_not_over, draft::Draft, find, refuse};
use crate::{
    command::Expected,
    deadline::owing,
    event::Happened,
    id::ReleaseId,
    refusal::{Refusal, ReleaseRefusal},
    release::{Held, HeldWait, PauseCause, PhaseIndex, Release, Stage, Wait},
};

pub(super) fn pause(draft: &mut Draft, id: &ReleaseId) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    check_not_over(&release)?;
    if matches!(release.progress.stage, Stage::Paused { .. }) {
        return Err(refuse(&release, ReleaseRefusal::AlreadyPaused));
    }
    draft.is_about(id);
    draft.hold(id, PauseCause::Requested);
    Ok(())
}

pub(super) fn unpause(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
) -> Result<(), Refusal> {
    let release = find(draft.state(), id)?;
    check_etag(&release, expected)?;
    check_not_over(&release)?;
    let Stage::Paused { held, .. } = &release.progress.stage else {
        return Err(refuse(&release, ReleaseRefusal::NotPaused));
    };
    draft.is_about(id);
    match held {
        // Whether it starts is for the settling of its flag, at the end of the commit.
        Held::Pending => draft.emit(id, Happened::Unpaused { to: None }),
        Held::Running { phase, wait } => resume(draft, &release, *phase, *wait),
    }
    Ok(())
}

/// Bake and expiry go on with what they had left; approvals and windows are looked at anew.
fn resume(draft: &mut Draft, release: &Release, phase: PhaseIndex, wait: HeldWait) {
    let id = release.id();
    match wait {
        HeldWait::Approval { remaining } if release.approvals_missing(phase) > 0 => {
            let expires = remaining.map(|left| draft.now() + left);
            draft.emit(id, Happened::Unpaused { to: Some(Wait::Approval { expires }) });
        }
        HeldWait::Approval { .. } | HeldWait::Window => {
            let to = draft.window_wait(release, phase);
            draft.emit(id, Happened::Unpaused { to });
            if to.is_none() {
                draft.apply_phase(id, phase);
            }
        }
        HeldWait::Bake { remaining } if !remaining.is_zero() => {
            let ends = draft.now() + remaining;
            draft.emit(id, Happened::Unpaused { to: Some(Wait::Bake { ends }) });
        }
        HeldWait::Guards { ended } if owing(release, phase).next().is_some() => {
            let since = draft.now();
            draft.emit(id, Happened::Unpaused { to: Some(Wait::Guards { ended, since }) });
        }
        HeldWait::Bake { .. } | HeldWait::Guards { .. } => {
            draft.emit(id, Happened::Unpaused { to: None });
            draft.end_bake(id, phase, None);
        }
    }
}
