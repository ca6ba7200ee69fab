//! Input of every wrong kind: a clear answer with the field's path, and nothing stored.

use crate::world::{FLAG, RELEASE, server, start, trigger};
use harness::{message, reason};
use phasegate_api::v1;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The paths of all violations.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!((status.code(), &*reason(status)), (Code::InvalidArgument, "INVALID_FIELD"));
    let details = status.get_error_details();
    let violations =
        &details.bad_request().expect("INVALID_FIELD has a BadRequest").field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
    violations.iter().map(|violation| violation.field.clone()).collect()
}

async fn check_pipeline(pipeline: Value, expected: &[&str]) {
    let server = harness::TestServer::in_memory().await;
    let mut ann = server.by("ann");
    let json = json!({ "pipelineId": "p", "pipeline": pipeline });
    let request: v1::CreatePipelineRequest = message("CreatePipelineRequest", json);
    let status = ann.pipelines.create_pipeline(request).await.unwrap_err();
    let mut found = fields(&status);
    found.sort();
    assert_eq!(found, expected);
    let list = ann.pipelines.list_pipelines(v1::ListPipelinesRequest::default()).await.unwrap();
    assert!(list.into_inner().pipelines.is_empty(), "nothing is stored");
    server.stop().await;
}

#[tokio::test]
async fn all_violations_of_a_pipeline_come_at_once() {
    let phase = |id: &str| json!({ "id": id, "rules": [{ "id": "all" }] });
    check_pipeline(
        json!({
            "phases": [
                phase("Bad Id"),
                { "id": "b", "rules": [], "bakeDuration": "7776001s" },
                { "id": "b", "rules": [{ "id": "all", "rolloutBasisPoints": 10001 }],
                  "approval": { "minApprovals": 21 } },
            ]
        }),
        &[
            "pipeline.phases[0].id",
            "pipeline.phases[1].bake_duration",
            "pipeline.phases[1].rules",
            "pipeline.phases[2].approval.min_approvals",
            "pipeline.phases[2].id",
            "pipeline.phases[2].rules[0].rollout_basis_points",
        ],
    )
    .await;
}

#[tokio::test]
async fn durations_below_zero_and_zones_that_do_not_exist_are_refused() {
    check_pipeline(
        json!({ "phases": [{
            "id": "a",
            "rules": [{ "id": "all" }],
            "bakeDuration": "-1s",
            "windows": { "timeZone": "Europe/Atlantis" }
        }]}),
        &["pipeline.phases[0].bake_duration", "pipeline.phases[0].windows.time_zone"],
    )
    .await;
}

#[tokio::test]
async fn ids_from_one_character_to_the_limit_are_taken_and_nothing_beyond() {
    let server = server().await;
    let mut ann = server.by("ann");
    let mut create = async |id: &str| {
        let flag = json!({ "flagId": id, "flag": { "featureGate": {} } });
        let request: v1::CreateFlagRequest = message("CreateFlagRequest", flag);
        ann.flags.create_flag(request).await
    };
    for good in ["a", "Z", "0", "a.b_c-d", &"k".repeat(128)] {
        create(good).await.unwrap_or_else(|status| panic!("{good}: {status:?}"));
    }
    for bad in ["", "é", "a b", "a/b", "-a", "a-", "\u{202e}a", "a\0", &"k".repeat(129)] {
        assert_eq!(fields(&create(bad).await.unwrap_err()), ["flag_id"], "{bad:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_enum_numbers_are_refused() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let mut request = trigger("b", json!({}));
    request.conflict_policy = 99;
    let status = ann.releases.trigger_release(request).await.unwrap_err();
    assert_eq!(fields(&status), ["conflict_policy"]);
    let signal = v1::ReportGuardSignalRequest {
        name: RELEASE.into(),
        phase_id: "canary".into(),
        guard_id: "errors".into(),
        verdict: 7,
        ..Default::default()
    };
    let status = ann.releases.report_guard_signal(signal).await.unwrap_err();
    assert_eq!(fields(&status), ["verdict"]);
    server.stop().await;
}

#[tokio::test]
async fn numbers_that_json_does_not_have_are_refused() {
    let server = server().await;
    let mut ann = server.by("ann");
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let value =
            prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number)) };
        let fields_of = std::collections::BTreeMap::from([("x".to_owned(), value)]);
        let request = v1::EvaluateFlagRequest {
            flag: FLAG.into(),
            environment: "prod".into(),
            context: Some(prost_types::Struct { fields: fields_of }),
        };
        let status = ann.flags.evaluate_flag(request).await.unwrap_err();
        assert!(fields(&status)[0].starts_with("context"), "{status:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn times_that_no_calendar_has_are_refused() {
    let server = server().await;
    let mut ann = server.by("ann");
    for (seconds, nanos) in
        [(-1, 0), (253_402_300_800, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000)]
    {
        let mut request = trigger("on", json!({}));
        let release = request.release.as_mut().unwrap();
        release.schedule_time = Some(prost_types::Timestamp { seconds, nanos });
        let status = ann.releases.trigger_release(request).await.unwrap_err();
        assert_eq!(fields(&status), ["release.schedule_time"], "{seconds} {nanos}");
    }
    server.stop().await;
}

#[tokio::test]
async fn empty_requests_name_what_is_missing() {
    let server = server().await;
    let mut ann = server.by("ann");
    let status =
        ann.releases.trigger_release(v1::TriggerReleaseRequest::default()).await.unwrap_err();
    assert_eq!(fields(&status), ["release"]);
    let status = ann.flags.create_flag(v1::CreateFlagRequest::default()).await.unwrap_err();
    assert!(fields(&status).contains(&"flag_id".to_owned()));
    let status = ann.flags.set_kill_switch(v1::SetKillSwitchRequest::default()).await.unwrap_err();
    assert_eq!(fields(&status), ["name", "engaged"]);
    server.stop().await;
}

#[tokio::test]
async fn a_huge_message_is_refused_and_the_connection_lives() {
    let server = server().await;
    let mut ann = server.by("ann");
    let mut request = trigger("on", json!({}));
    request.release.as_mut().unwrap().description = "x".repeat(3 << 20);
    let status = ann.releases.trigger_release(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "the transport's own refusal: {status:?}"
    );
    start(&mut ann).await;
    server.stop().await;
}

#[tokio::test]
async fn texts_over_their_limit_are_refused_and_unicode_counts_by_characters() {
    let server = server().await;
    let mut ann = server.by("ann");
    let describe = |text: String| trigger("on", json!({ "release": { "description": text } }));
    let status = ann.releases.trigger_release(describe("x".repeat(1025))).await.unwrap_err();
    assert_eq!(fields(&status), ["release.description"]);
    let text = "\u{1F680}".repeat(1024);
    let answer = ann.releases.trigger_release(describe(text.clone())).await.unwrap();
    assert_eq!(answer.into_inner().release.unwrap().description, text);
    server.stop().await;
}
