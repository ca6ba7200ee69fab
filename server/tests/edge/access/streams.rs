//! Streams end when their caller may no longer follow them.

use super::{Guarded, reason};
use crate::server::within;
use phasegate_api::{flagd::sync, v1};
use tonic::{Code, Status, Streaming};

const POLICY: &str = "
- groups: [payments]
  roles: [viewer]
  flags: {labels: {team: payments}}
- principals: ['token:app']
  permissions: [evaluate]
- principals: ['token:app']
  roles: [viewer]
";

async fn guarded() -> Guarded {
    let guarded = Guarded::start(POLICY).await;
    guarded.tokens.person("ann", &["payments"]);
    guarded.tokens.service("app");
    guarded.with_flags().await.with_releases().await
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    within(stream.message()).await.unwrap().expect("another message")
}

async fn end<T: std::fmt::Debug>(stream: &mut Streaming<T>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without an error"),
                Err(status) => return status,
            }
        }
    };
    within(end).await
}

fn watch(id: &str) -> v1::WatchReleaseRequest {
    v1::WatchReleaseRequest { name: format!("releases/{id}"), ..Default::default() }
}

fn relabel(id: &str, team: &str) -> v1::UpdateFlagRequest {
    let labels = [("team".to_owned(), team.to_owned())].into();
    let flag = v1::Flag { name: format!("flags/{id}"), labels, ..Default::default() };
    v1::UpdateFlagRequest { flag: Some(flag), ..Default::default() }
}

fn pause(id: &str) -> v1::PauseReleaseRequest {
    v1::PauseReleaseRequest { name: format!("releases/{id}"), ..Default::default() }
}

#[tokio::test]
async fn every_stream_ends_when_the_credential_is_revoked() {
    let guarded = guarded().await;
    let app = guarded.as_("app").await;
    let mut one = app.releases().watch_release(watch("pay-r")).await.unwrap().into_inner();
    let many = v1::WatchReleasesRequest::default();
    let mut many = app.releases().watch_releases(many).await.unwrap().into_inner();
    let mut sets = sync::flag_sync_service_client::FlagSyncServiceClient::new(app.0.clone());
    // The flags name no environment, so there is none to follow; it is refused by delivery, not before.
    let request =
        sync::SyncFlagsRequest { selector: "flagSetId=prod".into(), ..Default::default() };
    let refused = sets.sync_flags(request).await.unwrap_err();
    assert_eq!(reason(&refused).0, "RESOURCE_NOT_FOUND");
    next(&mut one).await;
    next(&mut many).await;
    let waiting = v1::WaitReleaseRequest {
        name: "releases/pay-r".into(),
        until_over: true,
        ..Default::default()
    };
    let mut releases = app.releases();
    let waiting = tokio::spawn(async move { releases.wait_release(waiting).await });
    guarded.tokens.revoke("app");
    for end in
        [end(&mut one).await, end(&mut many).await, within(waiting).await.unwrap().unwrap_err()]
    {
        assert_eq!(end.code(), Code::Unauthenticated, "{end:?}");
        assert_eq!(reason(&end).0, "UNAUTHENTICATED");
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_role_goes() {
    let guarded = guarded().await;
    let app = guarded.as_("app").await;
    let mut one = app.releases().watch_release(watch("pay-r")).await.unwrap().into_inner();
    next(&mut one).await;
    guarded.rewrite("- principals: ['token:app']\n  permissions: [evaluate]\n");
    let end = end(&mut one).await;
    assert_eq!(end.code(), Code::PermissionDenied, "{end:?}");
    assert_eq!(reason(&end), ("PERMISSION_MISSING".into(), Some("read".into())));
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_watch_of_one_release_ends_when_its_flag_moves_out_of_sight() {
    let guarded = guarded().await;
    let (ann, root) = (guarded.as_("ann").await, guarded.as_("root").await);
    let mut one = ann.releases().watch_release(watch("pay-r")).await.unwrap().into_inner();
    next(&mut one).await;
    root.flags().update_flag(relabel("pay-a", "web")).await.unwrap();
    root.releases().pause_release(pause("pay-r")).await.unwrap();
    let end = within(one.message()).await.unwrap_err();
    let missing = ann.releases().watch_release(watch("pay-r")).await.unwrap_err();
    assert_eq!((end.code(), end.details()), (Code::NotFound, missing.details()));
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_watch_of_many_has_what_is_seen_and_begins_anew_when_that_changes() {
    let guarded = guarded().await;
    let (ann, root) = (guarded.as_("ann").await, guarded.as_("root").await);
    let many = v1::WatchReleasesRequest::default();
    let mut stream = ann.releases().watch_releases(many.clone()).await.unwrap().into_inner();
    let mut names = Vec::new();
    let synced = loop {
        let message = next(&mut stream).await;
        names.extend(message.initial.into_iter().map(|release| release.name));
        if message.synced {
            break message.revision;
        }
    };
    assert_eq!(names, ["releases/pay-r"]);
    root.releases().pause_release(pause("web-r")).await.unwrap();
    root.releases().pause_release(pause("pay-r")).await.unwrap();
    let changes = loop {
        let message = next(&mut stream).await;
        if !message.changes.is_empty() {
            break message.changes;
        }
    };
    let told: Vec<_> = changes.iter().map(|c| c.release.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(told, ["releases/pay-r"], "the other is not told of");

    root.flags().update_flag(relabel("web-a", "payments")).await.unwrap();
    let unpause = v1::UnpauseReleaseRequest { name: "releases/web-r".into(), ..Default::default() };
    root.releases().unpause_release(unpause).await.unwrap();
    let end = end(&mut stream).await;
    assert_eq!((end.code(), &*reason(&end).0), (Code::OutOfRange, "VIEW_CHANGED"));
    let resumed = v1::WatchReleasesRequest { resume_after_revision: synced, ..many };
    let refused = ann.releases().watch_releases(resumed).await.unwrap_err();
    assert_eq!(reason(&refused).0, "VIEW_CHANGED", "what was seen then is another set");
    guarded.server.stop().await;
}

#[tokio::test]
async fn calls_go_on_while_the_policy_is_read_again() {
    let guarded = guarded().await;
    let app = guarded.as_("app").await;
    let calls = tokio::spawn(async move {
        for _ in 0..200 {
            let list = v1::ListReleasesRequest::default();
            let releases = app.releases().list_releases(list).await.unwrap().into_inner().releases;
            // Both or one, by the policy that was in force; never something in between.
            assert!((1..=2).contains(&releases.len()), "{releases:?}");
        }
    });
    let scoped = "
- principals: ['token:app']
  roles: [viewer]
  flags: {labels: {team: payments}}
";
    for policy in [scoped, POLICY, scoped, POLICY] {
        guarded.rewrite(policy);
        tokio::task::yield_now().await;
    }
    within(calls).await.unwrap();
    guarded.server.stop().await;
}
