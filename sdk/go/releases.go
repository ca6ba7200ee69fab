package phasegate

import (
	"context"
	"time"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// What WaitRelease takes if it is not told, and the most that it takes.
const (
	waitDefault = 30 * time.Second
	waitMax     = 60 * time.Second
)

// TriggerRelease starts a release, or makes it pending.
func (c *Client) TriggerRelease(ctx context.Context, request *v1.TriggerReleaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.TriggerRelease)
	return present(answer.GetRelease(), err, "release")
}

// PlanRelease checks everything that [Client.TriggerRelease] checks, triggers nothing, and says when each phase would
// come at the earliest. It sets ValidateOnly.
func (c *Client) PlanRelease(
	ctx context.Context, request *v1.TriggerReleaseRequest,
) (*v1.TriggerReleaseResponse, error) {
	request = asked(request)
	request.ValidateOnly = true
	return call(ctx, c, request, c.releases.TriggerRelease)
}

// GetRelease returns one release, by its name releases/{release}.
func (c *Client) GetRelease(ctx context.Context, name string) (*v1.Release, error) {
	answer, err := call(ctx, c, &v1.GetReleaseRequest{Name: name}, c.releases.GetRelease)
	return present(answer.GetRelease(), err, "release")
}

// ListReleases returns a page of releases, newest first.
func (c *Client) ListReleases(
	ctx context.Context, request *v1.ListReleasesRequest,
) (*v1.ListReleasesResponse, error) {
	return call(ctx, c, request, c.releases.ListReleases)
}

// ApprovePhase records the caller's approval of the current phase.
func (c *Client) ApprovePhase(ctx context.Context, request *v1.ApprovePhaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.ApprovePhase)
	return present(answer.GetRelease(), err, "release")
}

// RejectPhase rejects the current phase, which ends the release and reverts everything.
func (c *Client) RejectPhase(ctx context.Context, request *v1.RejectPhaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.RejectPhase)
	return present(answer.GetRelease(), err, "release")
}

// PauseRelease holds a release: exposure stays, timers stand still.
func (c *Client) PauseRelease(ctx context.Context, request *v1.PauseReleaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.PauseRelease)
	return present(answer.GetRelease(), err, "release")
}

// UnpauseRelease ends the hold: timers go on with what they had left.
func (c *Client) UnpauseRelease(ctx context.Context, request *v1.UnpauseReleaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.UnpauseRelease)
	return present(answer.GetRelease(), err, "release")
}

// SkipPhase leaves the current phase for the next.
func (c *Client) SkipPhase(ctx context.Context, request *v1.SkipPhaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.SkipPhase)
	return present(answer.GetRelease(), err, "release")
}

// OverrideWindow applies the current phase although its window is closed.
func (c *Client) OverrideWindow(ctx context.Context, request *v1.OverrideWindowRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.OverrideWindow)
	return present(answer.GetRelease(), err, "release")
}

// AdjustBake sets what is left of the current phase's bake.
func (c *Client) AdjustBake(ctx context.Context, request *v1.AdjustBakeRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.AdjustBake)
	return present(answer.GetRelease(), err, "release")
}

// AbortRelease ends the release and reverts everything.
func (c *Client) AbortRelease(ctx context.Context, request *v1.AbortReleaseRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.AbortRelease)
	return present(answer.GetRelease(), err, "release")
}

// FullRollout gives the change to everyone now.
func (c *Client) FullRollout(ctx context.Context, request *v1.FullRolloutRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.FullRollout)
	return present(answer.GetRelease(), err, "release")
}

// ReportGuardSignal reports what an outside system says of a guard.
func (c *Client) ReportGuardSignal(ctx context.Context, request *v1.ReportGuardSignalRequest) (*v1.Release, error) {
	answer, err := call(ctx, c, request, c.releases.ReportGuardSignal)
	return present(answer.GetRelease(), err, "release")
}

// WaitRelease waits until a release has a later revision than the given one, or is over, or MaxWait has passed, by
// which the call may take longer than others. For scripts; a program watches.
func (c *Client) WaitRelease(
	ctx context.Context, request *v1.WaitReleaseRequest,
) (*v1.WaitReleaseResponse, error) {
	longer := waitDefault
	if request.GetMaxWait() != nil {
		longer = min(max(request.MaxWait.AsDuration(), 0), waitMax)
	}
	return patientCall(ctx, c, longer, request, c.releases.WaitRelease)
}

// ListReleaseEvents returns a page of what happened to one release, or to all with releases/-.
func (c *Client) ListReleaseEvents(
	ctx context.Context, request *v1.ListReleaseEventsRequest,
) (*v1.ListReleaseEventsResponse, error) {
	return call(ctx, c, request, c.releases.ListReleaseEvents)
}
