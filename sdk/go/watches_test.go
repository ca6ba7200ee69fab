package phasegate_test

// Watches: what each end of a stream leads to, and that nothing is lost or comes twice.

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	phasegate "github.com/phasegate/phasegate/sdk/go"
	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
)

const store = "store-1"

func release(revision int64) *v1.Release { return &v1.Release{Name: "releases/r", Revision: revision} }

func over(revision int64) *v1.Release {
	return &v1.Release{Name: "releases/r", Revision: revision, EndTime: &timestamppb.Timestamp{}}
}

func told(release *v1.Release, revision int64, events ...*v1.ReleaseEvent) reply {
	return answer(&v1.WatchReleaseResponse{Revision: revision, StoreId: store, Release: release, Events: events})
}

func snapshot(revision int64) reply { return told(release(revision), revision) }

func change(revision int64) reply {
	return told(release(revision), revision, &v1.ReleaseEvent{Revision: revision})
}

func last(revision int64) reply {
	return told(over(revision), revision, &v1.ReleaseEvent{Revision: revision})
}

func bookmark(revision int64) reply { return told(nil, revision) }

func end(code codes.Code, reason phasegate.Reason) reply { return refusal(refused(code, reason)) }

func expired() reply { return end(codes.Unavailable, phasegate.ReasonStreamExpired) }

// word is an update in a word.
func word(update any) string {
	switch update := update.(type) {
	case phasegate.ReleaseSnapshot:
		return fmt.Sprint("snapshot ", update.Position.Revision)
	case phasegate.ReleaseChange:
		return fmt.Sprint("change ", update.Position.Revision)
	case phasegate.ReleasesSnapshot:
		return fmt.Sprint("snapshot ", update.Position.Revision, " of ", len(update.Releases))
	case phasegate.ReleasesChanges:
		return fmt.Sprint(len(update.Changes), " changes ", update.Position.Revision)
	case phasegate.AuditEntry:
		return fmt.Sprint("entry ", update.Position.Revision)
	case phasegate.Bookmark:
		return fmt.Sprint("bookmark ", update.Position.Revision)
	case phasegate.Interrupted:
		return fmt.Sprint("interrupted ", update.Err.Code)
	case phasegate.Resumed:
		return "resumed"
	case phasegate.Restarted:
		return fmt.Sprint("restarted ", update.Err.Reason)
	default:
		return fmt.Sprintf("%T", update)
	}
}

// words are the updates of a watch, up to so many, and how it ended.
func words[U any](t *testing.T, watch iter.Seq2[U, error], most int) []string {
	t.Helper()
	var said []string
	for update, err := range watch {
		if err != nil {
			said = append(said, fmt.Sprint("error ", status.Code(err), " ", phasegate.ReasonOf(err)))
		} else {
			said = append(said, word(update))
		}
		if len(said) == most {
			return said
		}
	}
	return append(said, "done")
}

const all = 1000

// patient is the context of a test that hangs no longer than anybody wants to wait.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func same(t *testing.T, got, expected []string) {
	t.Helper()
	if !slices.Equal(got, expected) {
		t.Errorf("it was %q, not %q", got, expected)
	}
}

// behind are the revisions that WatchRelease was called behind.
func behind(t *testing.T, server *scripted) []int64 {
	t.Helper()
	var revisions []int64
	for _, call := range server.seen() {
		if request, is := call.request.(*v1.WatchReleaseRequest); is {
			if known := request.ResumeAfterRevision != 0; known != (request.StoreId == store) {
				t.Errorf("behind %d of %q", request.ResumeAfterRevision, request.StoreId)
			}
			revisions = append(revisions, request.ResumeAfterRevision)
		}
	}
	return revisions
}

// check is what a watch of one release tells if its streams do this, and behind what it resumed.
func check(t *testing.T, expected []string, positions []int64, streams ...[]reply) {
	t.Helper()
	server := start(t)
	for _, steps := range streams {
		server.stream("WatchRelease", steps...)
	}
	same(t, words(t, server.client(t).WatchRelease(patient(t), "releases/r"), all), expected)
	if got := behind(t, server); !slices.Equal(got, positions) {
		t.Errorf("it resumed behind %v, not %v", got, positions)
	}
}

func TestAWatchEndsWhenTheReleaseIsOverAndItsLastChangeWasDelivered(t *testing.T) {
	check(t, []string{"snapshot 3", "change 5", "bookmark 8", "change 9", "done"}, []int64{0},
		[]reply{snapshot(3), change(5), bookmark(8), last(9)})
}

func TestAStreamThatEndsEarlyIsResumedBehindTheLastMessageBookmarksIncluded(t *testing.T) {
	for _, ending := range []error{
		refused(codes.Unavailable, phasegate.ReasonStreamExpired),
		refused(codes.Unavailable, phasegate.ReasonServerDraining, after(time.Millisecond)),
		refused(codes.ResourceExhausted, phasegate.ReasonSlowConsumer),
		status.Error(codes.ResourceExhausted, "ENHANCE_YOUR_CALM"),
		status.Error(codes.Internal, "h2 protocol error"),
		status.Error(codes.Unknown, "the connection broke"),
		status.Error(codes.Canceled, "by a proxy"),
	} {
		check(t, []string{
			"snapshot 3", "change 5", "bookmark 8", fmt.Sprint("interrupted ", status.Code(ending)), "resumed", "change 9",
			"done",
		}, []int64{0, 8}, []reply{snapshot(3), change(5), bookmark(8), refusal(ending)}, []reply{last(9)})
	}
}

func TestACutConnectionIsMadeAgainAndLosesNothing(t *testing.T) {
	server := start(t)
	server.stream("WatchRelease", snapshot(3), change(5), silence)
	server.stream("WatchRelease", change(6), silence)
	server.stream("WatchRelease", last(7))
	var said []string
	for update, err := range server.client(t).WatchRelease(patient(t), "releases/r") {
		if err != nil {
			t.Fatal(err)
		}
		if word(update) == "change 5" || word(update) == "change 6" {
			server.cut()
		}
		said = append(said, word(update))
	}
	// A connection that does not come about at once is another interruption.
	said = slices.DeleteFunc(said, func(word string) bool { return strings.HasPrefix(word, "interrupted") })
	same(t, said, []string{"snapshot 3", "change 5", "resumed", "change 6", "resumed", "change 7"})
	if got := behind(t, server); !slices.Equal(got, []int64{0, 5, 6}) {
		t.Errorf("it resumed behind %v", got)
	}
}

func TestAServerThatFallsSilentIsLeftAndCalledAgain(t *testing.T) {
	server := start(t)
	left := make(chan struct{})
	server.stream("WatchRelease", snapshot(3), func(stream grpc.ServerStream) error {
		defer close(left)
		return silence(stream)
	})
	server.stream("WatchRelease", last(4))
	client := server.client(t, phasegate.WithSilence(time.Second))
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), all),
		[]string{"snapshot 3", "interrupted Unavailable", "resumed", "change 4", "done"})
	<-left
	// One of calls, the one that fell silent, and another.
	if server.connected() != 3 {
		t.Errorf("%d connections", server.connected())
	}
}

func TestAServerThatDoesNotEvenOpenTheStreamIsLeftToo(t *testing.T) {
	server := start(t)
	server.mu.Lock()
	server.streams["WatchRelease"] = []reply{silence}
	server.mu.Unlock()
	server.stream("WatchRelease", last(4))
	client := server.client(t, phasegate.WithSilence(time.Second))
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), all),
		[]string{"interrupted Unavailable", "resumed", "change 4", "done"})
}

func TestAConsumerMayTakeLongerThanTheSilence(t *testing.T) {
	server := start(t)
	looked := make(chan struct{})
	server.stream("WatchRelease", snapshot(3), func(grpc.ServerStream) error {
		<-looked
		return nil
	}, last(4))
	client := server.client(t, phasegate.WithSilence(time.Second))
	var said []string
	for update, err := range client.WatchRelease(patient(t), "releases/r") {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, word(update))
		if len(said) == 1 {
			busy, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			<-busy.Done()
			cancel()
			close(looked)
		}
	}
	same(t, said, []string{"snapshot 3", "change 4"})
}

func TestALogThatWasCutAndAnotherStoreBeginWithASnapshotAndSaySo(t *testing.T) {
	for reason, code := range map[phasegate.Reason]codes.Code{
		phasegate.ReasonRevisionCompacted: codes.OutOfRange,
		phasegate.ReasonRevisionInFuture:  codes.OutOfRange,
		phasegate.ReasonViewChanged:       codes.OutOfRange,
		phasegate.ReasonStoreReplaced:     codes.FailedPrecondition,
	} {
		check(t, []string{
			"snapshot 3", "change 5", "interrupted Unavailable", "resumed", fmt.Sprint("restarted ", reason), "snapshot 70",
			"change 71", "done",
		}, []int64{0, 5, 0}, []reply{snapshot(3), change(5), expired()}, []reply{end(code, reason)}, []reply{snapshot(70), last(71)})
	}
}

func TestAStreamThatIsRefusedIsNotSaidToBeResumed(t *testing.T) {
	server := start(t)
	server.stream("WatchRelease", snapshot(3), expired())
	server.mu.Lock()
	server.streams["WatchRelease"] = append(server.streams["WatchRelease"],
		refusal(refused(codes.ResourceExhausted, phasegate.ReasonTooManyWatches)),
		refusal(refused(codes.OutOfRange, phasegate.ReasonRevisionCompacted)))
	server.mu.Unlock()
	server.stream("WatchRelease", snapshot(8), last(9))
	same(t, words(t, server.client(t).WatchRelease(patient(t), "releases/r"), all), []string{
		"snapshot 3", "interrupted Unavailable", "interrupted ResourceExhausted", "restarted REVISION_COMPACTED", "resumed",
		"snapshot 8", "change 9", "done",
	})
}

func TestWhatCannotGetBetterEndsTheWatchWithItsError(t *testing.T) {
	large := &v1.WatchReleaseResponse{Release: &v1.Release{Description: strings.Repeat("x", 5<<20)}}
	for expected, step := range map[string]reply{
		"error NotFound RESOURCE_NOT_FOUND":   end(codes.NotFound, phasegate.ReasonResourceNotFound),
		"error InvalidArgument INVALID_FIELD": end(codes.InvalidArgument, phasegate.ReasonInvalidField),
		"error PermissionDenied ":             refusal(status.Error(codes.PermissionDenied, "no")),
		"error Unimplemented ":                refusal(status.Error(codes.Unimplemented, "no")),
		"error Unauthenticated ":              refusal(status.Error(codes.Unauthenticated, "no")),
		"error OutOfRange ":                   refusal(status.Error(codes.OutOfRange, "message too large")),
		// One above the limit, which would come again.
		"error ResourceExhausted ": answer(large),
	} {
		check(t, []string{expected, "done"}, []int64{0}, []reply{step})
	}
}

func TestAnOKWithoutTheEndOfTheReleaseIsCheckedWithTheReleaseItself(t *testing.T) {
	for _, row := range []struct {
		release   *v1.Release
		expected  []string
		positions []int64
	}{
		{over(9), []string{"done"}, []int64{8}},
		{release(8), []string{"interrupted Unavailable", "resumed", "change 9", "done"}, []int64{8, 8}},
		{nil, []string{"error NotFound RESOURCE_NOT_FOUND", "done"}, []int64{8}},
	} {
		server := start(t)
		server.stream("WatchRelease")
		server.stream("WatchRelease", last(9))
		server.reply(answer(&v1.GetReleaseResponse{Release: row.release, Revision: 9}))
		if row.release == nil {
			server.replies[0] = end(codes.NotFound, phasegate.ReasonResourceNotFound)
		}
		watch := server.client(t).ResumeRelease(patient(t), "releases/r", phasegate.Position{Revision: 8, StoreID: store})
		same(t, words(t, watch, all), row.expected)
		if got := behind(t, server); !slices.Equal(got, row.positions) {
			t.Errorf("it resumed behind %v", got)
		}
	}
}

func TestAWatchHandsOnAllOfAMessage(t *testing.T) {
	server := start(t)
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	event := &v1.ReleaseEvent{Revision: 9, PhaseId: "canary"}
	sent := &v1.WatchReleaseResponse{
		Revision: 9, StoreId: store, ServerTime: timestamppb.New(now), Release: over(9), Events: []*v1.ReleaseEvent{event},
	}
	server.stream("WatchRelease", answer(sent))
	for update, err := range server.client(t).WatchRelease(patient(t), "releases/r") {
		got, is := update.(phasegate.ReleaseChange)
		if err != nil || !is || !proto.Equal(got.Release, over(9)) || len(got.Events) != 1 || !proto.Equal(got.Events[0], event) ||
			got.Position != (phasegate.Position{Revision: 9, StoreID: store}) || !got.ServerTime.Equal(now) {
			t.Errorf("%+v, %v", update, err)
		}
	}
}

func TestWatchesKeepOffTheConnectionOfCalls(t *testing.T) {
	server := start(t)
	server.stream("WatchRelease", snapshot(3), silence)
	server.reply(answer(&v1.GetReleaseResponse{Release: release(3)}))
	client := server.client(t)
	if _, err := client.GetRelease(t.Context(), "releases/r"); err != nil || server.connected() != 1 {
		t.Errorf("%d connections, %v", server.connected(), err)
	}
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), 1), []string{"snapshot 3"})
	if server.connected() != 2 {
		t.Errorf("%d connections", server.connected())
	}
}

func part(releases int) reply {
	message := &v1.WatchReleasesResponse{StoreId: store}
	for n := range releases {
		message.Initial = append(message.Initial, release(int64(n)))
	}
	return answer(message)
}

func synced(revision int64) reply {
	return answer(&v1.WatchReleasesResponse{StoreId: store, Revision: revision, Synced: true})
}

func changes(revision int64, count int) reply {
	message := &v1.WatchReleasesResponse{StoreId: store, Revision: revision}
	for range count {
		message.Changes = append(message.Changes, &v1.ReleaseChange{})
	}
	return answer(message)
}

func TestAWatchOfManyTellsWholeSetsOnlyAndResumesWithItsFilter(t *testing.T) {
	server := start(t)
	// Broken before it was complete: begun anew, and never shown.
	server.stream("WatchReleases", part(2), part(2), expired())
	server.stream("WatchReleases", part(1), synced(7), changes(9, 2), changes(12, 0), expired())
	server.stream("WatchReleases", changes(14, 1))
	server.stream("WatchReleases", end(codes.OutOfRange, phasegate.ReasonRevisionCompacted))
	server.stream("WatchReleases", part(2), part(1), synced(40), changes(41, 1), silence)
	filter := &v1.ReleaseFilter{UnfinishedOnly: true, Flags: []string{"flags/f"}}
	watch := server.client(t).WatchReleases(patient(t), filter)
	expected := []string{
		"interrupted Unavailable", "resumed", "snapshot 7 of 1", "2 changes 9", "bookmark 12", "interrupted Unavailable",
		"resumed", "1 changes 14", "interrupted Unavailable", "resumed", "restarted REVISION_COMPACTED", "snapshot 40 of 3",
		"1 changes 41",
	}
	asked := proto.CloneOf(filter)
	filter.UnfinishedOnly = false // It is the caller's again.
	same(t, words(t, watch, len(expected)), expected)
	var positions []int64
	for _, call := range server.seen() {
		request := call.request.(*v1.WatchReleasesRequest)
		positions = append(positions, request.ResumeAfterRevision)
		if !proto.Equal(request.Filter, asked) {
			t.Errorf("it asked for %v", request.Filter)
		}
	}
	if !slices.Equal(positions, []int64{0, 0, 12, 14, 0}) {
		t.Errorf("it resumed behind %v", positions)
	}
}

func TestAWatchOfTheAuditGoesOnBehindTheLastEntryAndBeginsAnewWithAnotherStore(t *testing.T) {
	entry := func(sequence int64) reply {
		return answer(&v1.WatchAuditEntriesResponse{
			Entry: &v1.AuditEntry{Sequence: sequence}, Sequence: sequence, StoreId: store,
		})
	}
	server := start(t)
	server.stream("WatchAuditEntries", entry(4), answer(&v1.WatchAuditEntriesResponse{Sequence: 6, StoreId: store}))
	server.stream("WatchAuditEntries", end(codes.FailedPrecondition, phasegate.ReasonStoreReplaced))
	server.stream("WatchAuditEntries", entry(1), silence)
	watch := server.client(t).WatchAuditEntries(patient(t), phasegate.Position{Revision: 3, StoreID: store})
	expected := []string{
		"entry 4", "bookmark 6", "interrupted Unavailable", "resumed", "restarted STORE_REPLACED", "entry 1",
	}
	same(t, words(t, watch, len(expected)), expected)
	var positions []string
	for _, call := range server.seen() {
		request := call.request.(*v1.WatchAuditEntriesRequest)
		positions = append(positions, fmt.Sprint(request.AfterSequence, request.StoreId))
	}
	same(t, positions, []string{"3" + store, "6" + store, "0"})
}

func TestAWatchSignsWithTheCallerAndHasNoDeadline(t *testing.T) {
	server := start(t)
	server.stream("WatchRelease", last(4))
	client := server.client(t, phasegate.WithPrincipal("ann"), phasegate.WithGroups("sre"))
	same(t, words(t, client.WatchRelease(t.Context(), "releases/r"), all), []string{"change 4", "done"})
	call := server.seen()[0]
	if call.text("phasegate-principal") != "ann" || call.text("phasegate-groups") != "sre" || call.text("deadline-in") != "" {
		t.Errorf("%v", call.metadata)
	}
}

func TestARangeOverAWatchIsOneOfItsOwn(t *testing.T) {
	server := start(t)
	client := server.client(t)
	watch := client.WatchRelease(patient(t), "releases/r")
	for range 2 {
		server.stream("WatchRelease", snapshot(3), last(4))
		same(t, words(t, watch, all), []string{"snapshot 3", "change 4", "done"})
	}
	if got := behind(t, server); !slices.Equal(got, []int64{0, 0}) {
		t.Errorf("it began behind %v", got)
	}
}

func TestAWatchWhoseTokenEndedIsOpenedAgainWithTheNewOneInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
			t.Error(err)
		}
	}
	ended := end(codes.Unauthenticated, phasegate.ReasonUnauthenticated)
	server := start(t)
	server.stream("WatchRelease", snapshot(3), func(grpc.ServerStream) error {
		write("pgt_second")
		return refused(codes.Unauthenticated, phasegate.ReasonUnauthenticated)
	})
	server.stream("WatchRelease", change(4), ended)
	server.stream("WatchRelease", ended)
	server.stream("WatchRelease", ended)
	write("pgt_one")
	client := server.client(t, phasegate.WithTokenFile(path))
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), all), []string{
		"snapshot 3", "interrupted Unauthenticated", "resumed", "change 4", "interrupted Unauthenticated", "resumed",
		"interrupted Unauthenticated", "resumed", "error Unauthenticated UNAUTHENTICATED", "done",
	})
	var tokens []string
	for _, call := range server.seen() {
		tokens = append(tokens, call.text("authorization"))
	}
	same(t, tokens, []string{"Bearer pgt_one", "Bearer pgt_second", "Bearer pgt_second", "Bearer pgt_second"})
}

// leaving begins a watch whose first stream falls silent, and tells when the server sees that it was left.
func leaving(t *testing.T) (*phasegate.Client, <-chan struct{}) {
	t.Helper()
	server := start(t)
	left := make(chan struct{})
	server.stream("WatchRelease", snapshot(3), func(stream grpc.ServerStream) error {
		defer close(left)
		return silence(stream)
	})
	return server.client(t), left
}

func TestLeavingTheLoopEndsTheWatchOnTheServer(t *testing.T) {
	client, left := leaving(t)
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), 1), []string{"snapshot 3"})
	<-left
}

func TestEndingTheContextEndsTheWatchOnTheServerAndInAnError(t *testing.T) {
	client, left := leaving(t)
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	var ended error
	for _, err := range client.WatchRelease(ctx, "releases/r") {
		cancel()
		ended = err
	}
	<-left
	if !errors.Is(ended, context.Canceled) || status.Code(ended) != codes.Canceled {
		t.Errorf("%v", ended)
	}
}

func TestClosingTheClientEndsItsWatches(t *testing.T) {
	client, left := leaving(t)
	var said []string
	for update, err := range client.WatchRelease(patient(t), "releases/r") {
		if err == nil {
			said = append(said, word(update))
			client.Close()
		} else {
			said = append(said, err.Error())
		}
	}
	<-left
	same(t, said, []string{"snapshot 3", "the client is closed [Canceled]"})
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), all), []string{"error Canceled ", "done"})
}

// ends tells of each connection that ended.
type ends chan struct{}

func (ends) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (ends) HandleRPC(context.Context, stats.RPCStats)                         {}
func (ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (e ends) HandleConn(_ context.Context, what stats.ConnStats) {
	if _, ended := what.(*stats.ConnEnd); ended {
		e <- struct{}{}
	}
}

func TestAClientThatIsClosedKeepsNoConnection(t *testing.T) {
	ended := make(ends, 10)
	server := start(t, grpc.StatsHandler(ended))
	server.stream("WatchRelease", snapshot(3), silence)
	client := server.client(t)
	same(t, words(t, client.WatchRelease(patient(t), "releases/r"), 1), []string{"snapshot 3"})
	client.Close()
	for range server.connected() {
		select {
		case <-ended:
		case <-patient(t).Done():
			t.Fatalf("of %d connections one is left", server.connected())
		}
	}
}

func TestAWaitBeforeAWatchIsOpenedAgainEndsWithItsContext(t *testing.T) {
	server := start(t)
	server.stream("WatchRelease", snapshot(3), refusal(refused(codes.Unavailable, phasegate.ReasonServerDraining, after(time.Hour))))
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	var said []string
	for update, err := range server.client(t).WatchRelease(ctx, "releases/r") {
		if err != nil {
			said = append(said, fmt.Sprint("error ", status.Code(err)))
			continue
		}
		said = append(said, word(update))
		if _, waits := update.(phasegate.Interrupted); waits {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
	}
	same(t, said, []string{"snapshot 3", "interrupted Unavailable", "error Canceled"})
}

func TestAnUpdateIsTakenOnlyWhenItIsAskedFor(t *testing.T) {
	server := start(t)
	const count = 64
	sent := make(chan struct{}, count)
	large := &v1.WatchReleaseResponse{
		Revision: 1, StoreId: store, Release: &v1.Release{Description: strings.Repeat("x", 1<<20)},
		Events: []*v1.ReleaseEvent{{}},
	}
	var steps []reply
	for range count {
		steps = append(steps, answer(large), func(grpc.ServerStream) error {
			sent <- struct{}{}
			return nil
		})
	}
	server.stream("WatchRelease", append(steps, last(2))...)
	taken := 0
	for _, err := range server.client(t).WatchRelease(patient(t), "releases/r") {
		if err != nil {
			t.Fatal(err)
		}
		taken++
		if taken > 1 {
			continue
		}
		// While the first is looked at, the server gets rid of what fits into windows and buffers, and of no more.
		still, cancel := context.WithTimeout(t.Context(), time.Second)
		<-still.Done()
		cancel()
		if len(sent) == 0 || len(sent) > 8 {
			t.Errorf("%d of %d messages were sent", len(sent), count)
		}
	}
	if taken != count+1 {
		t.Errorf("%d updates", taken)
	}
}
