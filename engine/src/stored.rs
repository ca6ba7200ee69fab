//! Values that are read back from where they were stored.
//!
//! A type whose values are checked where they enter checks them here too: its proof must hold whatever
//! became of the bytes in between.

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a value, and refuses one that no code of ours has written.
pub(crate) fn checked<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    valid: impl FnOnce(&T) -> bool,
    problem: impl std::fmt::Display,
) -> Result<T, D::Error> {
    let value = T::deserialize(deserializer)?;
    if valid(&value) { Ok(value) } else { Err(D::Error::custom(problem)) }
}

/// A list that has something in it.
pub(crate) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    checked(deserializer, |items: &Vec<T>| !items.is_empty(), "an empty list")
}

/// A number that is finite.
pub(crate) fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    checked(deserializer, |number: &f64| number.is_finite(), "a number that is not finite")
}

/// A number that only ever grows by one, so it never gets this far.
pub(crate) fn counter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    checked(deserializer, |number: &u64| *number < 1 << 53, "a number above 2^53")
}

#[cfg(test)]
mod tests {
    use crate::{
        id::{FlagId, Revision},
        pipeline::Template,
        targeting::{BasisPoints, Number},
        time::{Span, Timestamp},
        value::Value,
        window::TimeOfDay,
    };
    use serde::Deserialize;
    use serde_json::json;

    fn reads<T: for<'de> Deserialize<'de>>(stored: serde_json::Value) -> bool {
        T::deserialize(stored).is_ok()
    }

    #[test]
    fn what_is_no_id_is_not_read_as_one() {
        assert!(reads::<FlagId>(json!("a.b")));
        for bad in ["", "a/b", "a b", ".a"] {
            assert!(!reads::<FlagId>(json!(bad)), "{bad}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_not_read() {
        assert!(reads::<Revision>(json!(Revision::LAST.get())));
        assert!(!reads::<Revision>(json!(Revision::LAST.get() + 1)));
        assert!(!reads::<Revision>(json!(u64::MAX)));
        assert!(reads::<BasisPoints>(json!(10_000)));
        assert!(!reads::<BasisPoints>(json!(10_001)));
        assert!(reads::<TimeOfDay>(json!(1440)));
        assert!(!reads::<TimeOfDay>(json!(1441)));
    }

    #[test]
    fn times_out_of_range_are_not_read() {
        assert!(reads::<Timestamp>(json!(Timestamp::MAX.as_millis())));
        for bad in [-1, Timestamp::MAX.as_millis() + 1, i64::MIN, i64::MAX] {
            assert!(!reads::<Timestamp>(json!(bad)), "{bad}");
        }
        assert!(reads::<Span>(json!(0)));
        assert!(!reads::<Span>(json!(-1)));
    }

    #[test]
    fn a_number_is_what_its_text_says() {
        assert!(reads::<Number>(json!({ "text": "1e1", "value": 10.0 })));
        assert!(!reads::<Number>(json!({ "text": "1e1", "value": 11.0 })));
        assert!(!reads::<Number>(json!({ "text": "ten", "value": 10.0 })));
        assert!(reads::<Value>(json!({ "Number": -0.5 })));
    }

    #[test]
    fn a_pipeline_without_phases_is_not_read() {
        let template = |phases: serde_json::Value| {
            json!({
                "description": "", "phases": phases, "exempt_environments": [], "trigger_notice": ""
            })
        };
        assert!(!reads::<Template>(template(json!([]))));
        let phase = json!({
            "id": "a", "rules": [], "bake": 0, "approval": null, "windows": null, "guards": []
        });
        assert!(reads::<Template>(template(json!([phase]))));
    }
}
