"""Calls about releases. Watches are methods of the client."""

# Written by `generate` from `aio/_calls/releases.py`. Do not edit it.

from __future__ import annotations

from datetime import timedelta

from phasegate import v1
from phasegate._caller import Caller
from phasegate._decisions import wait_of
from phasegate._fields import duration


class ReleaseCalls(Caller):
    """Starts, steers and observes releases.

    Where a call takes a `request_id`, that makes it safe to repeat; one is made if none is given. An
    `etag`, as read before, makes it fail if the release has changed since. A `reason` is for the log.
    """

    def trigger_release(
        self,
        release: v1.Release,
        *,
        release_id: str = "",
        conflict_policy: v1.ConflictPolicy.ValueType = v1.CONFLICT_POLICY_UNSPECIFIED,
        request_id: str = "",
    ) -> v1.Release:
        """Starts a release, or makes it pending.

        Args:
            release: `flag`, the change, and what else is not output only; `name` may be empty.
            release_id: Last segment of the name; the server makes one if it is not given.
            conflict_policy: What to do if the flag has an active release; unspecified fails.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.TriggerReleaseRequest(
            request_id=request_id,
            release_id=release_id,
            release=release,
            conflict_policy=conflict_policy,
        )
        method = self._releases.TriggerRelease
        return (self._change(method, request, has="release")).release

    def plan_release(
        self,
        release: v1.Release,
        *,
        release_id: str = "",
        conflict_policy: v1.ConflictPolicy.ValueType = v1.CONFLICT_POLICY_UNSPECIFIED,
        request_id: str = "",
    ) -> v1.TriggerReleaseResponse:
        """Checks everything that `trigger_release` checks, triggers nothing, and says when each phase
        would come at the earliest.
        """
        request = v1.TriggerReleaseRequest(
            request_id=request_id,
            validate_only=True,
            release_id=release_id,
            release=release,
            conflict_policy=conflict_policy,
        )
        return self._change(self._releases.TriggerRelease, request)

    def get_release(self, name: str) -> v1.Release:
        """Returns one release, by its name `releases/{release}`."""
        request = v1.GetReleaseRequest(name=name)
        return (self._call(self._releases.GetRelease, request, has="release")).release

    def list_releases(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        filter: v1.ReleaseFilter | None = None,  # noqa: A002 - the field's name
    ) -> v1.ListReleasesResponse:
        """Returns a page of releases, newest first.

        Args:
            page_size: 0 means 50; above 1000 is taken as 1000.
            page_token: `next_page_token` of the page before, with the same filter.
            filter: Only releases that match.
        """
        request = v1.ListReleasesRequest(page_size=page_size, page_token=page_token, filter=filter)
        return self._call(self._releases.ListReleases, request)

    def approve_phase(
        self, name: str, *, phase_id: str, etag: str = "", reason: str = "", request_id: str = ""
    ) -> v1.Release:
        """Records the caller's approval of the current phase.

        Args:
            name: `releases/{release}`.
            phase_id: The phase that the reviewer looked at.
            etag: As read before.
            reason: For the log.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.ApprovePhaseRequest(
            name=name, request_id=request_id, etag=etag, reason=reason, phase_id=phase_id
        )
        return (self._change(self._releases.ApprovePhase, request, has="release")).release

    def reject_phase(
        self, name: str, *, phase_id: str, reason: str, etag: str = "", request_id: str = ""
    ) -> v1.Release:
        """Rejects the current phase, which ends the release and reverts everything.

        Args:
            name: `releases/{release}`.
            phase_id: The phase that the reviewer looked at.
            reason: For the log; must be given.
            etag: As read before.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.RejectPhaseRequest(
            name=name, request_id=request_id, etag=etag, reason=reason, phase_id=phase_id
        )
        return (self._change(self._releases.RejectPhase, request, has="release")).release

    def pause_release(self, name: str, *, reason: str = "", request_id: str = "") -> v1.Release:
        """Holds a release: exposure stays, timers stand still."""
        request = v1.PauseReleaseRequest(name=name, request_id=request_id, reason=reason)
        return (self._change(self._releases.PauseRelease, request, has="release")).release

    def unpause_release(
        self, name: str, *, etag: str = "", reason: str = "", request_id: str = ""
    ) -> v1.Release:
        """Ends the hold: timers go on with what they had left. Without the `etag` it may lift
        somebody's newer hold.
        """
        request = v1.UnpauseReleaseRequest(
            name=name, request_id=request_id, etag=etag, reason=reason
        )
        return (self._change(self._releases.UnpauseRelease, request, has="release")).release

    def skip_phase(
        self,
        name: str,
        *,
        phase_id: str,
        bypass_approval: bool = False,
        etag: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> v1.Release:
        """Leaves the current phase for the next.

        Args:
            name: `releases/{release}`.
            phase_id: The phase to leave: a repeated call cannot skip a second one.
            bypass_approval: Although its approval is not met.
            etag: As read before.
            reason: For the log; must be given with `bypass_approval`.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.SkipPhaseRequest(
            name=name,
            request_id=request_id,
            etag=etag,
            reason=reason,
            phase_id=phase_id,
            bypass_approval=bypass_approval,
        )
        return (self._change(self._releases.SkipPhase, request, has="release")).release

    def override_window(
        self, name: str, *, phase_id: str, reason: str, etag: str = "", request_id: str = ""
    ) -> v1.Release:
        """Applies the current phase although its window is closed.

        Args:
            name: `releases/{release}`.
            phase_id: The current phase.
            reason: For the log; must be given.
            etag: As read before.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.OverrideWindowRequest(
            name=name, request_id=request_id, etag=etag, reason=reason, phase_id=phase_id
        )
        return (self._change(self._releases.OverrideWindow, request, has="release")).release

    def adjust_bake(
        self,
        name: str,
        *,
        phase_id: str,
        remaining: timedelta,
        reason: str,
        etag: str = "",
        request_id: str = "",
    ) -> v1.Release:
        """Sets what is left of the current phase's bake.

        Args:
            name: `releases/{release}`.
            phase_id: The current phase.
            remaining: Counted from now, 0 s to 90 days. 0 s ends the bake.
            reason: For the log; must be given.
            etag: As read before.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.AdjustBakeRequest(
            name=name,
            request_id=request_id,
            etag=etag,
            reason=reason,
            phase_id=phase_id,
            remaining=duration(remaining),
        )
        return (self._change(self._releases.AdjustBake, request, has="release")).release

    def abort_release(self, name: str, *, reason: str, request_id: str = "") -> v1.Release:
        """Ends the release and reverts everything. A `reason` must be given."""
        request = v1.AbortReleaseRequest(name=name, request_id=request_id, reason=reason)
        return (self._change(self._releases.AbortRelease, request, has="release")).release

    def full_rollout(
        self,
        name: str,
        *,
        reason: str,
        bypass_approval: bool = False,
        override_windows: bool = False,
        etag: str = "",
        request_id: str = "",
    ) -> v1.Release:
        """Gives the change to everyone now.

        Args:
            name: `releases/{release}`.
            reason: For the log; must be given.
            bypass_approval: Although approvals are not met.
            override_windows: Although windows are closed.
            etag: As read before.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.FullRolloutRequest(
            name=name,
            request_id=request_id,
            etag=etag,
            reason=reason,
            bypass_approval=bypass_approval,
            override_windows=override_windows,
        )
        return (self._change(self._releases.FullRollout, request, has="release")).release

    def report_guard_signal(
        self,
        name: str,
        *,
        phase_id: str,
        guard_id: str,
        verdict: v1.GuardVerdict.ValueType,
        reason: str = "",
        request_id: str = "",
    ) -> v1.Release:
        """Reports what an outside system says of a guard.

        Args:
            name: `releases/{release}`.
            phase_id: The current phase; for bad news, any that is applied.
            guard_id: The guard.
            verdict: Healthy or not.
            reason: Shown in `GuardStatus.message`.
            request_id: Makes the call safe to repeat; made if it is not given.
        """
        request = v1.ReportGuardSignalRequest(
            name=name,
            request_id=request_id,
            reason=reason,
            phase_id=phase_id,
            guard_id=guard_id,
            verdict=verdict,
        )
        method = self._releases.ReportGuardSignal
        return (self._change(method, request, has="release")).release

    def wait_release(
        self,
        name: str,
        *,
        after_revision: int = 0,
        until_over: bool = False,
        max_wait: timedelta | None = None,
    ) -> v1.WaitReleaseResponse:
        """Waits until a release has a later revision than the given one, or is over, or `max_wait` has
        passed. For scripts; a program watches.

        Args:
            name: `releases/{release}`.
            after_revision: 0: answer at once, unless `until_over`.
            until_over: Wait for the end, whatever changes before.
            max_wait: 0 s to 60 s; 30 s if it is not given.
        """
        request = v1.WaitReleaseRequest(
            name=name,
            after_revision=after_revision,
            until_over=until_over,
            max_wait=duration(max_wait),
        )
        method = self._releases.WaitRelease
        return self._call(method, request, longer=wait_of(max_wait))

    def list_release_events(
        self,
        parent: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        after_revision: int = 0,
        newest_first: bool = False,
    ) -> v1.ListReleaseEventsResponse:
        """Returns a page of what happened to one release, or to all.

        Args:
            parent: `releases/{release}`, or `releases/-` for all.
            page_size: 0 means 100; above 1000 is taken as 1000.
            page_token: `next_page_token` of the page before, with all else the same.
            after_revision: Only events above this revision.
            newest_first: Instead of oldest first.
        """
        request = v1.ListReleaseEventsRequest(
            parent=parent,
            page_size=page_size,
            page_token=page_token,
            after_revision=after_revision,
            newest_first=newest_first,
        )
        return self._call(self._releases.ListReleaseEvents, request)
