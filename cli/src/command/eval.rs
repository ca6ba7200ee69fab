//! `phasegate eval`: what a flag answers, and why.

use crate::{
    complete,
    connection::Connection,
    failure::Failure,
    name,
    output::{Output, resource},
};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use phasegate_api::v1::EvaluateFlagRequest;
use prost_types::{ListValue, Struct, Value, value::Kind};

#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// The flag
    #[arg(value_parser = name::flag, add = ArgValueCandidates::new(complete::flags))]
    flag: String,
    /// The environment that asks
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: String,
    /// What is known about who asks: KEY=VALUE, or a JSON object; may come more than once
    #[arg(
        short = 'a',
        long = "attribute",
        value_name = "KEY=VALUE|JSON",
        value_parser = attributes
    )]
    attributes: Vec<Attributes>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Some attributes of a context.
#[derive(Clone, Debug, PartialEq)]
struct Attributes(Vec<(String, Value)>);

impl Eval {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        let fields = self.attributes.into_iter().flat_map(|Attributes(fields)| fields).collect();
        let request = EvaluateFlagRequest {
            flag: self.flag,
            environment: self.environment,
            context: Some(Struct { fields }),
        };
        let answer = client.evaluate_flag(request).await?;
        self.output.show(&answer, || resource::answer(&answer))
    }
}

fn attributes(text: &str) -> Result<Attributes, String> {
    if text.trim_start().starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        return Ok(Attributes(object.into_iter().map(|(k, v)| (k, value(v))).collect()));
    }
    let (key, text) = text.split_once('=').ok_or("write KEY=VALUE or a JSON object")?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    // `age=7` is a number and `plan=pro` a text, as one would expect.
    let json = match serde_json::from_str(text) {
        Ok(scalar @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => scalar,
        Ok(_) | Err(_) => serde_json::Value::from(text),
    };
    Ok(Attributes(vec![(key.to_owned(), value(json))]))
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
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, field)| (key, value(field))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_written_as_pairs_or_as_json() {
        let check = |text: &str| {
            attributes(text).map(|Attributes(fields)| {
                let fields = fields.iter().map(|(k, v)| format!("{k}={}", resource::json(v)));
                fields.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(check("plan=pro").unwrap(), r#"plan="pro""#);
        assert_eq!(check("age=7").unwrap(), "age=7");
        assert_eq!(check("beta=true").unwrap(), "beta=true");
        assert_eq!(check("expr=a=b").unwrap(), r#"expr="a=b""#);
        assert_eq!(check("none=null").unwrap(), r#"none="null""#);
        assert_eq!(check(r#"{"targetingKey": "u1", "n": 2}"#).unwrap(), r#"n=2 targetingKey="u1""#);
        for wrong in ["plan", "=x", "{", "[1]"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
