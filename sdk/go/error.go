package phasegate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The domain of the server's own errors; those of any other are a proxy's.
const domain = "phasegate.v1"

// Error is what every call and every watch fails with. Decide by its Reason, never by the text.
//
//	var refused *phasegate.Error
//	if errors.As(err, &refused) && refused.Reason == phasegate.ReasonFlagLocked {
//		fmt.Println("first comes", refused.Metadata["activeRelease"])
//	}
//
// It unwraps to context.Canceled or context.DeadlineExceeded, if it was the caller, or the time that a call may take,
// that ended it.
type Error struct {
	// Code is the status code of gRPC.
	Code codes.Code
	// Reason is what went wrong, as programs need it; ReasonNone if it is not the server that refused.
	Reason Reason
	// Message is what went wrong, for people.
	Message string
	// Metadata has facts that belong to the reason, such as "state" or "activeRelease"; the keys of each reason are
	// listed in the server's documentation of errors.
	Metadata map[string]string
	// Violations say what is wrong with the request, if the reason is ReasonInvalidField.
	Violations []Violation
	// RetryAfter is how long the server asked to wait before the call is made again. Zero if it did not.
	RetryAfter time.Duration

	// Whether the server asked; it may have asked for no wait at all.
	asked bool
	// A message over the limit, which would come again.
	tooLarge bool
	status   *status.Status
	cause    error
}

// Violation is one field of a request that is not as it must be.
type Violation struct {
	// Field is its path, in names of the proto files: release.feature_gate.rules[3].targeting.id.
	Field string
	// Description is what it must be.
	Description string
}

// ReasonOf is the reason of an error of this package, also of a wrapped one. ReasonNone of any other, and of none.
func ReasonOf(err error) Reason {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ReasonNone
}

// Error is for people: the message, each violation, and the name of the reason, or else of the code.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(e.Message)
	before := ": "
	for _, violation := range e.Violations {
		// The server's message may say them already.
		if strings.Contains(e.Message, violation.Description) {
			continue
		}
		fmt.Fprintf(&text, "%s%s %s", before, violation.Field, violation.Description)
		before = "; "
	}
	if e.Reason == ReasonNone {
		fmt.Fprintf(&text, " [%s]", e.Code)
	} else {
		fmt.Fprintf(&text, " [%s]", e.Reason)
	}
	return text.String()
}

// Unwrap is context.Canceled, context.DeadlineExceeded, or nil.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus lets the functions of google.golang.org/grpc/status take this error for what it was made from.
func (e *Error) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}

// Unreachable says whether the server was not reached, or did not answer: nothing is known about the call.
func (e *Error) Unreachable() bool {
	if e.Reason != ReasonNone {
		return false
	}
	return e.Code == codes.Unavailable || e.Code == codes.Unknown || e.Code == codes.DeadlineExceeded
}

// local is an error that no server made.
func local(code codes.Code, format string, parts ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, parts...)}
}

// errorOf reads what gRPC says about a call that was made in the context.
func errorOf(ctx context.Context, err error) *Error {
	got := status.Convert(err)
	read := &Error{Code: got.Code(), Message: got.Message(), status: got}
	switch read.Code {
	case codes.DeadlineExceeded:
		// Whoever noticed first: the server is told when the time is over, and may say so before the context does.
		read.cause = context.DeadlineExceeded
	case codes.Canceled:
		read.cause = ctx.Err()
	}
	if read.Message == "" {
		read.Message = "the call failed, and nobody said more"
	}
	var info *errdetails.ErrorInfo
	for _, detail := range got.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == domain {
				info = detail
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				read.Violations = append(read.Violations, Violation{violation.Field, violation.Description})
			}
		case *errdetails.RetryInfo:
			if delay := detail.RetryDelay; delay.CheckValid() == nil && delay.AsDuration() >= 0 {
				read.RetryAfter, read.asked = delay.AsDuration(), true
			}
		}
	}
	if info == nil {
		// What a proxy says of fields is not about ours.
		read.Violations = nil
		// The code is also that of a peer which is overwhelmed, so gRPC leaves nothing but its text to tell them
		// apart. A test sends such a message, and fails if the text becomes another.
		read.tooLarge = read.Code == codes.ResourceExhausted &&
			strings.Contains(read.Message, "received message") && strings.Contains(read.Message, "larger than max")
		return read
	}
	read.Reason, read.Metadata = Reason(info.Reason), info.Metadata
	return read
}
