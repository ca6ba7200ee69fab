package phasegate

// What is decided about calls and watches. Nothing here does anything: no network, no clock, no chance, which enter as
// arguments. The shells around it are call.go and watch.go.

import (
	"time"

	"google.golang.org/grpc/codes"
)

// Retry is how often, and how patiently, calls are made again. The waits grow exponentially with full jitter: each is
// drawn evenly between nothing and the limit of its turn, because all clients of a server lose it at the same moment.
type Retry struct {
	// Attempts is how often one call is made in all; 1 never repeats. Does not concern watches, which go on until they
	// are left.
	Attempts int
	// First is the limit of the first wait; each later one is twice as long.
	First time.Duration
	// Longest is the limit of all waits, the server's own wishes apart.
	Longest time.Duration
}

// DefaultRetry is what a client does unless told otherwise: five attempts, waits of up to 0.2 s at first and 20 s at
// most, which is what restarts take.
var DefaultRetry = Retry{Attempts: 5, First: 200 * time.Millisecond, Longest: 20 * time.Second}

// passing says whether the same call may succeed a little later. Calls that carry a request id, and those that change
// nothing, can then be made again without harm.
func passing(err *Error) bool {
	switch err.Code {
	case codes.Unavailable:
		return true
	case codes.Unknown:
		// A connection that is cut can show as this. The server's own errors have a reason.
		return err.Reason == ReasonNone
	case codes.ResourceExhausted:
		// It was sent away at the door: nothing was done.
		return err.Reason == ReasonRateLimited || err.Reason == ReasonOverloaded
	default:
		return false
	}
}

// backoff is the waits of one call, or of one watch.
type backoff struct {
	retry Retry
	turn  int
}

// next is how long to wait after this error: as long as the server asked for, else the drawn part, from 0 to 1, of the
// limit.
func (b *backoff) next(err *Error, drawn float64) time.Duration {
	limit := b.limit()
	b.turn++
	if err.asked {
		return err.RetryAfter
	}
	return time.Duration(drawn * float64(limit))
}

// limit is the longest wait of this turn.
func (b *backoff) limit() time.Duration {
	limit := max(b.retry.First, 0)
	for range b.turn {
		if limit == 0 {
			break
		}
		if limit >= b.retry.Longest/2 {
			return max(b.retry.Longest, 0)
		}
		limit *= 2
	}
	return max(min(limit, b.retry.Longest), 0)
}

// attempts is what one call has to remember.
type attempts struct {
	backoff backoff
	made    int
}

// again says, after an attempt that failed, whether to make another, and after which wait. A wait that the time which
// is left has no room for is not begun.
func (a *attempts) again(err *Error, left time.Duration, drawn float64) (time.Duration, bool) {
	a.made++
	wait := a.backoff.next(err, drawn)
	return wait, passing(err) && a.made < a.backoff.retry.Attempts && wait <= left
}

// after is what the end of a stream leads to.
type after int

const (
	// Wait, and open it again behind the last position.
	resume after = iota
	// Begin with a snapshot.
	restart
	// Open it again with a new credential, if there may be one.
	renew
	// Nothing can be done.
	fail
)

// afterEnd is the one table of what each end of a stream means. UNKNOWN, INTERNAL, CANCELLED and RESOURCE_EXHAUSTED
// lead to another attempt because transports make them: a cut connection can show as UNKNOWN, a peer that is
// overwhelmed as RESOURCE_EXHAUSTED.
func afterEnd(err *Error) after {
	switch err.Code {
	case codes.OutOfRange:
		if err.Reason != ReasonNone {
			return restart
		}
		// A message above the size that a client takes, as other transports say it: it would come again.
		return fail
	case codes.ResourceExhausted:
		if err.tooLarge {
			return fail
		}
		return resume
	case codes.FailedPrecondition:
		if err.Reason == ReasonStoreReplaced {
			return restart
		}
		return resume
	case codes.Unauthenticated:
		return renew
	case codes.NotFound, codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented:
		return fail
	default:
		return resume
	}
}

// A credential that is still not good after so many new ones is not going to be.
const renewalsMax = 2

// course is what a watch has to remember to know how to go on.
type course struct {
	// Everything up to here was delivered.
	position Position
	backoff  backoff
	// Whether the next stream may come with another credential than the last.
	renewable bool
	// Streams that were opened for a new credential since the last message.
	renewals int
}

// heard notes a message, after which everything up to the position is delivered.
func (c *course) heard(position Position) {
	c.position = position
	c.backoff.turn = 0
	c.renewals = 0
}

// ended says what the end of a stream leads to, and after which wait.
func (c *course) ended(err *Error, drawn float64) (after, time.Duration) {
	does := afterEnd(err)
	switch {
	case does == fail:
		return fail, 0
	case does == renew && (!c.renewable || c.renewals == renewalsMax):
		return fail, 0
	case does == renew:
		c.renewals++
	case does == restart && c.position != Position{}:
		c.position = Position{}
		return restart, 0
	}
	// A restart without any position would fail again at once, so it waits like everything else.
	return resume, c.backoff.next(err, drawn)
}
