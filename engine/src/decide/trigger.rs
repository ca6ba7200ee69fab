//! TriggerRelease. Table F of the state machine.

use super::{PENDING_MAX, draft::Draft, flag, pipeline};
use crate::{
    command::{Caller, ConflictPolicy, Trigger},
    event::{Event, Happened},
    flag::Flag,
    id::ReleaseId,
    pipeline::Pipeline,
    refusal::{Refusal, Resource},
    release::{EndReason, Proposal, Release},
    state::State,
};
use std::sync::Arc;

/// What becomes of a release that is triggered.
enum Outcome {
    /// It waits for its time, or for its turn.
    Waits,
    /// It starts in this commit.
    Starts,
}

pub(super) fn trigger(
    draft: &mut Draft,
    trigger: &Trigger,
    caller: &Caller,
) -> Result<(), Refusal> {
    let flag = flag::find(draft.state(), &trigger.flag)?;
    let named = trigger.pipeline.as_ref();
    let named = named.map(|id| pipeline::find(draft.state(), id)).transpose()?;
    flag::check_kind(&flag, &trigger.change, "release")?;
    if draft.state().release(&trigger.id).is_some() {
        return Err(Refusal::Exists(Resource::Release(trigger.id.clone())));
    }
    let pipeline = governing_pipeline(draft.state(), &flag, named)?;
    if trigger.base.is_some_and(|base| base != flag.spec_revision) {
        let spec_revision = flag.spec_revision;
        return Err(Refusal::BaseChanged { flag: flag.id.clone(), spec_revision });
    }
    let outcome = resolve_conflict(draft, trigger)?;
    if matches!(outcome, Outcome::Starts) && trigger.change == flag.spec {
        return Err(Refusal::NoChange { flag: flag.id.clone() });
    }
    if trigger.conflict_policy == ConflictPolicy::Supersede {
        supersede(draft, trigger);
    }
    draft.is_about(&trigger.id);
    draft.record(Event::ReleaseCreated(Arc::new(Proposal {
        id: trigger.id.clone(),
        flag: trigger.flag.clone(),
        pipeline,
        change: Arc::clone(&trigger.change),
        base: trigger.base,
        labels: trigger.labels.clone(),
        description: Arc::clone(&trigger.description),
        schedule_time: trigger.schedule_time,
        creator: caller.principal.clone(),
        created: draft.revision(),
        create_time: draft.time(),
    })));
    let voice = draft.voice.saying(Arc::clone(&trigger.description));
    draft.emit_as(&trigger.id, voice, Happened::Triggered);
    // Whether it starts is for the settling of its flag, at the end of the commit.
    Ok(())
}

/// The flag's pipeline, or the one named if the flag has none.
fn governing_pipeline(
    state: &State,
    flag: &Flag,
    named: Option<Arc<Pipeline>>,
) -> Result<Arc<Pipeline>, Refusal> {
    let required =
        || Refusal::PipelineRequired { flag: flag.id.clone(), pipeline: flag.pipeline.clone() };
    match (&flag.pipeline, named) {
        (Some(attached), Some(named)) if *attached == named.id => Ok(named),
        (None, Some(named)) => Ok(named),
        (Some(attached), None) => state.pipeline(attached).map(Arc::clone).ok_or_else(required),
        (Some(_), Some(_)) | (None, None) => Err(required()),
    }
}

fn resolve_conflict(draft: &Draft, trigger: &Trigger) -> Result<Outcome, Refusal> {
    let state = draft.state();
    let waiting = state.unfinished(&trigger.flag).filter(|release| release.is_waiting_to_start());
    let queue = || {
        if waiting.count() < PENDING_MAX {
            Ok(Outcome::Waits)
        } else {
            Err(Refusal::QueueFull { flag: trigger.flag.clone() })
        }
    };
    if trigger.schedule_time.is_some_and(|at| at > draft.now()) {
        return queue();
    }
    match (state.active_release(&trigger.flag), trigger.conflict_policy) {
        (None, _) | (Some(_), ConflictPolicy::Supersede) => Ok(Outcome::Starts),
        (Some(_), ConflictPolicy::Queue) => queue(),
        (Some(active), ConflictPolicy::Fail) => Err(Refusal::ActiveReleaseExists {
            flag: trigger.flag.clone(),
            active: active.id().clone(),
        }),
    }
}

/// Aborts the active release of the flag and all that wait.
fn supersede(draft: &mut Draft, trigger: &Trigger) {
    let ids = |release: &Arc<Release>| release.id().clone();
    let others: Vec<ReleaseId> = draft.state().unfinished(&trigger.flag).map(ids).collect();
    let voice = draft.voice.saying(format!("superseded by releases/{}", trigger.id));
    for id in others {
        draft.emit_as(&id, voice.clone(), Happened::Aborted { reason: EndReason::Superseded });
    }
}
