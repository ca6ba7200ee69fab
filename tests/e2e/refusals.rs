//! What a refusal carries, and that it changes nothing.

use crate::world::{RELEASE, call, events, get, server, start, trigger};
use harness::{reason, refusal};
use phasegate_api::v1;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn an_error_about_a_release_says_where_it_stands() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let paused = call!(ann, pause_release, PauseReleaseRequest {}).unwrap();
    let status = call!(ann, pause_release, PauseReleaseRequest {}).unwrap_err();
    let (code, why, metadata) = refusal(&status);
    assert_eq!((code, &*why), (Code::FailedPrecondition, "ALREADY_PAUSED"));
    let get = |key: &str| {
        let found = metadata.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("no {key}"))
    };
    assert_eq!(get("release"), RELEASE);
    assert_eq!(get("state"), "PAUSED");
    assert_eq!(get("heldState"), "BAKING");
    assert_eq!(get("phaseId"), "canary");
    assert_eq!(get("revision"), paused.revision.to_string());
    assert!(get("allowedStates").contains("BAKING"));
    let details = status.get_error_details();
    let violation = &details.precondition_failure().unwrap().violations[0];
    assert_eq!((&*violation.r#type, &*violation.subject), ("ALREADY_PAUSED", RELEASE));

    let nowhere = call!(ann, approve_phase, ApprovePhaseRequest { phase_id: "none" }).unwrap_err();
    let (code, why, metadata) = refusal(&nowhere);
    assert_eq!((code, &*why), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    for (key, value) in [("resource", "releases/on/phases/none"), ("state", "PAUSED")] {
        assert!(metadata.contains(&(key.to_owned(), value.to_owned())), "{metadata:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refused_call_changes_nothing_and_writes_no_event() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let before = (get(&mut ann, RELEASE).await, events(&mut ann, RELEASE).await);
    let refused = [
        call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap_err(),
        call!(ann, approve_phase, ApprovePhaseRequest { phase_id: "canary" }).unwrap_err(),
        call!(ann, approve_phase, ApprovePhaseRequest { phase_id: "staff" }).unwrap_err(),
        call!(ann, approve_phase, ApprovePhaseRequest { phase_id: "none" }).unwrap_err(),
        call!(ann, skip_phase, SkipPhaseRequest { phase_id: "canary", etag: "r1" }).unwrap_err(),
        call!(ann, override_window, OverrideWindowRequest { phase_id: "canary", reason: "x" })
            .unwrap_err(),
        call!(ann, abort_release, AbortReleaseRequest {}).unwrap_err(),
    ];
    let reasons: Vec<String> = refused.iter().map(reason).collect();
    assert_eq!(
        reasons,
        [
            "NOT_PAUSED",
            "PHASE_NOT_AWAITING_APPROVAL",
            "PHASE_NOT_CURRENT",
            "RESOURCE_NOT_FOUND",
            "ETAG_MISMATCH",
            "PHASE_NOT_AWAITING_WINDOW",
            "REASON_REQUIRED",
        ]
    );
    let after = (get(&mut ann, RELEASE).await, events(&mut ann, RELEASE).await);
    assert_eq!(before, after);
    server.stop().await;
}

#[tokio::test]
async fn who_may_approve_is_asked_of_the_principal_and_the_groups() {
    let server = harness::TestServer::in_memory().await;
    let mut ann = server.by("ann");
    let pipeline = json!({ "phases": [{
        "id": "all",
        "rules": [{ "id": "all" }],
        "approval": {
            "minApprovals": 2,
            "quotas": [{ "group": "sre", "minApprovals": 1 }],
            "reviewerGroups": ["sre", "owners"]
        }
    }]});
    crate::world::create_pipeline(&mut ann, "web", pipeline).await;
    let flag = json!({ "featureGate": {}, "pipeline": "pipelines/web" });
    crate::world::create_flag(&mut ann, "checkout", flag).await;
    let release = start(&mut ann).await;
    assert_eq!(release.phases[0].approvals_missing, 2);

    let approve = async |principal, groups| {
        let mut clients = server.as_caller(principal, groups);
        call!(clients, approve_phase, ApprovePhaseRequest { phase_id: "all" })
    };
    let denied = approve("bob", "").await.unwrap_err();
    assert_eq!((denied.code(), &*reason(&denied)), (Code::PermissionDenied, "NOT_AN_APPROVER"));
    let denied = approve("ann", "owners").await.unwrap_err();
    assert_eq!((denied.code(), &*reason(&denied)), (Code::PermissionDenied, "SELF_APPROVAL"));
    assert_eq!(approve("bob", "owners").await.unwrap().phases[0].approvals_missing, 1);
    assert_eq!(reason(&approve("bob", "sre").await.unwrap_err()), "ALREADY_REVIEWED");
    let still = approve("cid", "owners").await.unwrap();
    assert_eq!(still.phases[0].approvals_missing, 1, "the quota of sre is not met");
    let done = approve("dan", "owners, sre").await.unwrap();
    assert_eq!(done.state(), v1::ReleaseState::Succeeded);
    let groups: Vec<Option<&str>> = done.phases[0]
        .reviews
        .iter()
        .map(|review| review.details.get("groups").map(String::as_str))
        .collect();
    assert_eq!(groups, [None, None, Some("sre")], "only groups that a quota names are kept");
    server.stop().await;
}

#[tokio::test]
async fn unknown_names_are_not_found_by_name() {
    let server = server().await;
    let mut ann = server.by("ann");
    let request = v1::GetReleaseRequest { name: "releases/none".into() };
    let status = ann.releases.get_release(request).await.unwrap_err();
    let (code, why, metadata) = refusal(&status);
    assert_eq!((code, &*why), (Code::NotFound, "RESOURCE_NOT_FOUND"));
    assert_eq!(metadata, [("resource".to_owned(), "releases/none".to_owned())]);
    let nowhere = trigger("on", json!({ "release": { "flag": "flags/none" } }));
    let status = ann.releases.trigger_release(nowhere).await.unwrap_err();
    assert_eq!(refusal(&status).2, [("resource".to_owned(), "flags/none".to_owned())]);
    server.stop().await;
}
