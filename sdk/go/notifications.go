package phasegate

import (
	"context"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// ListSinks returns all sinks, and how they are.
func (c *Client) ListSinks(ctx context.Context) (*v1.ListSinksResponse, error) {
	return call(ctx, c, &v1.ListSinksRequest{}, c.notifications.ListSinks)
}

// ListDeadLetters returns a page of what was given up, oldest first.
func (c *Client) ListDeadLetters(
	ctx context.Context, request *v1.ListDeadLettersRequest,
) (*v1.ListDeadLettersResponse, error) {
	return call(ctx, c, request, c.notifications.ListDeadLetters)
}

// ReplayDeadLetters has what was given up sent again. Made again, it does nothing more.
func (c *Client) ReplayDeadLetters(
	ctx context.Context, request *v1.ReplayDeadLettersRequest,
) (*v1.ReplayDeadLettersResponse, error) {
	return call(ctx, c, request, c.notifications.ReplayDeadLetters)
}

// SendTestNotification sends a test to a sink, by its id. Made again after a lost connection, it may arrive twice.
func (c *Client) SendTestNotification(ctx context.Context, sink string) (*v1.SendTestNotificationResponse, error) {
	request := &v1.SendTestNotificationRequest{Sink: sink}
	return call(ctx, c, request, c.notifications.SendTestNotification)
}
