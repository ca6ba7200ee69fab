//! Flags: settings outside releases, the kill switch, listings.

use crate::world::{FLAG, PIPELINE, RELEASE, answer, exposure, get, server, start};
use harness::{message, reason, refusal, state};
use phasegate_api::v1;
use serde_json::json;

async fn flag(clients: &mut harness::Clients) -> v1::Flag {
    let request = v1::GetFlagRequest { name: FLAG.into() };
    clients.flags.get_flag(request).await.unwrap().into_inner().flag.unwrap()
}

async fn kill(clients: &mut harness::Clients, engaged: bool) -> v1::Flag {
    let request = v1::SetKillSwitchRequest {
        name: FLAG.into(),
        reason: "incident 9".into(),
        engaged: Some(engaged),
        ..Default::default()
    };
    clients.flags.set_kill_switch(request).await.unwrap().into_inner().flag.unwrap()
}

#[tokio::test]
async fn a_killed_flag_is_false_for_everyone_and_its_release_goes_on() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let killed = kill(&mut ann, true).await;
    assert!(killed.killed);
    assert_eq!(killed.kill_reason, "incident 9");
    assert_eq!(exposure(&mut ann).await, [false; 4]);
    server.advance(60).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "AWAITING_APPROVAL");
    kill(&mut ann, false).await;
    assert_eq!(exposure(&mut ann).await, [true, false, false, true]);
    server.stop().await;
}

#[tokio::test]
async fn a_governed_spec_is_changed_by_a_release_only() {
    let server = server().await;
    let mut ann = server.by("ann");
    let update = |flag: serde_json::Value| -> v1::UpdateFlagRequest {
        message("UpdateFlagRequest", json!({ "flag": flag }))
    };
    let on = json!({ "name": FLAG, "featureGate": { "defaultValue": true } });
    let refused = ann.flags.update_flag(update(on.clone())).await.unwrap_err();
    let (code, why, metadata) = refusal(&refused);
    assert_eq!((code, &*why), (tonic::Code::FailedPrecondition, "PIPELINE_REQUIRED"));
    assert_eq!(metadata, [("pipeline".to_owned(), PIPELINE.to_owned())]);

    let dev_only = json!({ "name": FLAG, "featureGate": { "rules": [
        { "targeting": { "id": "dev", "environments": ["dev"] }, "value": true }
    ]}});
    ann.flags.update_flag(update(dev_only)).await.unwrap();
    assert_eq!(exposure(&mut ann).await, [false, false, false, true], "dev is exempt");

    start(&mut ann).await;
    let locked = ann.flags.update_flag(update(on)).await.unwrap_err();
    let (_, why, metadata) = refusal(&locked);
    assert_eq!(
        (&*why, metadata),
        ("FLAG_LOCKED", vec![("activeRelease".to_owned(), RELEASE.to_owned())])
    );
    server.stop().await;
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    let server = server().await;
    let mut ann = server.by("ann");
    let old = flag(&mut ann).await.etag;
    let describe = |etag: &str, text: &str| -> v1::UpdateFlagRequest {
        let flag = json!({ "name": FLAG, "description": text, "etag": etag });
        message("UpdateFlagRequest", json!({ "flag": flag }))
    };
    ann.flags.update_flag(describe(&old, "first")).await.unwrap();
    let stale = ann.flags.update_flag(describe(&old, "second")).await.unwrap_err();
    assert_eq!((stale.code(), &*reason(&stale)), (tonic::Code::Aborted, "ETAG_MISMATCH"));
    let foreign = ann.flags.update_flag(describe("W/\"xyz\"", "third")).await.unwrap_err();
    assert_eq!(reason(&foreign), "ETAG_MISMATCH");
    assert_eq!(flag(&mut ann).await.description, "first");
    server.stop().await;
}

#[tokio::test]
async fn what_is_in_use_cannot_be_deleted() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let delete_flag = v1::DeleteFlagRequest { name: FLAG.into(), ..Default::default() };
    let refused = ann.flags.delete_flag(delete_flag.clone()).await.unwrap_err();
    assert_eq!(refusal(&refused).2, [("referrer".to_owned(), RELEASE.to_owned())]);
    let delete = v1::DeletePipelineRequest { name: PIPELINE.into(), ..Default::default() };
    let refused = ann.pipelines.delete_pipeline(delete.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "RESOURCE_IN_USE");

    crate::world::call!(ann, abort_release, AbortReleaseRequest { reason: "done" }).unwrap();
    ann.flags.delete_flag(delete_flag).await.unwrap();
    ann.pipelines.delete_pipeline(delete).await.unwrap();
    assert_eq!(state(&get(&mut ann, RELEASE).await), "ABORTED", "releases are never deleted");
    server.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages_that_neither_repeat_nor_leave_out() {
    let server = server().await;
    let mut ann = server.by("ann");
    for n in 0..7 {
        crate::world::create_flag(&mut ann, &format!("f{n}"), json!({ "featureGate": {} })).await;
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListFlagsRequest { page_size: 3, page_token, ..Default::default() };
        let page = ann.flags.list_flags(request).await.unwrap().into_inner();
        assert!(page.flags.len() <= 3);
        names.extend(page.flags.into_iter().map(|flag| flag.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> =
        std::iter::once(FLAG.to_owned()).chain((0..7).map(|n| format!("flags/f{n}"))).collect();
    assert_eq!(names, expected);

    let request = v1::ListFlagsRequest { pipeline: PIPELINE.into(), ..Default::default() };
    let attached = ann.flags.list_flags(request).await.unwrap().into_inner().flags;
    assert_eq!(attached.len(), 1);
    let request = v1::ListFlagsRequest { page_token: "made up".into(), ..Default::default() };
    let refused = ann.flags.list_flags(request).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
    server.stop().await;
}

#[tokio::test]
async fn a_config_answers_objects_and_its_rules_by_share() {
    let server = harness::TestServer::in_memory().await;
    let mut ann = server.by("ann");
    let config = json!({ "dynamicConfig": {
        "rules": [
            { "targeting": { "id": "half", "rolloutBasisPoints": 5000 }, "value": { "limit": 9 } }
        ],
        "defaultValue": { "limit": 1, "note": "é \u{1F600}" }
    }});
    crate::world::create_flag(&mut ann, "checkout", config).await;
    let mut inside = 0;
    for user in 0..200 {
        let context = json!({ "targetingKey": format!("user-{user}") });
        let answer = crate::world::evaluate(&mut ann, "prod", context).await;
        let in_share = answer.variant == "half";
        let expected =
            if in_share { v1::EvaluationReason::Split } else { v1::EvaluationReason::Default };
        assert_eq!(answer.reason(), expected);
        inside += u32::from(in_share);
    }
    assert!((70..=130).contains(&inside), "{inside} of 200 are in a half");
    server.stop().await;
}

#[tokio::test]
async fn a_gate_can_be_edited_freely_without_a_pipeline() {
    let server = harness::TestServer::in_memory().await;
    let mut ann = server.by("ann");
    crate::world::create_flag(&mut ann, "checkout", json!({ "featureGate": {} })).await;
    let request: v1::UpdateFlagRequest = message(
        "UpdateFlagRequest",
        json!({ "flag": { "name": FLAG, "featureGate": { "defaultValue": true } } }),
    );
    ann.flags.update_flag(request).await.unwrap();
    assert!(answer(&mut ann, "prod", json!({})).await);
    server.stop().await;
}
