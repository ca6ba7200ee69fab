package phasegate

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// WatchAuditEntries follows the audit chain behind a position, for ever: every entry, each once, in order. The zero
// position is its beginning. For errors, leaving and slow consumers see [Client.WatchRelease].
func (c *Client) WatchAuditEntries(ctx context.Context, from Position) iter.Seq2[AuditUpdate, error] {
	return watch(ctx, c, from, func() subject[v1.WatchAuditEntriesResponse, AuditUpdate] { return chain{} })
}

type chain struct{}

func (chain) begin(Position) {}

func (chain) open(
	ctx context.Context, on grpc.ClientConnInterface, from Position,
) (grpc.ServerStreamingClient[v1.WatchAuditEntriesResponse], error) {
	return v1.NewAuditServiceClient(on).WatchAuditEntries(ctx, &v1.WatchAuditEntriesRequest{
		AfterSequence: from.Revision,
		StoreId:       from.StoreID,
	})
}

func (chain) take(message *v1.WatchAuditEntriesResponse) (Position, AuditUpdate, bool) {
	position := Position{message.Sequence, message.StoreId}
	if message.Entry == nil {
		return position, Bookmark{Position: position}, true
	}
	return position, AuditEntry{message.Entry, position}, true
}

// The chain never ends.
func (chain) isOver(context.Context) (bool, error) { return false, nil }
