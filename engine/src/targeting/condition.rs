//! Whether one condition holds for the attributes of a context.
//!
//! Only what flagd's JsonLogic can say too, because delivery compiles the same conditions for
//! applications. There are no regular expressions.

use super::{Condition, Test};
use crate::value::{Object, Value};
use std::{borrow::Cow, cmp::Ordering, sync::Arc};

/// A number that buckets is below this in size: some languages write no more than 15 digits.
pub(crate) const UNIT_NUMBER_LIMIT: f64 = 1e15;
/// A longer text is no version: some languages read no more than 256 characters, and delivery needs
/// a few of them to find out whether a text is a version at all.
pub(crate) const VERSION_BYTES_MAX: usize = 250;

/// An attribute that is there. Arrays, objects and null count as missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attribute<'a> {
    Text(&'a str),
    Number(f64),
    Bool(bool),
}

impl<'a> Attribute<'a> {
    /// The attribute under a top-level key; `None` if it is missing.
    pub(super) fn of(attributes: &'a Object, key: &str) -> Option<Self> {
        if !is_attribute_name(key) {
            return None;
        }
        match attributes.get(key)? {
            Value::String(text) => Some(Self::Text(text)),
            Value::Number(number) => Some(Self::Number(*number)),
            Value::Bool(truth) => Some(Self::Bool(*truth)),
            Value::Null | Value::List(_) | Value::Object(_) => None,
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Bool(_) => None,
        }
    }

    /// The text whose hash decides about a share: a text that is not empty, or a whole number below
    /// [`UNIT_NUMBER_LIMIT`] in size as its digits. `None` for anything else, which counts as
    /// missing: languages write fractions and large numbers each in its own way, and all anonymous
    /// callers would share the one bucket of the empty text and flip together.
    pub(super) fn unit(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => (!text.is_empty()).then(|| text.into()),
            Self::Number(number) => {
                let whole = number.fract() == 0.0 && number.abs() < UNIT_NUMBER_LIMIT;
                // Below the limit, so nothing is cut off; negative zero becomes zero.
                whole.then(|| (number as i64).to_string().into())
            }
            Self::Bool(_) => None,
        }
    }

    fn equals(self, value: &str) -> bool {
        match self {
            Self::Text(text) => text == value,
            Self::Number(number) => Literal::read(value) == Some(Literal::Number(number)),
            Self::Bool(truth) => Literal::read(value) == Some(Literal::Bool(truth)),
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(_) | Self::Bool(_) => None,
        }
    }

    /// How it stands to a version in SemVer's precedence, which ignores build metadata.
    fn precedence(self, version: &semver::Version) -> Option<Ordering> {
        let text = self.text().filter(|text| text.len() <= VERSION_BYTES_MAX)?;
        let parsed = semver::Version::parse(text).ok()?;
        Some(parsed.cmp_precedence(version))
    }
}

/// What is wrong with the name of an attribute that [`is_attribute_name`] refuses.
pub const NOT_AN_ATTRIBUTE_NAME: &str = "must not contain \".\" or \"\\\", begin with \"$\" or be \"__proto__\": JsonLogic, in which \
     applications read it, takes that for a path or a name of its own; nor be \"environment\", which \
     providers fill in themselves: name environments in the rule's `environments`";

/// Whether an attribute can have this name wherever rules are read. One with another name counts as missing.
pub fn is_attribute_name(name: &str) -> bool {
    // JavaScript's own, and what flagd's providers overlay with the environment that they follow.
    const TAKEN: [&str; 2] = ["__proto__", "environment"];
    let is_path = name.contains(['.', '\\']) || name.starts_with('$');
    !name.is_empty() && !is_path && !TAKEN.contains(&name)
}

/// What the value of a condition equals besides the same text: `3.0` equals the text `3.0` and the
/// number 3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(f64),
}

impl Literal {
    /// Reads a value as JSON would; `None` if that gives no finite number and no boolean. So `3`,
    /// `3.0` and `3e0` are the same number, and `03`, `+3` and ` 3` are texts only.
    pub fn read(value: &str) -> Option<Self> {
        match value {
            "true" => Some(Self::Bool(true)),
            "false" => Some(Self::Bool(false)),
            text if is_json_number(text) => {
                text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Number)
            }
            _ => None,
        }
    }
}

/// The grammar of RFC 8259, section 6.
fn is_json_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// Whether a condition holds. A missing attribute passes `NotIn` and `NotExists` and nothing else.
pub(super) fn holds(condition: &Condition, attributes: &Object) -> bool {
    let attribute = Attribute::of(attributes, &condition.attribute);
    let some_value = |values: &[Arc<str>], test: fn(&str, &str) -> bool| {
        let text = attribute.and_then(Attribute::text);
        text.is_some_and(|text| values.iter().any(|value| test(text, value)))
    };
    let one_of = |values: &[Arc<str>]| {
        attribute.is_some_and(|attribute| values.iter().any(|value| attribute.equals(value)))
    };
    let number = || attribute.and_then(Attribute::number);
    match &condition.test {
        Test::In(values) => one_of(values),
        Test::NotIn(values) => !one_of(values),
        Test::StartsWith(values) => some_value(values, |text, value| text.starts_with(value)),
        Test::EndsWith(values) => some_value(values, |text, value| text.ends_with(value)),
        Test::Contains(values) => some_value(values, |text, value| text.contains(value)),
        Test::Exists => attribute.is_some(),
        Test::NotExists => attribute.is_none(),
        Test::Less(limit) => number().is_some_and(|number| number < limit.value()),
        Test::GreaterOrEqual(limit) => number().is_some_and(|number| number >= limit.value()),
        Test::SemverLess(limit) => {
            attribute.and_then(|a| a.precedence(limit)).is_some_and(Ordering::is_lt)
        }
        Test::SemverGreaterOrEqual(limit) => {
            attribute.and_then(|a| a.precedence(limit)).is_some_and(Ordering::is_ge)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_buckets_if_it_is_whole_and_short_and_a_boolean_never_does() {
        let check = |attribute: Attribute<'_>, unit: Option<&str>| {
            assert_eq!(attribute.unit().as_deref(), unit, "{attribute:?}");
        };
        check(Attribute::Text("a b"), Some("a b"));
        check(Attribute::Text(""), None);
        check(Attribute::Number(3.0), Some("3"));
        check(Attribute::Number(-3.0), Some("-3"));
        check(Attribute::Number(-0.0), Some("0"));
        check(Attribute::Number(999_999_999_999_999.0), Some("999999999999999"));
        check(Attribute::Number(1e15), None);
        check(Attribute::Number(-1e300), None);
        check(Attribute::Number(0.5), None);
        check(Attribute::Bool(true), None);
    }

    #[test]
    fn a_name_that_means_something_else_to_providers_is_no_attribute() {
        for name in ["a", "targetingKey", "é b", "0", "a$"] {
            assert!(is_attribute_name(name), "{name}");
        }
        for name in ["", "a.b", "a\\b", "$flagd", "../a", "__proto__", "environment"] {
            assert!(!is_attribute_name(name), "{name}");
            let attributes = Object::from([(name.into(), Value::Bool(true))]);
            assert_eq!(Attribute::of(&attributes, name), None, "{name}");
        }
    }

    #[test]
    fn only_what_json_reads_as_a_number_is_one() {
        for number in ["0", "-0", "3", "3.0", "-12.50", "1e3", "1E+3", "0.5e-3", "10"] {
            assert!(matches!(Literal::read(number), Some(Literal::Number(_))), "{number}");
        }
        for text in [
            "", "-", "+3", "03", "-03", ".5", "5.", "1e", "1e+", "1e1.5", " 3", "3 ", "0x1", "1_0",
            "--1", "inf", "NaN", "1e999", "True", "null",
        ] {
            assert_eq!(Literal::read(text), None, "{text}");
        }
    }
}
