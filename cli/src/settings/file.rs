//! The file of settings: YAML, a key for each setting.

use super::Problem;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, fmt, fs::File, io::Read as _, path::Path};

/// A file of more bytes is a mistake.
const BYTES_MAX: u64 = 1 << 20;

/// What the file says of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) values: Vec<String>,
    pub(super) is_list: bool,
}

/// Reads the file. What is wrong with it as a whole, and every key that is no setting, is a problem.
pub(super) fn read(
    path: &Path,
    names: &[&str],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Entry> {
    let file = path.display().to_string();
    match text_of(path) {
        Ok(text) => parse(&file, &text, names, problems),
        Err(error) => {
            problems.push(Problem::at(&file, format_args!("it cannot be read: {error}")));
            BTreeMap::new()
        }
    }
}

fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 <= BYTES_MAX {
        true => Ok(text),
        false => Err(std::io::ErrorKind::FileTooLarge.into()),
    }
}

pub(super) fn parse(
    file: &str,
    text: &str,
    names: &[&str],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Entry> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let entries: Option<Entries> = match serde_saphyr::from_str_with_options(text, options) {
        Ok(entries) => entries,
        Err(error) => {
            // The first line says what and where; the rest is a drawing of it.
            let error = error.to_string();
            problems.push(Problem::at(file, error.lines().next().unwrap_or_default()));
            return BTreeMap::new();
        }
    };
    let mut said = BTreeMap::new();
    for (key, value) in entries.map(|entries| entries.0).unwrap_or_default() {
        let line = key.referenced.line();
        let (key, place) = (key.value, format!("{file}:{line}"));
        if !names.contains(&key.as_str()) {
            let problem = match closest(&key, names) {
                Some(name) => format!("there is no setting {key}; is it {name}?"),
                None => format!("there is no setting {key}"),
            };
            problems.push(Problem::at(place, problem));
            continue;
        }
        let (values, is_list) = match value {
            Given::Nothing => {
                problems.push(Problem::at(place, format_args!("{key} has no value")));
                continue;
            }
            Given::One(value) => (vec![value], false),
            Given::Many(values) => (values, true),
        };
        said.insert(key, Entry { file: file.to_owned(), line, values, is_list });
    }
    said
}

/// The name that may have been meant.
fn closest<'a>(key: &str, names: &[&'a str]) -> Option<&'a str> {
    // Whoever writes the name of the variable, or an underscore, means this one.
    let plain = key.to_lowercase().replace('_', "-");
    let plain = plain.strip_prefix("phasegate-").unwrap_or(&plain);
    similar::get_close_matches(plain, names, 1, 0.6).first().copied()
}

/// The keys in their order, each with its place.
struct Entries(Vec<(Spanned<String>, Given)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings, such as `listen: 127.0.0.1:7433`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries: Vec<(Spanned<String>, Given)> = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    if entries.iter().any(|(known, _)| known.value == key.value) {
                        let line = key.referenced.line();
                        let problem = format!("line {line}: {} is said twice", key.value);
                        return Err(A::Error::custom(problem));
                    }
                    let value = map.next_value()?;
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// What stands behind a key, as it is written.
#[derive(Debug)]
enum Given {
    Nothing,
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given::One(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
                Ok(Given::One(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
                Ok(Given::One(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
                Ok(Given::One(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Given, E> {
                Ok(Given::One(value.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Given, E> {
                Ok(Given::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    match value {
                        Given::One(value) => values.push(value),
                        Given::Nothing | Given::Many(_) => {
                            return Err(A::Error::custom("a list has values"));
                        }
                    }
                }
                Ok(Given::Many(values))
            }
        }
        deserializer.deserialize_any(Value)
    }
}
