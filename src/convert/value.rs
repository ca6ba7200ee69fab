//! JSON values.

use super::fields::{Fields, both};
use phasegate_engine::value::{Object, Value};
use prost_types::value::Kind;
use std::sync::Arc;

/// How many objects and lists may stand inside one another, the outermost object included. Protobuf
/// parsers stop at 100 messages, which is less: this is for JSON, and bounds our own recursion.
const DEPTH_MAX: usize = 64;
const TOO_DEEP: &str = "must not nest deeper than 64";

impl Fields {
    /// A JSON object, at most so many bytes as JSON.
    pub(super) fn object(
        &mut self,
        field: &str,
        value: prost_types::Struct,
        bytes_max: usize,
    ) -> Option<Object> {
        self.at(field, |fields| {
            let object = fields.members(value, 1)?;
            let bytes = json_bytes_of(&object);
            if bytes > bytes_max {
                let most = bytes_max / 1024;
                return fields.refuse(format!(
                    "must have at most {most} KiB as JSON, and has {bytes} bytes"
                ));
            }
            Some(object)
        })
    }

    /// An object, which is the so-and-so-many-eth container on its way.
    fn members(&mut self, value: prost_types::Struct, depth: usize) -> Option<Object> {
        if depth > DEPTH_MAX {
            return self.refuse(TOO_DEEP);
        }
        let mut object = Some(Object::new());
        for (key, value) in value.fields {
            let member = self.at_key(&key, |fields| fields.value(value, depth));
            object = both(object, member, |object, member| {
                object.insert(Arc::from(key), member);
            });
        }
        object
    }

    fn items(&mut self, list: prost_types::ListValue, depth: usize) -> Option<Vec<Value>> {
        if depth > DEPTH_MAX {
            return self.refuse(TOO_DEEP);
        }
        let mut items = Some(Vec::new());
        for (index, item) in list.values.into_iter().enumerate() {
            let item = self.at_index(index, |fields| fields.value(item, depth));
            items = both(items, item, Vec::push);
        }
        items
    }

    fn value(&mut self, value: prost_types::Value, depth: usize) -> Option<Value> {
        match value.kind {
            None => self.refuse("must be a JSON value"),
            Some(Kind::NullValue(_)) => Some(Value::Null),
            Some(Kind::BoolValue(value)) => Some(Value::Bool(value)),
            Some(Kind::NumberValue(number)) if number.is_finite() => Some(Value::Number(number)),
            Some(Kind::NumberValue(_)) => self.refuse("must be a finite number"),
            Some(Kind::StringValue(text)) => Some(Value::String(text.into())),
            Some(Kind::ListValue(list)) => self.items(list, depth + 1).map(Value::List),
            Some(Kind::StructValue(members)) => self.members(members, depth + 1).map(Value::Object),
        }
    }
}

/// The size of an object as compact JSON, in bytes.
pub(super) fn json_bytes_of(object: &Object) -> usize {
    let members = object.iter().map(|(key, value)| json_bytes_of_text(key) + 1 + json_bytes(value));
    2 + members.sum::<usize>() + object.len().saturating_sub(1)
}

fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => json_bytes_of_number(*number),
        Value::String(text) => json_bytes_of_text(text),
        Value::List(items) => {
            2 + items.iter().map(json_bytes).sum::<usize>() + items.len().saturating_sub(1)
        }
        Value::Object(object) => json_bytes_of(object),
    }
}

/// The shorter of the two ways to write it, so 1e300 does not count as 301 digits.
fn json_bytes_of_number(number: f64) -> usize {
    number.to_string().len().min(format!("{number:e}").len())
}

fn json_bytes_of_text(text: &str) -> usize {
    let escaped = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    2 + text.chars().map(escaped).sum::<usize>()
}

/// An object as the wire has it.
pub fn object_to_wire(object: &Object) -> prost_types::Struct {
    let member = |(key, value): (&Arc<str>, &Value)| (key.to_string(), value_to_wire(value));
    prost_types::Struct { fields: object.iter().map(member).collect() }
}

/// A value as the wire has it.
pub(super) fn value_to_wire(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(*number),
        Value::String(text) => Kind::StringValue(text.to_string()),
        Value::List(items) => Kind::ListValue(prost_types::ListValue {
            values: items.iter().map(value_to_wire).collect(),
        }),
        Value::Object(object) => Kind::StructValue(object_to_wire(object)),
    };
    prost_types::Value { kind: Some(kind) }
}
