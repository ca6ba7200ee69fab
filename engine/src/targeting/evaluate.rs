//! What a flag answers for one context, and why.
//!
//! 1. Killed: a gate false, a config the default of its settled spec.
//! 2. A release is active, and the environment is exempt in its copy of the pipeline or the context
//!    matches a rule of an applied phase: its change.
//! 3. Else the settled spec.
//!
//! The answer is a function of the arguments alone. Delivery compiles the same rules for flagd and
//! must give the same answer for every context.

use super::{
    BasisPoints, TargetingRule,
    bucket::{Bucketing, Salt, bucket},
    condition::{Attribute, holds},
};
use crate::{
    flag::{Flag, Rules, Spec},
    id::{EnvironmentId, PhaseId, RuleId},
    release::Release,
    value::{Object, Value},
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where.
    pub environment: &'a EnvironmentId,
    /// The attributes by top-level key, among them [`TARGETING_KEY`](super::TARGETING_KEY).
    pub attributes: &'a Object,
}

/// What a flag answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// A boolean for a gate, an object for a config.
    pub value: Value,
    /// Why this value.
    pub why: Why,
    /// Why the change of the active release answered; `None`: the settled spec or the kill switch
    /// did.
    pub exposed: Option<Exposure>,
}

/// Why a flag answered so. The rule is that of the spec that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The flag is killed.
    Disabled,
    /// No rule matched.
    Default,
    /// This rule matched, and its share is everyone.
    TargetingMatch(RuleId),
    /// This rule matched, and its share is smaller.
    Split(RuleId),
}

/// Why a context sees the change of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// The pipeline does not govern the environment.
    Exempt,
    /// This is the first applied phase that covers the context.
    Phase(PhaseId),
}

/// What a flag answers. A release that is not active exposes nothing, so it may be passed too.
pub fn evaluate(
    flag: &Flag,
    active: Option<&Release>,
    context: &Context<'_>,
    bucketing: Bucketing,
) -> Answer {
    if flag.kill_switch.is_engaged() {
        return Answer { value: killed(&flag.spec), why: Why::Disabled, exposed: None };
    }
    let exposed =
        active.and_then(|release| Some((release, exposure(release, context, bucketing)?)));
    let (spec, exposed) = match exposed {
        Some((release, exposure)) => (&release.proposal.change, Some(exposure)),
        None => (&flag.spec, None),
    };
    let covers = |rule: &TargetingRule| covers(rule, context, Salt::Flag(&flag.id), bucketing);
    let (value, why) = match &**spec {
        Spec::Gate(rules) => {
            let (value, why) = first_match(rules, covers);
            (Value::Bool(*value), why)
        }
        Spec::Config(rules) => {
            let (value, why) = first_match(rules, covers);
            (Value::Object(value.clone()), why)
        }
    };
    Answer { value, why, exposed }
}

/// Whether and why a context sees the change of a release.
pub fn exposure(
    release: &Release,
    context: &Context<'_>,
    bucketing: Bucketing,
) -> Option<Exposure> {
    // The phases of a release that succeeded stay applied.
    if !release.is_active() {
        return None;
    }
    if release.proposal.pipeline.template.exempt_environments.contains(context.environment) {
        return Some(Exposure::Exempt);
    }
    let salt = Salt::Release(release.id());
    let applied = release.phases().iter().zip(&release.progress.phases).filter(|(_, p)| p.applied);
    applied
        .map(|(phase, _)| phase)
        .find(|phase| phase.rules.iter().any(|rule| covers(rule, context, salt, bucketing)))
        .map(|phase| Exposure::Phase(phase.id.clone()))
}

fn killed(settled: &Spec) -> Value {
    match settled {
        Spec::Gate(_) => Value::Bool(false),
        Spec::Config(rules) => Value::Object(rules.default.clone()),
    }
}

fn first_match<V>(spec: &Rules<V>, covers: impl Fn(&TargetingRule) -> bool) -> (&V, Why) {
    match spec.rules.iter().find(|rule| covers(&rule.targeting)) {
        Some(rule) if rule.targeting.share == BasisPoints::ALL => {
            (&rule.value, Why::TargetingMatch(rule.targeting.id.clone()))
        }
        Some(rule) => (&rule.value, Why::Split(rule.targeting.id.clone())),
        None => (&spec.default, Why::Default),
    }
}

/// Whether a rule covers a context: it is in one of the environments, and all conditions hold, and
/// it is inside the share.
fn covers(
    rule: &TargetingRule,
    context: &Context<'_>,
    salt: Salt<'_>,
    bucketing: Bucketing,
) -> bool {
    (rule.environments.is_empty() || rule.environments.contains(context.environment))
        && rule.conditions.iter().all(|condition| holds(condition, context.attributes))
        && inside_share(rule, context.attributes, salt, bucketing)
}

fn inside_share(
    rule: &TargetingRule,
    attributes: &Object,
    salt: Salt<'_>,
    bucketing: Bucketing,
) -> bool {
    if rule.share == BasisPoints::ALL {
        return true;
    }
    let unit = Attribute::of(attributes, &rule.bucket_by).and_then(Attribute::unit);
    unit.is_some_and(|unit| bucket(bucketing, salt, &unit) < rule.share.get())
}
