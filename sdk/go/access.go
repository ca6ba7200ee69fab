package phasegate

import (
	"context"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// Identity says who this client is to the server, and what it may do there.
func (c *Client) Identity(ctx context.Context) (*v1.GetIdentityResponse, error) {
	return call(ctx, c, &v1.GetIdentityRequest{}, c.access.GetIdentity)
}
