//! What a flag answers for one context, and why.
//!
//! 1. Killed: a gate false, a config the default of its settled spec.
//! 2. A release is active, and the environment is exempt in its copy of the pipeline or the context
//!    matches a rule of an applied phase: its change.
//! 3. Else the settled spec.
//!
//! The answer is a function of the arguments alone. Delivery compiles the same rules for flagd and
//! must give the same answer for every context. [`explain`](super::explain) tells how it came about,
//! by the same code.

use super::{
    BasisPoints, TargetingRule,
    bucket::{Bucketing, Salt, bucket},
    condition::{Attribute, holds},
    explain::{Considered, Outcome, Source},
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
    answer(flag, active, &mut Asking { context, bucketing, heard: |_| {} })
}

/// Whether and why a context sees the change of a release.
pub fn exposure(
    release: &Release,
    context: &Context<'_>,
    bucketing: Bucketing,
) -> Option<Exposure> {
    exposed(release, &mut Asking { context, bucketing, heard: |_| {} })
}

/// Asks rules about one context, and lets somebody hear what became of each: this is how an answer
/// and its explanation cannot disagree.
pub(super) struct Asking<'c, F> {
    pub(super) context: &'c Context<'c>,
    pub(super) bucketing: Bucketing,
    pub(super) heard: F,
}

impl<F> Asking<'_, F> {
    /// Whether a rule covers the context.
    fn covers<'a>(&mut self, source: Source<'a>, salt: Salt<'a>, rule: &'a TargetingRule) -> bool
    where
        F: FnMut(Considered<'a>),
    {
        let (outcome, bucket) = ask(rule, self.context, salt, self.bucketing);
        (self.heard)(Considered { source, rule, outcome, bucket, salt });
        outcome == Outcome::Matched
    }
}

/// What a flag answers.
pub(super) fn answer<'a, F: FnMut(Considered<'a>)>(
    flag: &'a Flag,
    active: Option<&'a Release>,
    asking: &mut Asking<'_, F>,
) -> Answer {
    if flag.kill_switch.is_engaged() {
        return Answer { value: killed(&flag.spec), why: Why::Disabled, exposed: None };
    }
    let exposed = active.and_then(|release| Some((release, exposed(release, asking)?)));
    let (spec, source, exposed) = match exposed {
        Some((release, exposure)) => (&release.proposal.change, Source::Change, Some(exposure)),
        None => (&flag.spec, Source::Settled, None),
    };
    let covers = |rule: &'a TargetingRule| asking.covers(source, Salt::Flag(&flag.id), rule);
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

fn exposed<'a, F: FnMut(Considered<'a>)>(
    release: &'a Release,
    asking: &mut Asking<'_, F>,
) -> Option<Exposure> {
    // The phases of a release that succeeded stay applied.
    if !release.is_active() {
        return None;
    }
    let exempt = &release.proposal.pipeline.template.exempt_environments;
    if exempt.contains(asking.context.environment) {
        return Some(Exposure::Exempt);
    }
    let salt = Salt::Release(release.id());
    let applied = release.phases().iter().zip(&release.progress.phases).filter(|(_, p)| p.applied);
    applied
        .map(|(phase, _)| phase)
        .find(|phase| {
            let source = Source::Phase(&phase.id);
            phase.rules.iter().any(|rule| asking.covers(source, salt, rule))
        })
        .map(|phase| Exposure::Phase(phase.id.clone()))
}

fn killed(settled: &Spec) -> Value {
    match settled {
        Spec::Gate(_) => Value::Bool(false),
        Spec::Config(rules) => Value::Object(rules.default.clone()),
    }
}

fn first_match<'a, V>(
    spec: &'a Rules<V>,
    mut covers: impl FnMut(&'a TargetingRule) -> bool,
) -> (&'a V, Why) {
    match spec.rules.iter().find(|rule| covers(&rule.targeting)) {
        Some(rule) if rule.targeting.share == BasisPoints::ALL => {
            (&rule.value, Why::TargetingMatch(rule.targeting.id.clone()))
        }
        Some(rule) => (&rule.value, Why::Split(rule.targeting.id.clone())),
        None => (&spec.default, Why::Default),
    }
}

/// What becomes of a rule, with the bucket if that was looked at: a rule covers a context that is in
/// one of its environments, for which all conditions hold, and that is inside its share.
fn ask(
    rule: &TargetingRule,
    context: &Context<'_>,
    salt: Salt<'_>,
    bucketing: Bucketing,
) -> (Outcome, Option<u32>) {
    if !rule.environments.is_empty() && !rule.environments.contains(context.environment) {
        return (Outcome::OtherEnvironments, None);
    }
    let fails = |condition| !holds(condition, context.attributes);
    if let Some(index) = rule.conditions.iter().position(fails) {
        return (Outcome::ConditionFailed { index }, None);
    }
    if rule.share == BasisPoints::ALL {
        return (Outcome::Matched, None);
    }
    if rule.share == BasisPoints::NONE {
        return (Outcome::OutsideShare, None);
    }
    let unit = Attribute::of(context.attributes, &rule.bucket_by).and_then(Attribute::unit);
    let Some(unit) = unit else { return (Outcome::LacksAttribute, None) };
    let bucket = bucket(bucketing, salt, &unit);
    let outcome = if bucket < rule.share.get() { Outcome::Matched } else { Outcome::OutsideShare };
    (outcome, Some(bucket))
}
