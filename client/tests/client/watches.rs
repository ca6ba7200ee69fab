//! Watches: what each end of a stream leads to, and that nothing is lost or comes twice.

use crate::script::{PATIENCE, Scripted, Step, refused, refused_for};
use phasegate_client::{
    Code, Position, Reason, ReleaseUpdate, ReleasesUpdate, Watch,
    v1::{self, WatchReleaseResponse, WatchReleasesResponse},
};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

const STORE: &str = "store-1";

fn release(revision: i64) -> v1::Release {
    v1::Release { name: "releases/r".into(), revision, ..Default::default() }
}

fn over(revision: i64) -> v1::Release {
    v1::Release { end_time: Some(prost_types::Timestamp::default()), ..release(revision) }
}

fn message(revision: i64) -> WatchReleaseResponse {
    WatchReleaseResponse { revision, store_id: STORE.into(), ..Default::default() }
}

fn snapshot(revision: i64) -> Step<WatchReleaseResponse> {
    Step::Send(WatchReleaseResponse { release: Some(release(revision)), ..message(revision) })
}

fn change(revision: i64) -> Step<WatchReleaseResponse> {
    let events = vec![v1::ReleaseEvent { revision, ..Default::default() }];
    let release = Some(release(revision));
    Step::Send(WatchReleaseResponse { release, events, ..message(revision) })
}

fn last(revision: i64) -> Step<WatchReleaseResponse> {
    let events = vec![v1::ReleaseEvent { revision, ..Default::default() }];
    let release = Some(over(revision));
    Step::Send(WatchReleaseResponse { release, events, ..message(revision) })
}

fn bookmark(revision: i64) -> Step<WatchReleaseResponse> {
    Step::Send(message(revision))
}

fn ok<T>() -> Step<T> {
    Step::End(Status::ok(""))
}

fn end<T>(code: Code, reason: &str) -> Step<T> {
    Step::End(refused(code, reason))
}

/// An update in a word.
fn word(update: ReleaseUpdate) -> String {
    match update {
        ReleaseUpdate::Snapshot { position, .. } => format!("snapshot {}", position.revision),
        ReleaseUpdate::Change { position, .. } => format!("change {}", position.revision),
        ReleaseUpdate::Bookmark { position, .. } => format!("bookmark {}", position.revision),
        ReleaseUpdate::Interrupted(error) => format!("interrupted {:?}", error.code),
        ReleaseUpdate::Resumed => "resumed".to_owned(),
        ReleaseUpdate::Restarted(error) => format!("restarted {}", error.reason.name().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn words(update: ReleasesUpdate) -> String {
    match update {
        ReleasesUpdate::Snapshot { position, releases, .. } => {
            format!("snapshot {} of {}", position.revision, releases.len())
        }
        ReleasesUpdate::Changes { position, changes, .. } => {
            format!("{} changes {}", changes.len(), position.revision)
        }
        ReleasesUpdate::Bookmark { position, .. } => format!("bookmark {}", position.revision),
        ReleasesUpdate::Interrupted(error) => format!("interrupted {:?}", error.code),
        ReleasesUpdate::Resumed => "resumed".to_owned(),
        ReleasesUpdate::Restarted(error) => format!("restarted {}", error.reason.name().unwrap()),
        other => panic!("{other:?}"),
    }
}

/// All that a watch tells up to its end, or up to so many updates.
async fn told<T>(mut watch: Watch<T>, most: usize, word: fn(T) -> String) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < most {
        match timeout(PATIENCE, watch.next()).await.expect("an update comes in time") {
            Some(Ok(update)) => told.push(word(update)),
            Some(Err(error)) => told.push(format!("error {:?} {:?}", error.code, error.reason)),
            None => told.push("done".to_owned()),
        }
        if told.last().is_some_and(|word| word == "done") {
            break;
        }
    }
    told
}

/// The places that WatchRelease was called behind.
fn resumed(server: &Scripted) -> Vec<(i64, String)> {
    let calls = server.calls().into_iter().filter(|call| call.rpc == "watch_release");
    let requests = calls.map(|call| call.request::<v1::WatchReleaseRequest>());
    requests.map(|request| (request.resume_after_revision, request.store_id)).collect()
}

fn behind(revisions: &[i64]) -> Vec<(i64, String)> {
    let store = |revision| if revision == 0 { String::new() } else { STORE.to_owned() };
    revisions.iter().map(|&revision| (revision, store(revision))).collect()
}

/// What a watch of one release tells if its streams do this, and behind what it resumed.
async fn check(
    streams: impl IntoIterator<Item = Vec<Step<WatchReleaseResponse>>>,
    expected: &[&str],
    positions: &[i64],
) {
    let server = Scripted::start().await;
    for steps in streams {
        server.release_stream(steps);
    }
    let watch = server.client().await.watch_release("releases/r");
    assert_eq!(told(watch, usize::MAX, word).await, expected);
    assert_eq!(resumed(&server), behind(positions));
}

#[tokio::test]
async fn a_watch_ends_when_the_release_is_over_and_its_last_change_was_delivered() {
    let expected = ["snapshot 3", "change 5", "bookmark 8", "change 9", "done"];
    check([vec![snapshot(3), change(5), bookmark(8), last(9), ok()]], &expected, &[0]).await;
}

#[tokio::test]
async fn a_stream_that_ends_early_is_resumed_behind_the_last_message_bookmarks_included() {
    for (ending, code) in [
        (end(Code::Unavailable, "STREAM_EXPIRED"), "Unavailable"),
        (
            Step::End(refused_for(Code::Unavailable, "SERVER_DRAINING", Duration::from_millis(1))),
            "Unavailable",
        ),
        (end(Code::ResourceExhausted, "SLOW_CONSUMER"), "ResourceExhausted"),
        (Step::End(Status::resource_exhausted("ENHANCE_YOUR_CALM")), "ResourceExhausted"),
        (Step::End(Status::internal("h2 protocol error")), "Internal"),
        (Step::End(Status::unknown("the connection broke")), "Unknown"),
        (Step::End(Status::cancelled("by a proxy")), "Cancelled"),
    ] {
        let interrupted = format!("interrupted {code}");
        check(
            [vec![snapshot(3), change(5), bookmark(8), ending], vec![last(9), ok()]],
            &["snapshot 3", "change 5", "bookmark 8", &interrupted, "resumed", "change 9", "done"],
            &[0, 8],
        )
        .await;
    }
}

#[tokio::test]
async fn a_cut_connection_is_made_again_and_loses_nothing() {
    let server = Scripted::start().await;
    server.release_stream([snapshot(3), change(5), Step::Silence]);
    server.release_stream([change(6), Step::Silence]);
    server.release_stream([last(7), ok()]);
    let mut watch = server.client().await.watch_release("releases/r");
    let mut told = Vec::new();
    while let Some(update) = timeout(PATIENCE, watch.next()).await.expect("it goes on") {
        let word = word(update.unwrap());
        if ["change 5", "change 6"].contains(&word.as_str()) {
            server.cut();
        }
        told.push(word);
    }
    // A connection that does not come about at once is another interruption.
    told.retain(|word| !word.starts_with("interrupted"));
    let expected = ["snapshot 3", "change 5", "resumed", "change 6", "resumed", "change 7"];
    assert_eq!(told, expected);
    assert_eq!(resumed(&server), behind(&[0, 5, 6]));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_called_again() {
    let server = Scripted::start().await;
    server.release_stream([snapshot(3), Step::Silence]);
    server.release_stream([last(4), ok()]);
    let client = server.connect().silence(Duration::from_millis(500)).await.unwrap();
    let told = told(client.watch_release("releases/r"), usize::MAX, word).await;
    assert_eq!(told, ["snapshot 3", "interrupted Unavailable", "resumed", "change 4", "done"]);
    assert_eq!(resumed(&server), behind(&[0, 3]));
}

#[tokio::test]
async fn a_log_that_was_cut_and_another_store_begin_with_a_snapshot_and_say_so() {
    for (code, reason) in [
        (Code::OutOfRange, "REVISION_COMPACTED"),
        (Code::OutOfRange, "REVISION_IN_FUTURE"),
        (Code::FailedPrecondition, "STORE_REPLACED"),
    ] {
        check(
            [
                vec![snapshot(3), change(5), end(Code::Unavailable, "STREAM_EXPIRED")],
                vec![end(code, reason)],
                vec![snapshot(70), last(71), ok()],
            ],
            &[
                "snapshot 3",
                "change 5",
                "interrupted Unavailable",
                "resumed",
                &format!("restarted {reason}"),
                "snapshot 70",
                "change 71",
                "done",
            ],
            &[0, 5, 0],
        )
        .await;
    }
}

#[tokio::test]
async fn what_cannot_get_better_ends_the_watch_with_its_error() {
    for (status, expected) in [
        (refused(Code::NotFound, "RESOURCE_NOT_FOUND"), "error NotFound ResourceNotFound"),
        (refused(Code::InvalidArgument, "INVALID_FIELD"), "error InvalidArgument InvalidField"),
        (Status::permission_denied("no"), "error PermissionDenied None"),
        (Status::unimplemented("no"), "error Unimplemented None"),
        (Status::unauthenticated("no"), "error Unauthenticated None"),
        (Status::out_of_range("message too large"), "error OutOfRange None"),
    ] {
        check([vec![Step::End(status)]], &[expected, "done"], &[0]).await;
    }
}

#[tokio::test]
async fn a_watch_with_a_token_s_file_comes_back_with_what_is_in_it_twice_in_a_row_at_most() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first").unwrap();
    let server = Scripted::start().await;
    let gone = || Step::End(Status::unauthenticated("no longer good"));
    server.release_stream([snapshot(3), gone()]);
    server.release_stream([gone()]);
    server.release_stream([change(5), gone()]);
    server.release_stream([gone()]);
    server.release_stream([gone()]);
    let client = server.connect().token_file(file.path()).await.unwrap();
    let mut watch = client.watch_release("releases/r");
    let first = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(word(first.unwrap()), "snapshot 3");
    std::fs::write(file.path(), "second").unwrap();
    let lost = "interrupted Unauthenticated";
    let expected = [
        lost,
        "resumed",
        lost,
        "resumed",
        "change 5",
        lost,
        "resumed",
        lost,
        "resumed",
        "error Unauthenticated None",
        "done",
    ];
    assert_eq!(told(watch, usize::MAX, word).await, expected);
    let sent: Vec<_> = server.calls().into_iter().filter_map(|call| call.authorization).collect();
    let second = || "Bearer second".to_owned();
    assert_eq!(sent, ["Bearer first".to_owned(), second(), second(), second(), second()]);
}

#[tokio::test]
async fn an_ok_without_the_end_of_the_release_is_checked_with_the_release_itself() {
    for (release, expected, positions) in [
        (over(9), vec!["done"], vec![8]),
        (release(8), vec!["interrupted Unavailable", "resumed", "change 9", "done"], vec![8, 8]),
    ] {
        let server = Scripted::start().await;
        server.release_stream([ok()]).release_stream([last(9), ok()]);
        server.answer(v1::GetReleaseResponse { release: Some(release), revision: 9 });
        let from = Position { revision: 8, store_id: STORE.into() };
        let watch = server.client().await.resume_release("releases/r", from);
        assert_eq!(told(watch, usize::MAX, word).await, expected);
        assert_eq!(resumed(&server), behind(&positions));
    }
}

#[tokio::test]
async fn watches_keep_off_the_connection_of_calls() {
    let server = Scripted::start().await;
    server.release_stream([snapshot(3), Step::Silence]);
    server.answer(v1::GetReleaseResponse { release: Some(release(3)), revision: 3 });
    let client = server.client().await;
    client.get_release("releases/r").await.unwrap();
    assert_eq!(server.connections(), 1);
    let mut watch = client.watch_release("releases/r");
    watch.next().await.unwrap().unwrap();
    assert_eq!(server.connections(), 2);
}

fn part(releases: i64) -> Step<WatchReleasesResponse> {
    let initial = (0..releases).map(release).collect();
    let store_id = STORE.into();
    Step::Send(WatchReleasesResponse { initial, store_id, ..Default::default() })
}

fn of_all(revision: i64) -> WatchReleasesResponse {
    WatchReleasesResponse { revision, store_id: STORE.into(), ..Default::default() }
}

fn synced(revision: i64) -> Step<WatchReleasesResponse> {
    Step::Send(WatchReleasesResponse { synced: true, ..of_all(revision) })
}

fn changes(revision: i64, count: usize) -> Step<WatchReleasesResponse> {
    let changes = vec![v1::ReleaseChange::default(); count];
    Step::Send(WatchReleasesResponse { changes, ..of_all(revision) })
}

#[tokio::test]
async fn a_watch_of_many_tells_whole_sets_only_and_resumes_with_its_filter() {
    let server = Scripted::start().await;
    let expired = || end(Code::Unavailable, "STREAM_EXPIRED");
    server
        // Broken before it was complete: begun anew, and never shown.
        .releases_stream([part(2), part(2), expired()])
        .releases_stream([part(1), synced(7), changes(9, 2), Step::Send(of_all(12)), expired()])
        .releases_stream([changes(14, 1), ok()])
        .releases_stream([end(Code::OutOfRange, "REVISION_COMPACTED")])
        .releases_stream([part(2), part(1), synced(40), changes(41, 1), Step::Silence]);
    let filter = v1::ReleaseFilter {
        unfinished_only: true,
        flags: vec!["flags/f".into()],
        ..Default::default()
    };
    let watch = server.client().await.watch_releases(filter.clone());
    let expected = [
        "interrupted Unavailable",
        "resumed",
        "snapshot 7 of 1",
        "2 changes 9",
        "bookmark 12",
        "interrupted Unavailable",
        "resumed",
        "1 changes 14",
        "interrupted Unavailable",
        "resumed",
        "restarted REVISION_COMPACTED",
        "snapshot 40 of 3",
        "1 changes 41",
    ];
    assert_eq!(told(watch, expected.len(), words).await, expected);
    let requests: Vec<v1::WatchReleasesRequest> =
        server.calls().iter().map(|call| call.request()).collect();
    let behind: Vec<_> = requests.iter().map(|request| request.resume_after_revision).collect();
    assert_eq!(behind, [0, 0, 12, 14, 0]);
    assert!(requests.iter().all(|request| request.filter.as_ref() == Some(&filter)));
}

#[tokio::test]
async fn a_watch_signs_with_the_caller() {
    let server = Scripted::start().await;
    server.release_stream([last(4), ok()]);
    let client = server.connect().principal("ann").groups(["sre"]).await.unwrap();
    let told = told(client.watch_release("releases/r"), usize::MAX, word).await;
    assert_eq!(told, ["change 4", "done"]);
    let calls = server.calls();
    assert_eq!(calls[0].principal.as_deref(), Some("ann"));
    assert_eq!(calls[0].groups.as_deref(), Some("sre"));
    assert_eq!(calls[0].timeout, None, "a watch has no deadline");
}

#[tokio::test]
async fn the_reason_of_a_failure_is_known_to_the_consumer() {
    let server = Scripted::start().await;
    server.release_stream([end(Code::NotFound, "RESOURCE_NOT_FOUND")]);
    let mut watch = server.client().await.watch_release("releases/r");
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::ResourceNotFound);
    assert!(watch.next().await.is_none());
}
