//! Flags: feature gates and dynamic configs in one key space.

use crate::{
    id::{EnvironmentId, FlagId, PipelineId, Revision, RuleId},
    targeting::{BasisPoints, Condition, TargetingRule},
    time::Timestamp,
    value::Object,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Keys and values that a resource is found and scoped by.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

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

    /// Whom its rules are for, in order.
    pub fn targeting(&self) -> impl Iterator<Item = &TargetingRule> {
        let (gate, config) = match self {
            Self::Gate(rules) => (Some(&rules.rules), None),
            Self::Config(rules) => (None, Some(&rules.rules)),
        };
        let gate = gate.into_iter().flatten().map(|rule| &rule.targeting);
        gate.chain(config.into_iter().flatten().map(|rule| &rule.targeting))
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
    /// Whose it is, and whatever else it is found by. They decide who may see it and act on it, and
    /// nothing that it answers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// The kill switch.
    pub kill_switch: KillSwitch,
    /// Commit that last gave it other labels; zero if they are those it was created with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub labels_revision: Revision,
    /// Commit that last changed the settled spec.
    pub spec_revision: Revision,
    /// Commit that last changed the flag; its etag stands for this.
    pub revision: Revision,
    /// Time of that commit.
    pub update_time: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_zero(revision: &Revision) -> bool {
    *revision == Revision::ZERO
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Object, Value};

    /// A rule in one word: `id`, or `id@env+env`. Its answer is true.
    fn rule(text: &str) -> Rule<bool> {
        let (id, environments) = text.split_once('@').unwrap_or((text, ""));
        let environments = environments.split_terminator('+').map(|e| e.parse().unwrap());
        let targeting = TargetingRule {
            id: id.parse().unwrap(),
            environments: environments.collect(),
            conditions: Vec::new(),
            share: BasisPoints::ALL,
            bucket_by: "targetingKey".into(),
        };
        Rule { targeting, value: true }
    }

    /// A gate whose rules are those words, and whose default is false.
    fn gate(rules: &str) -> Spec {
        Spec::Gate(Rules { rules: rules.split_whitespace().map(rule).collect(), default: false })
    }

    fn check(old: &Spec, new: &Spec, exempt: &str, differs: bool) {
        let exempt: Vec<_> = exempt.split_whitespace().map(|e| e.parse().unwrap()).collect();
        assert_eq!(differs_outside(old, new, &exempt), differs, "{old:?} {new:?} {exempt:?}");
        assert_eq!(differs_outside(new, old, &exempt), differs, "{new:?} {old:?} {exempt:?}");
    }

    #[test]
    fn equal_specs_differ_nowhere() {
        check(&gate(""), &gate(""), "", false);
        check(&gate("a b@dev"), &gate("a b@dev"), "", false);
    }

    #[test]
    fn a_rule_of_an_exempt_environment_may_come_and_go() {
        check(&gate("a"), &gate("a b@dev"), "dev", false);
        check(&gate("a"), &gate("b@dev a"), "dev test", false);
        check(&gate("a"), &gate("a b@dev+test"), "dev test", false);
        check(&gate("a@dev"), &gate("b@dev"), "dev", false);
    }

    #[test]
    fn a_rule_of_a_governed_environment_may_not() {
        check(&gate("a"), &gate("a b@prod"), "dev", true);
        check(&gate("a"), &gate("a b@dev+prod"), "dev", true);
        check(&gate("a"), &gate("a b@dev"), "", true);
    }

    #[test]
    fn a_rule_of_every_environment_counts_even_if_all_that_are_named_are_exempt() {
        check(&gate("b@dev"), &gate("a b@dev"), "dev", true);
        check(&gate(""), &gate("a"), "dev", true);
    }

    #[test]
    fn moving_a_rule_between_exempt_and_all_environments_is_seen_by_the_governed_ones() {
        check(&gate("a@dev"), &gate("a"), "dev", true);
        check(&gate("a@dev+prod"), &gate("a@dev"), "dev", true);
        check(&gate("a@prod"), &gate("a@dev+prod"), "dev", false);
    }

    #[test]
    fn the_order_counts_among_the_rules_that_concern_one_environment() {
        check(&gate("a@prod b@prod"), &gate("b@prod a@prod"), "", true);
        check(&gate("a@prod b"), &gate("b a@prod"), "", true);
        check(&gate("a@prod b@test"), &gate("b@test a@prod"), "", false);
        check(&gate("a@dev b"), &gate("b a@dev"), "dev", false);
    }

    #[test]
    fn naming_the_same_environments_in_two_rules_or_in_another_order_is_no_difference() {
        check(&gate("a@prod+test"), &gate("a@test+prod"), "", false);
        check(&gate("a@prod a@test"), &gate("a@prod+test"), "", false);
    }

    #[test]
    fn every_part_of_a_rule_but_its_environments_counts() {
        let with = |edit: fn(&mut Rule<bool>)| {
            let mut one = rule("a");
            edit(&mut one);
            Spec::Gate(Rules { rules: vec![one], default: false })
        };
        let check = |edit| check(&gate("a"), &with(edit), "dev", true);
        check(|rule| rule.value = false);
        check(|rule| rule.targeting.id = "b".parse().unwrap());
        check(|rule| rule.targeting.share = BasisPoints::NONE);
        check(|rule| rule.targeting.bucket_by = "tenant".into());
        check(|rule| {
            let test = crate::targeting::Test::Exists;
            rule.targeting.conditions = vec![Condition { attribute: "tenant".into(), test }];
        });
    }

    #[test]
    fn the_default_holds_in_every_environment() {
        let on = Spec::Gate(Rules { rules: Vec::new(), default: true });
        check(&gate(""), &on, "dev", true);
        let config = |text: &str| {
            let default = Object::from([("colour".into(), Value::String(text.into()))]);
            Spec::Config(Rules { rules: Vec::new(), default })
        };
        check(&config("red"), &config("red"), "", false);
        check(&config("red"), &config("blue"), "dev", true);
    }
}
