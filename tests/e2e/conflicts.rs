//! Two releases of one flag, and requests that come twice.

use crate::world::{RELEASE, call, get, server, start, trigger};
use harness::{reason, state};
use phasegate_api::v1;
use serde_json::json;

const ON_FOR_BETA: &str = "CONFLICT_POLICY_QUEUE";

fn other(id: &str, policy: &str) -> v1::TriggerReleaseRequest {
    trigger(
        id,
        json!({
            "conflictPolicy": policy,
            "release": { "featureGate": { "defaultValue": true, "rules": [
                { "targeting": { "id": "nobody", "rolloutBasisPoints": 0 }, "value": false }
            ]}}
        }),
    )
}

#[tokio::test]
async fn a_second_release_fails_queues_or_supersedes() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let refused = ann.releases.trigger_release(other("b", "CONFLICT_POLICY_FAIL")).await;
    assert_eq!(reason(&refused.unwrap_err()), "ACTIVE_RELEASE_EXISTS");

    ann.releases.trigger_release(other("b", ON_FOR_BETA)).await.unwrap();
    assert_eq!(state(&get(&mut ann, "releases/b").await), "PENDING");
    call!(ann, abort_release, AbortReleaseRequest { reason: "make room" }).unwrap();
    assert_eq!(state(&get(&mut ann, "releases/b").await), "BAKING", "its turn came with the abort");

    ann.releases.trigger_release(other("c", "CONFLICT_POLICY_SUPERSEDE")).await.unwrap();
    let b = get(&mut ann, "releases/b").await;
    assert_eq!((state(&b), b.end_reason()), ("ABORTED", v1::EndReason::Superseded));
    assert_eq!(state(&get(&mut ann, "releases/c").await), "BAKING");
    server.stop().await;
}

#[tokio::test]
async fn a_queue_holds_ten() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    for n in 0..10 {
        ann.releases.trigger_release(other(&format!("q{n}"), ON_FOR_BETA)).await.unwrap();
    }
    let refused = ann.releases.trigger_release(other("q10", ON_FOR_BETA)).await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (tonic::Code::ResourceExhausted, "QUEUE_FULL")
    );
    server.stop().await;
}

#[tokio::test]
async fn a_scheduled_release_starts_when_its_time_comes() {
    let server = server().await;
    let mut ann = server.by("ann");
    let later = trigger("on", json!({ "release": { "scheduleTime": "2030-06-14T19:00:00Z" } }));
    ann.releases.trigger_release(later).await.unwrap();
    server.advance(3599).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "PENDING");
    server.advance(1).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "BAKING");
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_request_is_done_once_and_another_payload_is_refused() {
    let server = server().await;
    let (mut ann, mut bob) = (server.by("ann"), server.by("bob"));
    let request = trigger("on", json!({ "requestId": "try-1" }));
    let first = ann.releases.trigger_release(request.clone()).await.unwrap().into_inner();
    server.advance(60).await;
    let again = ann.releases.trigger_release(request).await.unwrap().into_inner();
    let (first, again) = (first.release.unwrap(), again.release.unwrap());
    assert_eq!(first.name, again.name);
    assert_eq!(state(&again), "AWAITING_APPROVAL", "answered as of now");

    let reused = trigger("other", json!({ "requestId": "try-1" }));
    let refused = ann.releases.trigger_release(reused.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
    let another_caller = bob.releases.trigger_release(reused).await.unwrap_err();
    assert_eq!(reason(&another_caller), "ACTIVE_RELEASE_EXISTS", "a key of their own");

    let pause = || v1::PauseReleaseRequest {
        name: RELEASE.into(),
        request_id: "p".into(),
        ..Default::default()
    };
    ann.releases.pause_release(pause()).await.unwrap();
    ann.releases.pause_release(pause()).await.unwrap();
    let refused = call!(ann, pause_release, PauseReleaseRequest {}).unwrap_err();
    assert_eq!(reason(&refused), "ALREADY_PAUSED");
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_trigger_without_an_id_finds_the_release_of_the_first() {
    let server = server().await;
    let mut ann = server.by("ann");
    let request = trigger("", json!({ "requestId": "once" }));
    let first = ann.releases.trigger_release(request.clone()).await.unwrap().into_inner();
    let again = ann.releases.trigger_release(request).await.unwrap().into_inner();
    assert_eq!(first.release.unwrap().name, again.release.unwrap().name);
    let list = v1::ListReleasesRequest::default();
    assert_eq!(ann.releases.list_releases(list).await.unwrap().into_inner().releases.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn releases_are_listed_newest_first_and_by_filter() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    for id in ["b", "c"] {
        ann.releases.trigger_release(other(id, "CONFLICT_POLICY_SUPERSEDE")).await.unwrap();
    }
    let mut list = async |filter: serde_json::Value| -> Vec<String> {
        let request: v1::ListReleasesRequest =
            harness::message("ListReleasesRequest", json!({ "filter": filter }));
        let page = ann.releases.list_releases(request).await.unwrap().into_inner();
        page.releases.into_iter().map(|release| release.name).collect()
    };
    assert_eq!(list(json!({})).await, ["releases/c", "releases/b", "releases/on"]);
    assert_eq!(list(json!({ "unfinishedOnly": true })).await, ["releases/c"]);
    let aborted = json!({ "states": ["RELEASE_STATE_ABORTED"] });
    assert_eq!(list(aborted).await, ["releases/b", "releases/on"]);
    assert!(list(json!({ "flags": ["flags/none"] })).await.is_empty());
    server.stop().await;
}
