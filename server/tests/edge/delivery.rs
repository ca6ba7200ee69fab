//! flagd's protocols over a real socket, asked as flagd's providers ask.

use crate::{
    browser::Browser,
    server::{Server, config, create_flag, trigger, within},
};
use phasegate_api::{
    flagd::{
        evaluation::{self as v2, service_client::ServiceClient as EvaluationClient},
        evaluation_v1::{self as v1, service_client::ServiceClient as EvaluationV1Client},
        sync::{
            FetchAllFlagsRequest, GetMetadataRequest, SyncFlagsRequest, SyncFlagsResponse,
            flag_sync_service_client::FlagSyncServiceClient,
        },
    },
    v1 as api,
};
use phasegate_engine::id::EnvironmentId;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Value as Json, json};
use std::time::Duration;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

/// A server with two environments, `prod` among them, because nothing here names one.
async fn server() -> Server {
    let mut config = config();
    config.delivery.environments = ["dev", "prod"].map(|id| id.parse().unwrap()).to_vec();
    Server::start_with(config).await.with_flag_and_pipeline().await
}

async fn sync(server: &Server) -> FlagSyncServiceClient<Channel> {
    FlagSyncServiceClient::new(server.channel().await)
}

async fn evaluation(server: &Server) -> EvaluationClient<Channel> {
    EvaluationClient::new(server.channel().await)
}

fn selecting<T>(message: T, selector: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    if !selector.is_empty() {
        request.metadata_mut().insert("flagd-selector", selector.parse().unwrap());
    }
    request
}

async fn follow(server: &Server, selector: &str) -> Result<Streaming<SyncFlagsResponse>, Status> {
    let request = SyncFlagsRequest { selector: selector.into(), ..Default::default() };
    Ok(sync(server).await.sync_flags(request).await?.into_inner())
}

async fn next(sets: &mut Streaming<SyncFlagsResponse>) -> Json {
    let message = within(sets.message()).await.unwrap().expect("the stream goes on");
    serde_json::from_str(&message.flag_configuration).unwrap()
}

fn context(pairs: &[(&str, &str)]) -> Option<Struct> {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = pairs.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    Some(Struct { fields })
}

async fn resolve(server: &Server, key: &str) -> Result<v2::ResolveBooleanResponse, Status> {
    let message = v2::ResolveBooleanRequest {
        flag_key: key.into(),
        context: context(&[("targetingKey", "ann")]),
    };
    let request = selecting(message, "flagSetId=prod");
    Ok(evaluation(server).await.resolve_boolean(request).await?.into_inner())
}

/// The reason that programs of ours find in a refusal, beside the code that flagd's providers read.
fn refused(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().expect("all of ours have one").reason.clone())
}

#[tokio::test]
async fn a_set_comes_at_once_and_again_when_a_release_moves_and_an_abort_takes_it_back() {
    let server = server().await;
    let mut sets = follow(&server, "flagSetId=prod").await.unwrap();
    let first = within(sets.message()).await.unwrap().unwrap();
    let environment = &first.sync_context.unwrap().fields["environment"];
    assert_eq!(environment.kind, Some(Kind::StringValue("prod".into())));
    let before: Json = serde_json::from_str(&first.flag_configuration).unwrap();
    assert_eq!(before["flags"]["checkout"]["defaultVariant"], "off");
    assert_eq!(before["metadata"], json!({ "bucketing": "v3", "flagSetId": "prod" }));

    server.trigger("r").await;
    let during = next(&mut sets).await;
    assert_eq!(during["flags"]["checkout"]["metadata"]["release"], "r");
    assert_ne!(during["flags"]["checkout"], before["flags"]["checkout"]);

    server.abort("r").await;
    assert_eq!(next(&mut sets).await, before);
    server.stop().await;
}

#[tokio::test]
async fn what_changes_no_answer_sends_nothing() {
    let server = server().await;
    let mut sets = follow(&server, "prod").await.unwrap();
    next(&mut sets).await;
    let flag = api::Flag {
        name: "flags/checkout".into(),
        description: "Another text.".into(),
        ..Default::default()
    };
    let update = api::UpdateFlagRequest { flag: Some(flag), ..Default::default() };
    server.flags().await.update_flag(update).await.unwrap();
    server.flags().await.create_flag(create_flag("second")).await.unwrap();
    let next = next(&mut sets).await;
    assert_eq!(next["flags"].as_object().unwrap().len(), 2, "the text alone sent nothing");
    server.stop().await;
}

#[tokio::test]
async fn a_killed_flag_is_delivered_as_such_and_revived() {
    let server = server().await;
    server.trigger("r").await;
    let mut sets = follow(&server, "prod").await.unwrap();
    let alive = next(&mut sets).await;
    let kill = |engaged| api::SetKillSwitchRequest {
        name: "flags/checkout".into(),
        engaged: Some(engaged),
        reason: "smoke".into(),
        ..Default::default()
    };
    server.flags().await.set_kill_switch(kill(true)).await.unwrap();
    let killed = next(&mut sets).await;
    let flag = &killed["flags"]["checkout"];
    assert_eq!((&flag["state"], &flag["defaultVariant"]), (&json!("ENABLED"), &json!("off")));
    assert_eq!(flag["metadata"]["killed"], true);
    assert!(flag.get("targeting").is_none());
    let answer = resolve(&server, "checkout").await.unwrap();
    assert_eq!((answer.value, answer.reason.as_str()), (Some(false), "STATIC"));

    server.flags().await.set_kill_switch(kill(false)).await.unwrap();
    assert_eq!(next(&mut sets).await, alive);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_of_sets_ends_with_unavailable_when_the_server_stops() {
    let server = server().await;
    let mut sets = follow(&server, "prod").await.unwrap();
    next(&mut sets).await;
    let mut events = evaluation(&server)
        .await
        .event_stream(v2::EventStreamRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(within(events.message()).await.unwrap().unwrap().r#type, "provider_ready");
    assert_eq!(named(&mut events).await, ["checkout"]);
    let ended = server.ask_to_stop();
    for end in
        [within(sets.message()).await.unwrap_err(), within(events.message()).await.unwrap_err()]
    {
        assert_eq!(refused(&end), (Code::Unavailable, "SERVER_DRAINING".into()));
    }
    within(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_ends_at_its_age_with_unavailable() {
    let mut config = config();
    config.delivery.default_environment = Some("prod".parse().unwrap());
    config.delivery.lifetime = Duration::ZERO;
    let server = Server::start_with(config).await;
    let mut sets = follow(&server, "").await.unwrap();
    let end = loop {
        match within(sets.message()).await {
            Ok(set) => assert!(set.is_some(), "it does not end with OK"),
            Err(end) => break end,
        }
    };
    assert_eq!(refused(&end), (Code::Unavailable, "STREAM_EXPIRED".into()));
    server.stop().await;
}

#[tokio::test]
async fn before_the_store_is_read_there_is_an_error_and_no_empty_set() {
    let (server, go_on) = Server::start_held().await;
    let request = SyncFlagsRequest { selector: "prod".into(), ..Default::default() };
    let mut client = sync(&server).await;
    let end = client.sync_flags(request).await.unwrap_err();
    assert_eq!(refused(&end), (Code::Unavailable, "STORE_READ_ONLY".into()));
    let end = resolve(&server, "checkout").await.unwrap_err();
    assert_eq!(refused(&end), (Code::Unavailable, "STORE_READ_ONLY".into()));
    go_on.send(()).unwrap();
    server.serves().await;
    server.stop().await;
}

#[tokio::test]
async fn a_selector_is_read_from_the_header_first_and_then_from_the_message() {
    let server = server().await;
    let check = async |header: &'static str, selector: &str| -> Result<String, Code> {
        let message = FetchAllFlagsRequest { selector: selector.into(), ..Default::default() };
        let answer = sync(&server).await.fetch_all_flags(selecting(message, header)).await;
        let set = answer.map_err(|status| status.code())?.into_inner().flag_configuration;
        let set: Json = serde_json::from_str(&set).unwrap();
        Ok(set["metadata"]["flagSetId"].as_str().unwrap().to_owned())
    };
    assert_eq!(check("flagSetId=dev", "").await.as_deref(), Ok("dev"));
    assert_eq!(check("", "flagSetId=dev").await.as_deref(), Ok("dev"));
    assert_eq!(check("", "dev").await.as_deref(), Ok("dev"));
    assert_eq!(check("flagSetId=dev", "flagSetId=prod").await.as_deref(), Ok("dev"));
    assert_eq!(check("", "").await, Err(Code::InvalidArgument), "and there is no default");
    assert_eq!(check("source=dev", "prod").await, Err(Code::InvalidArgument));
    assert_eq!(check("", "flagSetId=Dev").await, Err(Code::InvalidArgument));
    assert_eq!(check("", "nowhere").await, Err(Code::NotFound));
    server.stop().await;
}

#[tokio::test]
async fn an_environment_is_one_that_a_flag_a_pipeline_or_a_setting_names() {
    let mut config = config();
    config.delivery.default_environment = Some("edge".parse().unwrap());
    config.delivery.environments = vec![EnvironmentId::parse("set").unwrap()];
    let server = Server::start_with(config).await.with_flag_and_pipeline().await;
    let mut sets = follow(&server, "set").await.unwrap();
    assert!(next(&mut sets).await["flags"]["checkout"].is_object());
    let mut sets = follow(&server, "").await.unwrap();
    assert_eq!(next(&mut sets).await["metadata"]["flagSetId"], "edge");
    let missing = follow(&server, "named").await.unwrap_err();
    assert_eq!(refused(&missing), (Code::NotFound, "RESOURCE_NOT_FOUND".into()));

    let mut flag = create_flag("by-flag");
    let rule = api::gate_spec::Rule {
        targeting: Some(api::TargetingRule {
            id: "here".into(),
            environments: vec!["named".into()],
            ..Default::default()
        }),
        value: true,
    };
    let gate = api::GateSpec { rules: vec![rule], default_value: false };
    flag.flag.as_mut().unwrap().spec = Some(api::flag::Spec::FeatureGate(gate));
    server.flags().await.create_flag(flag).await.unwrap();
    let mut sets = follow(&server, "named").await.unwrap();
    let flags = next(&mut sets).await;
    assert_eq!(flags["flags"]["by-flag"]["defaultVariant"], "on", "it is on there for everyone");
    server.stop().await;
}

#[expect(deprecated, reason = "the method is deprecated in flagd's contract")]
#[tokio::test]
async fn metadata_is_not_served() {
    let server = server().await;
    let end = sync(&server).await.get_metadata(GetMetadataRequest {}).await.unwrap_err();
    assert_eq!(end.code(), Code::Unimplemented);
    server.stop().await;
}

#[tokio::test]
async fn a_flag_is_resolved_by_its_type_alike_in_both_versions() {
    let server = server().await;
    let mut config = create_flag("colours");
    let value = context(&[("button", "blue")]);
    let spec = api::ConfigSpec { default_value: value.clone(), ..Default::default() };
    config.flag.as_mut().unwrap().spec = Some(api::flag::Spec::DynamicConfig(spec));
    server.flags().await.create_flag(config).await.unwrap();
    server.trigger("r").await;
    let (mut new, mut old) =
        (evaluation(&server).await, EvaluationV1Client::new(server.channel().await));
    let at = "flagSetId=prod";

    let asked = v2::ResolveBooleanRequest { flag_key: "checkout".into(), ..Default::default() };
    let answer = new.resolve_boolean(selecting(asked, at)).await.unwrap().into_inner();
    assert_eq!((answer.value, answer.variant.as_deref()), (Some(true), Some("on")));
    let metadata = answer.metadata.unwrap().fields;
    assert_eq!(metadata["release"].kind, Some(Kind::StringValue("r".into())));
    assert_eq!(metadata["flagSetId"].kind, Some(Kind::StringValue("prod".into())));
    let asked = v1::ResolveBooleanRequest { flag_key: "checkout".into(), ..Default::default() };
    let answer = old.resolve_boolean(selecting(asked, at)).await.unwrap().into_inner();
    assert_eq!((answer.value, answer.variant.as_str()), (true, "on"));

    let asked = v2::ResolveObjectRequest { flag_key: "colours".into(), ..Default::default() };
    let answer = new.resolve_object(selecting(asked, at)).await.unwrap().into_inner();
    assert_eq!((answer.value, answer.variant.as_deref()), (value.clone(), Some("default")));
    assert_eq!(answer.reason, "STATIC");
    let asked = v1::ResolveObjectRequest { flag_key: "colours".into(), ..Default::default() };
    let answer = old.resolve_object(selecting(asked, at)).await.unwrap().into_inner();
    assert_eq!((answer.value, answer.reason.as_str()), (value, "STATIC"));

    let asked = v1::ResolveAllRequest { context: None };
    let all = old.resolve_all(selecting(asked, at)).await.unwrap().into_inner();
    assert_eq!(all.flags.keys().collect::<Vec<_>>(), ["checkout", "colours"]);
    assert_eq!(all.flags["checkout"].value, Some(v1::any_flag::Value::BoolValue(true)));
    server.stop().await;
}

#[tokio::test]
async fn another_type_than_the_flag_has_is_a_mismatch_and_no_flag_is_not_found() {
    let server = server().await;
    let at = "flagSetId=prod";
    for (key, code) in [("checkout", Code::InvalidArgument), ("none", Code::NotFound)] {
        let mut client = evaluation(&server).await;
        let flag_key = key.to_owned();
        let asked = v2::ResolveObjectRequest { flag_key: flag_key.clone(), context: None };
        let object = client.resolve_object(selecting(asked, at)).await.unwrap_err();
        let asked = v2::ResolveStringRequest { flag_key: flag_key.clone(), context: None };
        let string = client.resolve_string(selecting(asked, at)).await.unwrap_err();
        let asked = v2::ResolveFloatRequest { flag_key: flag_key.clone(), context: None };
        let float = client.resolve_float(selecting(asked, at)).await.unwrap_err();
        let asked = v2::ResolveIntRequest { flag_key, context: None };
        let int = client.resolve_int(selecting(asked, at)).await.unwrap_err();
        for status in [object, string, float, int] {
            assert_eq!(status.code(), code, "{key}: {status:?}");
        }
    }
    for key in ["", "no id", "a/b", "../x", "<script>", &"x".repeat(100_000)] {
        let status = resolve(&server, key).await.unwrap_err();
        assert_eq!(refused(&status), (Code::NotFound, "RESOURCE_NOT_FOUND".into()), "{key:.20}");
        assert!(status.details().len() < 4096);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_context_that_is_too_large_or_too_deep_is_refused_and_nulls_are_not() {
    let server = server().await;
    let check = async |context: Option<Struct>| -> Code {
        let asked = v2::ResolveBooleanRequest { flag_key: "checkout".into(), context };
        let answer =
            evaluation(&server).await.resolve_boolean(selecting(asked, "flagSetId=prod")).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    let of = |kind| {
        Some(Struct { fields: [("targetingKey".to_owned(), Value { kind: Some(kind) })].into() })
    };
    assert_eq!(check(None).await, Code::Ok);
    assert_eq!(check(of(Kind::NullValue(0))).await, Code::Ok);
    assert_eq!(check(context(&[("text", &"x".repeat(60_000))])).await, Code::Ok);
    assert_eq!(check(context(&[("text", &"x".repeat(70_000))])).await, Code::InvalidArgument);
    assert_eq!(check(of(Kind::NumberValue(f64::NAN))).await, Code::InvalidArgument);
    let mut deep = Kind::NullValue(0);
    for _ in 0..70 {
        deep = Kind::ListValue(ListValue { values: vec![Value { kind: Some(deep) }] });
    }
    assert_ne!(check(of(deep)).await, Code::Ok, "the parser or we stop it");
    let huge = check(context(&[("text", &"x".repeat(1 << 20))])).await;
    assert!(matches!(huge, Code::OutOfRange | Code::ResourceExhausted), "{huge:?}");
    server.stop().await;
}

#[tokio::test]
async fn events_name_every_flag_at_first_and_then_those_that_changed_and_no_other() {
    let server = server().await;
    server.flags().await.create_flag(create_flag("other")).await.unwrap();
    // Without a selector, as some providers open it: those of any environment.
    for selector in ["flagSetId=prod", ""] {
        let request = selecting(v2::EventStreamRequest {}, selector);
        let mut client = evaluation(&server).await;
        let mut events = client.event_stream(request).await.unwrap().into_inner();
        let ready = within(events.message()).await.unwrap().unwrap();
        assert_eq!((ready.r#type.as_str(), ready.data), ("provider_ready", None));
        assert_eq!(named(&mut events).await, ["checkout", "other"]);
        let id = if selector.is_empty() { "r-any" } else { "r-one" };
        server.trigger(id).await;
        assert_eq!(named(&mut events).await, ["checkout"]);
        server.abort(id).await;
        assert_eq!(named(&mut events).await, ["checkout"]);
    }
    server.stop().await;
}

/// The flags that the next event names.
async fn named(events: &mut Streaming<v2::EventStreamResponse>) -> Vec<String> {
    let event = within(events.message()).await.unwrap().unwrap();
    assert_eq!(event.r#type, "configuration_change");
    let data = event.data.unwrap();
    let Some(Kind::StructValue(flags)) = &data.fields["flags"].kind else { panic!("{data:?}") };
    flags.fields.keys().cloned().collect()
}

#[tokio::test]
async fn only_so_many_streams_are_open_at_a_time() {
    let mut config = config();
    config.delivery.default_environment = Some("prod".parse().unwrap());
    config.delivery.streams = 2;
    let server = Server::start_with(config).await;
    let first = follow(&server, "").await.unwrap();
    let _second = follow(&server, "").await.unwrap();
    let third = follow(&server, "").await.unwrap_err();
    assert_eq!(refused(&third), (Code::ResourceExhausted, "TOO_MANY_WATCHES".into()));
    drop(first);
    // The server learns of it in its own time.
    let again = async {
        while let Err(status) = follow(&server, "").await {
            assert_eq!(status.code(), Code::ResourceExhausted);
        }
    };
    within(again).await;
    server.stop().await;
}

#[tokio::test]
async fn the_page_says_who_follows_and_what_they_were_sent() {
    let server = server().await;
    let page = async || Browser::new(&server).get("/flags").await.text();
    assert!(page().await.contains("None follows flags by itself."));
    let mut first = follow(&server, "prod").await.unwrap();
    let mut second = follow(&server, "prod").await.unwrap();
    next(&mut first).await;
    next(&mut second).await;
    let text = page().await;
    assert!(text.contains("prod2revision") && text.contains("all"), "{text}");
    assert!(text.contains("bucketed by generation v3"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let hostile = [
        r#""}},"$evaluators":{"x":true},"flags":{"#,
        r#"{"$ref":"x"}"#,
        r#"{"var":"targetingKey"}"#,
        "</script><script>alert(1)</script>",
        "\u{0}\u{7}\u{7f}\u{2028}\u{feff}\\\"'`",
        "${x} %s {{x}} \r\n\r\n",
    ];
    let server = server().await;
    let condition = api::Condition {
        attribute: "\"}]}<img src=x>".into(),
        operator: api::ConditionOperator::In.into(),
        values: hostile.map(str::to_owned).to_vec(),
    };
    let rule = api::config_spec::Rule {
        targeting: Some(api::TargetingRule {
            id: "r".into(),
            conditions: vec![condition],
            ..Default::default()
        }),
        value: context(&[("matched", "yes")]),
    };
    let value = context(&hostile.map(|text| (text, text)));
    let spec = api::ConfigSpec { rules: vec![rule], default_value: value };
    let mut flag = create_flag("hostile");
    flag.flag.as_mut().unwrap().spec = Some(api::flag::Spec::DynamicConfig(spec));
    server.flags().await.create_flag(flag).await.unwrap();

    let expected: Json = hostile.into_iter().map(|text| (text.to_owned(), json!(text))).collect();
    let mut sets = follow(&server, "prod").await.unwrap();
    let set = next(&mut sets).await;
    assert_eq!(set["flags"]["hostile"]["variants"]["default"], expected);
    let keys: Vec<&String> = set.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["flags", "metadata"], "nothing broke out of its place");
    let path = "/environments/prod/ofrep/v1/evaluate/flags/hostile";
    let answer = Browser::new(&server).send(&format!("POST {path}"), "", "{}").await;
    let answer: Json = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["value"], expected);
    server.stop().await;
}

/// A config whose one rule and default have this many bytes each, nearly.
fn large(bytes: usize) -> api::ConfigSpec {
    let value = context(&[("text", &"x".repeat(bytes))]);
    let rule = |n: usize| api::config_spec::Rule {
        targeting: Some(api::TargetingRule {
            id: format!("rule-{n}"),
            rollout_basis_points: Some(100),
            ..Default::default()
        }),
        value: value.clone(),
    };
    api::ConfigSpec { rules: (0..7).map(rule).collect(), default_value: value.clone() }
}

#[tokio::test]
async fn what_would_not_fit_into_a_message_is_refused_when_it_is_triggered() {
    let server = server().await;
    let mut small = create_flag("large");
    let spec = api::ConfigSpec { default_value: context(&[]), ..Default::default() };
    small.flag.as_mut().unwrap().spec = Some(api::flag::Spec::DynamicConfig(spec));
    server.flags().await.create_flag(small).await.unwrap();
    let spec = large(63 << 10);
    for n in 0..8 {
        let mut flag = create_flag(&format!("large-{n}"));
        flag.flag.as_mut().unwrap().spec = Some(api::flag::Spec::DynamicConfig(spec.clone()));
        let created = server.flags().await.create_flag(flag).await;
        assert_eq!(created.is_ok(), n < 7, "eight times 512 KiB do not fit into 4 MiB");
    }
    let mut request = trigger("too-large");
    let release = request.release.as_mut().unwrap();
    release.flag = "flags/large".into();
    release.change = Some(api::release::Change::DynamicConfig(spec));
    for validate_only in [true, false] {
        let request = api::TriggerReleaseRequest { validate_only, ..request.clone() };
        let status = server.releases().await.trigger_release(request).await.unwrap_err();
        assert_eq!(refused(&status), (Code::ResourceExhausted, "FLAG_SET_TOO_LARGE".into()));
    }
    // What is there is delivered as it was, and all else goes on.
    server.trigger("r").await;
    let mut sets = follow(&server, "prod").await.unwrap();
    let set = within(sets.message()).await.unwrap().unwrap().flag_configuration;
    assert!(set.len() > (3 << 20) && set.len() < (4 << 20), "{}", set.len());
    server.abort("r").await;
    server.stop().await;
}
