//! A commit, made ready to be written.

use crate::store::{Record, RequestKey, RequestRecord, Write};
use phasegate_engine::{
    Event,
    event::{Change, Commit},
    flag::{Flag, Spec},
    id::{FlagId, PipelineId},
    pipeline::Pipeline,
    targeting::TargetingRule,
    value::{Object, Value},
};
use std::{collections::BTreeMap, sync::Arc};

/// The record of a commit: of each resource, what it is at the end.
pub(super) fn record(
    commit: &Commit,
    changes: Vec<Arc<Change>>,
    request: Option<(RequestKey, RequestRecord)>,
) -> Record {
    let mut flags: BTreeMap<&FlagId, Option<&Arc<Flag>>> = BTreeMap::new();
    let mut pipelines: BTreeMap<&PipelineId, Option<&Arc<Pipeline>>> = BTreeMap::new();
    let mut proposals = Vec::new();
    for event in &commit.events {
        match event {
            Event::FlagStored(flag) => {
                flags.insert(&flag.id, Some(flag));
            }
            Event::FlagDeleted(id) => {
                flags.insert(id, None);
            }
            Event::PipelineStored(pipeline) => {
                pipelines.insert(&pipeline.id, Some(pipeline));
            }
            Event::PipelineDeleted(id) => {
                pipelines.insert(id, None);
            }
            Event::ReleaseCreated(proposal) => proposals.push(Arc::clone(proposal)),
            // What it made of the release is in the changes.
            Event::Release(_) => {}
        }
    }
    Record {
        revision: commit.revision,
        time: commit.time,
        flags: writes(flags),
        pipelines: writes(pipelines),
        proposals,
        releases: changes.iter().map(|change| Arc::clone(&change.release)).collect(),
        changes,
        request,
    }
}

fn writes<K: Clone, V>(resources: BTreeMap<&K, Option<&Arc<V>>>) -> Vec<Write<K, V>> {
    let write = |(id, resource): (&K, Option<&Arc<V>>)| match resource {
        Some(resource) => Write::Put(id.clone(), Arc::clone(resource)),
        None => Write::Delete(id.clone()),
    };
    resources.into_iter().map(write).collect()
}

/// About how many bytes a record takes when it is written.
pub(super) fn approximate_bytes(record: &Record) -> usize {
    let flags = record.flags.iter().map(|write| match write {
        Write::Put(_, flag) => SMALL + spec_bytes(&flag.spec),
        Write::Delete(_) => SMALL,
    });
    let pipelines = record.pipelines.iter().map(|write| match write {
        Write::Put(_, pipeline) => pipeline_bytes(pipeline),
        Write::Delete(_) => SMALL,
    });
    let proposals = record
        .proposals
        .iter()
        .map(|proposal| pipeline_bytes(&proposal.pipeline) + spec_bytes(&proposal.change));
    // Each change is written in the log, and its release among the releases.
    let changes = record.changes.iter().map(|change| 2 * crate::watch::approximate_bytes(change));
    SMALL + flags.chain(pipelines).chain(proposals).chain(changes).sum::<usize>()
}

/// The names, numbers and times around something.
const SMALL: usize = 256;

fn pipeline_bytes(pipeline: &Pipeline) -> usize {
    let template = &pipeline.template;
    let phases = template.phases.iter().map(|phase| SMALL + rules_bytes(&phase.rules));
    SMALL + template.description.len() + template.trigger_notice.len() + phases.sum::<usize>()
}

fn rules_bytes<'a>(rules: impl IntoIterator<Item = &'a TargetingRule>) -> usize {
    // Most conditions name a handful of values.
    rules.into_iter().map(|rule| SMALL * (1 + rule.conditions.len())).sum()
}

fn spec_bytes(spec: &Spec) -> usize {
    match spec {
        Spec::Gate(rules) => rules_bytes(rules.rules.iter().map(|rule| &rule.targeting)),
        Spec::Config(rules) => {
            let values = rules.rules.iter().map(|rule| object_bytes(&rule.value));
            rules_bytes(rules.rules.iter().map(|rule| &rule.targeting))
                + object_bytes(&rules.default)
                + values.sum::<usize>()
        }
    }
}

fn object_bytes(object: &Object) -> usize {
    object.iter().map(|(key, value)| key.len() + value_bytes(value)).sum()
}

/// Recursive, and no deeper than values are when they enter.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => 3 + text.len(),
        Value::List(values) => 3 + values.iter().map(value_bytes).sum::<usize>(),
        Value::Object(object) => 3 + object_bytes(object),
    }
}
