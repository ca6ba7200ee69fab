//! A document as a tree in which every node knows its line.
//!
//! JSON is YAML, so there is one reader for both.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// A line and a column, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl Place {
    fn of(location: serde_saphyr::Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What YAML can say and JSON can too.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A number, as exactly as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Natural(u64),
    Integer(i64),
    Real(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Natural(number) => number.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}

/// A key of a map, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Text that is not YAML.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) place: Option<Place>,
    pub(crate) message: String,
}

/// Reads all documents of a text. Empty ones are left out.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, Malformed> {
    // As YAML 1.2 and JSON have it: `no` is a word, for example of an environment.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Result<Vec<Spanned<Raw>>, _> =
        serde_saphyr::from_multiple_with_options(text, options);
    match documents {
        Ok(documents) => {
            let documents = documents.into_iter().map(Node::from);
            Ok(documents.filter(|node| !matches!(node.value, Value::Null)).collect())
        }
        Err(error) => {
            let error = error.without_snippet();
            let place = error.location().map(Place::of);
            // The place is said apart.
            let message = error.to_string();
            let message = match message.rsplit_once(" at line ") {
                Some((before, _)) => before.to_owned(),
                None => message,
            };
            Err(Malformed { place, message })
        }
    }
}

impl Node {
    /// What a path such as `phases[1].rules[0].rollout_basis_points` leads to, or the last node on
    /// the way that there is. Keys match in the spelling of proto files and in that of JSON.
    pub(crate) fn at(&self, path: &str) -> &Self {
        let mut node = self;
        for segment in path.split(['.', '[']).map(|segment| segment.trim_end_matches(']')) {
            let next = match &node.value {
                Value::Map(entries) => {
                    let camel = camel_case(segment);
                    let entry =
                        entries.iter().find(|(key, _)| key.text == segment || key.text == camel);
                    entry.map(|(_, node)| node)
                }
                Value::List(items) => segment.parse().ok().and_then(|n: usize| items.get(n)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => return node,
            }
        }
        node
    }

    /// The node that stands inside the most others; the first of them.
    pub(crate) fn deepest(&self) -> &Self {
        fn below<'a>(node: &'a Node, depth: usize, deepest: &mut (usize, &'a Node)) {
            if depth > deepest.0 {
                *deepest = (depth, node);
            }
            match &node.value {
                Value::List(items) => items.iter().for_each(|n| below(n, depth + 1, deepest)),
                Value::Map(entries) => {
                    entries.iter().for_each(|(_, n)| below(n, depth + 1, deepest))
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
            }
        }
        let mut deepest = (0, self);
        below(self, 0, &mut deepest);
        deepest.1
    }
}

/// `bake_duration` as JSON spells it: `bakeDuration`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else if upper {
            camel.extend(letter.to_uppercase());
            upper = false;
        } else {
            camel.push(letter);
        }
    }
    camel
}

/// A value as serde hands it out.
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl From<Spanned<Raw>> for Node {
    fn from(spanned: Spanned<Raw>) -> Self {
        let place = Place::of(spanned.referenced);
        let value = match spanned.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Number(value) => Value::Number(value),
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Raw::Map(entries) => {
                let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                    let key = Key { place: Place::of(key.referenced), text: key.value };
                    (key, Self::from(value))
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Self { place, value }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(Number::Natural(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(Number::Integer(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(Number::Real(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
