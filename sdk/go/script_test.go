package phasegate_test

import (
	"context"
	"net"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	phasegate "github.com/phasegate/phasegate/sdk/go"
)

// Longer than anything in a test takes, shorter than anybody wants to wait for a test that hangs.
const patience = 30 * time.Second

// scripted is a server that does what a script says: answers, refuses, sends so many messages of a stream and then ends
// it, falls silent, or cuts the connection. It writes down every call. What it takes and gives are the messages that the
// contract has for the name of the call.
type scripted struct {
	address string

	mu          sync.Mutex
	calls       []seen
	replies     []reply
	streams     map[string][]reply
	connections []net.Conn
}

// seen is a call that came.
type seen struct {
	method   string
	metadata metadata.MD
	request  proto.Message
}

func (s seen) text(key string) string { return strings.Join(s.metadata.Get(key), "|") }

// reply is what a call gets.
type reply func(stream grpc.ServerStream) error

func answer(message proto.Message) reply {
	return func(stream grpc.ServerStream) error { return stream.SendMsg(message) }
}

func refusal(err error) reply {
	return func(grpc.ServerStream) error { return err }
}

// silence is nothing, until the client leaves.
func silence(stream grpc.ServerStream) error {
	<-stream.Context().Done()
	return status.FromContextError(stream.Context().Err()).Err()
}

// streamed opens the stream and does one thing after another, until one of them ends it.
func streamed(steps ...reply) reply {
	return func(stream grpc.ServerStream) error {
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
		for _, step := range steps {
			if err := step(stream); err != nil {
				return err
			}
		}
		return nil
	}
}

// start starts one, which ends with the test.
func start(t *testing.T, options ...grpc.ServerOption) *scripted {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	script := &scripted{address: "http://" + listener.Addr().String(), streams: map[string][]reply{}}
	server := grpc.NewServer(append(options, grpc.UnknownServiceHandler(script.handle))...)
	t.Cleanup(server.Stop)
	go func() { _ = server.Serve(noted{listener, script}) }()
	return script
}

// noted is a listener that keeps the connections, so that they can be cut.
type noted struct {
	net.Listener
	script *scripted
}

func (n noted) Accept() (net.Conn, error) {
	connection, err := n.Listener.Accept()
	if err == nil {
		n.script.mu.Lock()
		defer n.script.mu.Unlock()
		n.script.connections = append(n.script.connections, connection)
	}
	return connection, err
}

// client is a client of it, without waits before a call is made again.
func (s *scripted) client(t *testing.T, options ...phasegate.Option) *phasegate.Client {
	t.Helper()
	fixed := []phasegate.Option{
		phasegate.WithRetry(phasegate.Retry{Attempts: 5}), phasegate.WithTimeout(patience),
	}
	client, err := phasegate.Connect(t.Context(), s.address, append(fixed, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// reply says what the next calls that are not watches get.
func (s *scripted) reply(replies ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = append(s.replies, replies...)
}

// stream says what the next watch with this method does.
func (s *scripted) stream(method string, steps ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[method] = append(s.streams[method], streamed(steps...))
}

func (s *scripted) seen() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.calls...)
}

func (s *scripted) connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

// cut cuts every connection.
func (s *scripted) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, connection := range s.connections {
		_ = connection.Close() // One that is gone already is as good.
	}
}

func (s *scripted) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	method := path.Base(full)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", ".")))
	if err != nil {
		return err
	}
	named, err := protoregistry.GlobalTypes.FindMessageByName(found.(protoreflect.MethodDescriptor).Input().FullName())
	if err != nil {
		return err
	}
	request := named.New().Interface()
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	return s.next(stream.Context(), method, request)(stream)
}

func (s *scripted) next(ctx context.Context, method string, request proto.Message) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, _ := metadata.FromIncomingContext(ctx)
	if deadline, set := ctx.Deadline(); set {
		sent.Set("deadline-in", time.Until(deadline).String())
	}
	s.calls = append(s.calls, seen{method, sent, request})
	queue, isWatch := s.streams[method]
	if !isWatch {
		queue = s.replies
	}
	if len(queue) == 0 {
		return refusal(status.Errorf(codes.Unimplemented, "%s was not in the script", method))
	}
	if isWatch {
		s.streams[method] = queue[1:]
	} else {
		s.replies = queue[1:]
	}
	return queue[0]
}

// refused is a refusal as the server makes it.
func refused(code codes.Code, reason phasegate.Reason, details ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{Reason: string(reason), Domain: "phasegate.v1"}
	made, err := status.New(code, "because of "+string(reason)).WithDetails(append(details, info)...)
	if err != nil {
		panic(err)
	}
	return made.Err()
}

func after(wait time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}
}
