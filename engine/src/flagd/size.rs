//! How large a definition can become, so that a payload that providers would refuse is refused
//! before it is made.

use super::{
    condition::{Truth, parts},
    logic::Whole,
};
use crate::{
    State,
    flag::{Flag, Rule, Rules, Spec},
    id::FlagId,
    release::Proposal,
    targeting::{Salt, TargetingRule},
};
use serde::Serialize;
use std::io;

/// An upper bound on the bytes of a flag, its key and its definition, in any environment and at any
/// time from now until a release, if there is one, is over.
pub fn bytes_max(flag: &Flag, release: Option<&Proposal>) -> usize {
    // The fixed keys and signs of a definition, the largest revision, and `killed`, rounded up.
    const FRAME: usize = 256;
    let settled = spec_bytes(flag, &flag.spec, 0);
    let release = release.map_or(0, |release| {
        let id = release.id.as_str().len();
        let phases = &release.pipeline.template.phases;
        let salt = Salt::Release(&release.id);
        let rules = phases.iter().flat_map(|phase| &phase.rules);
        let covered: usize = rules.map(|rule| rule_bytes(rule, salt)).sum();
        let phase = phases.iter().map(|phase| phase.id.as_str().len()).max().unwrap_or(0);
        let prefix = "releases/".len() + id + "/".len();
        FRAME + id + phase + covered + spec_bytes(flag, &release.change, prefix)
    });
    FRAME + flag.id.as_str().len() + settled + release
}

/// The same for a flag of a state, whichever of its unfinished releases is active; zero if there is no
/// such flag.
pub fn flag_bytes_max(state: &State, id: &FlagId) -> usize {
    let Some(flag) = state.flag(id) else { return 0 };
    let releases = state.unfinished(id).map(|release| bytes_max(flag, Some(&release.proposal)));
    releases.max().unwrap_or_else(|| bytes_max(flag, None))
}

/// The rules of a spec, its variants with their values, and one mention more of each.
fn spec_bytes(flag: &Flag, spec: &Spec, prefix: usize) -> usize {
    fn sum<V>(flag: &Flag, spec: &Rules<V>, prefix: usize, value: impl Fn(&V) -> usize) -> usize {
        // Quotes, a colon, a comma, and the words of `config_variant`, for each mention.
        const MENTION: usize = 16;
        let salt = Salt::Flag(&flag.id);
        let mentions = |id: usize| 3 * (prefix + id + MENTION);
        let rule = |rule: &Rule<V>| {
            let id = rule.targeting.id.as_str().len();
            rule_bytes(&rule.targeting, salt) + mentions(id) + value(&rule.value)
        };
        spec.rules.iter().map(rule).sum::<usize>() + mentions(0) + value(&spec.default)
    }
    match spec {
        Spec::Gate(rules) => sum(flag, rules, prefix, |_| 0),
        Spec::Config(rules) => sum(flag, rules, prefix, |value| bytes(&Whole::Object(value))),
    }
}

/// The logic of a rule, wherever it holds.
fn rule_bytes(rule: &TargetingRule, salt: Salt<'_>) -> usize {
    // `{"and":[` and `]}`, `{"or":[` and `]}`, a comma.
    const FRAME: usize = 24;
    let parts = parts(rule, salt).map(|part| match part {
        Truth::Never | Truth::Always => 0,
        Truth::If(logic) => bytes(&logic) + ",".len(),
    });
    FRAME + parts.sum::<usize>()
}

/// How many bytes something has as JSON.
fn bytes(value: &impl Serialize) -> usize {
    struct Count(usize);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .expect("every key is a string, and neither the values nor the count fail themselves");
    count.0
}
