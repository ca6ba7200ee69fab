//! What is wrong with JSON values.

use super::{sample::*, violations};
use crate::{convert::evaluate_flag, v1};
use prost_types::{ListValue, Struct, Value, value::Kind};

/// Evaluates a flag for a context, and says what is wrong with that.
fn check(context: Struct, expected: &[&str]) {
    let request = v1::EvaluateFlagRequest {
        flag: "flags/checkout".to_owned(),
        environment: "prod".to_owned(),
        context: Some(context),
    };
    assert_eq!(violations(evaluate_flag(request)), expected);
}

fn number(number: f64) -> Value {
    value(Kind::NumberValue(number))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

#[test]
fn numbers_are_finite() {
    for good in [0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, f64::MIN] {
        check(object([("n", number(good))]), &[]);
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        check(object([("n", number(bad))]), &[r#"context["n"] must be a finite number"#]);
    }
}

#[test]
fn every_value_is_of_some_kind() {
    check(object([("n", Value { kind: None })]), &[r#"context["n"] must be a JSON value"#]);
}

#[test]
fn the_path_leads_to_the_value_through_keys_and_indexes() {
    let inner = object([("a \"b\"", list(vec![number(1.0), number(f64::NAN)]))]);
    let context = object([
        ("first", value(Kind::StructValue(inner))),
        ("second", list(vec![list(vec![Value { kind: None }])])),
    ]);
    check(
        context,
        &[
            r#"context["first"]["a \"b\""][1] must be a finite number"#,
            r#"context["second"][0][0] must be a JSON value"#,
        ],
    );
}

#[test]
fn a_long_key_is_cut_in_the_path() {
    let path = format!("context[\"{}\"] must be a JSON value", "é".repeat(64));
    check(object([(text(10_000).as_str(), Value { kind: None })]), &[&path]);
}

#[test]
fn containers_nest_64_deep_and_no_deeper() {
    // The context itself is the first.
    let objects = |depth: usize| {
        let shell = |inner, _| object([("k", value(Kind::StructValue(inner)))]);
        (1..depth).fold(Struct::default(), shell)
    };
    let lists = |depth: usize| {
        object([("k", (2..depth).fold(list(Vec::new()), |inner, _| list(vec![inner])))])
    };
    check(objects(64), &[]);
    check(lists(64), &[]);
    let path = format!("context{} must not nest deeper than 64", r#"["k"]"#.repeat(64));
    check(objects(65), &[&path]);
    let path = format!(r#"context["k"]{} must not nest deeper than 64"#, "[0]".repeat(63));
    check(lists(65), &[&path]);
}

#[test]
fn sizes_are_those_of_compact_json() {
    let json = r#"{"a":[1,true,null,"\n\u0001\"é"],"b":{},"c":-1.5,"d":1e300,"e":false}"#;
    let text = value(Kind::StringValue("\n\u{1}\"é".to_owned()));
    let items = vec![number(1.0), value(Kind::BoolValue(true)), value(Kind::NullValue(0)), text];
    let members = [
        ("a", list(items)),
        ("b", value(Kind::StructValue(Struct::default()))),
        ("c", number(-1.5)),
        ("d", number(1e300)),
        ("e", value(Kind::BoolValue(false))),
    ];
    // A text behind it fills up to the limit, and one byte more is too much.
    let filled = |bytes: usize| {
        let frame = r#","z":"""#.len();
        let fill = value(Kind::StringValue("x".repeat(bytes - json.len() - frame)));
        object(members.clone().into_iter().chain([("z", fill)]))
    };
    check(filled(64 << 10), &[]);
    let problem = "context must have at most 64 KiB as JSON, and has 65537 bytes";
    check(filled((64 << 10) + 1), &[problem]);
}
