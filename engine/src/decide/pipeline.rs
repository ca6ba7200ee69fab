//! Pipelines: create, edit at any time, delete once nothing needs them.

use super::{draft::Draft, is_fresh};
use crate::{
    command::{Expected, PipelineChange},
    event::Event,
    id::PipelineId,
    pipeline::{EXEMPT_CONFLICT, Pipeline, Template, exempt_conflicts},
    refusal::{Refusal, Resource},
    state::State,
};
use std::sync::Arc;

pub(super) fn create(
    draft: &mut Draft,
    id: &PipelineId,
    template: &Template,
) -> Result<(), Refusal> {
    if draft.state().pipeline(id).is_some() {
        return Err(Refusal::Exists(Resource::Pipeline(id.clone())));
    }
    store(draft, id, template.clone());
    Ok(())
}

pub(super) fn update(
    draft: &mut Draft,
    id: &PipelineId,
    expected: Expected,
    change: &PipelineChange,
) -> Result<(), Refusal> {
    let pipeline = find(draft.state(), id)?;
    let mut template = pipeline.template.clone();
    if let Some(description) = &change.description {
        template.description = Arc::clone(description);
    }
    if let Some(phases) = &change.phases {
        template.phases.clone_from(phases);
    }
    if let Some(environments) = &change.exempt_environments {
        template.exempt_environments.clone_from(environments);
    }
    if let Some(notice) = &change.trigger_notice {
        template.trigger_notice = Arc::clone(notice);
    }
    check_exempt(&template)?;
    check_etag(&pipeline, expected)?;
    if template != pipeline.template {
        store(draft, id, template);
    }
    Ok(())
}

pub(super) fn delete(
    draft: &mut Draft,
    id: &PipelineId,
    expected: Expected,
) -> Result<(), Refusal> {
    let pipeline = find(draft.state(), id)?;
    check_etag(&pipeline, expected)?;
    let flag = draft.state().flag_attached_to(id).cloned().map(Resource::Flag);
    let release = || draft.state().release_along(id).cloned().map(Resource::Release);
    if let Some(referrer) = flag.or_else(release) {
        return Err(Refusal::InUse { resource: Resource::Pipeline(id.clone()), referrer });
    }
    draft.record(Event::PipelineDeleted(id.clone()));
    Ok(())
}

/// No phase may name an environment that the pipeline does not govern, also if one call changed the
/// phases and an earlier one the exempt environments.
fn check_exempt(template: &Template) -> Result<(), Refusal> {
    match exempt_conflicts(&template.phases, &template.exempt_environments).next() {
        None => Ok(()),
        Some((phase, rule, environment)) => Err(Refusal::InvalidField {
            field: format!("pipeline.phases[{phase}].rules[{rule}].environments[{environment}]"),
            problem: EXEMPT_CONFLICT.to_owned(),
        }),
    }
}

fn store(draft: &mut Draft, id: &PipelineId, template: Template) {
    let pipeline = Pipeline {
        id: id.clone(),
        template,
        revision: draft.revision(),
        update_time: draft.time(),
    };
    draft.record(Event::PipelineStored(Arc::new(pipeline)));
}

/// A pipeline that a call names.
pub(super) fn find(state: &State, id: &PipelineId) -> Result<Arc<Pipeline>, Refusal> {
    let missing = || Refusal::NotFound(Resource::Pipeline(id.clone()));
    state.pipeline(id).map(Arc::clone).ok_or_else(missing)
}

fn check_etag(pipeline: &Pipeline, expected: Expected) -> Result<(), Refusal> {
    if is_fresh(expected, pipeline.revision) {
        return Ok(());
    }
    let resource = Resource::Pipeline(pipeline.id.clone());
    Err(Refusal::StaleEtag { resource, revision: pipeline.revision })
}
