//! What led to an answer: that it fits the answer, for every file, and what each outcome looks like.

use super::{environments, flag_with_shares, object};
use phasegate_engine::{
    flag::{Flag, Rule, Rules, Spec},
    release::Release,
    targeting::{
        BasisPoints, Bucketing, Condition, Considered, Context, Exposure, Outcome, Salt, Source,
        TargetingRule, Test, Why, bucket, evaluate, explain,
    },
    value::Value,
};
use std::sync::Arc;

/// What an explanation says follows from the answer, and the other way round.
pub(super) fn check_explanation(
    name: &str,
    flag: &Flag,
    active: Option<&Release>,
    context: &Context<'_>,
    bucketing: Bucketing,
) {
    let explained = explain(flag, active, context, bucketing);
    let answer = &explained.answer;
    assert_eq!(*answer, evaluate(flag, active, context, bucketing), "{name}");
    assert_eq!(explained.bucketing, bucketing, "{name}");
    let is_of_phase = |source| matches!(source, Source::Phase(_));
    let (phases, spec): (Vec<_>, Vec<_>) =
        explained.considered.iter().partition(|considered| is_of_phase(considered.source));
    assert!(
        explained.considered.is_sorted_by_key(|considered| !is_of_phase(considered.source)),
        "{name}: phases come first"
    );

    // Only the last of each is one that matched, and it is what the answer names.
    for asked in [&phases, &spec] {
        let before: &[&Considered<'_>] =
            asked.split_last().map(|(_, before)| before).unwrap_or_default();
        assert!(before.iter().all(|one| one.outcome != Outcome::Matched), "{name}");
    }
    let matched =
        |asked: &[&Considered<'_>]| asked.last().is_some_and(|one| one.outcome == Outcome::Matched);
    let by_phase = phases.last().filter(|_| matched(&phases)).map(|one| one.source);
    match &answer.exposed {
        Some(Exposure::Phase(phase)) => assert_eq!(by_phase, Some(Source::Phase(phase)), "{name}"),
        Some(Exposure::Exempt) => assert!(phases.is_empty(), "{name}"),
        None => assert_eq!(by_phase, None, "{name}"),
    }
    let by_rule = spec.last().filter(|_| matched(&spec)).map(|one| one.rule);
    match &answer.why {
        Why::TargetingMatch(rule) | Why::Split(rule) => {
            assert_eq!(by_rule.map(|one| &one.id), Some(rule), "{name}");
        }
        Why::Default => assert_eq!(by_rule, None, "{name}"),
        Why::Disabled => assert!(explained.considered.is_empty(), "{name}"),
    }
    let source = if answer.exposed.is_some() { Source::Change } else { Source::Settled };
    assert!(spec.iter().all(|one| one.source == source), "{name}");

    for one in &explained.considered {
        let Some(place) = one.bucket else { continue };
        assert_eq!(one.outcome == Outcome::Matched, place < one.rule.share.get(), "{name}");
        if let Some(Value::String(unit)) = context.attributes.get(&one.rule.bucket_by) {
            assert_eq!(place, bucket(bucketing, one.salt, unit), "{name}");
        }
    }
}

/// A rule for prod, for beta and staff, and for half of the tenants.
fn strict(id: &str) -> TargetingRule {
    let is = |attribute: &str, value: &str| Condition {
        attribute: attribute.into(),
        test: Test::In(vec![value.into()]),
    };
    TargetingRule {
        id: id.parse().unwrap(),
        environments: environments(&["prod".to_owned()]),
        conditions: vec![is("tier", "beta"), is("staff", "true")],
        share: BasisPoints::new(5_000).unwrap(),
        bucket_by: "tenant".into(),
    }
}

#[test]
fn an_explanation_says_what_became_of_each_rule_and_in_which_bucket() {
    let nobody = TargetingRule { share: BasisPoints::NONE, ..strict("nobody") };
    let everyone = TargetingRule { share: BasisPoints::ALL, ..strict("everyone") };
    let rules = [nobody, strict("half"), everyone];
    let rules = rules.map(|targeting| Rule { targeting, value: true }).to_vec();
    let spec = Arc::new(Spec::Gate(Rules { rules, default: false }));
    let flag = Flag { spec, ..flag_with_shares(&[]) };
    let check = |environment: &str,
                 context: serde_json::Value,
                 expected: &[(&str, Outcome, Option<u32>)]| {
        let (environment, attributes) =
            (environment.parse().unwrap(), object(context.as_object().unwrap()));
        let asked = Context { environment: &environment, attributes: &attributes };
        check_explanation(&context.to_string(), &flag, None, &asked, Bucketing::V3);
        let explained = explain(&flag, None, &asked, Bucketing::V3);
        let seen: Vec<_> = explained
            .considered
            .iter()
            .map(|one| {
                assert_eq!((one.source, one.salt), (Source::Settled, Salt::Flag(&flag.id)));
                (one.rule.id.as_str(), one.outcome, one.bucket)
            })
            .collect();
        assert_eq!(seen, expected, "{context}");
    };
    let all = |outcome| ["nobody", "half", "everyone"].map(|rule| (rule, outcome, None));
    check("dev", serde_json::json!({}), &all(Outcome::OtherEnvironments));
    check("prod", serde_json::json!({}), &all(Outcome::ConditionFailed { index: 0 }));
    let beta = serde_json::json!({ "tier": "beta" });
    check("prod", beta, &all(Outcome::ConditionFailed { index: 1 }));
    let nobody = ("nobody", Outcome::OutsideShare, None);
    let everyone = ("everyone", Outcome::Matched, None);
    for tenant in [serde_json::Value::Null, "".into()] {
        let context = serde_json::json!({ "tier": "beta", "staff": true, "tenant": tenant });
        check("prod", context, &[nobody, ("half", Outcome::LacksAttribute, None), everyone]);
    }
    let place = |tenant: &str| bucket(Bucketing::V3, Salt::Flag(&flag.id), tenant);
    let tenant = |inside: bool| {
        let tenants = (0..100).map(|number| format!("tenant-{number}"));
        let mut tenants = tenants.map(|tenant| (place(&tenant), tenant));
        tenants.find(|(place, _)| (*place < 5_000) == inside).unwrap()
    };
    let (place, inside) = tenant(true);
    let context = serde_json::json!({ "tier": "beta", "staff": true, "tenant": inside });
    check("prod", context, &[nobody, ("half", Outcome::Matched, Some(place))]);
    let (place, outside) = tenant(false);
    let context = serde_json::json!({ "tier": "beta", "staff": true, "tenant": outside });
    check("prod", context, &[nobody, ("half", Outcome::OutsideShare, Some(place)), everyone]);
}
