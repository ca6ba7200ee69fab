//! What a round is played on: a pipeline, a flag, and a release of it that many act on.

use crate::operation::Round;
use phasegate_api::{convert, convert::Parsed, v1};
use phasegate_engine::{
    Command, State, apply,
    command::{Call, Caller},
    decide,
    event::{Commit, changes},
    id::{Principal, ReleaseId},
};

/// Enough that no round gets to the end by skips alone.
pub(crate) const PHASES: usize = 32;
/// The guard that every phase has.
pub(crate) const GUARD: &str = "errors";
/// Who triggers the release: they may not approve it.
pub(crate) const CREATOR: &str = "p0";

pub(crate) fn phase_id(index: usize) -> String {
    format!("phase-{index}")
}

/// Phases of four kinds in turn: one that only bakes, one that needs two people, one whose window
/// is closed, and one that has it all, guards that must pass included.
pub(crate) fn pipeline() -> v1::CreatePipelineRequest {
    let phase = |index: usize| {
        let (needs_people, is_closed) = (index % 4 % 2 == 1, index % 4 >= 2);
        let approval = v1::ApprovalRequirement { min_approvals: 2, ..Default::default() };
        let year = |year: i64| Some(prost_types::Timestamp { seconds: year, nanos: 0 });
        // From 1970 for two thousand years.
        let blackout = v1::release_windows::Blackout {
            start_time: year(0),
            end_time: year(2000 * 365 * 86_400),
            ..Default::default()
        };
        let windows = v1::ReleaseWindows {
            time_zone: "UTC".into(),
            blackouts: vec![blackout],
            ..Default::default()
        };
        let days = 1 + i64::try_from(index).expect("it is small");
        // Bad news ends the release only where few rounds get to.
        let on_fail = if index % 8 == 7 { v1::GuardAction::Fail } else { v1::GuardAction::Pause };
        let guard = v1::Guard {
            id: GUARD.into(),
            require_pass: index % 4 == 3,
            on_fail: on_fail.into(),
            ..Default::default()
        };
        v1::Phase {
            id: phase_id(index),
            rules: vec![v1::TargetingRule { id: "all".into(), ..Default::default() }],
            bake_duration: Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 }),
            approval: needs_people.then_some(approval),
            windows: is_closed.then_some(windows),
            guards: vec![guard],
        }
    };
    let phases = (0..PHASES).map(phase).collect();
    v1::CreatePipelineRequest {
        pipeline_id: "long".into(),
        pipeline: Some(v1::Pipeline { phases, ..Default::default() }),
        ..Default::default()
    }
}

fn gate(default_value: bool) -> v1::GateSpec {
    v1::GateSpec { rules: vec![], default_value }
}

pub(crate) fn flag(id: &str) -> v1::CreateFlagRequest {
    let spec = Some(v1::flag::Spec::FeatureGate(gate(false)));
    let flag = Some(v1::Flag { spec, ..Default::default() });
    v1::CreateFlagRequest { flag_id: id.to_owned(), flag, ..Default::default() }
}

pub(crate) fn trigger(flag: &str, release_id: &str) -> v1::TriggerReleaseRequest {
    let release = v1::Release {
        flag: format!("flags/{flag}"),
        pipeline: "pipelines/long".into(),
        change: Some(v1::release::Change::FeatureGate(gate(true))),
        ..Default::default()
    };
    v1::TriggerReleaseRequest {
        release_id: release_id.to_owned(),
        release: Some(release),
        ..Default::default()
    }
}

/// The state of the engine in which a round begins, and the log of its release.
pub(crate) fn engine(id: &ReleaseId, round: Round) -> (State, Vec<v1::ReleaseEvent>) {
    let requests = [
        convert::create_pipeline(pipeline()),
        convert::create_flag(flag(id.as_str())),
        convert::trigger_release(trigger(id.as_str(), id.as_str()), id.clone()),
    ];
    let (mut state, mut log) = (State::default(), Vec::new());
    for parsed in requests {
        let Parsed { action, request_id, reason, .. } = parsed.expect("it is valid");
        let caller = Caller { principal: Principal::new(CREATOR), groups: Vec::new() };
        let command = Command::Call(Call { caller, request_id, reason, action });
        let commit = decide(&state, &command, round.0).expect("it is accepted");
        let commit = commit.expect("it changes something");
        let before = state.clone();
        apply(&mut state, &commit);
        log.extend(events(&before, &state, &commit));
    }
    (state, log)
}

/// What a commit adds to the log of the only release.
pub(crate) fn events(before: &State, after: &State, commit: &Commit) -> Vec<v1::ReleaseEvent> {
    changes(before, after, commit).iter().flat_map(convert::events_to_wire).collect()
}
