//! Each action of a person, from trigger to end.

use crate::world::{
    FLAG, RELEASE, answer, call, evaluate, exposure, get, log, server, start, trigger,
};
use harness::{START, happened, reason, state};
use phasegate_api::v1;
use serde_json::json;

#[tokio::test]
async fn a_release_bakes_stops_for_an_approval_and_reaches_everyone() {
    let server = server().await;
    let (mut ann, mut bob) = (server.by("ann"), server.by("bob"));
    assert_eq!(exposure(&mut ann).await, [false; 4]);

    assert_eq!(state(&start(&mut ann).await), "BAKING");
    assert_eq!(exposure(&mut ann).await, [true, false, false, true], "canary, and exempt dev");

    server.advance(59).await;
    assert_eq!(get(&mut ann, RELEASE).await.current_phase_id, "canary");
    server.advance(1).await;
    let release = get(&mut ann, RELEASE).await;
    assert_eq!((state(&release), &*release.current_phase_id), ("AWAITING_APPROVAL", "staff"));
    assert_eq!(exposure(&mut ann).await, [true, false, false, true]);

    let release = call!(bob, approve_phase, ApprovePhaseRequest { phase_id: "staff" }).unwrap();
    assert_eq!(state(&release), "BAKING");
    assert_eq!(exposure(&mut ann).await, [true, true, false, true]);

    server.advance(60).await;
    assert_eq!(exposure(&mut ann).await, [true; 4]);
    server.advance(30).await;
    let release = get(&mut ann, RELEASE).await;
    assert_eq!(state(&release), "SUCCEEDED");
    assert_eq!(release.end_reason(), v1::EndReason::AllPhasesDone);
    assert_eq!(exposure(&mut ann).await, [true; 4]);

    let flag = ann.flags.get_flag(v1::GetFlagRequest { name: FLAG.into() }).await.unwrap();
    let flag = flag.into_inner().flag.unwrap();
    assert_eq!(flag.active_release, "");
    assert_eq!(flag.spec_revision, release.revision, "settled by the commit that ended it");
    assert_eq!(
        log(&mut ann, RELEASE).await,
        [
            "TRIGGERED",
            "STARTED",
            "PHASE_ENTERED canary",
            "PHASE_APPLIED canary",
            "PHASE_SUCCEEDED canary",
            "PHASE_ENTERED staff",
            "APPROVAL_RECORDED staff",
            "PHASE_APPLIED staff",
            "PHASE_SUCCEEDED staff",
            "PHASE_ENTERED everyone",
            "PHASE_APPLIED everyone",
            "PHASE_SUCCEEDED everyone",
            "SUCCEEDED",
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_pause_stops_the_bake_and_unpausing_goes_on_with_what_was_left() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    server.advance(20).await;
    let paused = call!(ann, pause_release, PauseReleaseRequest { reason: "lunch" }).unwrap();
    assert_eq!((state(&paused), paused.held_state()), ("PAUSED", v1::ReleaseState::Baking));
    let left = paused.phases[0].bake_remaining.unwrap();
    assert_eq!((left.seconds, left.nanos), (40, 0));
    let pause = paused.pause.unwrap();
    assert_eq!((happened(&pause), &*pause.reason), ("PAUSED", "lunch"));
    assert_eq!(pause.actor.unwrap().principal, "ann");

    server.advance(86_400).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "PAUSED");
    assert_eq!(exposure(&mut ann).await, [true, false, false, true], "exposure stays");

    let running = call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap();
    assert_eq!(state(&running), "BAKING");
    let ends = running.phases[0].bake_end_time.unwrap().seconds;
    assert_eq!(ends, START.as_millis() / 1000 + 20 + 86_400 + 40);
    server.advance(39).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "BAKING");
    server.advance(1).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "AWAITING_APPROVAL");
    server.stop().await;
}

#[tokio::test]
async fn a_skip_leaves_the_phase_applied_and_goes_to_the_next() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let release = call!(ann, skip_phase, SkipPhaseRequest { phase_id: "canary" }).unwrap();
    assert_eq!((state(&release), &*release.current_phase_id), ("AWAITING_APPROVAL", "staff"));
    assert_eq!(release.phases[0].state(), v1::PhaseState::Skipped);
    assert!(release.phases[0].applied);
    assert_eq!(exposure(&mut ann).await, [true, false, false, true]);

    let again = call!(ann, skip_phase, SkipPhaseRequest { phase_id: "canary" }).unwrap_err();
    assert_eq!(reason(&again), "PHASE_NOT_CURRENT", "a repeated call skips no second phase");
    let unapproved = call!(ann, skip_phase, SkipPhaseRequest { phase_id: "staff" }).unwrap_err();
    assert_eq!(reason(&unapproved), "APPROVAL_PENDING");
    let release = call!(
        ann,
        skip_phase,
        SkipPhaseRequest { phase_id: "staff", reason: "incident 7", bypass_approval: true }
    )
    .unwrap();
    assert_eq!((state(&release), &*release.current_phase_id), ("BAKING", "everyone"));
    assert!(release.phases[1].bypassed && !release.phases[1].applied);
    server.stop().await;
}

#[tokio::test]
async fn an_abort_puts_every_answer_back_and_is_final() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    assert_eq!(exposure(&mut ann).await, [true, false, false, true]);
    let release = call!(ann, abort_release, AbortReleaseRequest { reason: "errors" }).unwrap();
    assert_eq!(state(&release), "ABORTED");
    assert_eq!(release.end_reason(), v1::EndReason::AbortRequested);
    assert!(release.phases.iter().all(|phase| !phase.applied));
    assert_eq!(exposure(&mut ann).await, [false; 4]);

    server.advance(86_400).await;
    assert_eq!(exposure(&mut ann).await, [false; 4], "no timer brings it back");
    let again = call!(ann, abort_release, AbortReleaseRequest { reason: "errors" }).unwrap_err();
    assert_eq!(reason(&again), "RELEASE_OVER");
    server.stop().await;
}

#[tokio::test]
async fn a_full_rollout_reaches_everyone_at_once_if_its_approvals_are_met_or_bypassed() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let refused = call!(ann, full_rollout, FullRolloutRequest { reason: "now" }).unwrap_err();
    assert_eq!(reason(&refused), "APPROVAL_PENDING");
    assert_eq!(exposure(&mut ann).await, [true, false, false, true]);
    let release =
        call!(ann, full_rollout, FullRolloutRequest { reason: "now", bypass_approval: true })
            .unwrap();
    assert_eq!(state(&release), "SUCCEEDED");
    assert_eq!(release.end_reason(), v1::EndReason::FullRollout);
    assert!(release.phases[1].bypassed);
    assert_eq!(exposure(&mut ann).await, [true; 4]);
    server.stop().await;
}

#[tokio::test]
async fn a_rejection_aborts() {
    let server = server().await;
    let (mut ann, mut bob) = (server.by("ann"), server.by("bob"));
    start(&mut ann).await;
    server.advance(60).await;
    let rejection =
        call!(bob, reject_phase, RejectPhaseRequest { phase_id: "staff", reason: "not yet" });
    let release = rejection.unwrap();
    assert_eq!(state(&release), "ABORTED");
    assert_eq!(release.end_reason(), v1::EndReason::ApprovalRejected);
    assert_eq!(exposure(&mut ann).await, [false; 4]);
    server.stop().await;
}

#[tokio::test]
async fn approvals_that_do_not_come_in_time_fail_the_release() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    server.advance(60 + 3600).await;
    let release = get(&mut ann, RELEASE).await;
    assert_eq!(state(&release), "FAILED");
    assert_eq!(release.end_reason(), v1::EndReason::ApprovalExpired);
    assert_eq!(exposure(&mut ann).await, [false; 4]);
    server.stop().await;
}

#[tokio::test]
async fn a_bake_can_be_made_longer_shorter_or_over() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let adjust = |seconds| v1::AdjustBakeRequest {
        name: RELEASE.into(),
        phase_id: "canary".into(),
        reason: "we know enough".into(),
        remaining: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    ann.releases.adjust_bake(adjust(600)).await.unwrap();
    server.advance(599).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "BAKING");
    let release = ann.releases.adjust_bake(adjust(0)).await.unwrap().into_inner().release.unwrap();
    assert_eq!(state(&release), "AWAITING_APPROVAL");
    assert_eq!(release.phases[0].state(), v1::PhaseState::Succeeded);
    server.stop().await;
}

#[tokio::test]
async fn a_guard_that_fails_holds_the_release_and_unpausing_acknowledges_it() {
    let server = server().await;
    let (mut ann, mut robot) = (server.by("ann"), server.by("robot"));
    start(&mut ann).await;
    let signal = |verdict: v1::GuardVerdict| v1::ReportGuardSignalRequest {
        name: RELEASE.into(),
        phase_id: "canary".into(),
        guard_id: "errors".into(),
        verdict: verdict.into(),
        reason: "5 % of answers are errors".into(),
        ..Default::default()
    };
    let answer = robot.releases.report_guard_signal(signal(v1::GuardVerdict::Fail)).await.unwrap();
    let release = answer.into_inner().release.unwrap();
    assert_eq!(state(&release), "PAUSED");
    let guard = &release.phases[0].guards[0];
    assert_eq!(
        (guard.verdict(), &*guard.message),
        (v1::GuardVerdict::Fail, "5 % of answers are errors")
    );
    assert_eq!(release.pause.unwrap().details["guardId"], "errors");
    server.advance(600).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "PAUSED");
    let release = call!(ann, unpause_release, UnpauseReleaseRequest {}).unwrap();
    assert_eq!(state(&release), "BAKING");
    assert_eq!(release.phases[0].guards[0].verdict(), v1::GuardVerdict::Unspecified);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_says_which_release_and_phase_it_comes_from() {
    let server = server().await;
    let mut ann = server.by("ann");
    start(&mut ann).await;
    let beta = evaluate(&mut ann, "prod", json!({ "tier": "beta" })).await;
    assert_eq!((beta.exposed, &*beta.phase_id, &*beta.release), (true, "canary", RELEASE));
    let dev = evaluate(&mut ann, "dev", json!({})).await;
    assert_eq!((dev.exposed, &*dev.phase_id), (true, ""), "exempt: no phase did it");
    let other = evaluate(&mut ann, "prod", json!({})).await;
    assert_eq!((other.exposed, &*other.release), (false, RELEASE));
    assert_eq!(other.reason(), v1::EvaluationReason::Default);
    server.stop().await;
}

#[tokio::test]
async fn a_window_is_waited_for_and_can_be_overridden() {
    let server = harness::TestServer::in_memory().await;
    let mut ann = server.by("ann");
    let windows = json!({
        "timeZone": "Europe/Rome",
        "weekly": [{ "days": ["MON", "TUE", "WED", "THU"], "start": "09:00", "end": "16:00" }]
    });
    let phase = |id: &str| json!({ "id": id, "rules": [{ "id": "all" }], "bakeDuration": "60s", "windows": windows });
    let pipeline = json!({ "phases": [phase("one"), phase("two")] });
    crate::world::create_pipeline(&mut ann, "web", pipeline).await;
    let flag = json!({ "featureGate": {}, "pipeline": "pipelines/web" });
    crate::world::create_flag(&mut ann, "checkout", flag).await;
    let release = start(&mut ann).await;
    assert_eq!(state(&release), "AWAITING_WINDOW");
    // From Friday 18:00 UTC to Monday 2030-06-17, 09:00 in Rome.
    let opens = release.phases[0].window_open_time.unwrap().seconds;
    assert_eq!(opens, 1_907_910_000);
    assert!(!answer(&mut ann, "prod", json!({})).await);

    let release = call!(
        ann,
        override_window,
        OverrideWindowRequest { phase_id: "one", reason: "the shop is down" }
    )
    .unwrap();
    assert_eq!((state(&release), release.phases[0].bypassed), ("BAKING", true));
    server.advance(60).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "AWAITING_WINDOW");
    server.advance(4 * 86_400).await;
    assert_eq!(state(&get(&mut ann, RELEASE).await), "SUCCEEDED");
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_has_a_plan_and_changes_nothing() {
    let server = server().await;
    let mut ann = server.by("ann");
    let request = trigger("on", json!({ "validateOnly": true }));
    let answer = ann.releases.trigger_release(request).await.unwrap().into_inner();
    let release = answer.release.unwrap();
    assert_eq!(state(&release), "BAKING", "as if done");
    assert_eq!(release.pipeline_snapshot.unwrap().trigger_notice, "Tell the people on call.");
    let plan: Vec<_> = answer
        .plan
        .iter()
        .map(|phase| {
            let from_start = |time: &Option<prost_types::Timestamp>| {
                time.unwrap().seconds - START.as_millis() / 1000
            };
            let ends = from_start(&phase.earliest_end_time);
            (&*phase.phase_id, from_start(&phase.earliest_apply_time), ends)
        })
        .collect();
    assert_eq!(plan, [("canary", 0, 60), ("staff", 60, 120), ("everyone", 120, 150)]);
    let request = v1::GetReleaseRequest { name: RELEASE.into() };
    let missing = ann.releases.get_release(request).await.unwrap_err();
    assert_eq!(reason(&missing), "RESOURCE_NOT_FOUND");
    assert_eq!(exposure(&mut ann).await, [false; 4]);
    server.stop().await;
}
