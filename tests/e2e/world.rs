//! A flag, a pipeline, and short ways to say what a test does with them.

use harness::{Clients, TestServer, message};
use phasegate_api::v1;
use serde_json::{Value, json};

/// The flag of most tests: off for everyone.
pub(crate) const FLAG: &str = "flags/checkout";
/// Its pipeline: canary bakes 60 s, staff needs an approval, everyone bakes 30 s.
pub(crate) const PIPELINE: &str = "pipelines/web";
/// The release of most tests: on for everyone.
pub(crate) const RELEASE: &str = "releases/on";

pub(crate) fn pipeline() -> Value {
    json!({
        "phases": [
            {
                "id": "canary",
                "rules": [{ "id": "beta", "environments": ["prod"], "conditions": [
                    { "attribute": "tier", "operator": "CONDITION_OPERATOR_IN", "values": ["beta"] }
                ]}],
                "bakeDuration": "60s",
                "guards": [{ "id": "errors", "onFail": "GUARD_ACTION_PAUSE" }]
            },
            {
                "id": "staff",
                "rules": [{ "id": "staff", "environments": ["prod"], "conditions": [
                    { "attribute": "staff", "operator": "CONDITION_OPERATOR_IN", "values": ["true"] }
                ]}],
                "bakeDuration": "60s",
                "approval": { "minApprovals": 1, "expiry": "3600s" }
            },
            { "id": "everyone", "rules": [{ "id": "all" }], "bakeDuration": "30s" }
        ],
        "exemptEnvironments": ["dev"],
        "triggerNotice": "Tell the people on call."
    })
}

/// A server with the flag and its pipeline.
pub(crate) async fn server() -> TestServer {
    let server = TestServer::in_memory().await;
    set_up(&server).await;
    server
}

pub(crate) async fn set_up(server: &TestServer) {
    let mut ann = server.by("ann");
    create_pipeline(&mut ann, "web", pipeline()).await;
    create_flag(&mut ann, "checkout", json!({ "featureGate": {}, "pipeline": PIPELINE })).await;
}

pub(crate) async fn create_pipeline(clients: &mut Clients, id: &str, pipeline: Value) {
    let json = json!({ "pipelineId": id, "pipeline": pipeline });
    let request: v1::CreatePipelineRequest = message("CreatePipelineRequest", json);
    clients.pipelines.create_pipeline(request).await.unwrap();
}

pub(crate) async fn create_flag(clients: &mut Clients, id: &str, flag: Value) {
    let json = json!({ "flagId": id, "flag": flag });
    let request: v1::CreateFlagRequest = message("CreateFlagRequest", json);
    clients.flags.create_flag(request).await.unwrap();
}

/// A trigger of [`RELEASE`], with fields replaced or added.
pub(crate) fn trigger(id: &str, more: Value) -> v1::TriggerReleaseRequest {
    let mut json = json!({
        "releaseId": id,
        "release": { "flag": FLAG, "featureGate": { "defaultValue": true } }
    });
    let (Value::Object(fields), Value::Object(more)) = (&mut json, more) else {
        panic!("both are objects")
    };
    for (name, value) in more {
        match (fields.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => {
                fields.insert(name, value);
            }
        }
    }
    message("TriggerReleaseRequest", json)
}

/// Triggers [`RELEASE`]; it bakes in its first phase then.
pub(crate) async fn start(clients: &mut Clients) -> v1::Release {
    let answer = clients.releases.trigger_release(trigger("on", json!({}))).await.unwrap();
    answer.into_inner().release.unwrap()
}

pub(crate) async fn get(clients: &mut Clients, name: &str) -> v1::Release {
    let request = v1::GetReleaseRequest { name: name.into() };
    clients.releases.get_release(request).await.unwrap().into_inner().release.unwrap()
}

/// What the gate answers in an environment, for a context.
pub(crate) async fn answer(clients: &mut Clients, environment: &str, context: Value) -> bool {
    use prost_types::value::Kind;
    let answer = evaluate(clients, environment, context).await;
    match answer.value.and_then(|value| value.kind) {
        Some(Kind::BoolValue(answer)) => answer,
        other => panic!("a gate answers a boolean, not {other:?}"),
    }
}

pub(crate) async fn evaluate(
    clients: &mut Clients,
    environment: &str,
    context: Value,
) -> v1::EvaluateFlagResponse {
    let json = json!({ "flag": FLAG, "environment": environment, "context": context });
    let request: v1::EvaluateFlagRequest = message("EvaluateFlagRequest", json);
    clients.flags.evaluate_flag(request).await.unwrap().into_inner()
}

/// Who has the change: a beta user in prod, staff in prod, somebody in prod, somebody in dev.
pub(crate) async fn exposure(clients: &mut Clients) -> [bool; 4] {
    [
        answer(clients, "prod", json!({ "targetingKey": "u", "tier": "beta" })).await,
        answer(clients, "prod", json!({ "targetingKey": "u", "staff": true })).await,
        answer(clients, "prod", json!({ "targetingKey": "u" })).await,
        answer(clients, "dev", json!({ "targetingKey": "u" })).await,
    ]
}

/// All events of a release, by [`harness::happened`], with their phase.
pub(crate) async fn log(clients: &mut Clients, name: &str) -> Vec<String> {
    events(clients, name).await.iter().map(line).collect()
}

pub(crate) async fn events(clients: &mut Clients, name: &str) -> Vec<v1::ReleaseEvent> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListReleaseEventsRequest {
            parent: name.into(),
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let page = clients.releases.list_release_events(request).await.unwrap().into_inner();
        all.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// An event in a few words.
pub(crate) fn line(event: &v1::ReleaseEvent) -> String {
    format!("{} {}", harness::happened(event), event.phase_id).trim_end().to_owned()
}

macro_rules! call {
    ($clients:expr, $method:ident, $request:ident { $($field:ident : $value:expr),* $(,)? }) => {
        $clients
            .releases
            .$method(phasegate_api::v1::$request {
                name: crate::world::RELEASE.into(),
                $($field: $value.into(),)*
                ..Default::default()
            })
            .await
            .map(|answer| answer.into_inner().release.unwrap())
    };
}
pub(crate) use call;
