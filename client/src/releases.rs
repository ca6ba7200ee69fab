//! Calls about releases. Watches are in `watch`.

use crate::{
    Client, Error,
    mutation::{mutations, plans},
    v1,
};
use std::time::Duration;

/// What WaitRelease takes if it is not told.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The most that it takes.
const WAIT_MAX: Duration = Duration::from_secs(60);

mutations! {
    releases:
    /// Starts a release, or makes it pending.
    trigger_release(TriggerReleaseRequest) -> release: Release;
    /// Records the caller's approval of the current phase.
    approve_phase(ApprovePhaseRequest) -> release: Release;
    /// Rejects the current phase, which ends the release and reverts everything.
    reject_phase(RejectPhaseRequest) -> release: Release;
    /// Holds a release: exposure stays, timers stand still.
    pause_release(PauseReleaseRequest) -> release: Release;
    /// Ends the hold: timers go on with what they had left.
    unpause_release(UnpauseReleaseRequest) -> release: Release;
    /// Leaves the current phase for the next.
    skip_phase(SkipPhaseRequest) -> release: Release;
    /// Applies the current phase although its window is closed.
    override_window(OverrideWindowRequest) -> release: Release;
    /// Sets what is left of the current phase's bake.
    adjust_bake(AdjustBakeRequest) -> release: Release;
    /// Ends the release and reverts everything.
    abort_release(AbortReleaseRequest) -> release: Release;
    /// Gives the change to everyone now.
    full_rollout(FullRolloutRequest) -> release: Release;
    /// Reports what an outside system says of a guard.
    report_guard_signal(ReportGuardSignalRequest) -> release: Release;
}

plans! {
    releases:
    /// Checks everything that [`trigger_release`](Self::trigger_release) checks, triggers nothing,
    /// and says when each phase would come at the earliest.
    plan_release = trigger_release(TriggerReleaseRequest) -> TriggerReleaseResponse;
}

impl Client {
    /// Returns one release, by its name `releases/{release}`.
    pub async fn get_release(&self, name: impl Into<String>) -> Result<v1::Release, Error> {
        let call = |request| {
            let mut service = self.releases();
            async move { service.get_release(request).await }
        };
        let request = v1::GetReleaseRequest { name: name.into() };
        self.call(request, call).await?.release.ok_or_else(|| Error::incomplete("release"))
    }

    /// Returns a page of releases, newest first.
    pub async fn list_releases(
        &self,
        request: v1::ListReleasesRequest,
    ) -> Result<v1::ListReleasesResponse, Error> {
        let call = |request| {
            let mut service = self.releases();
            async move { service.list_releases(request).await }
        };
        self.call(request, call).await
    }

    /// Returns a page of what happened to one release, or to all with `releases/-`.
    pub async fn list_release_events(
        &self,
        request: v1::ListReleaseEventsRequest,
    ) -> Result<v1::ListReleaseEventsResponse, Error> {
        let call = |request| {
            let mut service = self.releases();
            async move { service.list_release_events(request).await }
        };
        self.call(request, call).await
    }

    /// Waits until a release has a later revision than the given one, or is over, or `max_wait` has
    /// passed. For scripts; a program watches.
    pub async fn wait_release(
        &self,
        request: v1::WaitReleaseRequest,
    ) -> Result<v1::WaitReleaseResponse, Error> {
        let call = |request| {
            let mut service = self.releases();
            async move { service.wait_release(request).await }
        };
        let asked = request.max_wait.and_then(|wait| Duration::try_from(wait).ok());
        let longer = asked.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
        self.patient_call(longer, request, call).await
    }
}
