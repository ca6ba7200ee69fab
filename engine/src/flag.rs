//! Flags: feature gates and dynamic configs in one key space.

use crate::{
    id::{EnvironmentId, FlagId, PipelineId, Revision, RuleId},
    targeting::{BasisPoints, Condition, TargetingRule},
    time::Timestamp,
    value::Object,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// What a flag answers: the first rule that matches, else the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules<V> {
    /// In order; the first that matches wins.
    pub rules: Vec<Rule<V>>,
    /// The answer when no rule matches.
    pub default: V,
}

/// A rule of a spec, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule<V> {
    /// Whom it is for.
    pub targeting: TargetingRule,
    /// What they get.
    pub value: V,
}

/// A spec, settled or proposed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Spec {
    /// A feature gate answers a boolean.
    Gate(Rules<bool>),
    /// A dynamic config answers a JSON object.
    Config(Rules<Object>),
}

/// Which of the two a flag is; it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// A boolean.
    FeatureGate,
    /// A JSON object.
    DynamicConfig,
}

impl Spec {
    /// Which of the two it is.
    pub fn kind(&self) -> FlagKind {
        match self {
            Self::Gate(_) => FlagKind::FeatureGate,
            Self::Config(_) => FlagKind::DynamicConfig,
        }
    }
}

/// The kill switch of a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillSwitch {
    /// The flag answers as its spec says.
    Lifted {
        /// Text given when it was lifted; empty if it never was engaged.
        reason: Arc<str>,
    },
    /// A gate answers false, a config its settled default.
    Engaged {
        /// Text given when it was engaged.
        reason: Arc<str>,
    },
}

impl KillSwitch {
    /// True while the flag is killed.
    pub fn is_engaged(&self) -> bool {
        matches!(self, Self::Engaged { .. })
    }

    /// Text given with the last change.
    pub fn reason(&self) -> &Arc<str> {
        match self {
            Self::Lifted { reason } | Self::Engaged { reason } => reason,
        }
    }
}

/// A flag as it is stored. Which release is active is not part of it, see
/// [`State::active_release`](crate::State::active_release).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flag {
    /// Last segment of its name.
    pub id: FlagId,
    /// Free text.
    pub description: Arc<str>,
    /// What everyone gets while no release is active.
    pub spec: Arc<Spec>,
    /// The pipeline along which all its releases run.
    pub pipeline: Option<PipelineId>,
    /// The kill switch.
    pub kill_switch: KillSwitch,
    /// Commit that last changed the settled spec.
    pub spec_revision: Revision,
    /// Commit that last changed the flag; its etag stands for this.
    pub revision: Revision,
    /// Time of that commit.
    pub update_time: Timestamp,
}

/// True if two specs differ in an environment that is not exempt: one that a rule of either names,
/// or any that none names. Specs differ in an environment if `default` does, or the sequence of
/// rules that concern it, their environments left aside.
pub fn differs_outside(old: &Spec, new: &Spec, exempt: &[EnvironmentId]) -> bool {
    match (old, new) {
        (Spec::Gate(old), Spec::Gate(new)) => rules_differ_outside(old, new, exempt),
        (Spec::Config(old), Spec::Config(new)) => rules_differ_outside(old, new, exempt),
        (Spec::Gate(_), Spec::Config(_)) | (Spec::Config(_), Spec::Gate(_)) => true,
    }
}

fn rules_differ_outside<V: PartialEq>(
    old: &Rules<V>,
    new: &Rules<V>,
    exempt: &[EnvironmentId],
) -> bool {
    let named = old.rules.iter().chain(&new.rules).flat_map(|rule| &rule.targeting.environments);
    let governed: BTreeSet<_> = named.filter(|environment| !exempt.contains(environment)).collect();
    // `None` is an environment that no rule names.
    let mut environments = std::iter::once(None).chain(governed.into_iter().map(Some));
    old.default != new.default
        || environments.any(|environment| rules_in(old, environment).ne(rules_in(new, environment)))
}

/// The rules that concern an environment, their environments left aside.
fn rules_in<'a, V>(
    spec: &'a Rules<V>,
    environment: Option<&'a EnvironmentId>,
) -> impl Iterator<Item = (&'a RuleId, &'a [Condition], BasisPoints, &'a str, &'a V)> {
    let concerns = move |rule: &&Rule<V>| {
        let environments = &rule.targeting.environments;
        environments.is_empty() || environment.is_some_and(|one| environments.contains(one))
    };
    spec.rules.iter().filter(concerns).map(|rule| {
        let TargetingRule { id, environments: _, conditions, share, bucket_by } = &rule.targeting;
        (id, conditions.as_slice(), *share, &**bucket_by, &rule.value)
    })
}
