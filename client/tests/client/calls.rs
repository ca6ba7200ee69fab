//! Calls: made under their own name, as somebody, again only if that is safe, and not for ever.

use crate::script::{Reply, Scripted, refused, refused_for};
use phasegate_client::{Client, Code, Error, Reason, Retry, v1};
use std::{collections::BTreeSet, time::Duration};
use tonic::Status;

fn pause() -> v1::PauseReleaseRequest {
    v1::PauseReleaseRequest { name: "releases/r".into(), ..Default::default() }
}

fn paused() -> v1::PauseReleaseResponse {
    v1::PauseReleaseResponse { release: Some(release("releases/r")) }
}

fn release(name: &str) -> v1::Release {
    v1::Release { name: name.into(), ..Default::default() }
}

/// Answers everything with messages that have a resource in field 1.
async fn all_calls(client: &Client) -> Result<(), Error> {
    client.create_flag(Default::default()).await?;
    client.get_flag("flags/f").await?;
    client.list_flags(Default::default()).await?;
    client.update_flag(Default::default()).await?;
    client.delete_flag(Default::default()).await?;
    client.set_kill_switch(Default::default()).await?;
    client.evaluate_flag(Default::default()).await?;
    client.create_pipeline(Default::default()).await?;
    client.get_pipeline("pipelines/p").await?;
    client.list_pipelines(Default::default()).await?;
    client.update_pipeline(Default::default()).await?;
    client.delete_pipeline(Default::default()).await?;
    client.trigger_release(Default::default()).await?;
    client.plan_release(Default::default()).await?;
    client.plan_create_flag(Default::default()).await?;
    client.plan_update_flag(Default::default()).await?;
    client.plan_create_pipeline(Default::default()).await?;
    client.plan_update_pipeline(Default::default()).await?;
    client.get_release("releases/r").await?;
    client.list_releases(Default::default()).await?;
    client.approve_phase(Default::default()).await?;
    client.reject_phase(Default::default()).await?;
    client.pause_release(Default::default()).await?;
    client.unpause_release(Default::default()).await?;
    client.skip_phase(Default::default()).await?;
    client.override_window(Default::default()).await?;
    client.adjust_bake(Default::default()).await?;
    client.abort_release(Default::default()).await?;
    client.full_rollout(Default::default()).await?;
    client.report_guard_signal(Default::default()).await?;
    client.wait_release(Default::default()).await?;
    client.list_release_events(Default::default()).await?;
    client.advance_clock(Duration::from_secs(5)).await?;
    client.clock_now().await?;
    Ok(())
}

const ALL: [&str; 34] = [
    "create_flag",
    "get_flag",
    "list_flags",
    "update_flag",
    "delete_flag",
    "set_kill_switch",
    "evaluate_flag",
    "create_pipeline",
    "get_pipeline",
    "list_pipelines",
    "update_pipeline",
    "delete_pipeline",
    "trigger_release",
    "trigger_release",
    "create_flag",
    "update_flag",
    "create_pipeline",
    "update_pipeline",
    "get_release",
    "list_releases",
    "approve_phase",
    "reject_phase",
    "pause_release",
    "unpause_release",
    "skip_phase",
    "override_window",
    "adjust_bake",
    "abort_release",
    "full_rollout",
    "report_guard_signal",
    "wait_release",
    "list_release_events",
    "advance",
    "get",
];
/// Those of them that change nothing, or cannot carry an id.
const WITHOUT_ID: [&str; 11] = [
    "get_flag",
    "list_flags",
    "evaluate_flag",
    "get_pipeline",
    "list_pipelines",
    "get_release",
    "list_releases",
    "wait_release",
    "list_release_events",
    "advance",
    "get",
];

#[tokio::test]
async fn every_call_reaches_its_rpc_as_the_caller_and_with_a_fresh_request_id() {
    let server = Scripted::start().await;
    // Field 1, an empty message: every answer's resource, and an empty string where there is none.
    for _ in ALL {
        server.reply(Reply::Answer(vec![0x0a, 0x00]));
    }
    let client = server.connect().principal("ann").groups(["sre", "ops"]).await.unwrap();
    all_calls(&client).await.unwrap();

    let calls = server.calls();
    assert_eq!(calls.iter().map(|call| call.rpc).collect::<Vec<_>>(), ALL);
    let mut ids = BTreeSet::new();
    for call in &calls {
        assert_eq!(call.principal.as_deref(), Some("ann"), "{}", call.rpc);
        assert_eq!(call.groups.as_deref(), Some("sre,ops"), "{}", call.rpc);
        assert!(call.timeout.is_some(), "{}", call.rpc);
        if !WITHOUT_ID.contains(&call.rpc) {
            // `request_id` has the same number in all of them.
            let id = call.request::<v1::PauseReleaseRequest>().request_id;
            assert_eq!(id.len(), 36, "{}", call.rpc);
            ids.insert(id);
        }
    }
    assert_eq!(ids.len(), ALL.len() - WITHOUT_ID.len(), "each has its own");
    let planned = calls[13].request::<v1::TriggerReleaseRequest>();
    assert!(planned.validate_only);
    assert!(!calls[12].request::<v1::TriggerReleaseRequest>().validate_only);
}

/// What a pause comes to with these replies: its result, and the request ids that came.
async fn check(
    replies: impl IntoIterator<Item = Reply>,
) -> (Result<v1::Release, Error>, Vec<String>) {
    let server = Scripted::start().await;
    for reply in replies {
        server.reply(reply);
    }
    let result = server.client().await.pause_release(pause()).await;
    let calls = server.calls();
    let ids = calls.iter().map(|call| call.request::<v1::PauseReleaseRequest>().request_id);
    (result, ids.collect())
}

fn answered() -> Reply {
    Reply::Answer(prost::Message::encode_to_vec(&paused()))
}

#[tokio::test]
async fn a_call_that_failed_in_passing_is_made_again_under_the_same_request_id() {
    let passing: [fn() -> Reply; 5] = [
        || Reply::Refusal(Status::unavailable("a proxy is restarting")),
        || Reply::Refusal(refused(Code::Unavailable, "STORE_READ_ONLY")),
        || Reply::Refusal(refused_for(Code::Unavailable, "SERVER_DRAINING", Duration::ZERO)),
        || Reply::Refusal(Status::unknown("the connection broke")),
        || Reply::Cut,
    ];
    for fail in passing {
        let (result, ids) = check([fail(), answered()]).await;
        assert_eq!(result.unwrap().name, "releases/r");
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[0], ids[1]);
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_not_repeated() {
    for (code, reason, expected) in [
        (Code::FailedPrecondition, "ALREADY_PAUSED", Reason::AlreadyPaused),
        (Code::InvalidArgument, "INVALID_FIELD", Reason::InvalidField),
        (Code::NotFound, "RESOURCE_NOT_FOUND", Reason::ResourceNotFound),
        (Code::Aborted, "ETAG_MISMATCH", Reason::EtagMismatch),
        (Code::ResourceExhausted, "QUEUE_FULL", Reason::QueueFull),
        (Code::Internal, "INTERNAL", Reason::Internal),
    ] {
        let (result, ids) = check([Reply::Refusal(refused(code, reason)), answered()]).await;
        let error = result.unwrap_err();
        assert_eq!((error.code, error.reason), (code, expected));
        assert_eq!(ids.len(), 1);
    }
}

#[tokio::test]
async fn attempts_are_bounded() {
    let fail = || Reply::Refusal(Status::unavailable("gone"));
    let (result, ids) = check(std::iter::repeat_with(fail).take(9)).await;
    assert_eq!(result.unwrap_err().to_string(), "gone [Unavailable]");
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_wait_that_the_timeout_does_not_leave_room_for_is_not_begun() {
    let wait = Duration::from_secs(3600);
    let draining = refused_for(Code::Unavailable, "SERVER_DRAINING", wait);
    let (result, ids) = check([Reply::Refusal(draining), answered()]).await;
    let error = result.unwrap_err();
    assert_eq!((error.reason, error.retry_after), (Reason::ServerDraining, Some(wait)));
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_request_id_that_was_given_is_kept() {
    let server = Scripted::start().await;
    server.answer(paused());
    let request = v1::PauseReleaseRequest { request_id: "mine".into(), ..pause() };
    server.client().await.pause_release(request).await.unwrap();
    assert_eq!(server.calls()[0].request::<v1::PauseReleaseRequest>().request_id, "mine");
}

#[tokio::test]
async fn the_clock_is_never_moved_twice() {
    let server = Scripted::start().await;
    server.reply(Reply::Refusal(Status::unavailable("gone")));
    let error = server.client().await.advance_clock(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_in_a_deadline() {
    let server = Scripted::start().await;
    server.reply(Reply::Silence);
    let client = server.connect().timeout(Duration::from_millis(50)).await.unwrap();
    let error = client.pause_release(pause()).await.unwrap_err();
    assert_eq!((error.code, &error.reason), (Code::DeadlineExceeded, &Reason::None));
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn an_answer_without_its_resource_is_an_error() {
    let server = Scripted::start().await;
    server.answer(v1::PauseReleaseResponse { release: None });
    let error = server.client().await.pause_release(pause()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server's answer lacks `release` [Internal]");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_said_with_the_cause() {
    // Taken and given back: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("http://{free}");
    let error = Client::connect(&address).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("refused"), "{text}");

    let once = Retry { attempts: 1, ..Retry::default() };
    let lazy = Client::connect(&address).retry(once).lazy().unwrap();
    let error = lazy.get_flag("flags/f").await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_sent() {
    let check = |connect: phasegate_client::Connect| connect.lazy().unwrap_err().to_string();
    for address in ["", "127.0.0.1:7433", "ftp://127.0.0.1:7433", "http//x", "http:///x", "a b"] {
        assert!(check(Client::connect(address)).contains("is no address such as"), "{address}");
    }
    let client = || Client::connect("http://127.0.0.1:7433");
    assert!(check(client().principal("J\u{fc}rgen")).contains("printable ASCII"));
    assert!(check(client().principal("a\nb")).contains("printable ASCII"));
    assert!(check(client().groups(["a,b"])).contains("comma"));
}
