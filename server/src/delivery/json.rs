//! Values as JSON that every language reads alike.

use phasegate_engine::value::{Object, Value};
use prost_types::{ListValue, Struct, value::Kind};
use serde_json::Number;

/// Doubles that are integers are exact up to here.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// An object.
pub(super) fn object(object: &Object) -> serde_json::Value {
    object.iter().map(|(key, item)| (key.to_string(), value(item))).collect()
}

/// A value. An integer is written as one (`3`, not `3.0`), as in the sets that are sent.
pub(super) fn value(of: &Value) -> serde_json::Value {
    match of {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            // Exact, by the guard.
            serde_json::Value::Number(Number::from(*number as i64))
        }
        Value::Number(number) => Number::from_f64(*number).into(),
        Value::String(text) => text.to_string().into(),
        Value::List(items) => items.iter().map(value).collect(),
        Value::Object(members) => object(members),
    }
}

/// A JSON object as the wire has it, to be parsed like any other.
pub(super) fn to_wire(members: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: members.into_iter().map(|(key, item)| (key, item_to_wire(item))).collect() }
}

fn item_to_wire(item: serde_json::Value) -> prost_types::Value {
    let kind = match item {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(truth) => Kind::BoolValue(truth),
        // Beyond what a double can say there is nothing better than the nearest one.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(item_to_wire).collect() })
        }
        serde_json::Value::Object(members) => Kind::StructValue(to_wire(members)),
    };
    prost_types::Value { kind: Some(kind) }
}
