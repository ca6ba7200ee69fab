//! What is wrong with requests about pipelines.

use super::{Case, check, sample::*};
use crate::{
    convert::{create_pipeline, delete_pipeline, update_pipeline},
    v1,
};
use prost_types::FieldMask;

fn create() -> v1::CreatePipelineRequest {
    super::sample::create_pipeline()
}

fn pipeline(request: &mut v1::CreatePipelineRequest) -> &mut v1::Pipeline {
    request.pipeline.as_mut().unwrap()
}

/// As [`check`], on the first phase of a pipeline, whose path is put before each violation.
fn check_phase(cases: &[Case<'_, v1::Phase>]) {
    for (edit, expected) in cases {
        let mut request = create();
        edit(&mut pipeline(&mut request).phases[0]);
        let expected: Vec<String> =
            expected.iter().map(|line| format!("pipeline.phases[0].{line}")).collect();
        assert_eq!(super::violations(create_pipeline(request)), expected);
    }
}

#[test]
fn a_pipeline_to_be_created_is_checked_field_by_field() {
    check(
        create_pipeline,
        create(),
        &[
            (|r| r.pipeline_id.clear(), &["pipeline_id is required"]),
            (
                |r| r.pipeline_id = "a_b".to_owned(),
                &["pipeline_id must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
            ),
            (|r| r.pipeline = None, &["pipeline is required"]),
            (|r| pipeline(r).name = "pipelines/standard".to_owned(), &[]),
            (
                |r| pipeline(r).name = "standard".to_owned(),
                &["pipeline.name must be empty, or agree with the id"],
            ),
            (
                |r| {
                    pipeline(r).description = text(1025);
                    pipeline(r).trigger_notice = text(1025);
                },
                &[
                    "pipeline.description must have at most 1024 characters",
                    "pipeline.trigger_notice must have at most 1024 characters",
                ],
            ),
            (|r| pipeline(r).phases.clear(), &["pipeline.phases must have at least 1"]),
            (|r| pipeline(r).phases = (0..50).map(|n| phase(&format!("p{n}"))).collect(), &[]),
            (
                |r| pipeline(r).phases = (0..51).map(|n| phase(&format!("p{n}"))).collect(),
                &["pipeline.phases must have at most 50, and has 51"],
            ),
            (
                |r| pipeline(r).phases[1].id = "canary".to_owned(),
                &["pipeline.phases[1].id must be unique, and is that of phases[0]"],
            ),
            (
                |r| pipeline(r).exempt_environments = vec!["dev".to_owned(), "dev".to_owned()],
                &["pipeline.exempt_environments[1] must be unique, and is that of \
                   exempt_environments[0]"],
            ),
            (
                |r| pipeline(r).exempt_environments = (0..33).map(|n| format!("e{n}")).collect(),
                &["pipeline.exempt_environments must have at most 32, and has 33"],
            ),
            (
                |r| {
                    let named = &mut pipeline(r).phases[1].rules[0].environments;
                    *named = vec!["prod".to_owned(), "dev".to_owned()];
                },
                &["pipeline.phases[1].rules[0].environments[1] is one of exempt_environments, \
                   which the pipeline does not govern"],
            ),
        ],
    );
}

#[test]
fn a_phase_is_checked_field_by_field() {
    const BAKE: &[&str] = &["bake_duration must be 0 s to 90 days"];
    check_phase(&[
        (|p| *p = v1::Phase { rules: vec![rule("all")], ..phase("canary") }, &[]),
        (|p| p.id = "1".to_owned(), &["id must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"]),
        (|p| p.rules.clear(), &["rules must have at least 1"]),
        (|p| p.rules = (0..32).map(|n| rule(&format!("r{n}"))).collect(), &[]),
        (
            |p| p.rules = (0..33).map(|n| rule(&format!("r{n}"))).collect(),
            &["rules must have at most 32, and has 33"],
        ),
        (|p| p.bake_duration = None, &[]),
        (|p| p.bake_duration = seconds(0), &[]),
        (|p| p.bake_duration = seconds(90 * 86_400), &[]),
        (|p| p.bake_duration = duration(90 * 86_400, 1), BAKE),
        (|p| p.bake_duration = seconds(90 * 86_400 + 1), BAKE),
        (|p| p.bake_duration = seconds(-1), BAKE),
        (|p| p.bake_duration = duration(0, -1), BAKE),
        (|p| p.bake_duration = duration(1, -1), BAKE),
        (|p| p.bake_duration = duration(-1, 1), BAKE),
        (|p| p.bake_duration = duration(0, 1_000_000_000), BAKE),
        (|p| p.bake_duration = duration(i64::MAX, i32::MAX), BAKE),
        (|p| p.bake_duration = duration(i64::MIN, i32::MIN), BAKE),
    ]);
}

#[test]
fn an_approval_is_checked_field_by_field() {
    fn approval(phase: &mut v1::Phase) -> &mut v1::ApprovalRequirement {
        phase.approval.as_mut().unwrap()
    }
    const GROUP: &str = "must have no comma, and no space at either end";
    const EXPIRY: &[&str] = &["approval.expiry must be above 0 s and at most 90 days"];
    check_phase(&[
        (|p| approval(p).min_approvals = 0, &["approval.min_approvals must be 1 to 20"]),
        (|p| approval(p).min_approvals = 20, &[]),
        (|p| approval(p).min_approvals = 21, &["approval.min_approvals must be 1 to 20"]),
        (|p| approval(p).quotas = (0..8).map(|n| quota(&n.to_string())).collect(), &[]),
        (
            |p| approval(p).quotas = (0..9).map(|n| quota(&n.to_string())).collect(),
            &["approval.quotas must have at most 8, and has 9"],
        ),
        (
            |p| approval(p).quotas = vec![quota("sre"), quota("sre")],
            &["approval.quotas[1].group must be unique, and is that of quotas[0]"],
        ),
        (
            |p| approval(p).quotas = vec![v1::approval_requirement::GroupQuota::default()],
            &[
                "approval.quotas[0].group is required",
                "approval.quotas[0].min_approvals must be 1 to 20",
            ],
        ),
        (|p| approval(p).quotas = vec![quota(&text(128))], &[]),
        (
            |p| approval(p).quotas = vec![quota(&text(129))],
            &["approval.quotas[0].group must have at most 128 characters"],
        ),
        (
            |p| approval(p).quotas = vec![quota("a,b"), quota(" a")],
            &[
                &format!("approval.quotas[0].group {GROUP}"),
                &format!("approval.quotas[1].group {GROUP}"),
            ],
        ),
        (|p| approval(p).reviewer_groups = (0..32).map(|n| n.to_string()).collect(), &[]),
        (
            |p| approval(p).reviewer_groups = (0..33).map(|n| n.to_string()).collect(),
            &["approval.reviewer_groups must have at most 32, and has 33"],
        ),
        (
            |p| approval(p).reviewer_groups = vec!["a".to_owned(), String::new(), "a".to_owned()],
            &[
                "approval.reviewer_groups[2] must be unique, and is that of reviewer_groups[0]",
                "approval.reviewer_groups[1] is required",
            ],
        ),
        (|p| approval(p).expiry = None, &[]),
        (|p| approval(p).expiry = duration(0, 1), &[]),
        (|p| approval(p).expiry = seconds(0), EXPIRY),
        (|p| approval(p).expiry = seconds(90 * 86_400 + 1), EXPIRY),
    ]);
}

#[test]
fn windows_are_checked_field_by_field() {
    fn windows(phase: &mut v1::Phase) -> &mut v1::ReleaseWindows {
        phase.windows.as_mut().unwrap()
    }
    fn blackout(phase: &mut v1::Phase) -> &mut v1::release_windows::Blackout {
        &mut windows(phase).blackouts[0]
    }
    const INSTANT: &str = "must be an instant of the years 1970 to 9999";
    check_phase(&[
        (|p| windows(p).time_zone = "UTC".to_owned(), &[]),
        (|p| windows(p).time_zone.clear(), &["windows.time_zone is required"]),
        (
            |p| windows(p).time_zone = "Europe/Atlantis".to_owned(),
            &["windows.time_zone must be an IANA time zone, for example Europe/Rome"],
        ),
        (|p| windows(p).weekly = vec![weekly(); 32], &[]),
        (
            |p| windows(p).weekly = vec![weekly(); 33],
            &["windows.weekly must have at most 32, and has 33"],
        ),
        (
            |p| windows(p).blackouts = vec![super::sample::blackout(); 65],
            &["windows.blackouts must have at most 64, and has 65"],
        ),
        (|p| blackout(p).note = text(1024), &[]),
        (
            |p| blackout(p).note = text(1025),
            &["windows.blackouts[0].note must have at most 1024 characters"],
        ),
        (
            |p| {
                blackout(p).start_time = None;
                blackout(p).end_time = None;
            },
            &[
                "windows.blackouts[0].start_time is required",
                "windows.blackouts[0].end_time is required",
            ],
        ),
        (
            |p| blackout(p).end_time = blackout(p).start_time,
            &["windows.blackouts[0].end_time must be after start_time"],
        ),
        (|p| blackout(p).start_time = instant(0, 0), &[]),
        (|p| blackout(p).end_time = instant(253_402_300_799, 999_999_999), &[]),
        (
            |p| blackout(p).start_time = instant(-1, 999_999_999),
            &[&format!("windows.blackouts[0].start_time {INSTANT}")],
        ),
        (
            |p| blackout(p).end_time = instant(253_402_300_800, 0),
            &[&format!("windows.blackouts[0].end_time {INSTANT}")],
        ),
        (
            |p| {
                blackout(p).start_time = instant(5, -1);
                blackout(p).end_time = instant(5, 1_000_000_000);
            },
            &[
                &format!("windows.blackouts[0].start_time {INSTANT}"),
                &format!("windows.blackouts[0].end_time {INSTANT}"),
            ],
        ),
    ]);
}

#[test]
fn a_weekly_span_takes_days_and_times_of_day() {
    fn weekly(phase: &mut v1::Phase) -> &mut v1::release_windows::Weekly {
        &mut phase.windows.as_mut().unwrap().weekly[0]
    }
    const START: &[&str] = &["windows.weekly[0].start must be HH:MM, 00:00 to 23:59"];
    const END: &[&str] = &["windows.weekly[0].end must be HH:MM, 00:00 to 24:00"];
    check_phase(&[
        (|p| weekly(p).days.clear(), &["windows.weekly[0].days must have at least 1"]),
        (
            |p| weekly(p).days = vec!["MON".to_owned(); 2],
            &["windows.weekly[0].days[1] must be unique, and is that of days[0]"],
        ),
        (
            |p| weekly(p).days = vec!["mon".to_owned(), "SUN".to_owned()],
            &["windows.weekly[0].days[0] must be one of MON, TUE, WED, THU, FRI, SAT, SUN"],
        ),
        (|p| weekly(p).start = "00:00".to_owned(), &[]),
        (|p| weekly(p).start = "23:59".to_owned(), &[]),
        (|p| weekly(p).start.clear(), START),
        (|p| weekly(p).start = "24:00".to_owned(), START),
        (|p| weekly(p).start = "9:00".to_owned(), START),
        (|p| weekly(p).start = "09:60".to_owned(), START),
        (|p| weekly(p).start = "09:00:00".to_owned(), START),
        (|p| weekly(p).start = "+9:00".to_owned(), START),
        (|p| weekly(p).end = "24:00".to_owned(), &[]),
        (|p| weekly(p).end = "00:00".to_owned(), &[]),
        (|p| weekly(p).end = weekly(p).start.clone(), &[]),
        (|p| weekly(p).end = "24:01".to_owned(), END),
        (|p| weekly(p).end = "noon".to_owned(), END),
    ]);
}

#[test]
fn a_guard_is_checked_field_by_field() {
    const TIMEOUT: &[&str] = &["guards[0].pass_timeout must be above 0 s and at most 90 days"];
    check_phase(&[
        (|p| p.guards = (0..16).map(|n| guard(&format!("g{n}"))).collect(), &[]),
        (
            |p| p.guards = (0..17).map(|n| guard(&format!("g{n}"))).collect(),
            &["guards must have at most 16, and has 17"],
        ),
        (
            |p| p.guards = vec![guard("a"), guard("b"), guard("a")],
            &["guards[2].id must be unique, and is that of guards[0]"],
        ),
        (|p| p.guards[0].id.clear(), &["guards[0].id is required"]),
        (|p| p.guards[0].on_fail = 0, &[]),
        (|p| p.guards[0].on_fail = 3, &["guards[0].on_fail has no value of the number 3"]),
        (|p| p.guards[0].pass_timeout = None, &[]),
        (|p| p.guards[0].pass_timeout = seconds(0), TIMEOUT),
        (|p| p.guards[0].pass_timeout = duration(90 * 86_400, 1), TIMEOUT),
        (
            |p| p.guards[0].require_pass = false,
            &["guards[0].pass_timeout goes only with require_pass"],
        ),
    ]);
}

#[test]
fn an_update_of_a_pipeline_is_checked_where_it_changes_something() {
    fn pipeline(request: &mut v1::UpdatePipelineRequest) -> &mut v1::Pipeline {
        request.pipeline.as_mut().unwrap()
    }
    fn mask(request: &mut v1::UpdatePipelineRequest, paths: &[&str]) {
        let paths = paths.iter().map(ToString::to_string).collect();
        request.update_mask = Some(FieldMask { paths });
    }
    let mut sound = create().pipeline.unwrap();
    sound.name = "pipelines/standard".to_owned();
    let sound =
        v1::UpdatePipelineRequest { pipeline: Some(sound), ..v1::UpdatePipelineRequest::default() };
    check(
        update_pipeline,
        sound,
        &[
            (|r| r.pipeline = None, &["pipeline is required"]),
            (|r| pipeline(r).name.clear(), &["pipeline.name is required"]),
            (|r| mask(r, &["*"]), &[]),
            (
                |r| mask(r, &["phases", "phases.guards"]),
                &["update_mask.paths[1] must be one of description, phases, exempt_environments, \
                   trigger_notice, or * alone"],
            ),
            (|r| pipeline(r).phases.clear(), &[]),
            (
                |r| {
                    mask(r, &["phases"]);
                    pipeline(r).phases.clear();
                },
                &["pipeline.phases must have at least 1"],
            ),
            (
                |r| {
                    mask(r, &["description"]);
                    pipeline(r).phases[0].id = "-".to_owned();
                },
                &[],
            ),
            (
                |r| {
                    pipeline(r).description = text(1025);
                    pipeline(r).exempt_environments = vec!["-".to_owned()];
                    pipeline(r).trigger_notice = text(1025);
                },
                &[
                    "pipeline.description must have at most 1024 characters",
                    "pipeline.exempt_environments[0] must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?",
                    "pipeline.trigger_notice must have at most 1024 characters",
                ],
            ),
            (
                |r| pipeline(r).phases[0].rules[0].environments = vec!["dev".to_owned()],
                &["pipeline.phases[0].rules[0].environments[0] is one of exempt_environments, \
                   which the pipeline does not govern"],
            ),
            (
                |r| {
                    // Whether the stored environments allow it is for the engine to say.
                    mask(r, &["phases"]);
                    pipeline(r).phases[0].rules[0].environments = vec!["dev".to_owned()];
                },
                &[],
            ),
        ],
    );
}

#[test]
fn a_pipeline_to_be_deleted_has_to_be_named() {
    let sound = v1::DeletePipelineRequest {
        name: "pipelines/standard".to_owned(),
        ..v1::DeletePipelineRequest::default()
    };
    check(
        delete_pipeline,
        sound,
        &[(
            |r| r.name = "pipelines/a/b".to_owned(),
            &["name must be pipelines/ and an id that \
            matches [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
        )],
    );
}
