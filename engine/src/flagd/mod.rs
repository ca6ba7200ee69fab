//! One flag as flagd's providers read it: JSON with the flag's rules as JsonLogic.
//!
//! The promise: for every context, whoever runs the JsonLogic of [`definition`] gets the variant
//! that [`variant`] names for the answer of [`evaluate`](crate::targeting::evaluate) with the same
//! bucketing, and the same value. There is one definition for each environment, in which conditions
//! on the environment are compiled away:
//!
//! ```text
//! if covered by applied phases -> the change; else -> the settled spec
//! ```
//!
//! Languages run JsonLogic differently, and an error in one rule is an error of the flag, so the
//! rules use only what all do alike; `condition` says what that is. Deliberately absent:
//! `$evaluators`, because not every provider puts them in; `DISABLED`, because then a provider
//! answers the application's default and not ours; and anything that depends on the run, so that
//! the same flag has the same bytes.

mod compile;
mod condition;
mod logic;
mod size;

pub use size::{bytes_max, flag_bytes_max};

use crate::{
    flag::{Flag, Spec},
    id::{EnvironmentId, ReleaseId, RuleId},
    release::Release,
    targeting::{Answer, Why},
    value::{Object, Value},
};
use compile::{Outcome, Variant, compile};
use logic::{Logic, Whole, json};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::BTreeMap;

/// The variants of a gate.
const ON: &str = "on";
const OFF: &str = "off";

/// A flag in one environment: the text of a JSON object, without the flag's key. A release that is
/// not active counts as none.
pub fn definition(flag: &Flag, active: Option<&Release>, environment: &EnvironmentId) -> String {
    let outcome = compile(flag, active, environment);
    let mut variants = outcome.variants();
    let default = match &outcome {
        Outcome::Constant(variant) => variant.clone(),
        Outcome::First { .. } => Variant::settled_default(flag),
    };
    let targeting = outcome.into_logic().map(|logic| logic.without_else(&default.name));
    let mut values = BTreeMap::new();
    if let Spec::Gate(_) = &*flag.spec {
        // Always both, so that a flag never changes its variants.
        values.extend([(ON.to_owned(), Whole::Bool(true)), (OFF.to_owned(), Whole::Bool(false))]);
    }
    variants.push(default.clone());
    values.extend(variants.into_iter().map(|variant| (variant.name, variant.value)));
    json(&Definition {
        default: &default.name,
        metadata: &metadata(flag, active),
        targeting: targeting.as_ref(),
        variants: &values,
    })
}

/// Whether anything of the context matters to what a flag answers in an environment. If not, the
/// definition has no targeting.
pub fn depends_on_context(
    flag: &Flag,
    active: Option<&Release>,
    environment: &EnvironmentId,
) -> bool {
    match compile(flag, active, environment) {
        Outcome::Constant(_) => false,
        Outcome::First { .. } => true,
    }
}

/// The name of the variant of an answer: what the targeting of the definition yields for the same
/// context.
pub fn variant(answer: &Answer, active: Option<&Release>) -> String {
    if let Value::Bool(truth) = answer.value {
        return gate_variant(truth).to_owned();
    }
    let release = answer.exposed.as_ref().and(active).map(Release::id);
    let rule = match &answer.why {
        Why::Disabled | Why::Default => None,
        Why::TargetingMatch(rule) | Why::Split(rule) => Some(rule),
    };
    config_variant(release, rule)
}

/// What is told of a flag besides its rules. Only strings, numbers and booleans, because providers
/// take nothing else.
pub fn metadata(flag: &Flag, active: Option<&Release>) -> Object {
    let text = |text: &str| Value::String(text.into());
    // Revisions are below 2^53.
    let revision = Value::Number(flag.spec_revision.get() as f64);
    let mut metadata = Object::from([("revision".into(), revision)]);
    if flag.kill_switch.is_engaged() {
        metadata.insert("killed".into(), Value::Bool(true));
    }
    if let Some(release) = active.filter(|release| release.is_active()) {
        metadata.insert("release".into(), text(release.id().as_str()));
        let phases = release.phases().iter().zip(&release.progress.phases);
        if let Some((phase, _)) = phases.rev().find(|(_, progress)| progress.applied) {
            metadata.insert("phase".into(), text(phase.id.as_str()));
        }
    }
    metadata
}

/// A value as JSON, with its numbers as definitions have them: whole ones as integers.
pub fn to_json(value: &Value) -> serde_json::Value {
    as_json(&Whole::Value(value))
}

/// The same of an object.
pub fn object_to_json(object: &Object) -> serde_json::Value {
    as_json(&Whole::Object(object))
}

fn as_json(whole: &Whole<'_>) -> serde_json::Value {
    serde_json::to_value(whole).expect("every key is a string, and numbers are finite")
}

fn gate_variant(truth: bool) -> &'static str {
    if truth { ON } else { OFF }
}

/// The variant of a config: that of a rule or the default, of the settled spec or of a release.
fn config_variant(release: Option<&ReleaseId>, rule: Option<&RuleId>) -> String {
    let place = rule.map_or_else(|| "default".to_owned(), |rule| format!("rules/{rule}"));
    match release {
        Some(release) => format!("releases/{release}/{place}"),
        None => place,
    }
}

/// The object of a flag, its keys in order.
struct Definition<'a> {
    default: &'a str,
    metadata: &'a Object,
    targeting: Option<&'a Logic<'a>>,
    variants: &'a BTreeMap<String, Whole<'a>>,
}

impl Serialize for Definition<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("defaultVariant", self.default)?;
        map.serialize_entry("metadata", &Whole::Object(self.metadata))?;
        map.serialize_entry("state", "ENABLED")?;
        if let Some(targeting) = self.targeting {
            map.serialize_entry("targeting", targeting)?;
        }
        map.serialize_entry("variants", self.variants)?;
        map.end()
    }
}
