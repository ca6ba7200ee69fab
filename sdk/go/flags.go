package phasegate

import (
	"context"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// CreateFlag creates a flag. Its first spec needs no release.
func (c *Client) CreateFlag(ctx context.Context, request *v1.CreateFlagRequest) (*v1.Flag, error) {
	answer, err := call(ctx, c, request, c.flags.CreateFlag)
	return present(answer.GetFlag(), err, "flag")
}

// PlanCreateFlag checks everything that [Client.CreateFlag] checks, and creates nothing. It sets ValidateOnly.
func (c *Client) PlanCreateFlag(ctx context.Context, request *v1.CreateFlagRequest) (*v1.CreateFlagResponse, error) {
	request = asked(request)
	request.ValidateOnly = true
	return call(ctx, c, request, c.flags.CreateFlag)
}

// GetFlag returns one flag, by its name flags/{flag}.
func (c *Client) GetFlag(ctx context.Context, name string) (*v1.Flag, error) {
	answer, err := call(ctx, c, &v1.GetFlagRequest{Name: name}, c.flags.GetFlag)
	return present(answer.GetFlag(), err, "flag")
}

// ListFlags returns a page of flags, by name.
func (c *Client) ListFlags(ctx context.Context, request *v1.ListFlagsRequest) (*v1.ListFlagsResponse, error) {
	return call(ctx, c, request, c.flags.ListFlags)
}

// UpdateFlag changes fields of a flag; its spec only as far as no release is needed.
func (c *Client) UpdateFlag(ctx context.Context, request *v1.UpdateFlagRequest) (*v1.Flag, error) {
	answer, err := call(ctx, c, request, c.flags.UpdateFlag)
	return present(answer.GetFlag(), err, "flag")
}

// PlanUpdateFlag checks everything that [Client.UpdateFlag] checks, and changes nothing. It sets ValidateOnly.
func (c *Client) PlanUpdateFlag(ctx context.Context, request *v1.UpdateFlagRequest) (*v1.UpdateFlagResponse, error) {
	request = asked(request)
	request.ValidateOnly = true
	return call(ctx, c, request, c.flags.UpdateFlag)
}

// DeleteFlag deletes a flag for good.
func (c *Client) DeleteFlag(ctx context.Context, request *v1.DeleteFlagRequest) error {
	_, err := call(ctx, c, request, c.flags.DeleteFlag)
	return err
}

// SetKillSwitch engages or lifts the kill switch. Engaged must be said.
func (c *Client) SetKillSwitch(ctx context.Context, request *v1.SetKillSwitchRequest) (*v1.Flag, error) {
	answer, err := call(ctx, c, request, c.flags.SetKillSwitch)
	return present(answer.GetFlag(), err, "flag")
}

// EvaluateFlag answers for one context, and says why.
func (c *Client) EvaluateFlag(
	ctx context.Context, request *v1.EvaluateFlagRequest,
) (*v1.EvaluateFlagResponse, error) {
	return call(ctx, c, request, c.flags.EvaluateFlag)
}
