//! Sound requests, and parts of them, to be spoilt by the tests.

use crate::v1;
use prost_types::{Duration, Struct, Timestamp, Value, value::Kind};

pub(super) fn text(length: usize) -> String {
    // Two bytes and one character each, so that a limit on bytes shows.
    "é".repeat(length)
}

pub(super) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

pub(super) fn duration(seconds: i64, nanos: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos })
}

pub(super) fn instant(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

pub(super) fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub(super) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct { fields: members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

pub(super) fn rule(id: &str) -> v1::TargetingRule {
    v1::TargetingRule { id: id.to_owned(), ..v1::TargetingRule::default() }
}

pub(super) fn gate_rule(id: &str) -> v1::gate_spec::Rule {
    v1::gate_spec::Rule { targeting: Some(rule(id)), value: true }
}

pub(super) fn config_rule(id: &str, value: Struct) -> v1::config_spec::Rule {
    v1::config_spec::Rule { targeting: Some(rule(id)), value: Some(value) }
}

pub(super) fn gate() -> v1::GateSpec {
    v1::GateSpec { rules: vec![gate_rule("staff")], default_value: false }
}

pub(super) fn config() -> v1::ConfigSpec {
    let colour = |name: &str| object([("colour", value(Kind::StringValue(name.to_owned())))]);
    v1::ConfigSpec {
        rules: vec![config_rule("staff", colour("red"))],
        default_value: Some(colour("blue")),
    }
}

pub(super) fn create_flag() -> v1::CreateFlagRequest {
    v1::CreateFlagRequest {
        flag_id: "checkout".to_owned(),
        flag: Some(v1::Flag {
            spec: Some(v1::flag::Spec::FeatureGate(gate())),
            pipeline: "pipelines/standard".to_owned(),
            ..v1::Flag::default()
        }),
        ..v1::CreateFlagRequest::default()
    }
}

pub(super) fn approval() -> v1::ApprovalRequirement {
    v1::ApprovalRequirement {
        min_approvals: 2,
        quotas: vec![quota("sre")],
        reviewer_groups: vec!["sre".to_owned(), "payments".to_owned()],
        allow_self_approval: false,
        expiry: seconds(3600),
    }
}

pub(super) fn quota(group: &str) -> v1::approval_requirement::GroupQuota {
    v1::approval_requirement::GroupQuota { group: group.to_owned(), min_approvals: 1 }
}

pub(super) fn weekly() -> v1::release_windows::Weekly {
    v1::release_windows::Weekly {
        days: vec!["MON".to_owned(), "TUE".to_owned()],
        start: "09:00".to_owned(),
        end: "17:00".to_owned(),
    }
}

pub(super) fn blackout() -> v1::release_windows::Blackout {
    v1::release_windows::Blackout {
        start_time: instant(1_000, 0),
        end_time: instant(2_000, 0),
        note: "year-end freeze".to_owned(),
    }
}

pub(super) fn windows() -> v1::ReleaseWindows {
    v1::ReleaseWindows {
        time_zone: "Europe/Rome".to_owned(),
        weekly: vec![weekly()],
        blackouts: vec![blackout()],
    }
}

pub(super) fn guard(id: &str) -> v1::Guard {
    v1::Guard {
        id: id.to_owned(),
        require_pass: true,
        on_fail: v1::GuardAction::Fail.into(),
        pass_timeout: seconds(600),
    }
}

pub(super) fn phase(id: &str) -> v1::Phase {
    v1::Phase {
        id: id.to_owned(),
        rules: vec![rule("everyone")],
        bake_duration: seconds(300),
        approval: Some(approval()),
        windows: Some(windows()),
        guards: vec![guard("error-rate")],
    }
}

pub(super) fn create_pipeline() -> v1::CreatePipelineRequest {
    v1::CreatePipelineRequest {
        pipeline_id: "standard".to_owned(),
        pipeline: Some(v1::Pipeline {
            phases: vec![phase("canary"), phase("rest")],
            exempt_environments: vec!["dev".to_owned()],
            ..v1::Pipeline::default()
        }),
        ..v1::CreatePipelineRequest::default()
    }
}

pub(super) fn trigger_release() -> v1::TriggerReleaseRequest {
    v1::TriggerReleaseRequest {
        release_id: "r1".to_owned(),
        release: Some(v1::Release {
            flag: "flags/checkout".to_owned(),
            change: Some(v1::release::Change::FeatureGate(gate())),
            ..v1::Release::default()
        }),
        ..v1::TriggerReleaseRequest::default()
    }
}
