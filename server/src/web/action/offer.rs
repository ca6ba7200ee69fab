//! What can be done to a release now, and what it would lead to: asked of the engine, which decides
//! it as if it were called and commits nothing.

use super::Verb;
use crate::web::page::Moment;
use phasegate_engine::{
    Command, Refusal, apply,
    command::{Action, Call, Expected, Gate},
    decide,
    id::PhaseId,
    refusal::ReleaseRefusal,
    release::Release,
    time::Span,
};
use std::sync::Arc;

/// An action that is possible now.
#[derive(Debug)]
pub(super) struct Offer {
    /// The release after it.
    pub(super) after: Arc<Release>,
    /// Phases whose missing approvals it has to pass over.
    pub(super) approvals: Vec<PhaseId>,
    /// Phases whose closed windows it has to pass over.
    pub(super) windows: Vec<PhaseId>,
}

/// Any that is allowed; it stands for whatever the caller asks for.
const SOME_TIME: Span = Span::from_secs(60);

/// What an action would lead to, or in words why it is not possible.
pub(super) fn offer(moment: &Moment, release: &Release, verb: Verb) -> Result<Offer, String> {
    let (mut approvals, mut windows) = (Vec::new(), Vec::new());
    loop {
        let gate =
            |passed: &Vec<PhaseId>| if passed.is_empty() { Gate::Respect } else { Gate::Bypass };
        let action = action(release, verb, gate(&approvals), gate(&windows));
        if let Some(lacks) = moment.viewer.lacks(&moment.state, &action) {
            return Err(lacks);
        }
        match outcome(moment, release, action) {
            Ok(after) => return Ok(Offer { after, approvals, windows }),
            Err(Refusal::Release { why: ReleaseRefusal::ApprovalPending(phases), .. })
                if approvals.is_empty() && !phases.is_empty() && verb.passes_approvals() =>
            {
                approvals = phases;
            }
            Err(Refusal::Release { why: ReleaseRefusal::WindowClosed(phases), .. })
                if windows.is_empty() && !phases.is_empty() && verb == Verb::FullRollout =>
            {
                windows = phases;
            }
            Err(Refusal::Release { why, .. }) => return Err(capital(&why.to_string())),
            Err(refusal) => return Err(capital(&refusal.to_string())),
        }
    }
}

impl Verb {
    fn passes_approvals(self) -> bool {
        matches!(self, Self::Skip | Self::FullRollout)
    }
}

/// The same words as a sentence of its own.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn outcome(moment: &Moment, release: &Release, action: Action) -> Result<Arc<Release>, Refusal> {
    let caller = moment.viewer.caller.clone();
    let call = Call { caller, request_id: None, reason: Arc::from(""), action };
    let mut after = moment.state.clone();
    if let Some(commit) = decide(&after, &Command::Call(call), moment.now)? {
        apply(&mut after, &commit);
    }
    let same = || Arc::new(release.clone());
    Ok(after.release(release.id()).map_or_else(same, Arc::clone))
}

/// The action on the phase that is shown.
fn action(release: &Release, verb: Verb, approvals: Gate, windows: Gate) -> Action {
    // Without a current phase every one of these is refused before the phase is looked at.
    let index = release.current().unwrap_or(phasegate_engine::release::PhaseIndex::FIRST);
    let (phase, expected) = (release.phase(index).id.clone(), Expected::Anything);
    let release = release.id().clone();
    match verb {
        Verb::Approve => Action::ApprovePhase { release, expected, phase },
        Verb::Reject => Action::RejectPhase { release, expected, phase },
        Verb::Pause => Action::PauseRelease { release },
        Verb::Unpause => Action::UnpauseRelease { release, expected },
        Verb::Skip => Action::SkipPhase { release, expected, phase, approvals },
        Verb::OverrideWindow => Action::OverrideWindow { release, expected, phase },
        Verb::AdjustBake => Action::AdjustBake { release, expected, phase, remaining: SOME_TIME },
        Verb::FullRollout => Action::FullRollout { release, expected, approvals, windows },
        Verb::Abort => Action::AbortRelease { release },
    }
}
