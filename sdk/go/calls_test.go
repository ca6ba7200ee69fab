package phasegate_test

// Calls: made under their own name, as somebody, again only if that is safe, and not for ever.

import (
	"context"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	phasegate "github.com/phasegate/phasegate/sdk/go"
	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
	"github.com/phasegate/phasegate/sdk/go/rehearsalv1"
)

// everyCall makes every call that is not a watch, and says which RPC it is to come to.
var everyCall = []struct {
	rpc  string
	make func(ctx context.Context, c *phasegate.Client) (any, error)
}{
	{"CreateFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.CreateFlag(ctx, nil) }},
	{"CreateFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.PlanCreateFlag(ctx, nil) }},
	{"GetFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.GetFlag(ctx, "flags/f") }},
	{"ListFlags", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ListFlags(ctx, nil) }},
	{"UpdateFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.UpdateFlag(ctx, nil) }},
	{"UpdateFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.PlanUpdateFlag(ctx, nil) }},
	{"DeleteFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return nil, c.DeleteFlag(ctx, nil) }},
	{"SetKillSwitch", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.SetKillSwitch(ctx, nil) }},
	{"EvaluateFlag", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.EvaluateFlag(ctx, nil) }},
	{"CreatePipeline", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.CreatePipeline(ctx, nil) }},
	{"CreatePipeline", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return c.PlanCreatePipeline(ctx, nil)
	}},
	{"GetPipeline", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.GetPipeline(ctx, "pipelines/p") }},
	{"ListPipelines", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ListPipelines(ctx, nil) }},
	{"UpdatePipeline", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.UpdatePipeline(ctx, nil) }},
	{"UpdatePipeline", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return c.PlanUpdatePipeline(ctx, nil)
	}},
	{"DeletePipeline", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return nil, c.DeletePipeline(ctx, nil)
	}},
	{"TriggerRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.TriggerRelease(ctx, nil) }},
	{"TriggerRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.PlanRelease(ctx, nil) }},
	{"GetRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.GetRelease(ctx, "releases/r") }},
	{"ListReleases", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ListReleases(ctx, nil) }},
	{"ApprovePhase", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ApprovePhase(ctx, nil) }},
	{"RejectPhase", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.RejectPhase(ctx, nil) }},
	{"PauseRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.PauseRelease(ctx, nil) }},
	{"UnpauseRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.UnpauseRelease(ctx, nil) }},
	{"SkipPhase", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.SkipPhase(ctx, nil) }},
	{"OverrideWindow", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.OverrideWindow(ctx, nil) }},
	{"AdjustBake", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.AdjustBake(ctx, nil) }},
	{"AbortRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.AbortRelease(ctx, nil) }},
	{"FullRollout", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.FullRollout(ctx, nil) }},
	{"ReportGuardSignal", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return c.ReportGuardSignal(ctx, nil)
	}},
	{"WaitRelease", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.WaitRelease(ctx, nil) }},
	{"ListReleaseEvents", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return c.ListReleaseEvents(ctx, nil)
	}},
	{"GetIdentity", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.Identity(ctx) }},
	{"ListAuditEntries", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ListAuditEntries(ctx, nil) }},
	{"GetAuditHead", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.GetAuditHead(ctx) }},
	{"ListSinks", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ListSinks(ctx) }},
	{"ListDeadLetters", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ListDeadLetters(ctx, nil) }},
	{"ReplayDeadLetters", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return c.ReplayDeadLetters(ctx, nil)
	}},
	{"SendTestNotification", func(ctx context.Context, c *phasegate.Client) (any, error) {
		return c.SendTestNotification(ctx, "s")
	}},
	{"Get", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.ClockNow(ctx) }},
	{"Advance", func(ctx context.Context, c *phasegate.Client) (any, error) { return c.AdvanceClock(ctx, time.Second) }},
}

// methods are all of the contract that are not streams, with the message that they answer with.
func methods(t *testing.T) map[string]protoreflect.MessageDescriptor {
	t.Helper()
	found := map[string]protoreflect.MessageDescriptor{}
	for _, name := range []string{"phasegate.v1", "phasegate.rehearsal.v1"} {
		protoregistry.GlobalFiles.RangeFilesByPackage(protoreflect.FullName(name), func(file protoreflect.FileDescriptor) bool {
			for s := range file.Services().Len() {
				for m := range file.Services().Get(s).Methods().Len() {
					if method := file.Services().Get(s).Methods().Get(m); !method.IsStreamingServer() {
						found[string(method.Name())] = method.Output()
					}
				}
			}
			return true
		})
	}
	return found
}

// filled is an answer whose first field, if it is a message, is there.
func filled(t *testing.T, of protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	made, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		t.Fatal(err)
	}
	message := made.New()
	if field := of.Fields().ByNumber(1); field != nil && field.Message() != nil && !field.IsList() {
		message.Set(field, message.NewField(field))
	}
	return message.Interface()
}

func TestEveryCallReachesItsRPCAsTheCallerAndWithAFreshRequestID(t *testing.T) {
	server := start(t)
	client := server.client(t, phasegate.WithPrincipal("ann"), phasegate.WithGroups("sre", "ops"), phasegate.WithToken("pgt_x"))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "mine")
	all, missing, ids := methods(t), methods(t), map[string]bool{}
	for _, call := range everyCall {
		server.reply(answer(filled(t, all[call.rpc])))
		got, err := call.make(ctx, client)
		if err != nil {
			t.Errorf("%s: %v", call.rpc, err)
			continue
		}
		calls := server.seen()
		last := calls[len(calls)-1]
		if last.method != call.rpc {
			t.Errorf("%s came to %s", call.rpc, last.method)
		}
		delete(missing, call.rpc)
		for key, value := range map[string]string{
			"phasegate-principal": "ann", "phasegate-groups": "sre,ops", "authorization": "Bearer pgt_x", "traceparent": "mine",
		} {
			if last.text(key) != value {
				t.Errorf("%s: %s is %q", call.rpc, key, last.text(key))
			}
		}
		if last.text("deadline-in") == "" || !strings.HasPrefix(last.text("user-agent"), "phasegate-go/"+phasegate.Version) {
			t.Errorf("%s: %v", call.rpc, last.metadata)
		}
		fields := last.request.ProtoReflect()
		if field := fields.Descriptor().Fields().ByName("request_id"); field != nil {
			id := fields.Get(field).String()
			if len(id) != 36 || ids[id] {
				t.Errorf("%s: the request id is %q", call.rpc, id)
			}
			ids[id] = true
		}
		// A plan is one of another type than the resource, and says so in the request.
		if field := fields.Descriptor().Fields().ByName("validate_only"); field != nil && got != nil {
			plan := strings.HasSuffix(reflect.TypeOf(got).String(), "Response")
			if fields.Get(field).Bool() != plan {
				t.Errorf("%s with %T: validate_only is %t", call.rpc, got, !plan)
			}
		}
	}
	for rpc := range missing {
		t.Errorf("%s is not called", rpc)
	}
}

func pause() *v1.PauseReleaseRequest { return &v1.PauseReleaseRequest{Name: "releases/r"} }

func paused() reply {
	return answer(&v1.PauseReleaseResponse{Release: &v1.Release{Name: "releases/r"}})
}

// pausedWith is what a pause comes to with these replies: its result, and the request ids that came.
func pausedWith(t *testing.T, replies ...reply) (*v1.Release, []string, error) {
	t.Helper()
	server := start(t)
	server.reply(replies...)
	release, err := server.client(t).PauseRelease(t.Context(), pause())
	var ids []string
	for _, call := range server.seen() {
		ids = append(ids, call.request.(*v1.PauseReleaseRequest).RequestId)
	}
	return release, ids, err
}

func TestACallThatFailedInPassingIsMadeAgainUnderTheSameRequestID(t *testing.T) {
	for name, failing := range map[string]error{
		"a proxy":  status.Error(codes.Unavailable, "restarting"),
		"disk":     refused(codes.Unavailable, phasegate.ReasonStoreReadOnly),
		"drain":    refused(codes.Unavailable, phasegate.ReasonServerDraining, after(0)),
		"broken":   status.Error(codes.Unknown, "the connection broke"),
		"rate":     refused(codes.ResourceExhausted, phasegate.ReasonRateLimited, after(0)),
		"overload": refused(codes.ResourceExhausted, phasegate.ReasonOverloaded, after(time.Millisecond)),
	} {
		release, ids, err := pausedWith(t, refusal(failing), paused())
		if err != nil || release.GetName() != "releases/r" || len(ids) != 2 || ids[0] != ids[1] {
			t.Errorf("%s: %v, %v, %q", name, release, err, ids)
		}
	}
}

func TestACallWhoseConnectionIsCutIsMadeAgain(t *testing.T) {
	server := start(t)
	client := server.client(t)
	server.reply(func(stream grpc.ServerStream) error {
		server.cut()
		return silence(stream)
	}, paused())
	if release, err := client.PauseRelease(t.Context(), pause()); err != nil || release.Name != "releases/r" {
		t.Errorf("%v, %v", release, err)
	}
	if calls := server.seen(); len(calls) != 2 || !proto.Equal(calls[0].request, calls[1].request) {
		t.Errorf("%v", calls)
	}
}

func TestARefusalIsAnAnswerAndNotRepeated(t *testing.T) {
	for reason, code := range map[phasegate.Reason]codes.Code{
		phasegate.ReasonAlreadyPaused:    codes.FailedPrecondition,
		phasegate.ReasonInvalidField:     codes.InvalidArgument,
		phasegate.ReasonResourceNotFound: codes.NotFound,
		phasegate.ReasonEtagMismatch:     codes.Aborted,
		phasegate.ReasonQueueFull:        codes.ResourceExhausted,
		phasegate.ReasonUnauthenticated:  codes.Unauthenticated,
		phasegate.ReasonInternal:         codes.Internal,
	} {
		_, ids, err := pausedWith(t, refusal(refused(code, reason)), paused())
		if phasegate.ReasonOf(err) != reason || status.Code(err) != code || len(ids) != 1 {
			t.Errorf("%v after %d calls", err, len(ids))
		}
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	gone := refusal(status.Error(codes.Unavailable, "gone"))
	_, ids, err := pausedWith(t, gone, gone, gone, gone, gone, gone, gone)
	if err == nil || err.Error() != "gone [Unavailable]" || len(ids) != 5 {
		t.Errorf("%v after %d calls", err, len(ids))
	}
}

func TestAWaitThatTheTimeoutLeavesNoRoomForIsNotBegun(t *testing.T) {
	draining := refused(codes.Unavailable, phasegate.ReasonServerDraining, after(time.Hour))
	_, ids, err := pausedWith(t, refusal(draining), paused())
	var got *phasegate.Error
	if !errors.As(err, &got) || got.Reason != phasegate.ReasonServerDraining || got.RetryAfter != time.Hour || len(ids) != 1 {
		t.Errorf("%v after %d calls", err, len(ids))
	}
}

func TestARequestIDThatWasGivenIsKeptAndTheRequestIsLeftAsItWas(t *testing.T) {
	server := start(t)
	server.reply(paused(), paused())
	client := server.client(t)
	given := pause()
	given.RequestId = "mine"
	fresh := pause()
	for _, request := range []*v1.PauseReleaseRequest{given, fresh} {
		if _, err := client.PauseRelease(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if got := server.seen()[0].request.(*v1.PauseReleaseRequest).RequestId; got != "mine" {
		t.Errorf("sent was %q", got)
	}
	if !proto.Equal(fresh, pause()) {
		t.Errorf("the caller's request became %v", fresh)
	}
}

func TestTheClockIsNeverMovedTwice(t *testing.T) {
	server := start(t)
	server.reply(refusal(status.Error(codes.Unavailable, "gone")), answer(&rehearsalv1.AdvanceResponse{}))
	client := server.client(t)
	if _, err := client.AdvanceClock(t.Context(), time.Second); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if calls := server.seen(); len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
	now := time.Date(2026, 3, 1, 9, 0, 0, 1_000_000, time.UTC)
	server.reply(answer(&rehearsalv1.GetResponse{Now: timestamppb.New(now)}))
	if _, err := client.AdvanceClock(t.Context(), time.Second); err == nil {
		t.Error("an answer without the time is an error")
	}
	if got, err := client.ClockNow(t.Context()); err != nil || !got.Equal(now) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAServerThatDoesNotAnswerEndsInADeadline(t *testing.T) {
	server := start(t)
	server.reply(silence)
	_, err := server.client(t, phasegate.WithTimeout(time.Second)).PauseRelease(t.Context(), pause())
	var got *phasegate.Error
	if !errors.As(err, &got) || got.Code != codes.DeadlineExceeded || !got.Unreachable() ||
		!errors.Is(err, context.DeadlineExceeded) || len(server.seen()) != 1 {
		t.Errorf("%v", err)
	}
}

func TestTheCallerEndsACallAndItsWaits(t *testing.T) {
	server := start(t)
	client := server.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	server.reply(func(stream grpc.ServerStream) error {
		cancel()
		return silence(stream)
	})
	if _, err := client.PauseRelease(ctx, pause()); !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	patient := server.client(t, phasegate.WithTimeout(time.Hour))
	server.reply(func(grpc.ServerStream) error {
		time.AfterFunc(100*time.Millisecond, cancel)
		return refused(codes.Unavailable, phasegate.ReasonServerDraining, after(time.Minute))
	})
	began := time.Now()
	if _, err := patient.PauseRelease(ctx, pause()); phasegate.ReasonOf(err) != phasegate.ReasonServerDraining {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("it was given up after %s", took)
	}
}

func TestAWaitMayTakeLongerThanOtherCallsByItsMaxWait(t *testing.T) {
	for _, row := range []struct {
		asks    *durationpb.Duration
		allowed time.Duration
	}{
		{nil, 40 * time.Second},
		{durationpb.New(0), 10 * time.Second},
		{durationpb.New(-time.Second), 10 * time.Second},
		{durationpb.New(20 * time.Second), 30 * time.Second},
		{durationpb.New(time.Hour), 70 * time.Second},
	} {
		server := start(t)
		server.reply(answer(&v1.WaitReleaseResponse{}))
		client := server.client(t, phasegate.WithTimeout(10*time.Second))
		if _, err := client.WaitRelease(t.Context(), &v1.WaitReleaseRequest{MaxWait: row.asks}); err != nil {
			t.Fatal(err)
		}
		told, err := time.ParseDuration(server.seen()[0].text("deadline-in"))
		if err != nil || told > row.allowed || told < row.allowed-5*time.Second {
			t.Errorf("with %v the server was told %s, %v", row.asks, told, err)
		}
	}
}

func TestAnAnswerWithoutItsResourceIsAnError(t *testing.T) {
	_, _, err := pausedWith(t, answer(&v1.PauseReleaseResponse{}))
	if err == nil || err.Error() != "the server's answer lacks `release` [Internal]" {
		t.Errorf("%v", err)
	}
}

func TestAnAddressWhereNobodyListensIsSaidWithTheCause(t *testing.T) {
	// Taken and given back: nobody listens there now.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + taken.Addr().String()
	_ = taken.Close()
	_, err = phasegate.Connect(t.Context(), address)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	lazy, err := phasegate.New(address, phasegate.WithRetry(phasegate.Retry{Attempts: 1}))
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	if _, err = lazy.GetFlag(t.Context(), "flags/f"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

func TestAPeerThatNeverSpeaksIsNotWaitedForForEver(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	_, err = phasegate.Connect(t.Context(), "http://"+mute.Addr().String(), phasegate.WithTimeout(200*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// gRPC of itself would wait for a second and more before it connects again, and let every attempt meanwhile fail with
// what the first came to.
func TestEveryAttemptIsOneToConnect(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var came atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			_ = connection.Close()
		}
	}()
	client, err := phasegate.New("http://"+listener.Addr().String(), phasegate.WithRetry(phasegate.Retry{Attempts: 5}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.GetFlag(t.Context(), "flags/f"); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	client.Close()
	_ = listener.Close()
	<-done
	if came.Load() != 5 {
		t.Errorf("%d connections", came.Load())
	}
}

func TestAClientThatIsClosedMakesNoCall(t *testing.T) {
	server := start(t)
	client := server.client(t)
	client.Close()
	client.Close()
	if _, err := client.GetFlag(t.Context(), "flags/f"); status.Code(err) != codes.Canceled || !strings.Contains(err.Error(), "closed") {
		t.Errorf("%v", err)
	}
	if len(server.seen()) != 0 {
		t.Error("a call came")
	}
}

func TestSeveralCallsAtATimeShareAConnection(t *testing.T) {
	server := start(t)
	client := server.client(t)
	const count = 20
	for range count {
		server.reply(paused())
	}
	errs := make(chan error)
	for range count {
		go func() {
			_, err := client.PauseRelease(t.Context(), pause())
			errs <- err
		}()
	}
	all := make([]error, 0, count)
	for range count {
		all = append(all, <-errs)
	}
	if slices.ContainsFunc(all, func(err error) bool { return err != nil }) || server.connected() != 1 {
		t.Errorf("%v over %d connections", all, server.connected())
	}
}
