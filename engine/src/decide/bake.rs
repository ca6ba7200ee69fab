//! What a caller may do about the window and the bake of the current phase.

use super::{check_not_paused, draft::Draft, find_at, refuse};
use crate::{
    command::Expected,
    event::Happened,
    id::{PhaseId, ReleaseId},
    refusal::{Refusal, ReleaseRefusal},
    release::{Held, HeldWait, Stage, Wait},
    time::Span,
};

pub(super) fn override_window(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
    phase_id: &PhaseId,
) -> Result<(), Refusal> {
    let (release, phase) = find_at(draft.state(), id, expected, phase_id)?;
    check_not_paused(&release)?;
    let Stage::Running { wait: Wait::Window { .. }, .. } = &release.progress.stage else {
        let why = ReleaseRefusal::PhaseNotAwaitingWindow(phase_id.clone());
        return Err(refuse(&release, why));
    };
    draft.is_about(id);
    draft.emit(id, Happened::WindowOverridden { phase });
    draft.apply_phase(id, phase);
    Ok(())
}

/// Sets what is left of the bake. To nothing, it ends the bake and is no skip: guards still hold the
/// phase. While paused it moves nothing.
pub(super) fn adjust(
    draft: &mut Draft,
    id: &ReleaseId,
    expected: Expected,
    phase_id: &PhaseId,
    remaining: Span,
) -> Result<(), Refusal> {
    let (release, phase) = find_at(draft.state(), id, expected, phase_id)?;
    match &release.progress.stage {
        Stage::Running { wait: Wait::Bake { .. } | Wait::Guards { .. }, .. } => {
            draft.is_about(id);
            let ends = Some(draft.now() + remaining);
            draft.emit(id, Happened::BakeAdjusted { phase, remaining, ends });
            if remaining.is_zero() {
                draft.end_bake(id, phase, None);
            }
            Ok(())
        }
        Stage::Paused {
            held: Held::Running { wait: HeldWait::Bake { .. } | HeldWait::Guards { .. }, .. },
            ..
        } => {
            draft.is_about(id);
            draft.emit(id, Happened::BakeAdjusted { phase, remaining, ends: None });
            if remaining.is_zero() {
                let ended = draft.now();
                draft.emit(id, Happened::BakeElapsed { phase, ended, timer: None });
            }
            Ok(())
        }
        Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => {
            Err(refuse(&release, ReleaseRefusal::PhaseNotBaking(phase_id.clone())))
        }
    }
}
