//! The runner of this client for the suite that all clients pass: see `sdk/conformance`.
//!
//! It does what it is told on stdin, with the client, and says on stdout what came of it. It decides
//! nothing and compares nothing.

use phasegate_client::{
    AuditUpdate, Client, Code, Error, Position, ReleaseUpdate, ReleasesUpdate, Retry, Watch,
    rehearsal, v1,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    error::Error as StdError,
    io::Write as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(phasegate_api::DESCRIPTORS).expect("it was compiled into the program")
});

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let runner = Arc::new(Runner::default());
    let mut commands = lines();
    let (say, mut said) = mpsc::channel::<Value>(16);
    let talk = tokio::spawn(async move {
        while let Some(answer) = said.recv().await {
            // A line is short, and the other end reads all the time.
            let mut out = std::io::stdout().lock();
            writeln!(out, "{answer}")?;
            out.flush()?;
        }
        std::io::Result::Ok(())
    });
    while let Some(line) = commands.recv().await {
        let command: Value = serde_json::from_str(&line?)?;
        let (runner, say) = (Arc::clone(&runner), say.clone());
        tokio::spawn(async move {
            let answer = match runner.run(&command).await {
                Ok(ok) => json!({ "id": command["id"], "ok": ok }),
                Err(error) => json!({ "id": command["id"], "error": error }),
            };
            // Nobody listens only when everything is over.
            let _ = say.send(answer).await;
        });
    }
    // What is still waited for is of no interest to anybody any more.
    talk.abort();
    Ok(())
}

/// The lines of stdin, read by a thread of their own.
fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (tell, told) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// The clients and watches that were opened, by their names.
#[derive(Default)]
struct Runner {
    clients: Mutex<HashMap<String, Client>>,
    watches: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Watching>>>>,
}

enum Watching {
    Release(Watch<ReleaseUpdate>),
    Releases(Watch<ReleasesUpdate>),
    Audit(Watch<AuditUpdate>),
}

impl Runner {
    async fn run(&self, command: &Value) -> Result<Value, Value> {
        match text(command, "do") {
            "info" => Ok(json!({ "client": "rust" })),
            "open" => {
                let client = connect(command).lazy().map_err(told)?;
                self.clients
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(text(command, "client").to_owned(), client);
                Ok(json!({}))
            }
            "call" => {
                let client = self.client(command)?;
                call(&client, text(command, "method"), &command["request"]).await
            }
            "watch" => {
                let watching = watch(&self.client(command)?, command)?;
                let watching = Arc::new(tokio::sync::Mutex::new(watching));
                let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
                watches.insert(text(command, "watch").to_owned(), watching);
                Ok(json!({}))
            }
            "next" => {
                let watching = self.watching(text(command, "watch"))?;
                watching.lock().await.next().await
            }
            "stop" => {
                let name = text(command, "watch");
                let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
                watches.remove(name).ok_or_else(|| unknown("watch", name))?;
                Ok(json!({}))
            }
            "close" => {
                let name = text(command, "client");
                let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                clients.remove(name).ok_or_else(|| unknown("client", name))?;
                Ok(json!({}))
            }
            other => Err(unknown("command", other)),
        }
    }

    fn watching(&self, name: &str) -> Result<Arc<tokio::sync::Mutex<Watching>>, Value> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.get(name).cloned().ok_or_else(|| unknown("watch", name))
    }

    fn client(&self, command: &Value) -> Result<Client, Value> {
        let name = text(command, "client");
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(name).cloned().ok_or_else(|| unknown("client", name))
    }
}

fn text<'a>(command: &'a Value, member: &str) -> &'a str {
    command[member].as_str().unwrap_or_default()
}

fn unknown(what: &str, name: &str) -> Value {
    json!({ "code": "RUNNER", "message": format!("there is no {what} {name:?}") })
}

fn senseless(error: impl std::fmt::Display) -> Value {
    json!({ "code": "RUNNER", "message": error.to_string() })
}

fn connect(command: &Value) -> phasegate_client::Connect {
    let member = |name| command[name].as_str();
    let millis = |value: &Value| value.as_u64().map(Duration::from_millis);
    let mut connect = Client::connect(text(command, "address"));
    if let Some(principal) = member("principal") {
        connect = connect.principal(principal);
    }
    if let Some(groups) = command["groups"].as_array() {
        connect = connect.groups(groups.iter().filter_map(Value::as_str));
    }
    if let Some(token) = member("token") {
        connect = connect.token(token);
    }
    if let Some(file) = member("tokenFile") {
        connect = connect.token_file(file);
    }
    if let Some(file) = member("ca") {
        connect = connect.ca_file(file);
    }
    if let (Some(certificate), Some(key)) = (member("certificate"), member("key")) {
        connect = connect.certificate_files(certificate, key);
    }
    if let Some(timeout) = millis(&command["timeoutMs"]) {
        connect = connect.timeout(timeout);
    }
    if let Some(silence) = millis(&command["silenceMs"]) {
        connect = connect.silence(silence);
    }
    let told = &command["retry"];
    let usual = Retry::default();
    connect.retry(Retry {
        attempts: told["attempts"]
            .as_u64()
            .and_then(|n| n.try_into().ok())
            .unwrap_or(usual.attempts),
        first: millis(&told["firstMs"]).unwrap_or(usual.first),
        longest: millis(&told["longestMs"]).unwrap_or(usual.longest),
    })
}

/// A request out of its JSON.
fn request<M: Message + Default>(message: &str, json: &Value) -> Result<M, Value> {
    let descriptor =
        POOL.get_message_by_name(message).ok_or_else(|| unknown("message", message))?;
    let dynamic = DynamicMessage::deserialize(descriptor, json).map_err(senseless)?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(senseless)
}

/// A message as JSON.
fn json_of(message: &str, value: &impl Message) -> Result<Value, Value> {
    let descriptor =
        POOL.get_message_by_name(message).ok_or_else(|| unknown("message", message))?;
    let dynamic =
        DynamicMessage::decode(descriptor, value.encode_to_vec().as_slice()).map_err(senseless)?;
    serde_json::to_value(dynamic).map_err(senseless)
}

macro_rules! calls {
    ($client:ident, $method:ident, $json:ident:
        $($name:literal($($package:ident)::+.$request:ident) -> $answer:literal: |$r:ident| $call:expr;)*
    ) => {
        match $method {
            $($name => {
                let full = concat!("phasegate.", stringify!($($package).+), ".", stringify!($request));
                let $r: $($package)::+::$request = request(&full.replace("rehearsal.", "rehearsal.v1."), $json)?;
                let answer = $call.await.map_err(told)?;
                json_of($answer, &answer)
            })*
            other => Err(unknown("method", other)),
        }
    };
}

async fn call(client: &Client, method: &str, json: &Value) -> Result<Value, Value> {
    match method {
        // These give nothing.
        "DeleteFlag" => {
            let request = request("phasegate.v1.DeleteFlagRequest", json)?;
            return client.delete_flag(request).await.map(|()| json!({})).map_err(told);
        }
        "DeletePipeline" => {
            let request = request("phasegate.v1.DeletePipelineRequest", json)?;
            return client.delete_pipeline(request).await.map(|()| json!({})).map_err(told);
        }
        // And these a bare instant.
        "ClockNow" => return client.clock_now().await.map_err(told).and_then(|now| instant(&now)),
        "AdvanceClock" => {
            let request: rehearsal::AdvanceRequest =
                request("phasegate.rehearsal.v1.AdvanceRequest", json)?;
            let by = request.duration.unwrap_or_default();
            let by = Duration::try_from(by).map_err(senseless)?;
            return client.advance_clock(by).await.map_err(told).and_then(|now| instant(&now));
        }
        _ => {}
    }
    calls! { client, method, json:
        "CreateFlag"(v1.CreateFlagRequest) -> "phasegate.v1.Flag": |r| client.create_flag(r);
        "GetFlag"(v1.GetFlagRequest) -> "phasegate.v1.Flag": |r| client.get_flag(r.name);
        "ListFlags"(v1.ListFlagsRequest) -> "phasegate.v1.ListFlagsResponse": |r| client.list_flags(r);
        "UpdateFlag"(v1.UpdateFlagRequest) -> "phasegate.v1.Flag": |r| client.update_flag(r);
        "SetKillSwitch"(v1.SetKillSwitchRequest) -> "phasegate.v1.Flag": |r| client.set_kill_switch(r);
        "EvaluateFlag"(v1.EvaluateFlagRequest) -> "phasegate.v1.EvaluateFlagResponse": |r| client.evaluate_flag(r);
        "CreatePipeline"(v1.CreatePipelineRequest) -> "phasegate.v1.Pipeline": |r| client.create_pipeline(r);
        "GetPipeline"(v1.GetPipelineRequest) -> "phasegate.v1.Pipeline": |r| client.get_pipeline(r.name);
        "ListPipelines"(v1.ListPipelinesRequest) -> "phasegate.v1.ListPipelinesResponse": |r| client.list_pipelines(r);
        "UpdatePipeline"(v1.UpdatePipelineRequest) -> "phasegate.v1.Pipeline": |r| client.update_pipeline(r);
        "TriggerRelease"(v1.TriggerReleaseRequest) -> "phasegate.v1.Release": |r| client.trigger_release(r);
        "PlanRelease"(v1.TriggerReleaseRequest) -> "phasegate.v1.TriggerReleaseResponse": |r| client.plan_release(r);
        "GetRelease"(v1.GetReleaseRequest) -> "phasegate.v1.Release": |r| client.get_release(r.name);
        "ListReleases"(v1.ListReleasesRequest) -> "phasegate.v1.ListReleasesResponse": |r| client.list_releases(r);
        "ApprovePhase"(v1.ApprovePhaseRequest) -> "phasegate.v1.Release": |r| client.approve_phase(r);
        "RejectPhase"(v1.RejectPhaseRequest) -> "phasegate.v1.Release": |r| client.reject_phase(r);
        "PauseRelease"(v1.PauseReleaseRequest) -> "phasegate.v1.Release": |r| client.pause_release(r);
        "UnpauseRelease"(v1.UnpauseReleaseRequest) -> "phasegate.v1.Release": |r| client.unpause_release(r);
        "SkipPhase"(v1.SkipPhaseRequest) -> "phasegate.v1.Release": |r| client.skip_phase(r);
        "OverrideWindow"(v1.OverrideWindowRequest) -> "phasegate.v1.Release": |r| client.override_window(r);
        "AdjustBake"(v1.AdjustBakeRequest) -> "phasegate.v1.Release": |r| client.adjust_bake(r);
        "AbortRelease"(v1.AbortReleaseRequest) -> "phasegate.v1.Release": |r| client.abort_release(r);
        "FullRollout"(v1.FullRolloutRequest) -> "phasegate.v1.Release": |r| client.full_rollout(r);
        "ReportGuardSignal"(v1.ReportGuardSignalRequest) -> "phasegate.v1.Release": |r| client.report_guard_signal(r);
        "WaitRelease"(v1.WaitReleaseRequest) -> "phasegate.v1.WaitReleaseResponse": |r| client.wait_release(r);
        "ListReleaseEvents"(v1.ListReleaseEventsRequest) -> "phasegate.v1.ListReleaseEventsResponse": |r| client.list_release_events(r);
        "GetIdentity"(v1.GetIdentityRequest) -> "phasegate.v1.GetIdentityResponse": |_r| client.identity();
        "ListAuditEntries"(v1.ListAuditEntriesRequest) -> "phasegate.v1.ListAuditEntriesResponse": |r| client.list_audit_entries(r);
        "GetAuditHead"(v1.GetAuditHeadRequest) -> "phasegate.v1.GetAuditHeadResponse": |_r| client.get_audit_head();
        "ListSinks"(v1.ListSinksRequest) -> "phasegate.v1.ListSinksResponse": |_r| client.list_sinks();
        "ListDeadLetters"(v1.ListDeadLettersRequest) -> "phasegate.v1.ListDeadLettersResponse": |r| client.list_dead_letters(r);
        "ReplayDeadLetters"(v1.ReplayDeadLettersRequest) -> "phasegate.v1.ReplayDeadLettersResponse": |r| client.replay_dead_letters(r);
        "SendTestNotification"(v1.SendTestNotificationRequest) -> "phasegate.v1.SendTestNotificationResponse": |r| client.send_test_notification(r.sink);
    }
}

fn instant(now: &prost_types::Timestamp) -> Result<Value, Value> {
    let response = rehearsal::GetResponse { now: Some(*now) };
    json_of("phasegate.rehearsal.v1.GetResponse", &response)
}

/// An error of the client, as the suite has it.
fn told(error: Error) -> Value {
    let fields: Vec<_> =
        error.violations.iter().map(|violation| violation.field.as_str()).collect();
    json!({
        "code": code(error.code),
        "reason": error.reason.name().unwrap_or_default(),
        "message": error.message,
        "metadata": error.metadata,
        "fields": fields,
    })
}

fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn watch(client: &Client, command: &Value) -> Result<Watching, Value> {
    let from = &command["from"];
    let revision = from["revision"].as_str().unwrap_or("0").parse().map_err(senseless)?;
    let from = Position { revision, store_id: text(from, "storeId").to_owned() };
    match text(command, "kind") {
        "release" => Ok(Watching::Release(client.resume_release(text(command, "name"), from))),
        "releases" => {
            let filter =
                command.get("filter").map(|filter| request("phasegate.v1.ReleaseFilter", filter));
            let filter = filter.transpose()?.unwrap_or_default();
            Ok(Watching::Releases(client.resume_releases(filter, from)))
        }
        "audit" => Ok(Watching::Audit(client.watch_audit_entries(from))),
        other => Err(unknown("kind of watch", other)),
    }
}

impl Watching {
    async fn next(&mut self) -> Result<Value, Value> {
        let update = match self {
            Self::Release(watch) => {
                watch.next().await.map(|update| of_release(update.map_err(told)?))
            }
            Self::Releases(watch) => {
                watch.next().await.map(|update| of_many(update.map_err(told)?))
            }
            Self::Audit(watch) => watch.next().await.map(|update| of_audit(update.map_err(told)?)),
        };
        update.unwrap_or_else(|| Ok(json!({ "end": true })))
    }
}

fn of_release(update: ReleaseUpdate) -> Result<Value, Value> {
    const RELEASE: &str = "phasegate.v1.Release";
    match update {
        ReleaseUpdate::Snapshot { release, position, server_time } => update_of(
            "snapshot",
            [
                ("release", json_of(RELEASE, &*release)?),
                ("position", position_of(&position)),
                ("serverTime", time_of(server_time)?),
            ],
        ),
        ReleaseUpdate::Change { release, events, position, server_time } => update_of(
            "change",
            [
                ("release", json_of(RELEASE, &*release)?),
                ("events", list("phasegate.v1.ReleaseEvent", &events)?),
                ("position", position_of(&position)),
                ("serverTime", time_of(server_time)?),
            ],
        ),
        ReleaseUpdate::Bookmark { position, .. } => {
            update_of("bookmark", [("position", position_of(&position))])
        }
        ReleaseUpdate::Interrupted(error) => update_of("interrupted", [("error", told(error))]),
        ReleaseUpdate::Resumed => update_of("resumed", []),
        ReleaseUpdate::Restarted(error) => update_of("restarted", [("error", told(error))]),
        other => Err(senseless(format!("{other:?} is an update that this runner does not know"))),
    }
}

fn of_many(update: ReleasesUpdate) -> Result<Value, Value> {
    match update {
        ReleasesUpdate::Snapshot { releases, position, server_time } => update_of(
            "snapshot",
            [
                ("releases", list("phasegate.v1.Release", &releases)?),
                ("position", position_of(&position)),
                ("serverTime", time_of(server_time)?),
            ],
        ),
        ReleasesUpdate::Changes { changes, position, server_time } => update_of(
            "changes",
            [
                ("changes", list("phasegate.v1.ReleaseChange", &changes)?),
                ("position", position_of(&position)),
                ("serverTime", time_of(server_time)?),
            ],
        ),
        ReleasesUpdate::Bookmark { position, .. } => {
            update_of("bookmark", [("position", position_of(&position))])
        }
        ReleasesUpdate::Interrupted(error) => update_of("interrupted", [("error", told(error))]),
        ReleasesUpdate::Resumed => update_of("resumed", []),
        ReleasesUpdate::Restarted(error) => update_of("restarted", [("error", told(error))]),
        other => Err(senseless(format!("{other:?} is an update that this runner does not know"))),
    }
}

fn of_audit(update: AuditUpdate) -> Result<Value, Value> {
    match update {
        AuditUpdate::Entry { entry, position } => update_of(
            "entry",
            [
                ("entry", json_of("phasegate.v1.AuditEntry", &*entry)?),
                ("position", position_of(&position)),
            ],
        ),
        AuditUpdate::Bookmark(position) => {
            update_of("bookmark", [("position", position_of(&position))])
        }
        AuditUpdate::Interrupted(error) => update_of("interrupted", [("error", told(error))]),
        AuditUpdate::Resumed => update_of("resumed", []),
        AuditUpdate::Restarted(error) => update_of("restarted", [("error", told(error))]),
        other => Err(senseless(format!("{other:?} is an update that this runner does not know"))),
    }
}

fn update_of<const N: usize>(kind: &str, members: [(&str, Value); N]) -> Result<Value, Value> {
    let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut update: Map<String, Value> = members.filter(|(_, value)| !value.is_null()).collect();
    update.insert("type".to_owned(), kind.into());
    Ok(update.into())
}

fn list(message: &str, values: &[impl Message]) -> Result<Value, Value> {
    values.iter().map(|value| json_of(message, value)).collect()
}

fn position_of(position: &Position) -> Value {
    json!({ "revision": position.revision.to_string(), "storeId": position.store_id })
}

fn time_of(time: Option<prost_types::Timestamp>) -> Result<Value, Value> {
    time.map_or(Ok(Value::Null), |time| json_of("google.protobuf.Timestamp", &time))
}
