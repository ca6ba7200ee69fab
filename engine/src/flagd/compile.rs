//! From a flag and its release to what decides about its variant in one environment.

use super::{
    condition::{Truth, rule_in},
    config_variant, gate_variant,
    logic::{Logic, Whole},
};
use crate::{
    flag::{Flag, Rule, Rules, Spec},
    id::{EnvironmentId, ReleaseId, RuleId},
    release::Release,
    targeting::Salt,
};

/// A variant: its name and its value.
#[derive(Clone, Debug)]
pub(super) struct Variant<'a> {
    pub(super) name: String,
    pub(super) value: Whole<'a>,
}

impl<'a> Variant<'a> {
    /// What the settled spec answers if no rule matches.
    pub(super) fn settled_default(flag: &'a Flag) -> Self {
        match &*flag.spec {
            Spec::Gate(rules) => Self::of_gate(rules.default),
            Spec::Config(rules) => {
                Self { name: config_variant(None, None), value: Whole::Object(&rules.default) }
            }
        }
    }

    pub(super) fn of_gate(truth: bool) -> Self {
        Self { name: gate_variant(truth).to_owned(), value: Whole::Bool(truth) }
    }
}

/// Which variant a context gets.
#[derive(Clone, Debug)]
pub(super) enum Outcome<'a> {
    /// All contexts get this one.
    Constant(Variant<'a>),
    /// The first whose condition holds, else the last.
    First { cases: Vec<(Logic<'a>, Self)>, otherwise: Box<Self> },
}

impl<'a> Outcome<'a> {
    /// Leaves out what no context gets, and what makes no difference.
    fn first(cases: impl IntoIterator<Item = (Truth<'a>, Self)>, otherwise: Self) -> Self {
        let mut open = Vec::new();
        let mut last = otherwise;
        for (truth, outcome) in cases {
            match truth {
                Truth::Never => {}
                Truth::Always => {
                    last = outcome;
                    break;
                }
                Truth::If(logic) => open.push((logic, outcome)),
            }
        }
        if let Self::Constant(only) = &last {
            let same = |(_, outcome): &(Logic<'a>, Self)| match outcome {
                Self::Constant(variant) => variant.name == only.name,
                Self::First { .. } => false,
            };
            if open.iter().all(same) {
                return last;
            }
        } else if open.is_empty() {
            return last;
        }
        Self::First { cases: open, otherwise: Box::new(last) }
    }

    /// Every variant that some context may get.
    pub(super) fn variants(&self) -> Vec<Variant<'a>> {
        match self {
            Self::Constant(variant) => vec![variant.clone()],
            Self::First { cases, otherwise } => {
                let outcomes = cases.iter().map(|(_, outcome)| outcome);
                outcomes.chain([&**otherwise]).flat_map(Self::variants).collect()
            }
        }
    }

    /// The logic that yields the name of the variant; none if that depends on nothing.
    pub(super) fn into_logic(self) -> Option<Logic<'a>> {
        match self {
            Self::Constant(_) => None,
            Self::First { .. } => Some(self.yielding()),
        }
    }

    fn yielding(self) -> Logic<'a> {
        match self {
            Self::Constant(variant) => Logic::text(variant.name),
            Self::First { cases, otherwise } => {
                let cases = cases.into_iter();
                let mut arguments: Vec<_> =
                    cases.flat_map(|(logic, outcome)| [logic, outcome.yielding()]).collect();
                // The last case needs no `if` of its own.
                let last = otherwise.yielding();
                if let Logic::Call("if", rest) = last {
                    arguments.extend(rest);
                } else {
                    arguments.push(last);
                }
                Logic::Call("if", arguments)
            }
        }
    }
}

/// What decides in an environment; the same as [`evaluate`](crate::targeting::evaluate) does.
pub(super) fn compile<'a>(
    flag: &'a Flag,
    active: Option<&'a Release>,
    environment: &EnvironmentId,
) -> Outcome<'a> {
    if flag.kill_switch.is_engaged() {
        return Outcome::Constant(match &*flag.spec {
            Spec::Gate(_) => Variant::of_gate(false),
            Spec::Config(_) => Variant::settled_default(flag),
        });
    }
    let settled = answer(flag, &flag.spec, None, environment);
    let Some(release) = active.filter(|release| release.is_active()) else { return settled };
    let change = answer(flag, &release.proposal.change, Some(release.id()), environment);
    Outcome::first([(covered(release, environment), change)], settled)
}

/// Whom an active release covers.
fn covered<'a>(release: &'a Release, environment: &EnvironmentId) -> Truth<'a> {
    if release.proposal.pipeline.template.exempt_environments.contains(environment) {
        return Truth::Always;
    }
    let salt = Salt::Release(release.id());
    let phases = release.phases().iter().zip(&release.progress.phases);
    let applied = phases.filter(|(_, progress)| progress.applied);
    let rules = applied.flat_map(|(phase, _)| &phase.rules);
    Truth::any(rules.map(|rule| rule_in(rule, environment, salt)))
}

/// What a spec answers: the settled one, or the change of a release.
fn answer<'a>(
    flag: &'a Flag,
    spec: &'a Spec,
    release: Option<&ReleaseId>,
    environment: &EnvironmentId,
) -> Outcome<'a> {
    fn chain<'a, V>(
        flag: &'a Flag,
        spec: &'a Rules<V>,
        environment: &EnvironmentId,
        variant: impl Fn(Option<&RuleId>, &'a V) -> Variant<'a>,
    ) -> Outcome<'a> {
        let salt = Salt::Flag(&flag.id);
        let case = |rule: &'a Rule<V>| {
            let variant = variant(Some(&rule.targeting.id), &rule.value);
            (rule_in(&rule.targeting, environment, salt), Outcome::Constant(variant))
        };
        let otherwise = Outcome::Constant(variant(None, &spec.default));
        Outcome::first(spec.rules.iter().map(case), otherwise)
    }
    match spec {
        Spec::Gate(rules) => chain(flag, rules, environment, |_, truth| Variant::of_gate(*truth)),
        Spec::Config(rules) => chain(flag, rules, environment, |rule, value| Variant {
            name: config_variant(release, rule),
            value: Whole::Object(value),
        }),
    }
}
