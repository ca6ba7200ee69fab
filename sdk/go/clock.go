package phasegate

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/phasegate/phasegate/sdk/go/rehearsalv1"
)

// ClockNow is what the clock of a rehearsal says: of a server that was started with --clock=manual. Any other answers
// UNIMPLEMENTED.
func (c *Client) ClockNow(ctx context.Context) (time.Time, error) {
	answer, err := call(ctx, c, &rehearsalv1.GetRequest{}, c.clock.Get)
	return clockTime(answer.GetNow(), err)
}

// AdvanceClock moves the clock of a rehearsal ahead, and returns what it says then. All that came due on the way is
// done and on disk.
//
// This is the one call that is made once only: made again, it would move the clock twice.
func (c *Client) AdvanceClock(ctx context.Context, by time.Duration) (time.Time, error) {
	request := &rehearsalv1.AdvanceRequest{Duration: durationpb.New(by)}
	answer, err := callOnce(ctx, c, request, c.clock.Advance)
	return clockTime(answer.GetNow(), err)
}

func clockTime(now *timestamppb.Timestamp, err error) (time.Time, error) {
	now, err = present(now, err, "now")
	if err != nil {
		return time.Time{}, err
	}
	return now.AsTime(), nil
}
