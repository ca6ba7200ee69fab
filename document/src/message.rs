//! From a tree to a message of the API, in proto3 JSON form. What is wrong is said with its path and
//! its place.

use super::tree::{Key, Node, Number, Place, Value};
use crate::json;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, Visitor, value::StrDeserializer};
use std::fmt;

/// What is wrong with a document.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) place: Place,
    /// Empty for the document as a whole.
    pub(super) path: String,
    pub(super) message: String,
}

/// Reads a message of the type that the descriptor names.
pub(super) fn read(node: &Node, descriptor: &MessageDescriptor) -> Result<DynamicMessage, Wrong> {
    DynamicMessage::deserialize(descriptor.clone(), At(node)).map_err(|error| {
        let message = match advice(descriptor, &error.segments()) {
            Some(advice) => format!("{}; {advice}", error.message),
            None => error.message.clone(),
        };
        let path = error.path();
        Wrong { place: error.place.unwrap_or(node.place), path, message }
    })
}

/// What may stand at a path, if that is worth saying.
fn advice(root: &MessageDescriptor, path: &[&Segment]) -> Option<String> {
    let mut message = root.clone();
    let mut last: Option<FieldDescriptor> = None;
    for segment in path {
        let Segment::Field(name) = segment else { continue };
        match json::field(&message, name) {
            None => {
                let known: Vec<_> =
                    message.fields().map(|field| field.json_name().to_owned()).collect();
                return Some(format!("it may be one of {}", known.join(", ")));
            }
            Some(field) => {
                if let Kind::Message(inner) = field.kind() {
                    message = inner;
                }
                last = Some(field);
            }
        }
    }
    let kind = last?.kind();
    if let Kind::Enum(values) = &kind {
        // Zero is never meant.
        let known: Vec<_> = values
            .values()
            .filter(|value| value.number() != 0)
            .map(|v| v.name().to_owned())
            .collect();
        return Some(format!("it may be one of {}", known.join(", ")));
    }
    match kind.as_message()?.full_name() {
        "google.protobuf.Duration" => Some("a duration looks like \"300s\" or \"1.5s\"".to_owned()),
        "google.protobuf.Timestamp" => {
            Some("a time looks like \"2030-06-14T18:00:00Z\"".to_owned())
        }
        _ => None,
    }
}

#[derive(Clone, Debug)]
enum Segment {
    Field(String),
    Item(usize),
}

/// An error on its way up: each level adds itself.
#[derive(Debug)]
struct Error {
    message: String,
    place: Option<Place>,
    /// From the leaf to the root.
    above: Vec<Segment>,
}

impl Error {
    fn segments(&self) -> Vec<&Segment> {
        self.above.iter().rev().collect()
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.segments() {
            match segment {
                Segment::Field(name) if path.is_empty() => path.push_str(name),
                Segment::Field(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Segment::Item(n) => path.push_str(&format!("[{n}]")),
            }
        }
        path
    }

    fn within(mut self, segment: Segment, place: Place) -> Self {
        self.above.push(segment);
        self.place.get_or_insert(place);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), place: None, above: Vec::new() }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Map => "a map".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
            de::Unexpected::Bool(value) => value.to_string(),
            de::Unexpected::Str(text) => format!("{text:?}"),
            de::Unexpected::Unsigned(number) => number.to_string(),
            de::Unexpected::Signed(number) => number.to_string(),
            de::Unexpected::Float(number) => number.to_string(),
            de::Unexpected::Char(_)
            | de::Unexpected::Bytes(_)
            | de::Unexpected::NewtypeStruct
            | de::Unexpected::Enum
            | de::Unexpected::UnitVariant
            | de::Unexpected::NewtypeVariant
            | de::Unexpected::TupleVariant
            | de::Unexpected::StructVariant
            | de::Unexpected::Other(_) => found.to_string(),
        };
        Self::custom(format!("expected {expected}, found {found}"))
    }
}

/// A deserializer of the value at a node.
#[derive(Clone, Copy)]
struct At<'de>(&'de Node);

impl<'de> At<'de> {
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let found = match &self.0.value {
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                return de::Deserializer::deserialize_any(self, visitor);
            }
        };
        Err(de::Error::custom(format!("expected text, found {found} without quotes")))
    }
}

impl<'de> de::Deserializer<'de> for At<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(Number::Natural(number)) => visitor.visit_u64(*number),
            Value::Number(Number::Integer(number)) => visitor.visit_i64(*number),
            Value::Number(Number::Real(number)) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Map(entries) => {
                let mut fields = Fields { entries: entries.iter(), at: None };
                let visited = visitor.visit_map(&mut fields);
                // A key that is refused is refused before its value is asked for.
                visited.map_err(|error| match fields.at {
                    Some((key, _)) => error.within(Segment::Field(key.text.clone()), key.place),
                    None => error,
                })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                visitor.visit_some(self)
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((n, node)) = self.items.next() else { return Ok(None) };
        let value = seed.deserialize(At(node));
        value.map(Some).map_err(|error| error.within(Segment::Item(n), node.place))
    }
}

struct Fields<'de> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    /// The key that was handed out last, until its value is.
    at: Option<(&'de Key, &'de Node)>,
}

impl<'de> de::MapAccess<'de> for &mut Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        self.at = Some((key, node));
        let text: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
        seed.deserialize(text).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self.at.take().expect("serde asks for a key first");
        let value = seed.deserialize(At(node));
        value.map_err(|error| error.within(Segment::Field(key.text.clone()), node.place))
    }
}
