//! What a plan warns of. The server judges each document by what it has; here the others are added.

use crate::document::{Document, Resource};
use phasegate_api::{
    convert::plan_warning,
    v1::{self, PlanWarning, flag::Spec},
};
use std::collections::BTreeMap;

/// The warnings of the server without the environments that another document names as well: two
/// places do then.
pub(super) fn of_all(warnings: Vec<PlanWarning>, documents: &[Document]) -> Vec<PlanWarning> {
    let named: BTreeMap<&str, Vec<&String>> =
        documents.iter().filter_map(|document| names(&document.resource)).collect();
    let left = warnings.into_iter().map(|PlanWarning { named_by, mut environments, .. }| {
        environments.retain(|id| {
            let mut others = named.iter().filter(|(name, _)| **name != named_by);
            !others.any(|(_, ids)| ids.contains(&id))
        });
        (named_by, environments)
    });
    left.filter(|(_, environments)| !environments.is_empty())
        .map(|(named_by, environments)| plan_warning(named_by, environments))
        .collect()
}

/// The name of what a document describes, and the environments that it names.
fn names(resource: &Resource) -> Option<(&str, Vec<&String>)> {
    fn of(rule: &v1::TargetingRule) -> &[String] {
        &rule.environments
    }
    match resource {
        Resource::Flag(flag) => {
            let ids = match &flag.spec {
                Some(Spec::FeatureGate(gate)) => {
                    gate.rules.iter().flat_map(|rule| &rule.targeting).flat_map(of).collect()
                }
                Some(Spec::DynamicConfig(config)) => {
                    config.rules.iter().flat_map(|rule| &rule.targeting).flat_map(of).collect()
                }
                None => Vec::new(),
            };
            Some((&flag.name, ids))
        }
        Resource::Pipeline(pipeline) => {
            let rules = pipeline.phases.iter().flat_map(|phase| &phase.rules);
            Some((
                &pipeline.name,
                rules.flat_map(of).chain(&pipeline.exempt_environments).collect(),
            ))
        }
        // It is left out of what is applied.
        Resource::Release(_) => None,
    }
}
