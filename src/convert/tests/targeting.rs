//! What is wrong with targeting rules.

use super::{Case, check, sample::*};
use crate::{
    convert::create_pipeline,
    v1::{self, ConditionOperator as Operator},
};

fn first_rule(request: &mut v1::CreatePipelineRequest) -> &mut v1::TargetingRule {
    &mut request.pipeline.as_mut().unwrap().phases[0].rules[0]
}

fn condition(operator: Operator, values: &[&str]) -> v1::Condition {
    v1::Condition {
        attribute: "region".to_owned(),
        operator: operator.into(),
        values: values.iter().map(ToString::to_string).collect(),
    }
}

/// Where the rule stands in the request.
const RULE: &str = "pipeline.phases[0].rules[0]";

/// As [`check`], with the path of the rule put before each violation.
fn check_rule(cases: &[Case<'_, v1::TargetingRule>]) {
    for (edit, expected) in cases {
        let mut request = super::sample::create_pipeline();
        edit(first_rule(&mut request));
        let expected: Vec<String> = expected.iter().map(|line| format!("{RULE}.{line}")).collect();
        assert_eq!(super::violations(create_pipeline(request)), expected);
    }
}

#[test]
fn a_rule_is_checked_field_by_field() {
    check_rule(&[
        (|r| r.id = "x".repeat(63), &[]),
        (|r| r.id.clear(), &["id is required"]),
        (|r| r.id = "x".repeat(64), &["id must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"]),
        (|r| r.id = "é".to_owned(), &["id must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"]),
        (|r| r.environments = (0..32).map(|n| format!("e{n}")).collect(), &[]),
        (
            |r| r.environments = (0..33).map(|n| format!("e{n}")).collect(),
            &["environments must have at most 32, and has 33"],
        ),
        (
            |r| r.environments = vec!["prod".to_owned(), String::new(), "prod".to_owned()],
            &[
                "environments[2] must be unique, and is that of environments[0]",
                "environments[1] is required",
            ],
        ),
        (|r| r.rollout_basis_points = Some(0), &[]),
        (|r| r.rollout_basis_points = Some(10_000), &[]),
        (|r| r.rollout_basis_points = Some(10_001), &["rollout_basis_points must be 0 to 10000"]),
        (|r| r.rollout_basis_points = Some(u32::MAX), &["rollout_basis_points must be 0 to 10000"]),
        (|r| r.bucket_by = text(64), &[]),
        (|r| r.bucket_by = text(65), &["bucket_by must have at most 64 characters"]),
        (
            |r| r.conditions = vec![condition(Operator::Exists, &[]); 33],
            &["conditions must have at most 32, and has 33"],
        ),
    ]);
}

#[test]
fn a_condition_needs_an_attribute_and_a_known_operator() {
    check_rule(&[
        (|r| r.conditions = vec![condition(Operator::Exists, &[]); 32], &[]),
        (
            |r| r.conditions = vec![v1::Condition::default()],
            &["conditions[0].attribute is required", "conditions[0].operator is required"],
        ),
        (
            |r| {
                let long =
                    v1::Condition { attribute: text(65), ..condition(Operator::Exists, &[]) };
                r.conditions = vec![condition(Operator::Exists, &[]), long];
            },
            &["conditions[1].attribute must have at most 64 characters"],
        ),
        (
            |r| {
                let unknown = v1::Condition { operator: 12, ..condition(Operator::In, &["a"]) };
                r.conditions = vec![unknown];
            },
            &["conditions[0].operator has no value of the number 12"],
        ),
        (
            |r| {
                let unknown = v1::Condition { operator: -1, ..condition(Operator::In, &["a"]) };
                r.conditions = vec![unknown];
            },
            &["conditions[0].operator has no value of the number -1"],
        ),
    ]);
}

#[test]
fn an_attribute_has_a_name_that_means_nothing_else_to_providers() {
    fn named(name: &str) -> v1::Condition {
        v1::Condition { attribute: name.to_owned(), ..condition(Operator::Exists, &[]) }
    }
    const WHY: &str = "must not contain \".\" or \"\\\", begin with \"$\" or be \"__proto__\": JsonLogic, \
                       in which applications read it, takes that for a path or a name of its own; \
                       nor be \"environment\", which providers fill in themselves: name \
                       environments in the rule's `environments`";
    let refused: Vec<_> =
        (0..5).map(|index| format!("conditions[{index}].attribute {WHY}")).collect();
    let refused: Vec<_> = refused.iter().map(String::as_str).collect();
    check_rule(&[
        (|r| r.conditions = ["a b", "a$", "é", "0", "_proto_"].map(named).to_vec(), &[]),
        (
            |r| {
                let names = ["a.b", "a\\b", "$flagd", "__proto__", "environment"];
                r.conditions = names.map(named).to_vec();
            },
            &refused,
        ),
        (|r| r.bucket_by = "tenant id".to_owned(), &[]),
        (|r| r.bucket_by = "tenant.id".to_owned(), &[&format!("bucket_by {WHY}")]),
    ]);
}

#[test]
fn every_operator_says_how_many_and_which_values_it_takes() {
    const NONE_AT_ALL: &str = "must have at least 1";
    const NO_NUMBER: &str = "must be one decimal number";
    const NO_VERSION: &str = "must be one SemVer 2.0.0 version";
    const NOT_EMPTY: &str = "must be empty for this operator";
    let check = |operator, values: &[&str], problem: Option<&str>| {
        let mut request = super::sample::create_pipeline();
        first_rule(&mut request).conditions = vec![condition(operator, values)];
        let expected = problem.map(|problem| format!("{RULE}.conditions[0].values {problem}"));
        let found = super::violations(create_pipeline(request));
        assert_eq!(found, Vec::from_iter(expected), "{operator:?} {values:?}");
    };
    for operator in [
        Operator::In,
        Operator::NotIn,
        Operator::StartsWith,
        Operator::EndsWith,
        Operator::Contains,
    ] {
        check(operator, &[], Some(NONE_AT_ALL));
        check(operator, &[""], None);
        check(operator, &["eu", "us"], None);
    }
    for operator in [Operator::Exists, Operator::NotExists] {
        check(operator, &[], None);
        check(operator, &[""], Some(NOT_EMPTY));
    }
    for operator in [Operator::Less, Operator::GreaterOrEqual] {
        for good in ["0", "-1", "1.5", "1e3"] {
            check(operator, &[good], None);
        }
        for bad in
            [&[][..], &["1", "2"], &[""], &["1.0.0"], &["NaN"], &["inf"], &["1e999"], &["0x1"]]
        {
            check(operator, bad, Some(NO_NUMBER));
        }
    }
    for operator in [Operator::SemverLess, Operator::SemverGreaterOrEqual] {
        for good in ["1.2.3", "1.0.0-rc.1", "1.0.0+build.5"] {
            check(operator, &[good], None);
        }
        for bad in [&[][..], &["1.2.3", "1.2.4"], &[""], &["1.2"], &["v1.2.3"], &["01.2.3"]] {
            check(operator, bad, Some(NO_VERSION));
        }
    }
}

#[test]
fn values_are_limited_in_number_and_in_bytes() {
    fn many(count: usize) -> Vec<v1::Condition> {
        let values = (0..count).map(|n| n.to_string()).collect();
        vec![v1::Condition { values, ..condition(Operator::In, &[]) }]
    }
    check_rule(&[
        (|r| r.conditions = many(1000), &[]),
        (
            |r| r.conditions = many(1001),
            &["conditions[0].values must have at most 1000, and has 1001"],
        ),
        (|r| r.conditions = vec![condition(Operator::In, &["a", &text(128)])], &[]),
        (
            |r| r.conditions = vec![condition(Operator::In, &["a", &format!("{}x", text(128))])],
            &["conditions[0].values[1] must have at most 256 bytes"],
        ),
    ]);
}

#[test]
fn the_rules_of_a_phase_are_distinct() {
    check(
        create_pipeline,
        super::sample::create_pipeline(),
        &[
            (
                |r| r.pipeline.as_mut().unwrap().phases[1].rules = vec![rule("a"), rule("a")],
                &["pipeline.phases[1].rules[1].id must be unique, and is that of rules[0]"],
            ),
            (
                |r| r.pipeline.as_mut().unwrap().phases[1].rules = vec![rule(""), rule("")],
                &[
                    "pipeline.phases[1].rules[0].id is required",
                    "pipeline.phases[1].rules[1].id is required",
                ],
            ),
        ],
    );
}
