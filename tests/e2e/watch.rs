//! Watches over a real connection: snapshot, changes, end; filters; resuming.

use crate::world::{PIPELINE, RELEASE, call, events, line, server, start, trigger};
use harness::{Clients, PATIENCE, START, happened, message, reason, state};
use phasegate_api::v1;
use serde_json::json;
use tokio::time::timeout;
use tonic::Streaming;

async fn watch(
    clients: &mut Clients,
    after: i64,
    store_id: &str,
) -> Streaming<v1::WatchReleaseResponse> {
    let request = v1::WatchReleaseRequest {
        name: RELEASE.into(),
        resume_after_revision: after,
        store_id: store_id.into(),
    };
    clients.releases.watch_release(request).await.unwrap().into_inner()
}

/// The next message; none at the end with OK.
async fn next<M>(stream: &mut Streaming<M>) -> Result<Option<M>, tonic::Status> {
    timeout(PATIENCE, stream.message()).await.expect("a message or an end comes in time")
}

#[tokio::test]
async fn a_watch_has_a_snapshot_then_every_commit_then_ends_with_ok() {
    let server = server().await;
    let (mut ann, mut bob) = (server.by("ann"), server.by("bob"));
    start(&mut ann).await;
    let mut stream = watch(&mut bob, 0, "").await;
    let snapshot = next(&mut stream).await.unwrap().unwrap();
    assert!(snapshot.events.is_empty());
    assert_eq!(snapshot.server_time.unwrap().seconds, START.as_millis() / 1000);
    let release = snapshot.release.unwrap();
    assert!(release.pipeline_snapshot.is_some() && release.change.is_some());

    call!(ann, pause_release, PauseReleaseRequest { reason: "wait" }).unwrap();
    call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap();
    server.advance(60).await;
    call!(ann, abort_release, AbortReleaseRequest { reason: "enough" }).unwrap();

    let mut seen = Vec::new();
    let mut last = snapshot.revision;
    while let Some(message) = next(&mut stream).await.unwrap() {
        assert!(message.revision > last, "revisions grow");
        last = message.revision;
        assert_eq!(message.store_id, snapshot.store_id);
        let release = message.release.unwrap();
        assert!(release.pipeline_snapshot.is_none() && release.change.is_none());
        assert!(message.events.iter().all(|event| event.revision == message.revision));
        let words: Vec<String> = message.events.iter().map(line).collect();
        seen.push(format!("{}: {}", state(&release), words.join(", ")));
    }
    assert_eq!(
        seen,
        [
            "PAUSED: PAUSED canary",
            "BAKING: UNPAUSED",
            "AWAITING_APPROVAL: PHASE_SUCCEEDED canary, PHASE_ENTERED staff",
            "ABORTED: ABORTED",
        ]
    );
    let mut after_the_end = watch(&mut bob, last, "").await;
    assert!(next(&mut after_the_end).await.unwrap().is_none(), "resumed at the end: OK at once");
    server.stop().await;
}

#[tokio::test]
async fn a_resumed_watch_gets_exactly_what_came_after() {
    let server = server().await;
    let mut ann = server.by("ann");
    let release = start(&mut ann).await;
    server.advance(60).await;
    call!(ann, abort_release, AbortReleaseRequest { reason: "enough" }).unwrap();
    let all = events(&mut ann, RELEASE).await;
    let revisions: std::collections::BTreeSet<i64> = all.iter().map(|e| e.revision).collect();
    for after in revisions {
        let mut stream = watch(&mut ann, after, "").await;
        let mut seen = Vec::new();
        while let Some(message) = next(&mut stream).await.unwrap() {
            seen.extend(message.events);
        }
        let rest: Vec<_> = all.iter().filter(|event| event.revision > after).cloned().collect();
        assert_eq!(seen, rest, "after {after}");
    }
    assert!(release.revision > 0);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_that_cannot_be_resumed_says_why() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let mut attempt = async |name: &str, after, store_id: &str| {
        let request = v1::WatchReleaseRequest {
            name: name.into(),
            resume_after_revision: after,
            store_id: store_id.into(),
        };
        match ann.releases.watch_release(request).await {
            Err(status) => reason(&status),
            Ok(stream) => reason(&next(&mut stream.into_inner()).await.unwrap_err()),
        }
    };
    assert_eq!(attempt("releases/none", 0, "").await, "RESOURCE_NOT_FOUND");
    assert_eq!(attempt(RELEASE, 1_000_000, "").await, "REVISION_IN_FUTURE");
    assert_eq!(attempt(RELEASE, 1, "another").await, "STORE_REPLACED");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_all_has_the_initial_set_then_changes_and_removals() {
    let server = server().await;
    let (mut ann, mut bob) = (server.by("ann"), server.by("bob"));
    start(&mut ann).await;
    let request: v1::WatchReleasesRequest = message(
        "WatchReleasesRequest",
        json!({ "filter": { "pipelines": [PIPELINE], "states": ["RELEASE_STATE_BAKING"] } }),
    );
    let mut stream = bob.releases.watch_releases(request).await.unwrap().into_inner();
    let mut initial = Vec::new();
    let synced = loop {
        let message = next(&mut stream).await.unwrap().unwrap();
        initial.extend(message.initial.iter().map(|release| release.name.clone()));
        if message.synced {
            break message.revision;
        }
        assert_eq!(message.revision, 0, "a broken initial set is begun anew");
    };
    assert_eq!(initial, [RELEASE]);

    call!(ann, pause_release, PauseReleaseRequest {}).unwrap();
    call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap();
    let supersede = trigger(
        "next",
        json!({ "conflictPolicy": "CONFLICT_POLICY_SUPERSEDE", "release": { "featureGate": {
            "defaultValue": true,
            "rules": [{ "targeting": { "id": "dev", "environments": ["dev"] }, "value": true }]
        }}}),
    );
    ann.releases.trigger_release(supersede).await.unwrap();

    let mut seen = Vec::new();
    let mut last = synced;
    while seen.len() < 4 {
        let message = next(&mut stream).await.unwrap().unwrap();
        assert!(message.revision > last);
        last = message.revision;
        for change in message.changes {
            let release = change.release.unwrap();
            let first = happened(&change.events[0]);
            seen.push((release.name, first, change.removed));
        }
    }
    let on = || RELEASE.to_owned();
    assert_eq!(
        seen,
        [
            (on(), "PAUSED", true),
            (on(), "UNPAUSED", false),
            ("releases/next".to_owned(), "TRIGGERED", false),
            (on(), "ABORTED", true),
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_wait_ends_when_the_release_moves_or_is_over() {
    let server = server().await;
    let (mut ann, mut bob) = (server.by("ann"), server.by("bob"));
    let release = start(&mut ann).await;
    let wait = |after_revision, until_over| v1::WaitReleaseRequest {
        name: RELEASE.into(),
        after_revision,
        until_over,
        max_wait: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let at_once = bob.releases.wait_release(wait(0, false)).await.unwrap().into_inner();
    assert!(at_once.satisfied);
    let mut over = tokio::spawn(async move {
        bob.releases.wait_release(wait(0, true)).await.unwrap().into_inner()
    });
    let mut cid = server.by("cid");
    let moved = tokio::spawn(async move {
        cid.releases.wait_release(wait(release.revision, false)).await.unwrap().into_inner()
    });
    call!(ann, pause_release, PauseReleaseRequest {}).unwrap();
    let moved = timeout(PATIENCE, moved).await.unwrap().unwrap();
    assert!(moved.satisfied);
    assert!(moved.release.unwrap().revision > release.revision);
    call!(ann, abort_release, AbortReleaseRequest { reason: "enough" }).unwrap();
    let over = timeout(PATIENCE, &mut over).await.unwrap().unwrap();
    assert_eq!((over.satisfied, state(&over.release.unwrap())), (true, "ABORTED"));
    server.stop().await;
}
