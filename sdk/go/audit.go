package phasegate

import (
	"context"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// ListAuditEntries returns a page of entries, newest first. A page may be short, or empty, and have a token all the
// same.
func (c *Client) ListAuditEntries(
	ctx context.Context, request *v1.ListAuditEntriesRequest,
) (*v1.ListAuditEntriesResponse, error) {
	return call(ctx, c, request, c.audit.ListAuditEntries)
}

// GetAuditHead returns the newest entry as number and hash: an anchor to keep elsewhere.
func (c *Client) GetAuditHead(ctx context.Context) (*v1.GetAuditHeadResponse, error) {
	return call(ctx, c, &v1.GetAuditHeadRequest{}, c.audit.GetAuditHead)
}
