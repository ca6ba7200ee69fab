package phasegate

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

// link is a connection that is made again when it is next needed.
//
// gRPC waits on its own terms before it connects again, up to two minutes, and meanwhile lets every call fail with the
// last error. The waits are ours here, and an attempt has to be one: so a connection that did not come about is thrown
// away, and the next call makes a new one.
type link struct {
	dial func() (*grpc.ClientConn, error)
	// Says who calls.
	sign func(context.Context) context.Context

	mu      sync.Mutex
	current *connection
	closed  bool
}

// connection is one of gRPC's, with how many calls and streams use it.
type connection struct {
	*grpc.ClientConn
	uses int
	// Closed once nobody uses it any more.
	retired bool
}

var (
	errClosed = status.Error(codes.Canceled, "the client is closed")
	errSilent = status.Error(codes.Unavailable, "the server was silent for too long")
)

func (l *link) take() (*connection, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.current == nil {
		dialled, err := l.dial()
		if err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		l.current = &connection{ClientConn: dialled}
	}
	l.current.uses++
	return l.current, nil
}

// give says that a call or a stream no longer uses the connection, and what came of it. One that is not there any more,
// or has been silent for too long, is not used again.
func (l *link) give(used *connection, err error) {
	l.mu.Lock()
	used.uses--
	gone := status.Code(err) == codes.Unavailable && used.GetState() != connectivity.Ready
	if gone || errors.Is(err, errSilent) {
		used.retired = true
		if l.current == used {
			l.current = nil
		}
	}
	unused := used.retired && used.uses == 0
	l.mu.Unlock()
	if unused {
		_ = used.Close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.current != nil {
		_ = l.current.Close()
	}
}

// Invoke makes one attempt of a call.
func (l *link) Invoke(ctx context.Context, method string, request, answer any, options ...grpc.CallOption) error {
	used, err := l.take()
	if err != nil {
		return err
	}
	err = used.ClientConn.Invoke(l.sign(ctx), method, request, answer, options...)
	l.give(used, err)
	return err
}

// NewStream is what the stubs of gRPC want to have. No call has a stream, and a watch opens its own on a connection that
// it holds, because it may learn that the connection is dead before gRPC does.
func (l *link) NewStream(
	context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "a stream is opened on a connection")
}

// reach connects, and says why not.
func (l *link) reach(ctx context.Context) *Error {
	used, err := l.take()
	if err != nil {
		return errorOf(ctx, err)
	}
	used.Connect()
	for {
		switch state := used.GetState(); state {
		case connectivity.Ready:
			l.give(used, nil)
			return nil
		case connectivity.TransientFailure:
			// Only a call is told the cause. This one does not leave the machine, unless the server is reached after
			// all; it needs no permission then, and whatever it says is the server's word.
			_, err = v1.NewAccessServiceClient(used).GetIdentity(ctx, &v1.GetIdentityRequest{})
			l.give(used, err)
			switch status.Code(err) {
			case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
				return errorOf(ctx, err)
			default:
				return nil
			}
		default:
			if !used.WaitForStateChange(ctx, state) {
				l.give(used, nil)
				return errorOf(ctx, status.FromContextError(ctx.Err()).Err())
			}
		}
	}
}

// Watches on one connection. Beyond the server's limit of streams the rest would wait in silence; proxies commonly
// allow 100.
const watchesPerLink = 100

// seats are the places for watches, on as many connections as they need, apart from those of calls: streams that
// deliver little and live long would else fill the connection that calls need.
type seats struct {
	open func() *link

	mu     sync.Mutex
	links  []*link
	taken  []int
	closed bool
}

// take is a place on the first connection that has one left, or on a new one, until it is left.
func (s *seats) take() (on *link, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	for at < len(s.links) && s.taken[at] == watchesPerLink {
		at++
	}
	if at == len(s.links) {
		opened := s.open()
		opened.closed = s.closed
		s.links, s.taken = append(s.links, opened), append(s.taken, 0)
	}
	s.taken[at]++
	return s.links[at], func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken[at]--
	}
}

func (s *seats) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, link := range s.links {
		link.close()
	}
}
