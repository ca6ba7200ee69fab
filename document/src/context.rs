//! Evaluation contexts as people write them: `key=value` pairs, or a JSON object.

use prost_types::{ListValue, Struct, Value, value::Kind};

/// Attributes of a context, in the order in which they were written.
pub type Attributes = Vec<(String, Value)>;

/// Reads one pair, or a JSON object. `age=7` is a number and `plan=pro` a text, as one would expect;
/// who wants another type writes JSON.
pub fn attributes(text: &str) -> Result<Attributes, String> {
    if text.trim_start().starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        return Ok(of_json(object).fields.into_iter().collect());
    }
    let (key, text) = text.split_once('=').ok_or("write KEY=VALUE or a JSON object")?;
    let key = key.trim();
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let json = match serde_json::from_str(text) {
        Ok(scalar @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => scalar,
        Ok(_) | Err(_) => serde_json::Value::from(text),
    };
    Ok(vec![(key.to_owned(), value(json))])
}

/// Reads a whole context: a JSON object, or a pair on each line.
pub fn read(text: &str) -> Result<Struct, String> {
    if text.trim_start().starts_with('{') {
        return Ok(Struct { fields: attributes(text)?.into_iter().collect() });
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pairs: Vec<Attributes> = lines
        .map(|line| attributes(line).map_err(|problem| format!("{line}: {problem}")))
        .collect::<Result<_, _>>()?;
    Ok(Struct { fields: pairs.into_iter().flatten().collect() })
}

/// A context that was read as JSON.
pub fn of_json(object: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(key, field)| (key, value(field))).collect() }
}

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        // Beyond what a double can say there is nothing better than the nearest one.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(value).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(of_json(fields)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let words = |(key, value): (String, Value)| match value.kind {
            Some(Kind::StringValue(text)) => format!("{key}={text:?}"),
            Some(Kind::NumberValue(number)) => format!("{key}={number}"),
            Some(Kind::BoolValue(value)) => format!("{key}={value}"),
            other => format!("{key}={other:?}"),
        };
        let context = read(text)?;
        Ok(context.fields.into_iter().map(words).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_context_is_written_as_pairs_or_as_json() {
        assert_eq!(check("").unwrap(), "");
        assert_eq!(
            check("plan=pro\n\n age=7\nbeta=true ").unwrap(),
            r#"age=7 beta=true plan="pro""#
        );
        assert_eq!(check("expr=a=b").unwrap(), r#"expr="a=b""#);
        assert_eq!(check("none=null").unwrap(), r#"none="null""#);
        assert_eq!(check(r#"{"targetingKey": "u1", "n": 2}"#).unwrap(), r#"n=2 targetingKey="u1""#);
        for wrong in ["plan", "=x", "{", "{]", "a=1\nb"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
