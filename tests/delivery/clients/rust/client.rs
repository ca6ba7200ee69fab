//! An application in Rust: `client in-process|rpc`. It reads what to evaluate from stdin, a line of
//! JSON for each request, and says what its provider answers; see `clients/README.md`.

use open_feature::{
    EvaluationContext, EvaluationContextFieldValue, EvaluationError, FlagMetadataValue,
    StructValue, Value,
    provider::{FeatureProvider as _, ResolutionDetails},
};
use open_feature_flagd::{FlagdOptions, FlagdProvider, ResolverType};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, error::Error};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let kind = std::env::args().nth(1).unwrap_or_default();
    let port: u16 = std::env::var("PHASEGATE_PORT")?.parse()?;
    let mut providers = BTreeMap::new();
    for environment in std::env::var("ENVIRONMENTS")?.split_whitespace() {
        providers.insert(environment.to_owned(), provider(&kind, port, environment).await?);
        println!("{}", json!({ "event": "ready", "environment": environment }));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let request: Json = serde_json::from_str(&line)?;
        let provider = &providers[request["environment"].as_str().ok_or("no environment")?];
        let mut answers = Vec::new();
        for asked in request["evaluate"].as_array().ok_or("nothing to evaluate")? {
            answers.push(evaluate(provider, asked).await);
        }
        println!("{}", json!({ "id": request["id"], "answers": answers }));
    }
    Ok(())
}

async fn provider(
    kind: &str,
    port: u16,
    environment: &str,
) -> Result<FlagdProvider, Box<dyn Error>> {
    let resolver_type = match kind {
        "in-process" => ResolverType::InProcess,
        "rpc" => ResolverType::Rpc,
        _ => return Err(format!("client in-process|rpc, not {kind:?}").into()),
    };
    Ok(FlagdProvider::new(FlagdOptions {
        host: "127.0.0.1".to_owned(),
        port,
        resolver_type,
        selector: Some(format!("flagSetId={environment}")),
        cache_settings: None,
        deadline_ms: 5000,
        ..FlagdOptions::default()
    })
    .await?)
}

async fn evaluate(provider: &FlagdProvider, asked: &Json) -> Json {
    let flag = asked["flag"].as_str().unwrap_or_default();
    let context = context(&asked["context"]);
    match asked["type"].as_str() {
        Some("boolean") => {
            answer(provider.resolve_bool_value(flag, &context).await, &asked["default"], Json::Bool)
        }
        _ => {
            answer(provider.resolve_struct_value(flag, &context).await, &asked["default"], members)
        }
    }
}

fn answer<T>(
    result: Result<ResolutionDetails<T>, EvaluationError>,
    default: &Json,
    to_json: impl Fn(T) -> Json,
) -> Json {
    match result {
        Ok(details) => json!({
            "value": to_json(details.value),
            "variant": details.variant,
            "reason": details.reason.map(|reason| reason.to_string()),
            "flagMetadata": details.flag_metadata.unwrap_or_default().values.into_iter()
                .map(|(key, value)| (key, metadata(value))).collect::<serde_json::Map<_, _>>(),
        }),
        Err(error) => json!({
            "value": default,
            "reason": "ERROR",
            "errorCode": error.code.to_string(),
            "errorMessage": error.message,
        }),
    }
}

fn metadata(value: FlagMetadataValue) -> Json {
    match value {
        FlagMetadataValue::Bool(truth) => truth.into(),
        FlagMetadataValue::Int(number) => number.into(),
        FlagMetadataValue::Float(number) => number.into(),
        FlagMetadataValue::String(text) => text.into(),
    }
}

fn context(members: &Json) -> EvaluationContext {
    let mut context = EvaluationContext::default();
    for (key, value) in members.as_object().into_iter().flatten() {
        let value = match value {
            Json::String(text) if key == "targetingKey" => {
                context.targeting_key = Some(text.clone());
                continue;
            }
            Json::String(text) => EvaluationContextFieldValue::String(text.clone()),
            Json::Bool(truth) => EvaluationContextFieldValue::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(number) => EvaluationContextFieldValue::Int(number),
                None => EvaluationContextFieldValue::Float(number.as_f64().unwrap_or_default()),
            },
            Json::Array(_) | Json::Object(_) | Json::Null => {
                EvaluationContextFieldValue::new_struct(value_of(value))
            }
        };
        context.add_custom_field(key, value);
    }
    context
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Struct(StructValue::default()),
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(value_of).collect()),
        Json::Object(members) => Value::Struct(StructValue {
            fields: members.iter().map(|(key, value)| (key.clone(), value_of(value))).collect(),
        }),
    }
}

fn members(value: StructValue) -> Json {
    json_of(Value::Struct(value))
}

fn json_of(value: Value) -> Json {
    match value {
        Value::Bool(truth) => truth.into(),
        Value::Int(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::String(text) => text.into(),
        Value::Array(items) => items.into_iter().map(json_of).collect(),
        Value::Struct(value) => {
            value.fields.into_iter().map(|(key, value)| (key, json_of(value))).collect()
        }
    }
}
