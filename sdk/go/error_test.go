package phasegate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

func read(t *testing.T, code codes.Code, message string, details ...protoadapt.MessageV1) *Error {
	t.Helper()
	made, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return errorOf(t.Context(), made.Err())
}

var allReasons = []Reason{
	ReasonInvalidField, ReasonReasonRequired, ReasonRequestIDReused, ReasonInvalidPageToken, ReasonResourceNotFound,
	ReasonResourceExists, ReasonEtagMismatch, ReasonSelfApproval, ReasonNotAnApprover, ReasonResourceInUse,
	ReasonFlagLocked, ReasonPipelineRequired, ReasonActiveReleaseExists, ReasonQueueFull, ReasonBaseChanged,
	ReasonNoChange, ReasonReleaseOver, ReasonReleaseNotStarted, ReasonReleasePaused, ReasonAlreadyPaused,
	ReasonNotPaused, ReasonPhaseNotCurrent, ReasonPhaseNotAwaitingApproval, ReasonPhaseNotAwaitingWindow,
	ReasonPhaseNotBaking, ReasonAlreadyReviewed, ReasonApprovalPending, ReasonWindowClosed, ReasonRevisionCompacted,
	ReasonRevisionInFuture, ReasonStoreReplaced, ReasonSlowConsumer, ReasonTooManyWatches, ReasonStreamExpired,
	ReasonServerDraining, ReasonStoreReadOnly, ReasonInternal, ReasonFlagSetTooLarge, ReasonUnauthenticated,
	ReasonPermissionMissing, ReasonViewChanged, ReasonRateLimited, ReasonOverloaded,
}

func TestEveryReasonOfTheContractHasAConstantAndNoOtherHas(t *testing.T) {
	constants := map[Reason]bool{}
	for _, reason := range allReasons {
		constants[reason] = true
	}
	for number, name := range v1.ErrorReason_name {
		reason := Reason(strings.TrimPrefix(name, "ERROR_REASON_"))
		if number != 0 && !constants[reason] {
			t.Errorf("there is no constant for %s", name)
		}
		delete(constants, reason)
	}
	for reason := range constants {
		t.Errorf("the contract has no %s", reason)
	}
}

func TestAReasonOfANewerServerKeepsItsName(t *testing.T) {
	got := read(t, codes.FailedPrecondition, "not now", &errdetails.ErrorInfo{Reason: "MOON_PHASE", Domain: domain})
	if got.Reason != "MOON_PHASE" || got.Error() != "not now [MOON_PHASE]" {
		t.Errorf("it is %q: %v", got.Reason, got)
	}
}

func TestAnErrorOfAnotherDomainHasNoReason(t *testing.T) {
	got := read(t, codes.Unavailable, "bad gateway",
		&errdetails.ErrorInfo{Reason: "RELEASE_PAUSED", Domain: "proxy.example"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if got.Reason != ReasonNone || got.Metadata != nil || !got.Unreachable() {
		t.Errorf("it is %#v", got)
	}
	if got.Error() != "bad gateway [Unavailable]" || got.RetryAfter != time.Second {
		t.Errorf("it says %v, after %s", got, got.RetryAfter)
	}
}

func TestViolationsMetadataAndTheWaitAreKeptAndShown(t *testing.T) {
	got := read(t, codes.InvalidArgument, "2 fields are invalid",
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: domain, Metadata: map[string]string{"state": "BAKING"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "flag_id", Description: "must not be empty"},
			{Field: "flag.spec", Description: "must be set"},
		}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
	if got.Metadata["state"] != "BAKING" || got.RetryAfter != 3*time.Second || len(got.Violations) != 2 {
		t.Errorf("it is %#v", got)
	}
	const text = "2 fields are invalid: flag_id must not be empty; flag.spec must be set [INVALID_FIELD]"
	if got.Error() != text {
		t.Errorf("it says %v", got)
	}
}

func TestAViolationThatTheMessageSaysIsNotSaidTwice(t *testing.T) {
	got := read(t, codes.InvalidArgument, "duration must be above 0 s",
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: domain},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "duration", Description: "must be above 0 s"},
		}})
	if got.Error() != "duration must be above 0 s [INVALID_FIELD]" {
		t.Errorf("it says %v", got)
	}
}

func TestAnErrorIsFoundInsideOfOthersAndIsWhatGRPCMadeOfIt(t *testing.T) {
	got := read(t, codes.FailedPrecondition, "no", &errdetails.ErrorInfo{Reason: "ALREADY_PAUSED", Domain: domain})
	wrapped := fmt.Errorf("in the job: %w", got)
	if ReasonOf(wrapped) != ReasonAlreadyPaused || ReasonOf(nil) != ReasonNone || ReasonOf(errors.New("no")) != ReasonNone {
		t.Error("the reason is not found")
	}
	if status.Code(wrapped) != codes.FailedPrecondition || len(status.Convert(got).Details()) != 1 {
		t.Errorf("gRPC takes it for %v", status.Convert(wrapped))
	}
	if own := local(codes.InvalidArgument, "no"); status.Code(own) != codes.InvalidArgument {
		t.Errorf("gRPC takes it for %v", status.Convert(own))
	}
}

func TestOnlyAnEndByTheCallerUnwrapsToTheirs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := errorOf(ctx, status.Error(codes.Canceled, "")); !errors.Is(got, context.Canceled) || got.Message == "" {
		t.Errorf("it is %#v", got)
	}
	if got := errorOf(ctx, status.Error(codes.NotFound, "no")); errors.Is(got, context.Canceled) {
		t.Errorf("it is %#v", got)
	}
	if got := errorOf(t.Context(), status.Error(codes.Canceled, "by a proxy")); errors.Is(got, context.Canceled) {
		t.Errorf("it is %#v", got)
	}
}
