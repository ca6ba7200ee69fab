//! What sound requests mean.

use super::sample::*;
use crate::{
    convert::{self, Parsed, Rejected, WaitRelease, WaitUntil},
    v1,
};
use phasegate_engine::{
    command::{Action, ConflictPolicy, Expected, FlagChange, Gate, SwitchTo, Trigger},
    flag::Spec,
    id::{FlagId, GuardId, PhaseId, PipelineId, ReleaseId, RequestId, Revision},
    pipeline::{OnFail, PassRequirement, SelfApproval},
    release::GuardVerdict,
    targeting::{BasisPoints, Test},
    time::{Span, Timestamp},
};
use prost_types::FieldMask;
use std::sync::Arc;

fn flag_id() -> FlagId {
    FlagId::parse("checkout").unwrap()
}

fn release_id() -> ReleaseId {
    ReleaseId::parse("r1").unwrap()
}

fn phase_id() -> PhaseId {
    PhaseId::parse("canary").unwrap()
}

fn trigger(request: v1::TriggerReleaseRequest) -> Result<Trigger, Rejected> {
    let parsed = convert::trigger_release(request, ReleaseId::parse("fresh").unwrap())?;
    let Action::TriggerRelease(trigger) = parsed.action else { panic!("{parsed:?}") };
    Ok(trigger)
}

#[test]
fn the_wire_facts_of_a_call_come_along() {
    let request = v1::CreateFlagRequest {
        request_id: "0190".to_owned(),
        validate_only: true,
        ..create_flag()
    };
    let Parsed { request_id, reason, validate_only, .. } = convert::create_flag(request).unwrap();
    assert_eq!(request_id, Some(RequestId::new("0190")));
    assert_eq!((&*reason, validate_only), ("", true));

    let request = v1::PauseReleaseRequest {
        name: "releases/r1".to_owned(),
        reason: " looks odd ".to_owned(),
        ..Default::default()
    };
    let parsed = convert::pause_release(request).unwrap();
    let action = Action::PauseRelease { release: release_id() };
    let reason = Arc::from(" looks odd ");
    assert_eq!(parsed, Parsed { action, request_id: None, reason, validate_only: false });
}

#[test]
fn an_etag_is_the_revision_of_the_resource_and_any_other_text_is_stale() {
    let check = |etag: &str, expected| {
        let request = v1::DeleteFlagRequest {
            name: "flags/checkout".to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        };
        let action = Action::DeleteFlag { flag: flag_id(), expected };
        assert_eq!(convert::delete_flag(request).unwrap().action, action, "{etag}");
    };
    check("", Expected::Anything);
    check("r0", Expected::Revision(Revision::ZERO));
    check("r17", Expected::Revision(Revision::new(17)));
    for foreign in ["17", "r", "r017", "r+17", "r-1", "R17", "r17 ", "r99999999999999999999", "é"]
    {
        check(foreign, Expected::Unknown);
    }
}

#[test]
fn what_a_rule_leaves_out_has_its_default() {
    let action = convert::create_flag(create_flag()).unwrap().action;
    let Action::CreateFlag { spec, pipeline, .. } = action else { panic!("{action:?}") };
    let Spec::Gate(gate) = &*spec else { panic!("{spec:?}") };
    let rule = &gate.rules[0].targeting;
    assert_eq!((rule.share, &*rule.bucket_by), (BasisPoints::ALL, "targetingKey"));
    assert!(rule.environments.is_empty() && rule.conditions.is_empty());
    assert_eq!(pipeline, Some(PipelineId::parse("standard").unwrap()));
}

#[test]
fn an_explicit_share_of_nobody_is_not_everyone() {
    let mut request = create_flag();
    let Some(v1::flag::Spec::FeatureGate(gate)) = &mut request.flag.as_mut().unwrap().spec else {
        panic!("the sample is a gate");
    };
    gate.rules[0].targeting.as_mut().unwrap().rollout_basis_points = Some(0);
    let action = convert::create_flag(request).unwrap().action;
    let Action::CreateFlag { spec, .. } = action else { panic!("{action:?}") };
    let Spec::Gate(gate) = &*spec else { panic!("{spec:?}") };
    assert_eq!(gate.rules[0].targeting.share, BasisPoints::NONE);
}

#[test]
fn a_number_of_a_condition_keeps_its_text() {
    let mut request = create_pipeline();
    request.pipeline.as_mut().unwrap().phases[0].rules[0].conditions = vec![v1::Condition {
        attribute: "age".to_owned(),
        operator: v1::ConditionOperator::Less.into(),
        values: vec!["1.50".to_owned()],
    }];
    let action = convert::create_pipeline(request).unwrap().action;
    let Action::CreatePipeline { template, .. } = action else { panic!("{action:?}") };
    let Test::Less(number) = &template.phases[0].rules[0].conditions[0].test else {
        panic!("{template:?}")
    };
    assert_eq!((number.text(), number.value()), ("1.50", 1.5));
}

#[test]
fn a_phase_comes_out_as_it_was_written() {
    let action = convert::create_pipeline(create_pipeline()).unwrap().action;
    let Action::CreatePipeline { pipeline, template } = action else { panic!("{action:?}") };
    assert_eq!(pipeline.as_str(), "standard");
    let phase = &template.phases[0];
    assert_eq!(phase.bake, Span::from_secs(300));
    let approval = phase.approval.as_ref().unwrap();
    assert_eq!((approval.min_approvals, approval.quotas[0].min_approvals), (2, 1));
    assert_eq!(approval.self_approval, SelfApproval::Forbidden);
    assert_eq!(approval.expiry, Some(Span::from_secs(3600)));
    let guard = &phase.guards[0];
    assert_eq!(guard.pass, PassRequirement::Required { timeout: Some(Span::from_secs(600)) });
    assert_eq!(guard.on_fail, OnFail::Fail);
    let windows = phase.windows.as_ref().unwrap();
    assert_eq!(windows.zone, chrono_tz::Europe::Rome);
    assert_eq!(windows.weekly[0].days, [chrono::Weekday::Mon, chrono::Weekday::Tue]);
    assert_eq!(windows.weekly[0].start.minutes(), 9 * 60);
    assert_eq!(windows.blackouts[0].start, Timestamp::from_millis(1_000_000));
}

#[test]
fn a_guard_pauses_unless_it_is_told_to_fail() {
    for on_fail in [v1::GuardAction::Unspecified, v1::GuardAction::Pause] {
        let mut request = create_pipeline();
        request.pipeline.as_mut().unwrap().phases[0].guards[0].on_fail = on_fail.into();
        let action = convert::create_pipeline(request).unwrap().action;
        let Action::CreatePipeline { template, .. } = action else { panic!("{action:?}") };
        assert_eq!(template.phases[0].guards[0].on_fail, OnFail::Pause);
    }
}

#[test]
fn times_are_rounded_up_to_the_millisecond() {
    let check = |nanos, millis| {
        let request = v1::AdjustBakeRequest {
            name: "releases/r1".to_owned(),
            reason: "because".to_owned(),
            phase_id: "canary".to_owned(),
            remaining: duration(1, nanos),
            ..Default::default()
        };
        let action = convert::adjust_bake(request).unwrap().action;
        let Action::AdjustBake { remaining, .. } = action else { panic!("{action:?}") };
        assert_eq!(remaining, Span::from_millis(millis), "{nanos}");

        let mut request = trigger_release();
        request.release.as_mut().unwrap().schedule_time = instant(1, nanos);
        let schedule_time = trigger(request).unwrap().schedule_time;
        assert_eq!(schedule_time, Some(Timestamp::from_millis(millis)), "{nanos}");
    };
    check(0, 1000);
    check(1, 1001);
    check(999_999, 1001);
    check(1_000_000, 1001);
    check(1_000_001, 1002);
    check(999_999_999, 2000);
}

fn update(flag: v1::Flag, paths: Option<&[&str]>) -> FlagChange {
    let request = v1::UpdateFlagRequest {
        flag: Some(v1::Flag { name: "flags/checkout".to_owned(), ..flag }),
        update_mask: paths
            .map(|paths| FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
        ..Default::default()
    };
    let action = convert::update_flag(request).unwrap().action;
    let Action::UpdateFlag { change, .. } = action else { panic!("{action:?}") };
    change
}

#[test]
fn without_a_mask_the_fields_that_are_set_are_replaced() {
    assert_eq!(update(v1::Flag::default(), None), FlagChange::default());
    assert_eq!(update(v1::Flag::default(), Some(&[])), FlagChange::default());
    let described = v1::Flag { description: "new".to_owned(), ..Default::default() };
    let description = Some(Arc::from("new"));
    assert_eq!(update(described, None), FlagChange { description, ..Default::default() });
}

#[test]
fn a_mask_can_empty_a_field() {
    let change = update(v1::Flag::default(), Some(&["description", "pipeline"]));
    let description = Some(Arc::from(""));
    let expected = FlagChange { description, pipeline: Some(None), ..FlagChange::default() };
    assert_eq!(change, expected);
}

#[test]
fn a_star_replaces_everything_that_can_be() {
    let change = update(create_flag().flag.unwrap(), Some(&["*"]));
    assert_eq!(change.description, Some(Arc::from("")));
    assert!(change.spec.is_some());
    assert_eq!(change.pipeline, Some(Some(PipelineId::parse("standard").unwrap())));
}

#[test]
fn what_a_mask_leaves_out_stays() {
    let change = update(create_flag().flag.unwrap(), Some(&["pipeline"]));
    assert_eq!((change.description, change.spec), (None, None));
}

#[test]
fn an_update_of_a_pipeline_replaces_what_its_mask_says() {
    let check = |paths: Option<&[&str]>, replaced: [bool; 4]| {
        let mut pipeline = create_pipeline().pipeline.unwrap();
        pipeline.name = "pipelines/standard".to_owned();
        let request = v1::UpdatePipelineRequest {
            pipeline: Some(pipeline),
            update_mask: paths
                .map(|paths| FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
            ..Default::default()
        };
        let action = convert::update_pipeline(request).unwrap().action;
        let Action::UpdatePipeline { change, .. } = action else { panic!("{action:?}") };
        let found = [
            change.description.is_some(),
            change.phases.is_some(),
            change.exempt_environments.is_some(),
            change.trigger_notice.is_some(),
        ];
        assert_eq!(found, replaced, "{paths:?}");
    };
    check(None, [false, true, true, false]);
    check(Some(&["trigger_notice", "phases"]), [false, true, false, true]);
    check(Some(&["*"]), [true, true, true, true]);
}

#[test]
fn the_server_makes_an_id_only_if_none_is_given() {
    assert_eq!(trigger(trigger_release()).unwrap().id.as_str(), "r1");
    let unnamed = v1::TriggerReleaseRequest { release_id: String::new(), ..trigger_release() };
    assert_eq!(trigger(unnamed).unwrap().id.as_str(), "fresh");
}

#[test]
fn a_trigger_fails_on_a_conflict_unless_told_otherwise() {
    let check = |policy: v1::ConflictPolicy, expected| {
        let conflict_policy = policy.into();
        let request = v1::TriggerReleaseRequest { conflict_policy, ..trigger_release() };
        assert_eq!(trigger(request).unwrap().conflict_policy, expected);
    };
    check(v1::ConflictPolicy::Unspecified, ConflictPolicy::Fail);
    check(v1::ConflictPolicy::Fail, ConflictPolicy::Fail);
    check(v1::ConflictPolicy::Queue, ConflictPolicy::Queue);
    check(v1::ConflictPolicy::Supersede, ConflictPolicy::Supersede);
}

#[test]
fn a_base_of_zero_is_not_checked() {
    let check = |base, expected| {
        let mut request = trigger_release();
        request.release.as_mut().unwrap().base_spec_revision = base;
        assert_eq!(trigger(request).unwrap().base, expected);
    };
    check(0, None);
    check(12, Some(Revision::new(12)));
}

#[test]
fn a_bypass_is_a_bypass_and_nothing_else_is() {
    let skip = |bypass_approval| {
        let request = v1::SkipPhaseRequest {
            name: "releases/r1".to_owned(),
            reason: "because".to_owned(),
            phase_id: "canary".to_owned(),
            bypass_approval,
            ..Default::default()
        };
        convert::skip_phase(request).unwrap().action
    };
    let expected = |approvals| Action::SkipPhase {
        release: release_id(),
        expected: Expected::Anything,
        phase: phase_id(),
        approvals,
    };
    assert_eq!(skip(false), expected(Gate::Respect));
    assert_eq!(skip(true), expected(Gate::Bypass));

    let full = |bypass_approval, override_windows| {
        let request = v1::FullRolloutRequest {
            name: "releases/r1".to_owned(),
            reason: "because".to_owned(),
            bypass_approval,
            override_windows,
            ..Default::default()
        };
        convert::full_rollout(request).unwrap().action
    };
    let expected = |approvals, windows| Action::FullRollout {
        release: release_id(),
        expected: Expected::Anything,
        approvals,
        windows,
    };
    assert_eq!(full(true, false), expected(Gate::Bypass, Gate::Respect));
    assert_eq!(full(false, true), expected(Gate::Respect, Gate::Bypass));
}

#[test]
fn the_switch_goes_where_it_is_told() {
    let check = |engaged, switch| {
        let request = v1::SetKillSwitchRequest {
            name: "flags/checkout".to_owned(),
            engaged: Some(engaged),
            ..Default::default()
        };
        let action = Action::SetKillSwitch { flag: flag_id(), switch };
        assert_eq!(convert::set_kill_switch(request).unwrap().action, action);
    };
    check(true, SwitchTo::Engaged);
    check(false, SwitchTo::Lifted);
}

#[test]
fn the_text_of_a_signal_is_its_reason() {
    let check = |verdict: v1::GuardVerdict, expected| {
        let request = v1::ReportGuardSignalRequest {
            name: "releases/r1".to_owned(),
            reason: "p99 is 3 s".to_owned(),
            phase_id: "canary".to_owned(),
            guard_id: "latency".to_owned(),
            verdict: verdict.into(),
            ..Default::default()
        };
        let parsed = convert::report_guard_signal(request).unwrap();
        let guard = GuardId::parse("latency").unwrap();
        let (release, phase) = (release_id(), phase_id());
        let action = Action::ReportGuardSignal { release, phase, guard, verdict: expected };
        assert_eq!((parsed.action, &*parsed.reason), (action, "p99 is 3 s"));
    };
    check(v1::GuardVerdict::Pass, GuardVerdict::Pass);
    check(v1::GuardVerdict::Fail, GuardVerdict::Fail);
}

#[test]
fn a_wait_is_for_a_revision_or_for_the_end() {
    let check = |after_revision, until_over, max_wait, until, secs| {
        let name = "releases/r1".to_owned();
        let request = v1::WaitReleaseRequest { name, after_revision, until_over, max_wait };
        let expected =
            WaitRelease { release: release_id(), until, max_wait: Span::from_secs(secs) };
        assert_eq!(convert::wait_release(request), Ok(expected));
    };
    check(0, false, None, WaitUntil::Above(Revision::ZERO), 30);
    check(9, false, seconds(60), WaitUntil::Above(Revision::new(9)), 60);
    check(9, true, seconds(0), WaitUntil::Over, 0);
}

#[test]
fn a_watch_from_revision_zero_begins_with_a_snapshot() {
    let watch = |resume_after_revision, store_id: &str| {
        let (name, store_id) = ("releases/r1".to_owned(), store_id.to_owned());
        let watch = convert::watch_release(v1::WatchReleaseRequest {
            name,
            resume_after_revision,
            store_id,
        });
        let watch = watch.unwrap();
        (watch.resume_after, watch.store_id)
    };
    assert_eq!(watch(0, ""), (None, None));
    assert_eq!(watch(7, "s"), (Some(Revision::new(7)), Some("s".to_owned())));
}
