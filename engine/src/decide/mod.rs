//! `decide(&State, &Command, now)`: what happens, or why not.
//!
//! One file for each family of verbs; [`progress`](self) holds the moves that they share: start,
//! enter a phase, apply it, end its bake, finish, settle the flag.
//!
//! A shell commits every due timer of a flag before it hands in a call about that flag (see
//! [`next_due`](crate::deadline::next_due)), so no call here ever meets an overdue timer.

mod bake;
mod draft;
mod flag;
mod guard;
mod hold;
mod leave;
mod pipeline;
mod progress;
mod review;
mod timer;
mod trigger;

use crate::{
    command::{Action, Call, Command, Expected},
    event::Commit,
    id::{PhaseId, ReleaseId, Revision},
    refusal::{Refusal, ReleaseRefusal, Resource, Standing},
    release::{PhaseIndex, Release, Stage},
    state::State,
    time::Timestamp,
};
use draft::Draft;
use std::sync::Arc;

/// How many releases of a flag may be PENDING.
pub const PENDING_MAX: usize = 10;

/// Decides a command at `now`. `None`: it is accepted and nothing changes.
///
/// The commit is of the revision after the state's. Its time is `now`, or that of the last commit if
/// the clock has stepped back behind it; deadlines are counted from `now`.
pub fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Option<Commit>, Refusal> {
    match command {
        Command::Call(call) => decide_call(state, call, now),
        Command::Fire(fire) => Ok(timer::fire(state, fire, now)),
    }
}

fn decide_call(state: &State, call: &Call, now: Timestamp) -> Result<Option<Commit>, Refusal> {
    let mut draft = Draft::by_caller(state, call, now);
    match &call.action {
        Action::CreateFlag { flag, description, spec, pipeline, labels } => {
            flag::create(&mut draft, flag, description, spec, pipeline.as_ref(), labels)?;
        }
        Action::UpdateFlag { flag, expected, change } => {
            flag::update(&mut draft, flag, *expected, change)?;
        }
        Action::DeleteFlag { flag, expected } => flag::delete(&mut draft, flag, *expected)?,
        Action::SetKillSwitch { flag, switch } => {
            flag::set_kill_switch(&mut draft, flag, *switch, &call.reason)?;
        }
        Action::CreatePipeline { pipeline, template } => {
            pipeline::create(&mut draft, pipeline, template)?;
        }
        Action::UpdatePipeline { pipeline, expected, change } => {
            pipeline::update(&mut draft, pipeline, *expected, change)?;
        }
        Action::DeletePipeline { pipeline, expected } => {
            pipeline::delete(&mut draft, pipeline, *expected)?;
        }
        Action::TriggerRelease(trigger) => {
            trigger::trigger(&mut draft, trigger, &call.caller)?;
        }
        Action::ApprovePhase { release, expected, phase } => {
            review::approve(&mut draft, release, *expected, phase, &call.caller)?;
        }
        Action::RejectPhase { release, expected, phase } => {
            review::reject(&mut draft, release, *expected, phase, &call.caller)?;
        }
        Action::PauseRelease { release } => hold::pause(&mut draft, release)?,
        Action::UnpauseRelease { release, expected } => {
            hold::unpause(&mut draft, release, *expected)?;
        }
        Action::SkipPhase { release, expected, phase, approvals } => {
            leave::skip(&mut draft, release, *expected, phase, *approvals)?;
        }
        Action::OverrideWindow { release, expected, phase } => {
            bake::override_window(&mut draft, release, *expected, phase)?;
        }
        Action::AdjustBake { release, expected, phase, remaining } => {
            bake::adjust(&mut draft, release, *expected, phase, *remaining)?;
        }
        Action::AbortRelease { release } => leave::abort(&mut draft, release)?,
        Action::FullRollout { release, expected, approvals, windows } => {
            leave::full_rollout(&mut draft, release, *expected, *approvals, *windows)?;
        }
        Action::ReportGuardSignal { release, phase, guard, verdict } => {
            guard::report(&mut draft, release, phase, guard, *verdict)?;
        }
    }
    Ok(draft.finish())
}

/// The release that an action is about.
fn find(state: &State, id: &ReleaseId) -> Result<Arc<Release>, Refusal> {
    let release = state.release(id).map(Arc::clone);
    release.ok_or_else(|| Refusal::NotFound(Resource::Release(id.clone())))
}

/// A phase of it, by id.
fn find_phase(release: &Release, id: &PhaseId) -> Result<PhaseIndex, Refusal> {
    let index = release.phases().iter().position(|phase| phase.id == *id);
    let missing = || {
        let resource = Resource::Phase(release.id().clone(), id.clone());
        refuse(release, ReleaseRefusal::NoSuchPart(resource))
    };
    index.map(PhaseIndex::new).ok_or_else(missing)
}

/// Refuses because of where the release stands.
fn refuse(release: &Release, why: ReleaseRefusal) -> Refusal {
    Refusal::Release { standing: Box::new(Standing::of(release)), why }
}

/// True if an etag stands for this revision, or none was sent.
fn is_fresh(expected: Expected, revision: Revision) -> bool {
    match expected {
        Expected::Anything => true,
        Expected::Revision(seen) => seen == revision,
        Expected::Unknown => false,
    }
}

fn check_etag(release: &Release, expected: Expected) -> Result<(), Refusal> {
    if is_fresh(expected, release.progress.revision) {
        Ok(())
    } else {
        Err(refuse(release, ReleaseRefusal::StaleEtag))
    }
}

fn check_not_over(release: &Release) -> Result<(), Refusal> {
    if release.is_over() { Err(refuse(release, ReleaseRefusal::Over)) } else { Ok(()) }
}

/// The current phase of a release that has started and is not over.
fn check_started(release: &Release) -> Result<PhaseIndex, Refusal> {
    check_not_over(release)?;
    release.current().ok_or_else(|| refuse(release, ReleaseRefusal::NotStarted))
}

/// The phase that a call names, which has to be the current one.
fn check_current(release: &Release, phase: &PhaseId) -> Result<PhaseIndex, Refusal> {
    let current = check_started(release)?;
    if release.phase(current).id == *phase {
        Ok(current)
    } else {
        Err(refuse(release, ReleaseRefusal::PhaseNotCurrent(phase.clone())))
    }
}

/// The release that a call is about, as of its etag, and its current phase, which the call names.
fn find_at(
    state: &State,
    id: &ReleaseId,
    expected: Expected,
    phase_id: &PhaseId,
) -> Result<(Arc<Release>, PhaseIndex), Refusal> {
    let release = find(state, id)?;
    find_phase(&release, phase_id)?;
    check_etag(&release, expected)?;
    let phase = check_current(&release, phase_id)?;
    Ok((release, phase))
}

fn check_not_paused(release: &Release) -> Result<(), Refusal> {
    match &release.progress.stage {
        Stage::Paused { .. } => Err(refuse(release, ReleaseRefusal::Paused)),
        Stage::Pending | Stage::Running { .. } | Stage::Over { .. } => Ok(()),
    }
}
