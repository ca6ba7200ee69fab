//! How an answer came about: each rule that was asked, and what became of it.

use super::words;
use maud::{Markup, html};
use phasegate_engine::targeting::{Considered, Explanation, Outcome, Source, TOTAL};

/// The rules that were asked, in order. Nothing if there were none.
pub(super) fn considered(explanation: &Explanation<'_>) -> Markup {
    let considered = &explanation.considered;
    html! {
        @if !considered.is_empty() {
            h3 id="asked" { "Rules that were asked, in order" }
            ol.asked aria-labelledby="asked" { @for one in considered {
                li { strong { (one.rule.id) } ", " (source(one.source)) ": " (outcome(one)) }
            } }
            @for one in considered.iter().filter(|one| is_first_of_its_hash(considered, one)) {
                p.sub { "The bucket of " (one.rule.bucket_by) " is the hash of "
                    code { (one.salt) ":" (one.rule.bucket_by) } ", generation " (explanation.bucketing.as_str()) "." }
            }
        }
    }
}

fn source(source: Source<'_>) -> Markup {
    match source {
        Source::Phase(phase) => html! { "of the phase " (phase) },
        Source::Change => html! { "of the change" },
        Source::Settled => html! { "of what the flag settles on" },
    }
}

fn outcome(considered: &Considered<'_>) -> String {
    let rule = considered.rule;
    match considered.outcome {
        Outcome::OtherEnvironments => {
            format!("is for {} only", words::environments(&rule.environments))
        }
        Outcome::ConditionFailed { index } => match rule.conditions.get(index) {
            Some(condition) => {
                let number = index + 1;
                format!("condition {number} does not hold, {}", words::condition(condition))
            }
            None => "a condition does not hold".to_owned(),
        },
        Outcome::LacksAttribute => {
            format!("has a share by {}, which the context lacks", rule.bucket_by)
        }
        Outcome::OutsideShare => match considered.bucket {
            Some(bucket) => {
                format!("{}, outside its {}", place(bucket), words::percent(rule.share))
            }
            None => "is for nobody".to_owned(),
        },
        Outcome::Matched => match considered.bucket {
            Some(bucket) => {
                format!("matched, {}, inside its {}", place(bucket), words::percent(rule.share))
            }
            None => "matched".to_owned(),
        },
    }
}

fn place(bucket: u32) -> String {
    format!("bucket {bucket} of {TOTAL}")
}

/// Rules of one place that bucket by one attribute share the bucket, which is explained once.
fn is_first_of_its_hash(considered: &[Considered<'_>], one: &Considered<'_>) -> bool {
    let same = |other: &&Considered<'_>| {
        other.bucket.is_some()
            && other.salt == one.salt
            && other.rule.bucket_by == one.rule.bucket_by
    };
    one.bucket.is_some() && considered.iter().find(same) == Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phasegate_engine::{
        id::FlagId,
        targeting::{BasisPoints, Condition, Salt, TARGETING_KEY, TargetingRule, Test},
    };

    fn rule(share: BasisPoints) -> TargetingRule {
        let condition = Condition { attribute: "tier".into(), test: Test::In(vec!["beta".into()]) };
        TargetingRule {
            id: "r".parse().unwrap(),
            environments: vec!["prod".parse().unwrap(), "test".parse().unwrap()],
            conditions: vec![condition],
            share,
            bucket_by: TARGETING_KEY.into(),
        }
    }

    #[test]
    fn each_outcome_has_its_words() {
        let flag: FlagId = "f".parse().unwrap();
        let tenth = rule(BasisPoints::new(1_000).unwrap());
        let check = |outcome, bucket, expected: &str| {
            let (source, salt) = (Source::Settled, Salt::Flag(&flag));
            let one = Considered { source, rule: &tenth, outcome, bucket, salt };
            assert_eq!(self::outcome(&one), expected);
        };
        check(Outcome::OtherEnvironments, None, "is for prod, test only");
        let failed = "condition 1 does not hold, tier is beta";
        check(Outcome::ConditionFailed { index: 0 }, None, failed);
        let lacks = "has a share by targetingKey, which the context lacks";
        check(Outcome::LacksAttribute, None, lacks);
        check(Outcome::OutsideShare, Some(1_000), "bucket 1000 of 10000, outside its 10 %");
        check(Outcome::OutsideShare, None, "is for nobody");
        check(Outcome::Matched, Some(999), "matched, bucket 999 of 10000, inside its 10 %");
        check(Outcome::Matched, None, "matched");
    }

    #[test]
    fn a_bucket_is_explained_once_for_each_salt_and_attribute() {
        let (one, other): (FlagId, FlagId) = ("f".parse().unwrap(), "g".parse().unwrap());
        let half = rule(BasisPoints::new(5_000).unwrap());
        let asked = |bucket, salt| Considered {
            source: Source::Settled,
            rule: &half,
            outcome: Outcome::OutsideShare,
            bucket,
            salt,
        };
        let all = [
            asked(None, Salt::Flag(&one)),
            asked(Some(7_000), Salt::Flag(&one)),
            asked(Some(6_000), Salt::Flag(&other)),
        ];
        let explained: Vec<bool> = all.iter().map(|one| is_first_of_its_hash(&all, one)).collect();
        assert_eq!(explained, [false, true, true]);
    }
}
