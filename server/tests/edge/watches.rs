//! Watches as a client sees them: what comes, and how it ends.

use crate::server::{Server, config, within};
use phasegate_api::v1;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

fn watch(id: &str) -> v1::WatchReleaseRequest {
    v1::WatchReleaseRequest { name: format!("releases/{id}"), ..Default::default() }
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    within(stream.message()).await.unwrap().expect("another message")
}

/// Code and reason of the end of a stream, or of its refusal.
fn check(status: &Status, code: Code, reason: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, reason);
}

#[tokio::test]
async fn a_watch_is_a_snapshot_then_every_change_then_ok() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let triggered = server.trigger("r").await;
    let mut releases = server.releases().await;
    let mut first = releases.watch_release(watch("r")).await.unwrap().into_inner();
    let mut second = releases.watch_release(watch("r")).await.unwrap().into_inner();

    let snapshot = next(&mut first).await;
    let release = snapshot.release.as_ref().unwrap();
    assert_eq!(release.revision, triggered.revision);
    assert!(release.pipeline_snapshot.is_some() && snapshot.events.is_empty());
    assert!(snapshot.server_time.is_some() && !snapshot.store_id.is_empty());
    assert_eq!(next(&mut second).await, snapshot);

    let paused = server.pause("r").await;
    let change = next(&mut first).await;
    assert_eq!(change.release.as_ref(), Some(&paused), "as the call answered");
    assert_eq!(change.revision, paused.revision);
    assert_eq!(change.events.last().unwrap().reason, "let us look");
    assert_eq!(next(&mut second).await, change, "shared by both");

    let aborted = server.abort("r").await;
    assert_eq!(next(&mut first).await.release, Some(aborted));
    assert_eq!(within(first.message()).await.unwrap(), None, "over, so OK");

    let resumed = v1::WatchReleaseRequest {
        resume_after_revision: snapshot.revision,
        store_id: snapshot.store_id,
        ..watch("r")
    };
    let mut resumed = releases.watch_release(resumed).await.unwrap().into_inner();
    assert_eq!(next(&mut resumed).await, change);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_many_begins_with_a_set_and_says_what_leaves_it() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let mut releases = server.releases().await;
    let filter = v1::ReleaseFilter { unfinished_only: true, ..Default::default() };
    let request = v1::WatchReleasesRequest { filter: Some(filter), ..Default::default() };
    let mut stream = releases.watch_releases(request).await.unwrap().into_inner();
    let initial = next(&mut stream).await;
    assert_eq!((initial.revision, initial.initial.len(), initial.synced), (0, 1, false));
    let synced = next(&mut stream).await;
    assert!(synced.synced && synced.revision > 0 && synced.initial.is_empty());

    let paused = server.pause("r").await;
    let message = next(&mut stream).await;
    let [change] = message.changes.as_slice() else { panic!("{message:?}") };
    assert_eq!((change.release.as_ref(), change.removed), (Some(&paused), false));
    let aborted = server.abort("r").await;
    let message = next(&mut stream).await;
    let [change] = message.changes.as_slice() else { panic!("{message:?}") };
    assert_eq!((change.release.as_ref(), change.removed), (Some(&aborted), true));
    assert!(!change.events.is_empty());
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_that_cannot_begin_says_why() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let mut releases = server.releases().await;
    let mut refusal = async |request| releases.watch_release(request).await.unwrap_err();
    check(&refusal(watch("none")).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let future = v1::WatchReleaseRequest { resume_after_revision: 1 << 40, ..watch("r") };
    check(&refusal(future).await, Code::OutOfRange, "REVISION_IN_FUTURE");
    let other = v1::WatchReleaseRequest {
        resume_after_revision: 1,
        store_id: "00000000-0000-0000-0000-000000000000".into(),
        ..watch("r")
    };
    check(&refusal(other).await, Code::FailedPrecondition, "STORE_REPLACED");
    server.stop().await;
}

#[tokio::test]
async fn slots_of_a_principal_are_counted_and_given_back() {
    let mut config = config();
    config.watch.streams_of_a_principal = 1;
    let server = Server::start_with(config).await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let releases = server.releases().await;
    let watch_as = async |principal: &'static str| {
        let mut request = Request::new(watch("r"));
        request.metadata_mut().insert("phasegate-principal", principal.parse().unwrap());
        within(releases.clone().watch_release(request)).await
    };
    let first = watch_as("ann").await.unwrap();
    let refused = watch_as("ann").await.unwrap_err();
    check(&refused, Code::ResourceExhausted, "TOO_MANY_WATCHES");
    assert!(refused.get_details_retry_info().is_some());
    let _of_somebody_else = watch_as("bob").await.unwrap();
    drop(first);
    // The server learns of it a moment later.
    let taken_again = async { while watch_as("ann").await.is_err() {} };
    within(taken_again).await;
    drop(releases);
}

#[tokio::test]
async fn a_watch_ends_with_the_deadline_of_its_call() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let mut request = Request::new(watch("r"));
    // The header alone, which the client itself heeds only until the stream is open.
    request.metadata_mut().insert("grpc-timeout", "500m".parse().unwrap());
    let mut stream = server.releases().await.watch_release(request).await.unwrap().into_inner();
    next(&mut stream).await;
    let ended = within(stream.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    server.stop().await;
}

#[tokio::test]
async fn an_old_watch_expires_and_a_silent_one_gets_bookmarks() {
    let mut config = config();
    config.watch.heartbeat = std::time::Duration::from_millis(5);
    config.watch.lifetime = std::time::Duration::from_millis(200);
    let server = Server::start_with(config).await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let mut releases = server.releases().await;
    let mut stream = releases.watch_release(watch("r")).await.unwrap().into_inner();
    let snapshot = next(&mut stream).await;
    let bookmark = next(&mut stream).await;
    assert_eq!((bookmark.revision, bookmark.release), (snapshot.revision, None));
    let ended = loop {
        match within(stream.message()).await {
            Ok(message) => assert_eq!(message.unwrap().release, None),
            Err(ended) => break ended,
        }
    };
    check(&ended, Code::Unavailable, "STREAM_EXPIRED");
    server.stop().await;
}
