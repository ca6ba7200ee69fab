package phasegate

import (
	"context"
	"crypto/rand"
	"fmt"
	random "math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// send makes one attempt of a call.
type send[Q, A any] func(ctx context.Context, request Q, options ...grpc.CallOption) (A, error)

// call makes a call that may be made again: it changes nothing, or carries a request id.
func call[Q proto.Message, A any](ctx context.Context, c *Client, request Q, send send[Q, A]) (A, error) {
	return patientCall(ctx, c, 0, request, send)
}

// patientCall is the same, for a call that the server may take so much longer to answer.
func patientCall[Q proto.Message, A any](
	ctx context.Context, c *Client, longer time.Duration, request Q, send send[Q, A],
) (A, error) {
	// The server is told when it is over, too, so that it need not finish what nobody waits for.
	ctx, cancel := context.WithTimeout(ctx, c.options.timeout+longer)
	defer cancel()
	request = withRequestID(request)
	made := attempts{backoff: backoff{retry: c.options.retry}}
	for {
		answer, err := send(ctx, request)
		if err == nil {
			return answer, nil
		}
		refused := errorOf(ctx, err)
		deadline, _ := ctx.Deadline()
		wait, again := made.again(refused, time.Until(deadline), random.Float64())
		if !again {
			return answer, refused
		}
		c.options.logger.Debug("calling again", "error", refused, "wait", wait)
		if !sleep(ctx, wait) {
			return answer, refused
		}
	}
}

// callOnce makes a call that must not be made again.
func callOnce[Q, A any](ctx context.Context, c *Client, request Q, send send[Q, A]) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.timeout)
	defer cancel()
	answer, err := send(ctx, request)
	if err != nil {
		return answer, errorOf(ctx, err)
	}
	return answer, nil
}

// present is the one resource of an answer.
func present[R any](resource *R, err error, field string) (*R, error) {
	if err != nil {
		return nil, err
	}
	if resource == nil {
		return nil, local(codes.Internal, "the server's answer lacks `%s`", field)
	}
	return resource, nil
}

// withRequestID is the request with an id, if it can have one, so that it can be made again without being done twice.
// The caller's own message is left as it is.
func withRequestID[Q proto.Message](request Q) Q {
	field := request.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || request.ProtoReflect().Has(field) {
		return request
	}
	identified := asked(request)
	identified.ProtoReflect().Set(field, protoreflect.ValueOfString(newRequestID()))
	return identified
}

// asked is a copy of a request; of none, an empty one.
func asked[Q proto.Message](request Q) Q {
	if !request.ProtoReflect().IsValid() {
		return request.ProtoReflect().New().Interface().(Q)
	}
	return proto.CloneOf(request)
}

// newRequestID is a random UUID (RFC 9562, version 4).
func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // Never fails.
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// sleep waits, and says whether it could before the context ended.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
