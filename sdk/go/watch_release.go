package phasegate

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// WatchRelease follows one release, by its name releases/{release}, to its end: a snapshot, then every change, each
// once, in order. It resumes by itself.
//
//	for update, err := range client.WatchRelease(ctx, "releases/checkout-v2-1") {
//		if err != nil {
//			return err
//		}
//		switch update := update.(type) {
//		case phasegate.ReleaseSnapshot:
//			fmt.Println("is", update.Release.State)
//		case phasegate.ReleaseChange:
//			for _, event := range update.Events {
//				fmt.Println(event.EventType, event.PhaseId)
//			}
//		case phasegate.Restarted:
//			fmt.Println("beginning anew:", update.Err)
//		}
//	}
//	fmt.Println("over")
//
// The loop ends when the release is over. An error is the last that comes: one that the watch cannot recover from, such
// as a release that does not exist, or that of the context. To leave the loop, or to end the context, ends the watch on
// the server too. An update is taken from the server only when it is asked for, so a consumer may be slow; one that
// stops for a minute finds the stream resumed.
func (c *Client) WatchRelease(ctx context.Context, name string) iter.Seq2[ReleaseUpdate, error] {
	return c.ResumeRelease(ctx, name, Position{})
}

// ResumeRelease goes on behind a position of an earlier watch of the same release: without a snapshot, unless the log
// no longer reaches back so far. For the rest see [Client.WatchRelease].
func (c *Client) ResumeRelease(ctx context.Context, name string, from Position) iter.Seq2[ReleaseUpdate, error] {
	return watch(ctx, c, from, func() subject[v1.WatchReleaseResponse, ReleaseUpdate] {
		return &oneRelease{client: c, name: name}
	})
}

type oneRelease struct {
	client *Client
	name   string
	// The last release that was seen is over.
	ended bool
}

func (*oneRelease) begin(Position) {}

func (o *oneRelease) open(
	ctx context.Context, on grpc.ClientConnInterface, from Position,
) (grpc.ServerStreamingClient[v1.WatchReleaseResponse], error) {
	return v1.NewReleaseServiceClient(on).WatchRelease(ctx, &v1.WatchReleaseRequest{
		Name:                o.name,
		ResumeAfterRevision: from.Revision,
		StoreId:             from.StoreID,
	})
}

func (o *oneRelease) take(message *v1.WatchReleaseResponse) (Position, ReleaseUpdate, bool) {
	position, now := Position{message.Revision, message.StoreId}, timeOf(message.ServerTime)
	switch {
	case message.Release == nil:
		return position, Bookmark{position, now}, true
	case len(message.Events) == 0:
		o.ended = message.Release.EndTime != nil
		return position, ReleaseSnapshot{message.Release, position, now}, true
	default:
		o.ended = message.Release.EndTime != nil
		return position, ReleaseChange{message.Release, message.Events, position, now}, true
	}
}

// OK after a resumption at or behind the end comes without a release: the server is asked.
func (o *oneRelease) isOver(ctx context.Context) (bool, error) {
	if !o.ended {
		release, err := o.client.GetRelease(ctx, o.name)
		if err != nil {
			return false, err
		}
		o.ended = release.EndTime != nil
	}
	return o.ended, nil
}
