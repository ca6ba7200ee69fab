package phasegate

import (
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func refusal(code codes.Code, reason Reason) *Error { return &Error{Code: code, Reason: reason} }

func TestOnlyWhatPassesIsMadeAgain(t *testing.T) {
	for _, row := range []struct {
		code   codes.Code
		reason Reason
		again  bool
	}{
		{codes.Unavailable, ReasonNone, true},
		{codes.Unavailable, ReasonServerDraining, true},
		{codes.Unavailable, ReasonStoreReadOnly, true},
		{codes.Unavailable, "MOON_PHASE", true},
		{codes.Unknown, ReasonNone, true},
		{codes.Unknown, "MOON_PHASE", false},
		{codes.ResourceExhausted, ReasonRateLimited, true},
		{codes.ResourceExhausted, ReasonOverloaded, true},
		{codes.ResourceExhausted, ReasonQueueFull, false},
		{codes.ResourceExhausted, ReasonFlagSetTooLarge, false},
		{codes.ResourceExhausted, ReasonNone, false},
		{codes.Canceled, ReasonNone, false},
		{codes.DeadlineExceeded, ReasonNone, false},
		{codes.Internal, ReasonInternal, false},
		{codes.Internal, ReasonNone, false},
		{codes.Aborted, ReasonEtagMismatch, false},
		{codes.FailedPrecondition, ReasonAlreadyPaused, false},
		{codes.Unauthenticated, ReasonUnauthenticated, false},
		{codes.NotFound, ReasonResourceNotFound, false},
		{codes.DataLoss, ReasonNone, false},
	} {
		if got := passing(refusal(row.code, row.reason)); got != row.again {
			t.Errorf("%s %q is made again: %t", row.code, row.reason, got)
		}
	}
}

func TestTheLimitDoublesUpToTheLongest(t *testing.T) {
	waits := backoff{retry: DefaultRetry}
	gone := refusal(codes.Unavailable, ReasonNone)
	for _, milliseconds := range []int64{200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000} {
		limit := time.Duration(milliseconds) * time.Millisecond
		if waits.limit() != limit {
			t.Errorf("turn %d has the limit %s, not %s", waits.turn, waits.limit(), limit)
		}
		// The wait is the drawn part of it.
		half := waits
		if got := half.next(gone, 0.5); got != limit/2 {
			t.Errorf("half of %s is drawn as %s", limit, got)
		}
		if got := waits.next(gone, 0); got != 0 {
			t.Errorf("nothing of %s is drawn as %s", limit, got)
		}
	}
}

func TestNoLimitIsBelowNothingOrAboveTheLongest(t *testing.T) {
	for _, retry := range []Retry{
		DefaultRetry,
		{First: 0, Longest: time.Hour},
		{First: -time.Second, Longest: time.Hour},
		{First: time.Hour, Longest: time.Second},
		{First: time.Second, Longest: -time.Second},
		{First: 1, Longest: math.MaxInt64},
		{First: math.MaxInt64, Longest: math.MaxInt64},
	} {
		for _, turn := range []int{0, 1, 5, 62, 63, 64, 1000, math.MaxInt} {
			waits := backoff{retry, turn}
			if limit := waits.limit(); limit < 0 || limit > max(retry.Longest, 0) {
				t.Errorf("%+v has the limit %s in turn %d", retry, limit, turn)
			}
		}
	}
}

func TestTheWishOfTheServerIsKeptToTheLetter(t *testing.T) {
	for _, wish := range []time.Duration{0, time.Millisecond, 77 * time.Second} {
		waits := backoff{retry: DefaultRetry}
		draining := &Error{Code: codes.Unavailable, Reason: ReasonServerDraining, RetryAfter: wish, asked: true}
		if got := waits.next(draining, 0.5); got != wish {
			t.Errorf("asked for %s, waits %s", wish, got)
		}
	}
}

func TestAttemptsAreBoundedAndSoIsTheirTime(t *testing.T) {
	gone := refusal(codes.Unavailable, ReasonNone)
	made := attempts{backoff: backoff{retry: DefaultRetry}}
	for attempt := 1; attempt < DefaultRetry.Attempts; attempt++ {
		if _, again := made.again(gone, time.Minute, 1); !again {
			t.Fatalf("there is no attempt after attempt %d", attempt)
		}
	}
	if _, again := made.again(gone, time.Minute, 1); again {
		t.Error("there is an attempt too many")
	}

	once := attempts{backoff: backoff{retry: Retry{Attempts: 1}}}
	if _, again := once.again(gone, time.Minute, 1); again {
		t.Error("one attempt became two")
	}

	made = attempts{backoff: backoff{retry: DefaultRetry}}
	if wait, again := made.again(gone, 199*time.Millisecond, 1); again {
		t.Errorf("a wait of %s was begun with 199 ms left", wait)
	}
	if wait, again := made.again(gone, 400*time.Millisecond, 1); !again || wait != 400*time.Millisecond {
		t.Errorf("the second wait is %s, %t", wait, again)
	}
}

func TestWhatEachEndOfAStreamMeans(t *testing.T) {
	for _, row := range []struct {
		code   codes.Code
		reason Reason
		does   after
	}{
		{codes.Unavailable, ReasonNone, resume},
		{codes.Unavailable, ReasonStreamExpired, resume},
		{codes.Unavailable, ReasonServerDraining, resume},
		{codes.ResourceExhausted, ReasonSlowConsumer, resume},
		{codes.ResourceExhausted, ReasonTooManyWatches, resume},
		{codes.ResourceExhausted, ReasonNone, resume},
		{codes.Unknown, ReasonNone, resume},
		{codes.Internal, ReasonNone, resume},
		{codes.Internal, ReasonInternal, resume},
		{codes.Canceled, ReasonNone, resume},
		{codes.DeadlineExceeded, ReasonNone, resume},
		{codes.Aborted, ReasonNone, resume},
		{codes.AlreadyExists, ReasonNone, resume},
		{codes.DataLoss, ReasonNone, resume},
		{codes.FailedPrecondition, ReasonNone, resume},
		{codes.FailedPrecondition, ReasonStoreReplaced, restart},
		{codes.OutOfRange, ReasonRevisionCompacted, restart},
		{codes.OutOfRange, ReasonRevisionInFuture, restart},
		{codes.OutOfRange, ReasonViewChanged, restart},
		{codes.OutOfRange, "MOON_PHASE", restart},
		{codes.OutOfRange, ReasonNone, fail},
		{codes.NotFound, ReasonResourceNotFound, fail},
		{codes.InvalidArgument, ReasonInvalidField, fail},
		{codes.PermissionDenied, ReasonPermissionMissing, fail},
		{codes.Unimplemented, ReasonNone, fail},
		{codes.Unauthenticated, ReasonUnauthenticated, renew},
		{codes.Unauthenticated, ReasonNone, renew},
	} {
		if got := afterEnd(refusal(row.code, row.reason)); got != row.does {
			t.Errorf("%s %q means %d, not %d", row.code, row.reason, got, row.does)
		}
	}
	if afterEnd(&Error{Code: codes.ResourceExhausted, tooLarge: true}) != fail {
		t.Error("a message over the limit would come again")
	}
}

func TestARestartForgetsThePositionAndOneWithoutItWaits(t *testing.T) {
	compacted := refusal(codes.OutOfRange, ReasonRevisionCompacted)
	way := course{position: Position{7, "s"}, backoff: backoff{retry: DefaultRetry}}
	if does, wait := way.ended(compacted, 1); does != restart || wait != 0 || way.position != (Position{}) {
		t.Errorf("it does %d after %s behind %v", does, wait, way.position)
	}
	if does, wait := way.ended(compacted, 1); does != resume || wait != 200*time.Millisecond {
		t.Errorf("it does %d after %s", does, wait)
	}
}

func TestAMessageMakesTheNextWaitSmallAgain(t *testing.T) {
	gone := refusal(codes.Unavailable, ReasonNone)
	way := course{backoff: backoff{retry: DefaultRetry}}
	for _, milliseconds := range []int64{200, 400, 800} {
		if _, wait := way.ended(gone, 1); wait.Milliseconds() != milliseconds {
			t.Errorf("waits %s, not %d ms", wait, milliseconds)
		}
	}
	way.heard(Position{9, "s"})
	if does, wait := way.ended(gone, 1); does != resume || wait != 200*time.Millisecond || way.position.Revision != 9 {
		t.Errorf("it does %d after %s behind %v", does, wait, way.position)
	}
}

func TestANewCredentialIsTriedTwiceAndOnlyIfThereMayBeOne(t *testing.T) {
	refused := refusal(codes.Unauthenticated, ReasonUnauthenticated)
	given := course{backoff: backoff{retry: DefaultRetry}}
	if does, _ := given.ended(refused, 0); does != fail {
		t.Errorf("with a credential that stays it does %d", does)
	}
	file := course{backoff: backoff{retry: DefaultRetry}, renewable: true}
	for round := range 2 {
		for try := range renewalsMax {
			if does, _ := file.ended(refused, 0); does != resume {
				t.Errorf("in round %d, try %d, it does %d", round, try, does)
			}
		}
		if round == 0 {
			file.heard(Position{1, "s"})
		}
	}
	if does, _ := file.ended(refused, 0); does != fail {
		t.Errorf("after %d tries it does %d", renewalsMax, does)
	}
}
