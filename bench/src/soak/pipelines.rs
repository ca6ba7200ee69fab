//! What is released along: short pipelines, so that timers fire all the time.

use phasegate_api::v1;
use std::time::Duration;

/// The guard of phases that have one.
pub(crate) const GUARD: &str = "errors";
/// The groups that every caller is in.
pub(crate) const GROUP: &str = "sre";

/// How long things take in a phase, in milliseconds.
#[derive(Debug)]
pub(crate) struct Waits(Vec<v1::Phase>);

/// The pipelines. Ids of phases are distinct over all of them.
pub(crate) fn pipelines() -> Vec<(&'static str, v1::Pipeline)> {
    let phase = |id: &str, share: u32, bake: i64| v1::Phase {
        id: id.into(),
        rules: vec![v1::TargetingRule {
            id: "share".into(),
            rollout_basis_points: Some(share),
            ..Default::default()
        }],
        bake_duration: Some(seconds(bake)),
        ..Default::default()
    };
    let guard = |on_fail: v1::GuardAction, pass_timeout: Option<i64>| v1::Guard {
        id: GUARD.into(),
        require_pass: pass_timeout.is_some(),
        on_fail: on_fail.into(),
        pass_timeout: pass_timeout.map(seconds),
    };
    let approval = v1::ApprovalRequirement {
        min_approvals: 1,
        reviewer_groups: vec![GROUP.into()],
        expiry: Some(seconds(8)),
        ..Default::default()
    };
    let people = v1::Phase { approval: Some(approval), ..phase("people", 5000, 3) };
    let guards = vec![guard(v1::GuardAction::Pause, Some(5))];
    let watched = v1::Phase { guards, ..phase("watched", 1000, 3) };
    let guards = vec![guard(v1::GuardAction::Fail, None)];
    let strict = v1::Phase { guards, ..phase("strict", 5000, 4) };
    let of = |phases: Vec<v1::Phase>| v1::Pipeline { phases, ..Default::default() };
    vec![
        ("quick", of(vec![phase("few", 500, 3), phase("many", 5000, 5), phase("all", 10_000, 2)])),
        ("asked", of(vec![phase("first", 500, 3), people, phase("everyone", 10_000, 4)])),
        ("guarded", of(vec![watched, strict, phase("rest", 10_000, 0)])),
    ]
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn millis(span: prost_types::Duration) -> i64 {
    Duration::try_from(span).map_or(0, |span| span.as_millis() as i64)
}

impl Waits {
    pub(crate) fn of_all() -> Self {
        Self(pipelines().into_iter().flat_map(|(_, pipeline)| pipeline.phases).collect())
    }

    fn phase(&self, id: &str) -> Option<&v1::Phase> {
        self.0.iter().find(|phase| phase.id == id)
    }

    pub(crate) fn bake(&self, phase: &str) -> Option<i64> {
        Some(millis(self.phase(phase)?.bake_duration.unwrap_or_default()))
    }

    /// How long approvals may take.
    pub(crate) fn expiry(&self, phase: &str) -> Option<i64> {
        self.phase(phase)?.approval.as_ref()?.expiry.map(millis)
    }

    /// How long a guard may take to be content.
    pub(crate) fn pass_timeout(&self, phase: &str) -> Option<i64> {
        self.phase(phase)?.guards.iter().find_map(|guard| guard.pass_timeout).map(millis)
    }
}
