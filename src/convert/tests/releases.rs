//! What is wrong with requests about releases.

use super::{check, sample::*};
use crate::{
    convert::{self, Parsed, Rejected, release_name},
    v1,
};
use phasegate_engine::id::ReleaseId;

/// TriggerRelease with the id that the server would make.
fn trigger(request: v1::TriggerReleaseRequest) -> Result<Parsed, Rejected> {
    convert::trigger_release(request, ReleaseId::parse("fresh").unwrap())
}

#[test]
fn a_release_to_be_triggered_is_checked_field_by_field() {
    fn release(request: &mut v1::TriggerReleaseRequest) -> &mut v1::Release {
        request.release.as_mut().unwrap()
    }
    fn labels(request: &mut v1::TriggerReleaseRequest, keys: impl IntoIterator<Item = String>) {
        release(request).labels = keys.into_iter().map(|key| (key, text(256))).collect();
    }
    check(
        trigger,
        trigger_release(),
        &[
            (|r| r.release_id.clear(), &[]),
            (
                |r| r.release_id = "R1".to_owned(),
                &["release_id must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
            ),
            (|r| r.release = None, &["release is required"]),
            (|r| release(r).name = "releases/r1".to_owned(), &[]),
            (
                |r| release(r).name = "releases/r2".to_owned(),
                &["release.name must be empty, or agree with the id"],
            ),
            (
                |r| {
                    // Not even the id that the server happened to make.
                    r.release_id.clear();
                    release(r).name = "releases/fresh".to_owned();
                },
                &["release.name must be empty, or agree with the id"],
            ),
            (|r| release(r).flag.clear(), &["release.flag is required"]),
            (
                |r| release(r).pipeline = "pipelines/".to_owned(),
                &["release.pipeline must be pipelines/ and an id that matches \
                   [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
            ),
            (|r| release(r).change = None, &["release must have feature_gate or dynamic_config"]),
            (
                |r| {
                    let rules =
                        vec![gate_rule("a"), gate_rule("b"), gate_rule("c"), gate_rule("D")];
                    let gate = v1::GateSpec { rules, default_value: true };
                    release(r).change = Some(v1::release::Change::FeatureGate(gate));
                },
                &["release.feature_gate.rules[3].targeting.id must match \
                   [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
            ),
            (|r| release(r).base_spec_revision = i64::MAX, &[]),
            (
                |r| release(r).base_spec_revision = -1,
                &["release.base_spec_revision must not be negative"],
            ),
            (|r| labels(r, (0..64).map(|n| n.to_string())), &[]),
            (
                |r| labels(r, (0..65).map(|n| n.to_string())),
                &["release.labels must have at most 64"],
            ),
            (|r| labels(r, [text(63)]), &[]),
            (
                |r| labels(r, [String::new()]),
                &[r#"release.labels[""] must have a key of 1 to 63 characters"#],
            ),
            (
                |r| labels(r, ["x".repeat(70)]),
                &[&format!(
                    "release.labels[\"{}\"] must have a key of 1 to 63 characters",
                    "x".repeat(64)
                )],
            ),
            (
                |r| {
                    let label = |key: &str| (key.to_owned(), text(257));
                    release(r).labels = [label("a.b"), label("c")].into();
                },
                &[
                    r#"release.labels["a.b"] must have at most 256 characters"#,
                    r#"release.labels["c"] must have at most 256 characters"#,
                ],
            ),
            (
                |r| release(r).description = text(1025),
                &["release.description must have at most 1024 characters"],
            ),
            (
                |r| release(r).schedule_time = instant(-1, 0),
                &["release.schedule_time must be an instant of the years 1970 to 9999"],
            ),
            (|r| r.conflict_policy = 2, &[]),
            (|r| r.conflict_policy = 4, &["conflict_policy has no value of the number 4"]),
            (|r| r.conflict_policy = 3, &[]),
            (
                |r| {
                    r.conflict_policy = 3;
                    release(r).schedule_time = instant(0, 0);
                },
                &["release.schedule_time does not go with CONFLICT_POLICY_SUPERSEDE"],
            ),
        ],
    );
}

/// The checks that every action on a release shares, on a sound request, which comes back.
macro_rules! on_release {
    ($parse:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
        let sound = v1::$request {
            name: "releases/r1".to_owned(),
            reason: "because".to_owned(),
            $($field: $value,)*
            ..Default::default()
        };
        check(
            convert::$parse,
            sound.clone(),
            &[
                (|r| r.name.clear(), &["name is required"]),
                (|r| r.name = "r1".to_owned(), &["name must be releases/ and an id"]),
                (
                    |r| r.name = "releases/-".to_owned(),
                    &["name must be releases/ and an id that matches \
                       [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
                ),
                (|r| r.request_id = text(64), &[]),
                (|r| r.request_id = text(65), &["request_id must have at most 64 characters"]),
                (|r| r.reason = text(1024), &[]),
                (|r| r.reason = text(1025), &["reason must have at most 1024 characters"]),
            ],
        );
        sound
    }};
}

/// The same for an action on a phase.
macro_rules! on_phase {
    ($parse:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
        let phase_id = "canary".to_owned();
        let sound = on_release!($parse, $request { phase_id: phase_id $(, $field: $value)* });
        check(
            convert::$parse,
            sound.clone(),
            &[
                (|r| r.phase_id.clear(), &["phase_id is required"]),
                (
                    |r| r.phase_id = "A".to_owned(),
                    &["phase_id must match [a-z]([a-z0-9-]{0,61}[a-z0-9])?"],
                ),
            ],
        );
        sound
    }};
}

#[test]
fn every_action_on_a_release_names_it_and_keeps_its_texts_short() {
    on_release!(pause_release, PauseReleaseRequest {});
    on_release!(unpause_release, UnpauseReleaseRequest {});
    on_release!(abort_release, AbortReleaseRequest {});
    on_release!(full_rollout, FullRolloutRequest {});
    on_phase!(approve_phase, ApprovePhaseRequest {});
    on_phase!(reject_phase, RejectPhaseRequest {});
    on_phase!(skip_phase, SkipPhaseRequest {});
    on_phase!(override_window, OverrideWindowRequest {});
}

#[test]
fn a_bake_is_adjusted_to_at_most_90_days() {
    const REMAINING: &[&str] = &["remaining must be 0 s to 90 days"];
    check(
        convert::adjust_bake,
        on_phase!(adjust_bake, AdjustBakeRequest { remaining: seconds(60) }),
        &[
            (|r| r.remaining = None, &["remaining is required"]),
            (|r| r.remaining = seconds(0), &[]),
            (|r| r.remaining = seconds(90 * 86_400), &[]),
            (|r| r.remaining = seconds(-1), REMAINING),
            (|r| r.remaining = seconds(90 * 86_400 + 1), REMAINING),
        ],
    );
}

#[test]
fn a_signal_has_a_guard_and_a_verdict() {
    let guard_id = "error-rate".to_owned();
    check(
        convert::report_guard_signal,
        on_phase!(report_guard_signal, ReportGuardSignalRequest { guard_id: guard_id, verdict: 1 }),
        &[
            (|r| r.guard_id.clear(), &["guard_id is required"]),
            (|r| r.verdict = 0, &["verdict is required"]),
            (|r| r.verdict = 3, &["verdict has no value of the number 3"]),
        ],
    );
}

/// What an action without a reason gets, and one whose reason is blank.
macro_rules! without_reason {
    ($parse:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
        let request = |reason: &str| v1::$request {
            name: "releases/r1".to_owned(),
            reason: reason.to_owned(),
            $($field: $value,)*
            ..v1::$request::default()
        };
        let given = convert::$parse(request("because"));
        assert_eq!(&*given.unwrap().reason, "because");
        let missing = convert::$parse(request("")).map(|parsed| parsed.reason);
        assert_eq!(convert::$parse(request(" \n")).is_err(), missing.is_err());
        missing.err()
    }};
}

#[test]
fn the_actions_that_go_round_somebody_need_a_reason() {
    let phase = || "canary".to_owned();
    let required = Some(Rejected::ReasonRequired);
    assert_eq!(without_reason!(reject_phase, RejectPhaseRequest { phase_id: phase() }), required);
    assert_eq!(
        without_reason!(override_window, OverrideWindowRequest { phase_id: phase() }),
        required
    );
    assert_eq!(
        without_reason!(
            adjust_bake,
            AdjustBakeRequest { phase_id: phase(), remaining: seconds(0) }
        ),
        required
    );
    assert_eq!(without_reason!(abort_release, AbortReleaseRequest {}), required);
    assert_eq!(without_reason!(full_rollout, FullRolloutRequest {}), required);
    assert_eq!(
        without_reason!(skip_phase, SkipPhaseRequest { phase_id: phase(), bypass_approval: true }),
        required
    );

    assert_eq!(without_reason!(skip_phase, SkipPhaseRequest { phase_id: phase() }), None);
    assert_eq!(without_reason!(approve_phase, ApprovePhaseRequest { phase_id: phase() }), None);
    assert_eq!(without_reason!(pause_release, PauseReleaseRequest {}), None);
    assert_eq!(without_reason!(unpause_release, UnpauseReleaseRequest {}), None);
}

#[test]
fn violations_come_before_a_missing_reason() {
    let request = v1::AbortReleaseRequest { request_id: text(65), ..Default::default() };
    assert_eq!(
        super::violations(convert::abort_release(request)),
        ["name is required", "request_id must have at most 64 characters"]
    );
}

#[test]
fn waits_and_watches_are_checked_field_by_field() {
    const WAIT: &[&str] = &["max_wait must be 0 s to 60 s"];
    check(
        convert::wait_release,
        v1::WaitReleaseRequest { name: "releases/r1".to_owned(), ..Default::default() },
        &[
            (|r| r.name.clear(), &["name is required"]),
            (|r| r.after_revision = -1, &["after_revision must not be negative"]),
            (|r| r.max_wait = seconds(0), &[]),
            (|r| r.max_wait = seconds(60), &[]),
            (|r| r.max_wait = duration(60, 1), WAIT),
            (|r| r.max_wait = seconds(-1), WAIT),
        ],
    );
    check(
        convert::watch_release,
        v1::WatchReleaseRequest { name: "releases/r1".to_owned(), ..Default::default() },
        &[
            (|r| r.name = "r1".to_owned(), &["name must be releases/ and an id"]),
            (|r| r.resume_after_revision = i64::MAX, &[]),
            (
                |r| r.resume_after_revision = i64::MIN,
                &["resume_after_revision must not be negative"],
            ),
            // Whatever it is, it is not ours: STORE_REPLACED.
            (|r| r.store_id = text(5000), &[]),
        ],
    );
    check(
        convert::watch_releases,
        v1::WatchReleasesRequest::default(),
        &[
            (|r| r.filter = Some(v1::ReleaseFilter::default()), &[]),
            (
                |r| {
                    r.resume_after_revision = -1;
                    let states = vec![1, 0];
                    r.filter = Some(v1::ReleaseFilter { states, ..Default::default() });
                },
                &["resume_after_revision must not be negative", "filter.states[1] is required"],
            ),
        ],
    );
}

#[test]
fn the_name_in_a_read_is_checked_under_the_name_of_its_field() {
    assert_eq!(release_name("name", "releases/r1").unwrap().as_str(), "r1");
    assert_eq!(
        super::violations(release_name("name", "flags/r1")),
        ["name must be releases/ and an id"]
    );
}
