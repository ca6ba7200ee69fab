//! Releases that really ran: requests go in, the engine decides, the tests look at the answers.

use super::sample::*;
use crate::{
    convert::{self, Detail, Parsed, Rejected},
    v1,
};
use phasegate_engine::{
    Command, State, apply,
    command::{Call, Caller, Fire, Lateness},
    deadline, decide,
    event::{Change, changes},
    id::{Group, Principal, ReleaseId},
    release::Release,
    time::{Span, Timestamp},
};
use std::sync::Arc;

/// A server without a disk and with a clock that is turned by hand.
pub(super) struct Story {
    pub(super) state: State,
    pub(super) now: Timestamp,
}

impl Story {
    /// A flag `checkout`, a gate that is off, and a pipeline `standard` of these phases.
    pub(super) fn new(phases: Vec<v1::Phase>) -> Self {
        // A Thursday, 2026-01-01T00:00:00Z.
        let now = Timestamp::from_millis(1_767_225_600_000);
        let mut story = Self { state: State::default(), now };
        let pipeline = v1::Pipeline { phases, ..Default::default() };
        let pipeline_id = "standard".to_owned();
        let request = v1::CreatePipelineRequest {
            pipeline_id,
            pipeline: Some(pipeline),
            ..Default::default()
        };
        story.call("ann", convert::create_pipeline(request));
        let mut request = create_flag();
        let off = v1::flag::Spec::FeatureGate(v1::GateSpec::default());
        request.flag.as_mut().unwrap().spec = Some(off);
        story.call("ann", convert::create_flag(request));
        story
    }

    /// The same with release `r1` of the flag triggered by `ann`.
    pub(super) fn triggered(phases: Vec<v1::Phase>) -> Self {
        let mut story = Self::new(phases);
        let request =
            v1::TriggerReleaseRequest { request_id: "t1".to_owned(), ..trigger_release() };
        story.call("ann", convert::trigger_release(request, ReleaseId::parse("r0").unwrap()));
        story
    }

    /// A call of somebody who is in the groups `sre` and `web`; what it did to releases.
    pub(super) fn call(
        &mut self,
        principal: &str,
        parsed: Result<Parsed, Rejected>,
    ) -> Vec<Change> {
        let Parsed { action, request_id, reason, validate_only: _ } = parsed.unwrap();
        let groups = vec![Group::new("sre"), Group::new("web")];
        let caller = Caller { principal: Principal::new(principal), groups };
        self.commit(&Command::Call(Call { caller, request_id, reason, action }))
    }

    /// Turns the clock to the timer of `r1`, and lets it fire.
    pub(super) fn fire(&mut self, lateness: Lateness) -> Vec<Change> {
        let release = self.release();
        let timer = deadline(&release, self.now).unwrap();
        self.now = timer.at;
        let generation = release.progress.timer_generation;
        let release = release.id().clone();
        self.commit(&Command::Fire(Fire { release, generation, lateness }))
    }

    fn commit(&mut self, command: &Command) -> Vec<Change> {
        let commit = decide(&self.state, command, self.now).unwrap().unwrap();
        let before = self.state.clone();
        apply(&mut self.state, &commit);
        changes(&before, &self.state, &commit)
    }

    pub(super) fn wait(&mut self, secs: u32) {
        self.now = self.now + Span::from_secs(secs);
    }

    /// Release `r1`.
    pub(super) fn release(&self) -> Arc<Release> {
        Arc::clone(self.state.release(&ReleaseId::parse("r1").unwrap()).unwrap())
    }

    /// Release `r1` on the wire.
    pub(super) fn wire(&self) -> v1::Release {
        convert::release_to_wire(&self.release(), Detail::Full)
    }

    /// So many seconds from the start of the story, on the wire.
    pub(super) fn at(&self, secs: i64) -> Option<prost_types::Timestamp> {
        instant(1_767_225_600 + secs, 0)
    }

    pub(super) fn approve(&mut self, principal: &str, phase: &str) -> Vec<Change> {
        let request = v1::ApprovePhaseRequest {
            name: "releases/r1".to_owned(),
            request_id: format!("{principal}-approves"),
            reason: "looks good".to_owned(),
            phase_id: phase.to_owned(),
            ..Default::default()
        };
        self.call(principal, convert::approve_phase(request))
    }

    pub(super) fn pause(&mut self) -> Vec<Change> {
        let request = v1::PauseReleaseRequest {
            name: "releases/r1".to_owned(),
            request_id: "p1".to_owned(),
            reason: "looks odd".to_owned(),
        };
        self.call("bob", convert::pause_release(request))
    }

    pub(super) fn report(&mut self, guard: &str, verdict: v1::GuardVerdict) -> Vec<Change> {
        let request = v1::ReportGuardSignalRequest {
            name: "releases/r1".to_owned(),
            reason: "error rate is 7 %".to_owned(),
            phase_id: "canary".to_owned(),
            guard_id: guard.to_owned(),
            verdict: verdict.into(),
            ..Default::default()
        };
        self.call("prober", convert::report_guard_signal(request))
    }
}

/// A phase that is applied at once and bakes for 300 s.
pub(super) fn plain(id: &str) -> v1::Phase {
    let bake_duration = seconds(300);
    v1::Phase { id: id.to_owned(), rules: vec![rule("all")], bake_duration, ..Default::default() }
}
