package phasegate

// Watches that go on: over lost connections, restarts of the server, and a log that was cut. No generated client
// resumes a stream: once headers have arrived, the retries of gRPC end. The loop here does it, for all kinds of watch.
//
// What each end of a stream means is in decisions.go. The position is the last revision that was delivered, so nothing
// is lost and nothing comes twice.

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// subject is what is watched: M as it comes off the wire, U as it is handed on.
type subject[M, U any] interface {
	// begin says that a stream is about to be opened behind this position: what does not reach up to it is forgotten.
	begin(from Position)
	// open opens the stream behind a position.
	open(ctx context.Context, on grpc.ClientConnInterface, from Position) (grpc.ServerStreamingClient[M], error)
	// take takes a message in: where to resume from now on, and what to hand on, if anything.
	take(message *M) (position Position, update U, told bool)
	// isOver says whether an end with OK is the end of the watch.
	isOver(ctx context.Context) (bool, error)
}

// watch is a watch of the subject, behind a position. Each range over it is one of its own.
func watch[M, U any](
	ctx context.Context, c *Client, from Position, subject func() subject[M, U],
) iter.Seq2[U, error] {
	return func(yield func(U, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.life, cancel)()
		// One place for the whole life of the watch, so that it comes back to the same connection.
		on, leave := c.watches.take()
		defer leave()
		w := watching[M, U]{client: c, subject: subject(), on: on, yield: yield}
		w.course = course{
			position:  from,
			backoff:   backoff{retry: c.options.retry},
			renewable: c.token != nil && c.token.renewable(),
		}
		w.run(ctx)
	}
}

type watching[M, U any] struct {
	client  *Client
	subject subject[M, U]
	on      *link
	yield   func(U, error) bool
	course  course
	// The last stream broke, and none has been opened since.
	lost bool
}

// ending is how it went with one stream.
type ending int

const (
	// What was watched is over, or nobody asks for updates any more.
	done ending = iota
	// It broke.
	broken
)

func (w *watching[M, U]) run(ctx context.Context) {
	var none U
	for {
		ended, err := w.follow(ctx)
		if ended == done {
			return
		}
		if left := w.left(ctx); left != nil {
			w.yield(none, left)
			return
		}
		does, wait := w.course.ended(err, rand.Float64())
		switch does {
		case fail:
			w.yield(none, err)
			return
		case restart:
			if !w.tell(Restarted{err}) {
				return
			}
		default:
			w.client.options.logger.Debug("watching again", "error", err, "wait", wait, "position", w.course.position)
			w.lost = true
			if !w.tell(Interrupted{err}) {
				return
			}
			if !sleep(ctx, wait) {
				w.yield(none, w.left(ctx))
				return
			}
		}
	}
}

// follow opens a stream and hands on what it brings, until it ends.
func (w *watching[M, U]) follow(ctx context.Context) (ending, *Error) {
	opened, cancel := context.WithCancelCause(ctx)
	// This is what ends the stream on the server too, if it is left.
	defer cancel(nil)
	silence := time.AfterFunc(w.client.options.silence, func() { cancel(errSilent) })
	defer silence.Stop()
	used, err := w.on.take()
	if err != nil {
		return broken, errorOf(ctx, err)
	}
	var came error
	defer func() { w.on.give(used, came) }()
	broke := func(err error) (ending, *Error) {
		came = err
		if cause := context.Cause(opened); errors.Is(cause, errSilent) {
			came = errSilent
		}
		return broken, errorOf(ctx, came)
	}

	w.subject.begin(w.course.position)
	stream, err := w.subject.open(w.on.sign(opened), used, w.course.position)
	if err != nil {
		return broke(err)
	}
	// Without headers it ended before it began; receiving says how.
	headers, _ := stream.Header()
	// Said now, because the first message may be a bookmark that is many seconds away.
	if headers != nil && w.lost {
		w.lost = false
		silence.Stop()
		if !w.tell(Resumed{}) {
			return done, nil
		}
	}
	for {
		// The server's silence is measured, not the consumer's.
		silence.Reset(w.client.options.silence)
		message, err := stream.Recv()
		silence.Stop()
		if errors.Is(err, io.EOF) {
			return w.ok(ctx)
		}
		if err != nil {
			return broke(err)
		}
		position, update, told := w.subject.take(message)
		w.course.heard(position)
		if told && !w.yield(update, nil) {
			return done, nil
		}
	}
}

// ok is for a stream that the server ended with OK.
func (w *watching[M, U]) ok(ctx context.Context) (ending, *Error) {
	over, err := w.subject.isOver(ctx)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return broken, refused
	case err != nil:
		return broken, errorOf(ctx, err)
	case !over:
		return broken, local(codes.Unavailable, "the server ended the watch before its time")
	default:
		return done, nil
	}
}

// tell hands on one of the kinds of update that all watches have: each of them implements all the interfaces, so it is
// a U.
func (w *watching[M, U]) tell(update any) bool { return w.yield(update.(U), nil) }

// left is the error of a watch that was ended from this side; nil if it was not.
func (w *watching[M, U]) left(ctx context.Context) *Error {
	switch {
	case w.client.life.Err() != nil:
		return errorOf(w.client.life, errClosed)
	case ctx.Err() != nil:
		return errorOf(ctx, status.FromContextError(ctx.Err()).Err())
	default:
		return nil
	}
}

// timeOf is a time of the server; zero if it gave none.
func timeOf(given interface {
	IsValid() bool
	AsTime() time.Time
}) time.Time {
	if !given.IsValid() {
		return time.Time{}
	}
	return given.AsTime()
}
