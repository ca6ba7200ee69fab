//! What a flag answered, and why.

use super::{
    resource::{json, percent},
    table::Table,
};
use phasegate_api::v1;

/// What a flag answered, and why.
pub(crate) fn answer(answer: &v1::EvaluateFlagResponse) -> String {
    let value = answer.value.as_ref().map(json).unwrap_or_default();
    let why = match answer.reason() {
        v1::EvaluationReason::Unspecified => "for a reason that this program is too old to know",
        v1::EvaluationReason::Disabled => "the flag is killed",
        v1::EvaluationReason::Default => "no rule matched",
        v1::EvaluationReason::TargetingMatch => "a rule matched",
        v1::EvaluationReason::Split => "a rule matched, and the share it is for",
    };
    let mut text = format!("{value}\n\n");
    let mut facts = Table::of_facts();
    facts.fact("why", why);
    facts.fact("rule", &*answer.variant);
    let killed = answer.reason() == v1::EvaluationReason::Disabled;
    let decided = match (answer.release.as_str(), answer.exposed, answer.phase_id.as_str()) {
        _ if killed => "the kill switch".to_owned(),
        ("", _, _) => "the settled spec".to_owned(),
        (release, false, _) => format!("the settled spec ({release} has not reached this context)"),
        (release, true, "") => format!("{release}, in an exempt environment"),
        (release, true, phase) => format!("{release}, phase {phase}"),
    };
    facts.fact("decided by", decided);
    text.push_str(&facts.render());
    text.push_str(&considered(answer));
    text
}

/// The rules that were asked, in order, and what the buckets are the hash of. Empty if there were
/// none.
fn considered(answer: &v1::EvaluateFlagResponse) -> String {
    if answer.considered.is_empty() {
        return String::new();
    }
    let mut rules = Table::new(&["ASKED", "OF", "OUTCOME"]).indented();
    let mut hashes: Vec<String> = Vec::new();
    for rule in &answer.considered {
        let source = match rule.source() {
            v1::RuleSource::Unspecified => String::new(),
            v1::RuleSource::Phase => format!("phase {}", rule.phase_id),
            v1::RuleSource::Change => "the change".to_owned(),
            v1::RuleSource::Settled => "the settled spec".to_owned(),
        };
        rules.row([rule.rule_id.clone(), source, outcome(rule)]);
        if let Some(bucket) = &rule.bucket {
            let generation = match answer.bucketing() {
                v1::Bucketing::Unspecified => "another generation",
                v1::Bucketing::V2 => "v2",
                v1::Bucketing::V3 => "v3",
            };
            let v1::considered_rule::Bucket { attribute, salt, .. } = bucket;
            let hash = format!("  the bucket is the hash of {salt}:<{attribute}>, {generation}\n");
            // Rules of one place mostly share it.
            if !hashes.contains(&hash) {
                hashes.push(hash);
            }
        }
    }
    let mut text = format!("\n{}", rules.render());
    if !hashes.is_empty() {
        text.push('\n');
        text.extend(hashes);
    }
    text
}

fn outcome(rule: &v1::ConsideredRule) -> String {
    let bucket = rule.bucket.as_ref().map(|bucket| {
        let share = percent(bucket.rollout_basis_points);
        (format!("bucket {} of 10000", bucket.number), share)
    });
    match (rule.outcome(), bucket) {
        (v1::RuleOutcome::Unspecified, _) => "this program is too old to know".to_owned(),
        (v1::RuleOutcome::OtherEnvironments, _) => "is for other environments".to_owned(),
        (v1::RuleOutcome::ConditionFailed, _) => {
            let number = u64::from(rule.condition_index) + 1;
            format!("condition {number} does not hold, on {}", rule.attribute)
        }
        (v1::RuleOutcome::LacksAttribute, _) => format!("the context lacks {}", rule.attribute),
        (v1::RuleOutcome::OutsideShare, Some((bucket, share))) => {
            format!("{bucket} is outside {share}")
        }
        (v1::RuleOutcome::OutsideShare, None) => "is for nobody".to_owned(),
        (v1::RuleOutcome::Matched, Some((bucket, share))) => {
            format!("matched: {bucket} is inside {share}")
        }
        (v1::RuleOutcome::Matched, None) => "matched".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::{
        ConsideredRule, EvaluateFlagResponse, RuleOutcome, RuleSource, considered_rule::Bucket,
    };

    fn rule(id: &str, source: RuleSource, outcome: RuleOutcome) -> ConsideredRule {
        ConsideredRule {
            source: source.into(),
            rule_id: id.to_owned(),
            outcome: outcome.into(),
            ..Default::default()
        }
    }

    fn bucket(number: u32, salt: &str) -> Option<Bucket> {
        Some(Bucket {
            number,
            rollout_basis_points: 1_000,
            attribute: "targetingKey".to_owned(),
            salt: salt.to_owned(),
        })
    }

    #[test]
    fn every_rule_that_was_asked_has_a_line_and_every_hash_has_one() {
        let phase = |id, outcome| ConsideredRule {
            phase_id: "canary".to_owned(),
            ..rule(id, RuleSource::Phase, outcome)
        };
        let of_release = |number| bucket(number, "releases/r");
        let considered = vec![
            phase("elsewhere", RuleOutcome::OtherEnvironments),
            ConsideredRule {
                bucket: of_release(1_000),
                ..phase("tenth", RuleOutcome::OutsideShare)
            },
            ConsideredRule { bucket: of_release(999), ..phase("again", RuleOutcome::Matched) },
            ConsideredRule {
                condition_index: 1,
                attribute: "tier".to_owned(),
                ..rule("beta", RuleSource::Change, RuleOutcome::ConditionFailed)
            },
            rule("nobody", RuleSource::Change, RuleOutcome::OutsideShare),
            ConsideredRule {
                attribute: "tenant".to_owned(),
                ..rule("tenants", RuleSource::Change, RuleOutcome::LacksAttribute)
            },
            ConsideredRule {
                bucket: bucket(3, "flags/f"),
                ..rule("some", RuleSource::Settled, RuleOutcome::OutsideShare)
            },
            rule("all", RuleSource::Settled, RuleOutcome::Matched),
        ];
        let bucketing = v1::Bucketing::V3.into();
        let answer = EvaluateFlagResponse { considered, bucketing, ..Default::default() };
        let expected = "
  ASKED      OF                OUTCOME
  elsewhere  phase canary      is for other environments
  tenth      phase canary      bucket 1000 of 10000 is outside 10 %
  again      phase canary      matched: bucket 999 of 10000 is inside 10 %
  beta       the change        condition 2 does not hold, on tier
  nobody     the change        is for nobody
  tenants    the change        the context lacks tenant
  some       the settled spec  bucket 3 of 10000 is outside 10 %
  all        the settled spec  matched

  the bucket is the hash of releases/r:<targetingKey>, v3
  the bucket is the hash of flags/f:<targetingKey>, v3
";
        assert_eq!(super::considered(&answer), expected);
    }

    #[test]
    fn an_answer_without_rules_is_explained_by_its_facts_alone() {
        let answer = EvaluateFlagResponse {
            reason: v1::EvaluationReason::Disabled.into(),
            bucketing: v1::Bucketing::V3.into(),
            ..Default::default()
        };
        let expected = "null\n\n  why         the flag is killed\n  decided by  the kill switch\n";
        assert_eq!(super::answer(&answer), expected);
    }
}
