//! Flags: create, update within limits, delete, kill switch.

use super::{draft::Draft, is_fresh};
use crate::{
    command::{Expected, FlagChange, SwitchTo},
    event::Event,
    flag::{Flag, FlagKind, KillSwitch, Labels, Spec, differs_outside},
    id::{FlagId, PipelineId, Revision},
    refusal::{Refusal, Resource},
    state::State,
};
use std::sync::Arc;

pub(super) fn create(
    draft: &mut Draft,
    id: &FlagId,
    description: &Arc<str>,
    spec: &Arc<Spec>,
    pipeline: Option<&PipelineId>,
    labels: &Labels,
) -> Result<(), Refusal> {
    check_pipeline(draft.state(), pipeline)?;
    if draft.state().flag(id).is_some() {
        return Err(Refusal::Exists(Resource::Flag(id.clone())));
    }
    draft.store_flag(Flag {
        id: id.clone(),
        description: Arc::clone(description),
        spec: Arc::clone(spec),
        pipeline: pipeline.cloned(),
        labels: labels.clone(),
        kill_switch: KillSwitch::Lifted { reason: Arc::from("") },
        labels_revision: Revision::ZERO,
        spec_revision: draft.revision(),
        revision: draft.revision(),
        update_time: draft.time(),
    });
    Ok(())
}

pub(super) fn update(
    draft: &mut Draft,
    id: &FlagId,
    expected: Expected,
    change: &FlagChange,
) -> Result<(), Refusal> {
    let flag = find(draft.state(), id)?;
    check_pipeline(draft.state(), change.pipeline.as_ref().and_then(Option::as_ref))?;
    if let Some(spec) = &change.spec {
        check_kind(&flag, spec, "flag")?;
    }
    check_etag(&flag, expected)?;
    let mut updated = Flag::clone(&flag);
    if let Some(spec) = change.spec.as_ref().filter(|spec| **spec != flag.spec) {
        check_spec_may_change(draft.state(), &flag, spec)?;
        updated.spec = Arc::clone(spec);
        updated.spec_revision = draft.revision();
    }
    if let Some(description) = &change.description {
        updated.description = Arc::clone(description);
    }
    if let Some(pipeline) = &change.pipeline {
        updated.pipeline.clone_from(pipeline);
    }
    if let Some(labels) = change.labels.as_ref().filter(|labels| **labels != flag.labels) {
        updated.labels.clone_from(labels);
        updated.labels_revision = draft.revision();
    }
    if updated != *flag {
        draft.store_flag(updated);
    }
    Ok(())
}

pub(super) fn delete(draft: &mut Draft, id: &FlagId, expected: Expected) -> Result<(), Refusal> {
    let flag = find(draft.state(), id)?;
    check_etag(&flag, expected)?;
    if let Some(release) = draft.state().unfinished(id).next() {
        return Err(Refusal::InUse {
            resource: Resource::Flag(id.clone()),
            referrer: Resource::Release(release.id().clone()),
        });
    }
    draft.record(Event::FlagDeleted(id.clone()));
    Ok(())
}

pub(super) fn set_kill_switch(
    draft: &mut Draft,
    id: &FlagId,
    switch: SwitchTo,
    reason: &Arc<str>,
) -> Result<(), Refusal> {
    let flag = find(draft.state(), id)?;
    let reason = Arc::clone(reason);
    let kill_switch = match switch {
        SwitchTo::Engaged => KillSwitch::Engaged { reason },
        SwitchTo::Lifted => KillSwitch::Lifted { reason },
    };
    if kill_switch != flag.kill_switch {
        draft.store_flag(Flag { kill_switch, ..Flag::clone(&flag) });
    }
    Ok(())
}

/// A flag that a call names.
pub(super) fn find(state: &State, id: &FlagId) -> Result<Arc<Flag>, Refusal> {
    let missing = || Refusal::NotFound(Resource::Flag(id.clone()));
    state.flag(id).map(Arc::clone).ok_or_else(missing)
}

/// Refuses a spec of the other kind; `holder` is the field of the request that carries the spec.
pub(super) fn check_kind(flag: &Flag, spec: &Spec, holder: &str) -> Result<(), Refusal> {
    if spec.kind() == flag.spec.kind() {
        return Ok(());
    }
    let (field, is, wants) = match flag.spec.kind() {
        FlagKind::FeatureGate => ("dynamic_config", "a feature gate", "feature_gate"),
        FlagKind::DynamicConfig => ("feature_gate", "a dynamic config", "dynamic_config"),
    };
    Err(Refusal::InvalidField {
        field: format!("{holder}.{field}"),
        problem: format!("flags/{} is {is} and stays one; set {wants} instead", flag.id),
    })
}

fn check_pipeline(state: &State, pipeline: Option<&PipelineId>) -> Result<(), Refusal> {
    match pipeline {
        Some(id) if state.pipeline(id).is_none() => {
            Err(Refusal::NotFound(Resource::Pipeline(id.clone())))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_etag(flag: &Flag, expected: Expected) -> Result<(), Refusal> {
    if is_fresh(expected, flag.revision) {
        return Ok(());
    }
    let resource = Resource::Flag(flag.id.clone());
    Err(Refusal::StaleEtag { resource, revision: flag.revision })
}

/// A spec that differs from the settled one must not be overwritten by a release that is under way,
/// nor go round the pipeline that governs the flag.
fn check_spec_may_change(state: &State, flag: &Flag, spec: &Spec) -> Result<(), Refusal> {
    if let Some(active) = state.active_release(&flag.id) {
        let active = active.id().clone();
        return Err(Refusal::FlagLocked { flag: flag.id.clone(), active });
    }
    let Some(pipeline) = flag.pipeline.as_ref().and_then(|id| state.pipeline(id)) else {
        return Ok(());
    };
    if differs_outside(&flag.spec, spec, &pipeline.template.exempt_environments) {
        return Err(Refusal::PipelineRequired {
            flag: flag.id.clone(),
            pipeline: Some(pipeline.id.clone()),
        });
    }
    Ok(())
}
