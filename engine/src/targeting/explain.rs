//! How an answer came about: every rule that was asked, in order, and what became of it.

use super::{
    Answer, Bucketing, Context, Salt, TargetingRule,
    evaluate::{Asking, answer},
};
use crate::{flag::Flag, id::PhaseId, release::Release};

/// An answer, and what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'a> {
    /// What [`evaluate`](super::evaluate) answers.
    pub answer: Answer,
    /// Which bytes the buckets are the hash of.
    pub bucketing: Bucketing,
    /// The rules that were asked: those of applied phases up to the first that covers the context,
    /// then those of the spec that answered up to the first that matched. None if the flag is
    /// killed, and none of phases if the environment is exempt.
    pub considered: Vec<Considered<'a>>,
}

/// A rule that was asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Considered<'a> {
    /// Where it stands.
    pub source: Source<'a>,
    /// The rule.
    pub rule: &'a TargetingRule,
    /// What became of it.
    pub outcome: Outcome,
    /// The bucket of the context, 0 to 9999. None if it was not looked at: because something before
    /// it decided, or because the share is nobody or everyone.
    pub bucket: Option<u32>,
    /// What is hashed with the text of the attribute.
    pub salt: Salt<'a>,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// In an applied phase of the active release; it decides who has the change.
    Phase(&'a PhaseId),
    /// In the change of the active release; it decides about the answer.
    Change,
    /// In the settled spec of the flag; it decides about the answer.
    Settled,
}

/// What became of a rule. In the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It names environments, and not the one that asks.
    OtherEnvironments,
    /// This condition does not hold; those before it do.
    ConditionFailed {
        /// Its place among the conditions of the rule, from 0.
        index: usize,
    },
    /// The attribute that it buckets by is missing, or its text is empty.
    LacksAttribute,
    /// The bucket is not below the share.
    OutsideShare,
    /// It covers the context.
    Matched,
}

/// What a flag answers, and how that came about. The answer is that of
/// [`evaluate`](super::evaluate).
pub fn explain<'a>(
    flag: &'a Flag,
    active: Option<&'a Release>,
    context: &Context<'_>,
    bucketing: Bucketing,
) -> Explanation<'a> {
    let mut considered = Vec::new();
    let heard = |one| considered.push(one);
    let answer = answer(flag, active, &mut Asking { context, bucketing, heard });
    Explanation { answer, bucketing, considered }
}
