//! Whether one condition holds for the attributes of a context.
//!
//! Only what flagd's JsonLogic can say too, because delivery compiles the same conditions for
//! applications. There are no regular expressions.

use super::{Condition, Test};
use crate::value::{Object, Value};
use std::{borrow::Cow, cmp::Ordering, sync::Arc};

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
        match attributes.get(key)? {
            Value::String(text) => Some(Self::Text(text)),
            Value::Number(number) => Some(Self::Number(*number)),
            Value::Bool(truth) => Some(Self::Bool(*truth)),
            Value::Null | Value::List(_) | Value::Object(_) => None,
        }
    }

    /// A string as it is, a number or a boolean as its shortest JSON text.
    pub(super) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number_text(number).into(),
            Self::Bool(true) => "true".into(),
            Self::Bool(false) => "false".into(),
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
        let parsed = semver::Version::parse(&self.text()).ok()?;
        Some(parsed.cmp_precedence(version))
    }
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
        attribute.is_some_and(|attribute| {
            let text = attribute.text();
            values.iter().any(|value| test(&text, value))
        })
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

/// The shortest JSON text that reads as the same double, in the one form that RFC 8785 (section
/// 3.2.2.3) and ECMAScript give it: `3`, `1.5`, `1e+21`, `1e-7`, and `0` for either zero.
pub(super) fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    // The shortest digits that read back as the same double, as d.ddde±x.
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) =
        shortest.split_once('e').expect("the LowerExp format of a finite number has an e");
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().expect("the LowerExp format ends with an integer");
    // The decimal point stands behind so many of the digits.
    let point = exponent + 1;
    let count = digits.len() as i32;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));

    let text = if count <= point && point <= 21 {
        format!("{digits}{}", zeros(point - count))
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(point.unsigned_abs() as usize);
        format!("{whole}.{fraction}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        format!("{mantissa}e{exponent:+}")
    };
    if number < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_the_text_of_rfc_8785() {
        let check = |number: f64, text: &str| assert_eq!(number_text(number), text);
        check(0.0, "0");
        check(-0.0, "0");
        check(3.0, "3");
        check(-1.5, "-1.5");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e16, "10000000000000000");
        check(123_456_789_012_345_680_000.0, "123456789012345680000");
        check(1e21, "1e+21");
        check(1.5e300, "1.5e+300");
        check(0.000_001, "0.000001");
        check(0.000_001_25, "0.00000125");
        check(1e-7, "1e-7");
        check(-1.25e-7, "-1.25e-7");
        // From the table of RFC 8785, appendix B.
        check(f64::from_bits(1), "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(9_007_199_254_740_992.0, "9007199254740992");
        check(295_147_905_179_352_830_000.0, "295147905179352830000");
        check(9.999_999_999_999_997e22, "9.999999999999997e+22");
        check(0.000_009_999_999_999_999_997, "0.000009999999999999997");
        check(333_333_333.333_333_25, "333333333.33333325");
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

    proptest! {
        #[test]
        fn the_text_of_a_number_reads_as_that_number(
            number in any::<f64>().prop_filter("JSON has finite numbers only", |n| n.is_finite()),
        ) {
            let text = number_text(number);
            prop_assert_eq!(Literal::read(&text), Some(Literal::Number(number)), "{}", text);
            prop_assert!(serde_json::from_str::<f64>(&text).is_ok(), "{}", text);
        }
    }
}
