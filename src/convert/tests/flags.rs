//! What is wrong with requests about flags.

use super::{check, sample::*, violations};
use crate::{
    convert::{create_flag, delete_flag, evaluate_flag, flag_name, set_kill_switch, update_flag},
    v1,
};
use prost_types::{FieldMask, Struct, value::Kind};

fn flag(request: &mut v1::CreateFlagRequest) -> &mut v1::Flag {
    request.flag.as_mut().unwrap()
}

fn gate_of(request: &mut v1::CreateFlagRequest) -> &mut v1::GateSpec {
    match flag(request).spec.as_mut() {
        Some(v1::flag::Spec::FeatureGate(gate)) => gate,
        Some(v1::flag::Spec::DynamicConfig(_)) | None => panic!("the sample is a gate"),
    }
}

#[test]
fn a_flag_to_be_created_is_checked_field_by_field() {
    check(
        create_flag,
        create_flag_request(),
        &[
            (|r| r.request_id = text(64), &[]),
            (|r| r.request_id = text(65), &["request_id must have at most 64 characters"]),
            (|r| r.flag_id = "x".repeat(128), &[]),
            (|r| r.flag_id.clear(), &["flag_id is required"]),
            (
                |r| r.flag_id = "x".repeat(129),
                &["flag_id must match [A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?"],
            ),
            (|r| r.flag = None, &["flag is required"]),
            (|r| flag(r).name = "flags/checkout".to_owned(), &[]),
            (
                |r| flag(r).name = "flags/other".to_owned(),
                &["flag.name must be empty, or agree with the id"],
            ),
            (|r| flag(r).description = text(1024), &[]),
            (|r| flag(r).description = "tab\t, nul\0, \u{1f680}".to_owned(), &[]),
            (
                |r| flag(r).description = text(1025),
                &["flag.description must have at most 1024 characters"],
            ),
            (
                |r| flag(r).description = "x".repeat(1 << 20),
                &["flag.description must have at most 1024 characters"],
            ),
            (|r| flag(r).spec = None, &["flag must have feature_gate or dynamic_config"]),
            (|r| flag(r).pipeline.clear(), &[]),
            (
                |r| flag(r).pipeline = "standard".to_owned(),
                &["flag.pipeline must be pipelines/ and an id"],
            ),
            (
                |r| flag(r).pipeline = "pipelines/Standard".to_owned(),
                &["flag.pipeline must be pipelines/ and an id that matches \
                   [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
            ),
        ],
    );
}

/// The function and its sample have one name.
fn create_flag_request() -> v1::CreateFlagRequest {
    super::sample::create_flag()
}

#[test]
fn what_only_the_server_says_of_a_flag_is_ignored() {
    let mut request = create_flag_request();
    let spoilt = flag(&mut request);
    spoilt.killed = true;
    spoilt.kill_reason = text(5000);
    spoilt.active_release = "nonsense".to_owned();
    spoilt.revision = -1;
    spoilt.spec_revision = i64::MIN;
    spoilt.etag = text(5000);
    spoilt.update_time = instant(i64::MAX, -1);
    assert_eq!(create_flag(request), create_flag(create_flag_request()));
}

#[test]
fn a_gate_is_checked_rule_by_rule() {
    check(
        create_flag,
        create_flag_request(),
        &[
            (|r| gate_of(r).rules.clear(), &[]),
            (|r| gate_of(r).rules = (0..100).map(|n| gate_rule(&format!("r{n}"))).collect(), &[]),
            (
                |r| gate_of(r).rules = (0..101).map(|n| gate_rule(&format!("r{n}"))).collect(),
                &["flag.feature_gate.rules must have at most 100, and has 101"],
            ),
            (
                |r| gate_of(r).rules[0].targeting = None,
                &["flag.feature_gate.rules[0].targeting is required"],
            ),
            (
                |r| gate_of(r).rules.extend([gate_rule("beta"), gate_rule("staff")]),
                &[
                    "flag.feature_gate.rules[2].targeting.id must be unique, and is that of rules[0]",
                ],
            ),
        ],
    );
}

#[test]
fn a_config_is_checked_value_by_value() {
    let mut request = create_flag_request();
    flag(&mut request).spec = Some(v1::flag::Spec::DynamicConfig(config()));
    fn config_of(request: &mut v1::CreateFlagRequest) -> &mut v1::ConfigSpec {
        match flag(request).spec.as_mut() {
            Some(v1::flag::Spec::DynamicConfig(config)) => config,
            Some(v1::flag::Spec::FeatureGate(_)) | None => panic!("this one is a config"),
        }
    }
    /// An object that has exactly so many bytes as JSON.
    fn of_bytes(bytes: usize) -> Struct {
        let frame = r#"{"k":""}"#.len();
        object([("k", value(Kind::StringValue("x".repeat(bytes - frame))))])
    }
    check(
        create_flag,
        request,
        &[
            (|r| config_of(r).default_value = Some(Struct::default()), &[]),
            (
                |r| config_of(r).default_value = None,
                &["flag.dynamic_config.default_value is required"],
            ),
            (
                |r| config_of(r).rules[0] = v1::config_spec::Rule::default(),
                &[
                    "flag.dynamic_config.rules[0].targeting is required",
                    "flag.dynamic_config.rules[0].value is required",
                ],
            ),
            (
                |r| {
                    let twice = config_of(r).rules[0].clone();
                    config_of(r).rules.push(twice);
                },
                &["flag.dynamic_config.rules[1].targeting.id must be unique, and is that of \
                   rules[0]"],
            ),
            (|r| config_of(r).default_value = Some(of_bytes(64 << 10)), &[]),
            (
                |r| config_of(r).default_value = Some(of_bytes((64 << 10) + 1)),
                &["flag.dynamic_config.default_value must have at most 64 KiB as JSON, and has \
                   65537 bytes"],
            ),
            (
                |r| {
                    let rule = |n| config_rule(&format!("r{n}"), of_bytes(64 << 10));
                    config_of(r).rules = (0..7).map(rule).collect();
                    config_of(r).default_value = Some(of_bytes(64 << 10));
                },
                &[],
            ),
            (
                |r| {
                    let rule = |n| config_rule(&format!("r{n}"), of_bytes(64 << 10));
                    config_of(r).rules = (0..8).map(rule).collect();
                    config_of(r).default_value = Some(Struct::default());
                },
                &["flag.dynamic_config must have at most 512 KiB as JSON in all, and has 524290 \
                   bytes"],
            ),
        ],
    );
}

#[test]
fn all_violations_of_a_request_come_at_once() {
    let mut request = create_flag_request();
    request.request_id = text(65);
    request.flag_id = "-".to_owned();
    flag(&mut request).description = text(1025);
    flag(&mut request).pipeline = "-".to_owned();
    let mut spoilt = gate_rule("");
    spoilt.targeting.as_mut().unwrap().rollout_basis_points = Some(10_001);
    *gate_of(&mut request) = v1::GateSpec { rules: vec![spoilt], default_value: true };
    let fields: Vec<String> = violations(create_flag(request))
        .iter()
        .map(|line| line.split_once(' ').unwrap().0.to_owned())
        .collect();
    assert_eq!(
        fields,
        [
            "request_id",
            "flag_id",
            "flag.description",
            "flag.feature_gate.rules[0].targeting.id",
            "flag.feature_gate.rules[0].targeting.rollout_basis_points",
            "flag.pipeline",
        ]
    );
}

fn update(paths: &[&str]) -> v1::UpdateFlagRequest {
    let mut flag = create_flag_request().flag.unwrap();
    flag.name = "flags/checkout".to_owned();
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    v1::UpdateFlagRequest {
        flag: Some(flag),
        update_mask: Some(FieldMask { paths }),
        ..v1::UpdateFlagRequest::default()
    }
}

#[test]
fn an_update_of_a_flag_is_checked_where_it_changes_something() {
    fn flag(request: &mut v1::UpdateFlagRequest) -> &mut v1::Flag {
        request.flag.as_mut().unwrap()
    }
    fn mask(request: &mut v1::UpdateFlagRequest, paths: &[&str]) {
        request.update_mask = update(paths).update_mask;
    }
    check(
        update_flag,
        update(&["description", "feature_gate", "pipeline"]),
        &[
            (|r| r.flag = None, &["flag is required"]),
            (|r| flag(r).name.clear(), &["flag.name is required"]),
            (|r| flag(r).name = "pipelines/a".to_owned(), &["flag.name must be flags/ and an id"]),
            (|r| mask(r, &[]), &[]),
            (|r| mask(r, &["*"]), &[]),
            (
                |r| mask(r, &["*", "pipeline"]),
                &[
                    "update_mask.paths[0] must be one of description, feature_gate, dynamic_config, \
                   pipeline, labels, or * alone",
                ],
            ),
            (
                |r| mask(r, &["pipeline", "killed"]),
                &[
                    "update_mask.paths[1] must be one of description, feature_gate, dynamic_config, \
                   pipeline, labels, or * alone",
                ],
            ),
            (
                |r| mask(r, &["name"]),
                &[
                    "update_mask.paths[0] must be one of description, feature_gate, dynamic_config, \
                   pipeline, labels, or * alone",
                ],
            ),
            (
                |r| mask(r, &["dynamic_config"]),
                &["flag.dynamic_config is in update_mask and is not set"],
            ),
            (|r| flag(r).spec = None, &["flag.feature_gate is in update_mask and is not set"]),
            (
                |r| {
                    mask(r, &["*"]);
                    flag(r).spec = None;
                },
                &["flag must have feature_gate or dynamic_config"],
            ),
            (
                |r| {
                    flag(r).description = text(1025);
                    flag(r).pipeline = "pipelines/-".to_owned();
                },
                &[
                    "flag.description must have at most 1024 characters",
                    "flag.pipeline must be pipelines/ and an id that matches \
                     [a-z]([a-z0-9-]{0,61}[a-z0-9])?",
                ],
            ),
            (
                |r| {
                    mask(r, &["pipeline"]);
                    flag(r).description = text(1025);
                    flag(r).spec = None;
                },
                &[],
            ),
        ],
    );
}

#[test]
fn a_switch_that_nobody_set_is_not_taken_for_lifted() {
    let sound = v1::SetKillSwitchRequest {
        name: "flags/checkout".to_owned(),
        engaged: Some(false),
        ..v1::SetKillSwitchRequest::default()
    };
    check(
        set_kill_switch,
        sound,
        &[
            (|r| r.engaged = None, &["engaged is required"]),
            (|r| r.reason = text(1024), &[]),
            (|r| r.reason = text(1025), &["reason must have at most 1024 characters"]),
            (
                |r| r.name = "flags/".to_owned(),
                &["name must be flags/ and an id that matches \
                [A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?"],
            ),
        ],
    );
}

#[test]
fn a_flag_to_be_deleted_has_to_be_named() {
    let sound = v1::DeleteFlagRequest {
        name: "flags/checkout".to_owned(),
        ..v1::DeleteFlagRequest::default()
    };
    check(
        delete_flag,
        sound,
        &[
            (|r| r.name.clear(), &["name is required"]),
            (|r| r.request_id = text(65), &["request_id must have at most 64 characters"]),
            (|r| r.etag = text(5000), &[]),
        ],
    );
}

#[test]
fn an_evaluation_needs_a_flag_and_an_environment() {
    let sound = v1::EvaluateFlagRequest {
        flag: "flags/checkout".to_owned(),
        environment: "prod".to_owned(),
        context: None,
    };
    check(
        evaluate_flag,
        sound,
        &[
            (|r| r.flag = "checkout".to_owned(), &["flag must be flags/ and an id"]),
            (|r| r.environment.clear(), &["environment is required"]),
            (
                |r| r.environment = "PROD".to_owned(),
                &["environment must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
            ),
            (
                |r| {
                    let long = value(Kind::StringValue("x".repeat(64 << 10)));
                    r.context = Some(object([("targetingKey", long)]));
                },
                &["context must have at most 64 KiB as JSON, and has 65555 bytes"],
            ),
        ],
    );
}

#[test]
fn the_name_in_a_read_is_checked_under_the_name_of_its_field() {
    assert_eq!(flag_name("name", "flags/a.b_c-D").unwrap().as_str(), "a.b_c-D");
    assert_eq!(violations(flag_name("flag", "releases/a")), ["flag must be flags/ and an id"]);
}
