package phasegate

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// WatchReleases follows all releases that match a filter, for ever: a snapshot of them, then every change, each once,
// in order. Without a filter, all releases.
//
//	unfinished := &phasegatev1.ReleaseFilter{UnfinishedOnly: true}
//	for update, err := range client.WatchReleases(ctx, unfinished) {
//		if err != nil {
//			return err
//		}
//		switch update := update.(type) {
//		case phasegate.ReleasesSnapshot:
//			fmt.Println(len(update.Releases), "under way")
//		case phasegate.ReleasesChanges:
//			fmt.Println(len(update.Changes), "changes")
//		}
//	}
//
// For errors, leaving and slow consumers see [Client.WatchRelease].
func (c *Client) WatchReleases(ctx context.Context, filter *v1.ReleaseFilter) iter.Seq2[ReleasesUpdate, error] {
	return c.ResumeReleases(ctx, filter, Position{})
}

// ResumeReleases goes on behind a position of an earlier watch with the same filter: without a snapshot, unless the log
// no longer reaches back so far.
func (c *Client) ResumeReleases(
	ctx context.Context, filter *v1.ReleaseFilter, from Position,
) iter.Seq2[ReleasesUpdate, error] {
	// The caller may go on to change theirs, and a resumed stream needs the same.
	filter = proto.CloneOf(filter)
	return watch(ctx, c, from, func() subject[v1.WatchReleasesResponse, ReleasesUpdate] {
		return &matching{filter: filter}
	})
}

type matching struct {
	filter *v1.ReleaseFilter
	// Whether the initial set is complete; no revision can be resumed from before.
	synced bool
	// What has come of it so far.
	set []*v1.Release
}

func (m *matching) begin(from Position) {
	m.synced, m.set = from.Revision != 0, nil
}

func (m *matching) open(
	ctx context.Context, on grpc.ClientConnInterface, from Position,
) (grpc.ServerStreamingClient[v1.WatchReleasesResponse], error) {
	return v1.NewReleaseServiceClient(on).WatchReleases(ctx, &v1.WatchReleasesRequest{
		ResumeAfterRevision: from.Revision,
		StoreId:             from.StoreID,
		Filter:              m.filter,
	})
}

func (m *matching) take(message *v1.WatchReleasesResponse) (Position, ReleasesUpdate, bool) {
	position, now := Position{message.Revision, message.StoreId}, timeOf(message.ServerTime)
	switch {
	case !m.synced:
		m.set = append(m.set, message.Initial...)
		if !message.Synced {
			return Position{}, nil, false
		}
		set := m.set
		m.synced, m.set = true, nil
		return position, ReleasesSnapshot{set, position, now}, true
	case len(message.Changes) == 0:
		return position, Bookmark{position, now}, true
	default:
		return position, ReleasesChanges{message.Changes, position, now}, true
	}
}

// The server never says that all releases there will ever be are over.
func (*matching) isOver(context.Context) (bool, error) { return false, nil }
