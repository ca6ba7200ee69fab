//! A server that comes back on the same data directory.

use crate::world::{RELEASE, answer, call, events, get, log, set_up, start};
use harness::{PATIENCE, TestServer, reason, state};
use phasegate_api::v1;
use phasegate_server::{
    app::{App, ExitCode},
    config::{Config, Data},
};
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::on(dir.path()).await;
    set_up(&server).await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    server.advance(20).await;
    call!(ann, pause_release, PauseReleaseRequest { reason: "restart" }).unwrap();
    let before = (get(&mut ann, RELEASE).await, log(&mut ann, RELEASE).await);
    drop(ann);
    server.stop().await;

    let server = TestServer::on(dir.path()).await;
    let mut ann = server.by("ann");
    let after = (get(&mut ann, RELEASE).await, log(&mut ann, RELEASE).await);
    assert_eq!(before, after);
    assert!(answer(&mut ann, "prod", json!({ "tier": "beta" })).await);
    call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap();
    server.advance(39).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "BAKING", "40 s were left");
    server.advance(1).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "AWAITING_APPROVAL");
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn a_timer_armed_before_a_restart_fires_once_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::on(dir.path()).await;
    set_up(&server).await;
    start(&mut server.by("ann")).await;
    server.stop().await;
    let server = TestServer::on(dir.path()).await;
    let mut ann = server.by("ann");
    server.advance(60).await;
    let log = log(&mut ann, RELEASE).await;
    let fired = log.iter().filter(|line| *line == "PHASE_SUCCEEDED canary").count();
    assert_eq!(fired, 1);
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_resumed_over_a_restart_gives_exactly_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::on(dir.path()).await;
    set_up(&server).await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let from_the_start = |after, store_id: &str| v1::WatchReleaseRequest {
        name: RELEASE.into(),
        resume_after_revision: after,
        store_id: store_id.into(),
    };
    let mut stream = ann.releases.watch_release(from_the_start(0, "")).await.unwrap().into_inner();
    let snapshot = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    call!(ann, pause_release, PauseReleaseRequest {}).unwrap();
    let paused = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    let mut seen = paused.events;
    drop(ann);
    server.stop().await;
    let end = loop {
        match timeout(PATIENCE, stream.message()).await.unwrap() {
            Ok(Some(bookmark)) => assert!(bookmark.events.is_empty()),
            other => break other.unwrap_err(),
        }
    };
    assert_eq!((end.code(), &*reason(&end)), (tonic::Code::Unavailable, "SERVER_DRAINING"));

    let server = TestServer::on(dir.path()).await;
    let mut ann = server.by("ann");
    // What happens before the watcher is back is not lost on it.
    call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap();
    let resume = from_the_start(paused.revision, &snapshot.store_id);
    let mut stream = ann.releases.watch_release(resume).await.unwrap().into_inner();
    call!(ann, abort_release, AbortReleaseRequest { reason: "enough" }).unwrap();
    while let Some(message) = timeout(PATIENCE, stream.message()).await.unwrap().unwrap() {
        seen.extend(message.events);
    }
    let all = events(&mut ann, RELEASE).await;
    let expected: Vec<_> =
        all.into_iter().filter(|event| event.revision > snapshot.revision).collect();
    assert_eq!(seen, expected);
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn a_request_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::on(dir.path()).await;
    set_up(&server).await;
    let mut ann = server.by("ann");
    let request = crate::world::trigger("", json!({ "requestId": "once" }));
    let first = ann.releases.trigger_release(request.clone()).await.unwrap().into_inner();
    drop(ann);
    server.stop().await;
    let server = TestServer::on(dir.path()).await;
    let mut ann = server.by("ann");
    let again = ann.releases.trigger_release(request).await.unwrap().into_inner();
    assert_eq!(first.release.unwrap().name, again.release.unwrap().name);
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = TestServer::on(dir.path()).await;
    let mut config = Config::new(Data::Dir(dir.path().to_owned()));
    config.listen = ([127, 0, 0, 1], 0).into();
    let second = App::bind(config).await.unwrap();
    let refused = timeout(PATIENCE, second.serve(std::future::pending())).await.unwrap();
    let error = refused.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::InUse);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("in use by") && cause.contains(&std::process::id().to_string()),
        "{cause}"
    );
    server.stop().await;
}
