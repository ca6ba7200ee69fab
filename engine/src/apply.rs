//! `apply(&mut State, &Commit)`: total. A commit that was decided always applies.
//!
//! Nothing is decided here. An event says what happened; this says what that makes of the state.
//! Events about releases that the state does not have leave it as it is, so that a damaged log is
//! found by comparison and not by a panic.

use crate::{
    deadline::armed,
    event::{Bypass, Commit, Event, Happened, ReleaseEvent},
    id::{ReleaseId, Revision},
    release::{
        EndReason, GuardProgress, GuardVerdict, Held, HeldWait, PauseRecord, PhaseIndex,
        PhaseProgress, PhaseState, Progress, Proposal, Release, Review, ReviewVerdict, Stage, Wait,
    },
    state::State,
    time::Timestamp,
};
use std::sync::Arc;
use thin_vec::{ThinVec, thin_vec};

/// Applies a commit to the state that it was decided on.
pub fn apply(state: &mut State, commit: &Commit) {
    for event in &commit.events {
        apply_event(state, commit.revision, commit.time, event);
    }
    let created_or_moved = commit.events.iter().filter_map(|event| match event {
        Event::Release(event) => Some(&event.release),
        Event::FlagStored(_)
        | Event::FlagDeleted(_)
        | Event::PipelineStored(_)
        | Event::PipelineDeleted(_)
        | Event::ReleaseCreated(_) => None,
    });
    for id in created_or_moved {
        seal_reviews(state, commit.revision, id);
    }
    state.advance_to(commit.revision, commit.time);
}

/// Applies one event of a commit that is still being decided.
pub(crate) fn apply_event(state: &mut State, revision: Revision, time: Timestamp, event: &Event) {
    match event {
        Event::FlagStored(flag) => state.store_flag(Arc::clone(flag)),
        Event::FlagDeleted(id) => state.remove_flag(id),
        Event::PipelineStored(pipeline) => state.store_pipeline(Arc::clone(pipeline)),
        Event::PipelineDeleted(id) => state.remove_pipeline(id),
        Event::ReleaseCreated(proposal) => {
            state.store_release(Arc::new(created(proposal, revision, time)));
        }
        Event::Release(event) => {
            let Some(before) = state.release(&event.release) else { return };
            let mut after = Release::clone(before);
            happen(&mut after, revision, time, event);
            after.progress.revision = revision;
            after.progress.update_time = time;
            if armed(before) != armed(&after) {
                after.progress.timer_generation += 1;
            }
            state.store_release(Arc::new(after));
        }
    }
}

/// A release that has just come to be.
fn created(proposal: &Arc<Proposal>, revision: Revision, time: Timestamp) -> Release {
    let phases = proposal.pipeline.template.phases.iter().map(|phase| PhaseProgress {
        state: PhaseState::Pending,
        applied: false,
        bypassed: false,
        enter_time: None,
        apply_time: None,
        end_time: None,
        reviews: ThinVec::new(),
        guards: thin_vec![GuardProgress::default(); phase.guards.len()],
    });
    let progress = Progress {
        stage: Stage::Pending,
        phases: phases.collect(),
        start_time: None,
        revision,
        update_time: time,
        timer_generation: 0,
    };
    Release { proposal: Arc::clone(proposal), progress }
}

fn happen(release: &mut Release, revision: Revision, time: Timestamp, event: &ReleaseEvent) {
    match &event.happened {
        Happened::Triggered => {}
        Happened::Started { .. } => release.progress.start_time = Some(time),
        Happened::PhaseEntered { phase, wait } => {
            // Without a wait its application follows, which says what it waits for.
            let wait = wait.unwrap_or(Wait::Window { opens: None });
            phase_mut(release, *phase).enter_time = Some(time);
            run(release, *phase, wait);
        }
        Happened::ApprovalRecorded { phase, groups, then } => {
            let review = review(event, ReviewVerdict::Approved, groups, revision, time);
            phase_mut(release, *phase).reviews.extend(review);
            if let Some(wait) = then {
                run(release, *phase, *wait);
            }
        }
        Happened::ApprovalRejected { phase, groups } => {
            let review = review(event, ReviewVerdict::Rejected, groups, revision, time);
            phase_mut(release, *phase).reviews.extend(review);
        }
        Happened::WindowOpened { .. } => {}
        Happened::WindowRescheduled { phase, opens } => {
            run(release, *phase, Wait::Window { opens: *opens });
        }
        Happened::WindowOverridden { phase } => phase_mut(release, *phase).bypassed = true,
        Happened::PhaseApplied { phase, bake_ends } => {
            let progress = phase_mut(release, *phase);
            progress.applied = true;
            progress.apply_time = Some(time);
            run(release, *phase, Wait::Bake { ends: *bake_ends });
        }
        Happened::BakeElapsed { phase, ended, .. } => match &mut release.progress.stage {
            Stage::Paused { held: Held::Running { wait, .. }, .. } => {
                *wait = HeldWait::Guards { ended: *ended };
            }
            Stage::Pending | Stage::Running { .. } | Stage::Paused { .. } | Stage::Over { .. } => {
                run(release, *phase, Wait::Guards { ended: *ended, since: *ended });
            }
        },
        Happened::BakeAdjusted { phase, remaining, ends } => {
            if let Some(ends) = ends {
                run(release, *phase, Wait::Bake { ends: *ends });
            } else if let Stage::Paused { held: Held::Running { wait, .. }, .. } =
                &mut release.progress.stage
            {
                *wait = HeldWait::Bake { remaining: *remaining };
            }
        }
        Happened::GuardReported { phase, guard, verdict, .. } => {
            let guards = &release.phase(*phase).guards;
            if let Some(index) = guards.iter().position(|known| known.id == *guard) {
                phase_mut(release, *phase).guards[index] = GuardProgress {
                    verdict: Some(*verdict),
                    message: Arc::clone(&event.reason),
                    report_time: Some(time),
                };
            }
        }
        Happened::PhaseSucceeded { phase, .. } => {
            let progress = phase_mut(release, *phase);
            progress.state = PhaseState::Succeeded;
            progress.end_time = Some(time);
        }
        Happened::PhaseSkipped { phase, bypass } => {
            let progress = phase_mut(release, *phase);
            progress.state = PhaseState::Skipped;
            progress.bypassed |= *bypass == Bypass::OnRecord;
            progress.end_time = progress.enter_time.map(|_| time);
        }
        Happened::Paused { held, cause } => {
            let by = PauseRecord {
                revision,
                ordinal: event.ordinal,
                time,
                actor: event.actor.clone(),
                reason: Arc::clone(&event.reason),
                request_id: event.request_id.clone(),
                cause: cause.clone(),
                phase: release.current(),
            };
            release.progress.stage = Stage::Paused { held: *held, by: Box::new(by) };
        }
        Happened::Unpaused { to } => unpause(release, *to),
        Happened::Succeeded { reason } => {
            release.progress.stage = Stage::Over { reason: *reason, time };
        }
        Happened::Aborted { reason } => revert(release, *reason, time, PhaseState::Aborted),
        Happened::Failed { reason, .. } => revert(release, *reason, time, PhaseState::Failed),
    }
}

fn phase_mut(release: &mut Release, phase: PhaseIndex) -> &mut PhaseProgress {
    &mut release.progress.phases[phase.get()]
}

/// Makes a phase the current one, waiting for this.
fn run(release: &mut Release, phase: PhaseIndex, wait: Wait) {
    phase_mut(release, phase).state = wait.phase_state();
    release.progress.stage = Stage::Running { phase, wait };
}

fn unpause(release: &mut Release, to: Option<Wait>) {
    let Stage::Paused { held, .. } = &release.progress.stage else { return };
    match *held {
        Held::Pending => release.progress.stage = Stage::Pending,
        Held::Running { phase, wait } => {
            for guard in &mut phase_mut(release, phase).guards {
                if guard.verdict == Some(GuardVerdict::Fail) {
                    *guard = GuardProgress::default();
                }
            }
            // Without a wait, what follows in the same commit says where the release goes.
            let wait = to.unwrap_or(match wait {
                HeldWait::Approval { .. } => Wait::Approval { expires: None },
                HeldWait::Window => Wait::Window { opens: None },
                HeldWait::Bake { .. } => Wait::Bake { ends: release.progress.update_time },
                HeldWait::Guards { ended } => Wait::Guards { ended, since: ended },
            });
            run(release, phase, wait);
        }
    }
}

/// Ends a release and takes all of its exposure back.
fn revert(release: &mut Release, reason: EndReason, time: Timestamp, current: PhaseState) {
    if let Some(phase) = release.current() {
        let progress = phase_mut(release, phase);
        progress.state = current;
        progress.end_time = Some(time);
    }
    for phase in &mut release.progress.phases {
        phase.applied = false;
        if phase.state == PhaseState::Pending {
            phase.state = PhaseState::Cancelled;
        }
    }
    release.progress.stage = Stage::Over { reason, time };
}

/// The review of an event; none if the engine wrote it, which never reviews.
fn review(
    event: &ReleaseEvent,
    verdict: ReviewVerdict,
    groups: &[crate::id::Group],
    revision: Revision,
    time: Timestamp,
) -> Option<Review> {
    let crate::event::Actor::Principal(principal) = &event.actor else { return None };
    Some(Review {
        verdict,
        principal: principal.clone(),
        groups: groups.to_vec(),
        revision,
        ordinal: event.ordinal,
        time,
        reason: Arc::clone(&event.reason),
        request_id: event.request_id.clone(),
        // Known when the commit is complete, see `seal_reviews`.
        state_after: crate::release::ReleaseState::AwaitingApproval,
    })
}

/// Reviews of this commit learn the state in which it left the release.
fn seal_reviews(state: &mut State, revision: Revision, id: &ReleaseId) {
    let Some(before) = state.release(id) else { return };
    let state_after = before.state();
    let unsealed =
        |review: &Review| review.revision == revision && review.state_after != state_after;
    let mut phases = before.progress.phases.iter();
    let Some(phase) = phases.position(|phase| phase.reviews.iter().any(unsealed)) else { return };
    let mut after = Release::clone(before);
    for review in &mut after.progress.phases[phase].reviews {
        if review.revision == revision {
            review.state_after = state_after;
        }
    }
    state.store_release(Arc::new(after));
}
