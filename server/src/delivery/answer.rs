//! What a flag answers, in the words of OpenFeature.

use super::{flag_set, refusal::Refusal};
use phasegate_engine::{
    State,
    flag::{Flag, FlagKind},
    flagd,
    id::{EnvironmentId, FlagId},
    targeting::{Bucketing, Context, Exposure, Why, evaluate},
    value::{Object, Value},
};

/// What a flag answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// A boolean of a gate, an object of a config.
    pub value: Value,
    /// Its name, the same as in the set that is sent.
    pub variant: String,
    /// Why.
    pub reason: Reason,
    /// Of the flag.
    pub metadata: Object,
}

/// Why a flag answers so, as OpenFeature has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Whoever asks, in this environment. Providers keep such an answer until they are told that
    /// the flag has changed, so it is never said of anything else. A killed flag is static too:
    /// `DISABLED` would make providers answer what the code says.
    Static,
    /// No rule matched.
    Default,
    /// A rule for everyone matched.
    TargetingMatch,
    /// A rule with a share matched.
    Split,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Default => "DEFAULT",
            Self::TargetingMatch => "TARGETING_MATCH",
            Self::Split => "SPLIT",
        }
    }
}

/// Who asks, and how they are bucketed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub environment: &'a EnvironmentId,
    pub attributes: &'a Object,
    pub bucketing: Bucketing,
}

/// What one flag answers.
pub(super) fn answer(state: &State, key: &str, asker: Asker<'_>) -> Result<Answer, Refusal> {
    Ok(answer_of(state, find(state, key)?, asker))
}

/// What every flag answers, by id.
pub(super) fn answers<'a>(
    state: &'a State,
    asker: Asker<'a>,
) -> impl Iterator<Item = (&'a FlagId, Answer)> {
    state.flags().map(move |flag| (&flag.id, answer_of(state, flag, asker)))
}

/// Refuses a flag of another kind than was asked for; `kind` is none for types that no flag has.
pub(super) fn check_kind(
    state: &State,
    key: &str,
    kind: Option<FlagKind>,
    asked: &'static str,
) -> Result<(), Refusal> {
    let flag = find(state, key)?;
    let is = flag.spec.kind();
    if kind == Some(is) {
        return Ok(());
    }
    let answers = match is {
        FlagKind::FeatureGate => "a boolean",
        FlagKind::DynamicConfig => "an object",
    };
    Err(Refusal::TypeMismatch { flag: flag.id.clone(), answers, asked })
}

fn find<'a>(state: &'a State, key: &str) -> Result<&'a Flag, Refusal> {
    let flag = FlagId::parse(key).ok().and_then(|id| state.flag(&id));
    flag.map(|flag| &**flag).ok_or_else(|| Refusal::NoSuchFlag(shortened(key)))
}

fn answer_of(state: &State, flag: &Flag, asker: Asker<'_>) -> Answer {
    let Asker { environment, attributes, bucketing } = asker;
    let active = state.active_release(&flag.id).map(|release| &**release);
    let answer = evaluate(flag, active, &Context { environment, attributes }, bucketing);
    let reason = if flagd::depends_on_context(flag, active, environment) {
        match &answer.why {
            Why::Disabled => Reason::Static,
            // No rule of the change matched, but one of a phase led to it.
            Why::Default if matches!(answer.exposed, Some(Exposure::Phase(_))) => {
                Reason::TargetingMatch
            }
            Why::Default => Reason::Default,
            Why::TargetingMatch(_) => Reason::TargetingMatch,
            Why::Split(_) => Reason::Split,
        }
    } else {
        Reason::Static
    };
    let variant = flagd::variant(&answer, active);
    // That of the set too, as providers that evaluate in process have it.
    let mut metadata = flag_set::metadata(environment, bucketing);
    metadata.extend(flagd::metadata(flag, active));
    Answer { value: answer.value, variant, reason, metadata }
}

/// A key that is no id can be of any length; this is enough of it to be recognized.
fn shortened(key: &str) -> String {
    key.chars().take(128).collect()
}
