//! JsonLogic as a tree, and how it and the values of configs are written as JSON.

use crate::value::{Object, Value};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::borrow::Cow;

/// An expression of JsonLogic.
#[derive(Clone, Debug)]
pub(super) enum Logic<'a> {
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    /// An attribute of the context; null if it is missing.
    Attribute(&'a str),
    Call(&'static str, Vec<Self>),
}

impl<'a> Logic<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn call<const N: usize>(operator: &'static str, arguments: [Self; N]) -> Self {
        Self::Call(operator, Vec::from(arguments))
    }

    /// An attribute of the context, or something else if it is missing.
    pub(super) fn attribute_or(name: &'a str, default: Self) -> Self {
        Self::call("var", [Self::text(name), default])
    }

    /// An `if` that yields null where it yielded this text at last. To flagd null means the default
    /// variant, and that no rule matched, which providers give as the reason.
    pub(super) fn without_else(mut self, text: &str) -> Self {
        if let Self::Call("if", arguments) = &mut self {
            // One of an even length ends with a case and has no else.
            let has_else = arguments.len() % 2 == 1;
            arguments.pop_if(|last| has_else && matches!(last, Self::Text(name) if *name == text));
        }
        self
    }

    pub(super) fn not(self) -> Self {
        Self::call("!", [self])
    }

    /// Holds if all do. They are tried in order, and none after the first that fails.
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let all = Self::joined("and", parts);
        if let Self::Call("and", parts) = all {
            Self::Call("and", parts.into_iter().map(Self::true_or_false).collect())
        } else {
            all
        }
    }

    /// flagd's own operators answer null to what they do not take, and to some `and`, null is no
    /// reason to fail.
    fn true_or_false(self) -> Self {
        if matches!(self, Self::Call("starts_with" | "ends_with" | "sem_ver" | "if", _)) {
            Self::call("!!", [self])
        } else {
            self
        }
    }

    /// Holds if one does. They are tried in order, and none after the first that holds.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::joined("or", parts)
    }

    /// A part that is joined in the same way is taken apart.
    fn joined(operator: &'static str, parts: impl IntoIterator<Item = Self>) -> Self {
        let mut arguments = Vec::new();
        for part in parts {
            match part {
                Self::Call(inner, parts) if inner == operator => arguments.extend(parts),
                Self::Bool(_)
                | Self::Number(_)
                | Self::Text(_)
                | Self::List(_)
                | Self::Attribute(_)
                | Self::Call(..) => arguments.push(part),
            }
        }
        if arguments.len() == 1 { arguments.remove(0) } else { Self::Call(operator, arguments) }
    }
}

impl Serialize for Logic<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Number(number) => serialize_number(*number, serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Attribute(name) => serialize_entry("var", name, serializer),
            Self::Call(operator, arguments) => serialize_entry(operator, arguments, serializer),
        }
    }
}

fn serialize_entry<S: Serializer>(
    key: &str,
    value: &(impl Serialize + ?Sized),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

/// A JSON value as it is meant, not as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whole<'a> {
    Bool(bool),
    Object(&'a Object),
    Value(&'a Value),
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(truth) | Self::Value(Value::Bool(truth)) => {
                serializer.serialize_bool(*truth)
            }
            Self::Value(Value::Object(object)) => Whole::Object(object).serialize(serializer),
            Self::Object(object) => {
                serializer.collect_map(object.iter().map(|(key, value)| (key, Whole::Value(value))))
            }
            Self::Value(Value::Null) => serializer.serialize_unit(),
            Self::Value(Value::Number(number)) => serialize_number(*number, serializer),
            Self::Value(Value::String(text)) => serializer.serialize_str(text),
            Self::Value(Value::List(items)) => {
                serializer.collect_seq(items.iter().map(Whole::Value))
            }
        }
    }
}

/// Whole numbers as integers as far as every language can read them as such, so that one that
/// tells the two kinds apart sees an integer.
fn serialize_number<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    const LARGEST_INTEGER: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= LARGEST_INTEGER {
        // Exact, as was just checked.
        serializer.serialize_i64(number as i64)
    } else {
        serializer.serialize_f64(number)
    }
}

/// The JSON text.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("every key here is a string, and nothing here fails itself")
}
