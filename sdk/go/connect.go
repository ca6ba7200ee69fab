package phasegate

import (
	"context"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	v1 "github.com/phasegate/phasegate/sdk/go/phasegatev1"
	"github.com/phasegate/phasegate/sdk/go/rehearsalv1"
)

const (
	// Metadata keys of the caller, of their groups, comma-separated, and of the token.
	principalKey     = "phasegate-principal"
	groupsKey        = "phasegate-groups"
	authorizationKey = "authorization"

	// A connection that does not come about in this time will not.
	connectTimeout = 5 * time.Second
	// A peer that does not answer a ping for so long is gone: how a cut cable is found while calls are outstanding.
	pingInterval = 30 * time.Second
	pingTimeout  = 20 * time.Second
	// The server sends nothing larger.
	messageBytesMax = 4 << 20
	// What may lie unread of one stream before the server notices that nobody reads. gRPC would let it grow to 16 MiB.
	windowBytes = 1 << 20
)

// Client is a client of one server. It may be used by several goroutines at the same time.
//
// A connection that is lost is made again when it is next needed.
type Client struct {
	options options
	token   token
	calls   *link
	watches *seats

	access        v1.AccessServiceClient
	audit         v1.AuditServiceClient
	flags         v1.FlagServiceClient
	notifications v1.NotificationServiceClient
	pipelines     v1.PipelineServiceClient
	releases      v1.ReleaseServiceClient
	clock         rehearsalv1.ClockServiceClient

	// Ended by Close.
	life context.Context
	end  context.CancelFunc
}

// Connect connects to a server, such as http://127.0.0.1:7433 or https://gate.example.com:7433. It fails if there is
// none, and as [New] does. The context is that of connecting only.
func Connect(ctx context.Context, address string, given ...Option) (*Client, error) {
	client, err := New(address, given...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, client.options.timeout)
	defer cancel()
	if err := client.calls.reach(ctx); err != nil {
		client.Close()
		err.Message = "cannot connect to " + address + ": " + err.Message
		return nil, err
	}
	return client, nil
}

// New is a client that connects when it is first used. It fails with INVALID_ARGUMENT if the address is none, if
// something that was given cannot be sent or read, or if a token would be sent in plain text to another machine.
func New(address string, given ...Option) (*Client, error) {
	client := &Client{options: defaultOptions()}
	for _, option := range given {
		option(&client.options)
	}
	target, transport, err := client.options.target(address)
	if err != nil {
		return nil, err
	}
	caller, err := client.options.caller()
	if err != nil {
		return nil, err
	}
	if client.token, err = client.options.ready(); err != nil {
		return nil, err
	}
	sign := func(ctx context.Context) context.Context { return signed(ctx, caller, client.token) }
	dial := func() (*grpc.ClientConn, error) { return dial(target, transport) }
	first, broken := dial()
	if broken != nil {
		return nil, local(codes.InvalidArgument, "%q cannot be connected to: %v", address, broken)
	}
	client.calls = &link{dial: dial, sign: sign, current: &connection{ClientConn: first}}
	client.watches = &seats{open: func() *link { return &link{dial: dial, sign: sign} }}
	client.access = v1.NewAccessServiceClient(client.calls)
	client.audit = v1.NewAuditServiceClient(client.calls)
	client.flags = v1.NewFlagServiceClient(client.calls)
	client.notifications = v1.NewNotificationServiceClient(client.calls)
	client.pipelines = v1.NewPipelineServiceClient(client.calls)
	client.releases = v1.NewReleaseServiceClient(client.calls)
	client.clock = rehearsalv1.NewClockServiceClient(client.calls)
	client.life, client.end = context.WithCancel(context.Background())
	return client, nil
}

// Close ends all calls and watches of the client, which fail with CANCELLED, and its connections.
func (c *Client) Close() {
	c.end()
	c.calls.close()
	c.watches.close()
}

// dial makes a connection that comes about when it is first used.
func dial(target string, transport credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient(
		target,
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("phasegate-go/"+Version),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		grpc.WithStaticStreamWindowSize(windowBytes),
		grpc.WithStaticConnWindowSize(windowBytes),
		// What is made again, and what is not, is decided in decisions.go, and nowhere else: not in DNS either.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	)
}

// target is where to connect to, as gRPC wants it.
func (o *options) target(address string) (string, credentials.TransportCredentials, *Error) {
	at, err := url.Parse(address)
	plain := err == nil && at.Host != "" && at.Hostname() != "" && at.User == nil &&
		(at.Path == "" || at.Path == "/") && at.RawQuery == "" && !at.ForceQuery && at.Fragment == ""
	if !plain || (at.Scheme != "http" && at.Scheme != "https") {
		return "", nil, local(codes.InvalidArgument, "%q is no address such as http://127.0.0.1:7433", address)
	}
	host, port := at.Hostname(), at.Port()
	if at.Scheme == "https" {
		config, err := o.certificates.config()
		if err != nil {
			return "", nil, err
		}
		if port == "" {
			port = "443"
		}
		return "dns:///" + net.JoinHostPort(host, port), credentials.NewTLS(config), nil
	}
	if o.hasToken && !o.plaintextToken && !isLoopback(host) {
		return "", nil, local(codes.InvalidArgument,
			"a token is not sent to %s over http, where others can read it; use https", host)
	}
	if o.certificates.named() {
		return "", nil, local(codes.InvalidArgument, "certificates need an https address")
	}
	if port == "" {
		port = "80"
	}
	return "dns:///" + net.JoinHostPort(host, port), insecure.NewCredentials(), nil
}

// isLoopback says whether it is this machine, as it is written: a name is not looked up.
func isLoopback(host string) bool {
	address := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || address != nil && address.IsLoopback()
}

// caller is the metadata that says who calls.
func (o *options) caller() (metadata.MD, *Error) {
	caller := metadata.MD{}
	if o.hasCaller {
		if !isPrintable(o.principal) {
			return nil, local(codes.InvalidArgument, "the principal %q must be printable ASCII", o.principal)
		}
		caller.Set(principalKey, o.principal)
	}
	for _, group := range o.groups {
		if strings.Contains(group, ",") {
			return nil, local(codes.InvalidArgument, "the group %q must not contain a comma", group)
		}
		if !isPrintable(group) {
			return nil, local(codes.InvalidArgument, "the group %q must be printable ASCII", group)
		}
	}
	if len(o.groups) > 0 {
		caller.Set(groupsKey, strings.Join(o.groups, ","))
	}
	return caller, nil
}

// ready is the token, if one was given.
func (o *options) ready() (token, *Error) {
	switch {
	case !o.hasToken:
		return nil, nil
	case o.tokenFile != "":
		file, err := newFileToken(o.tokenFile, o.logger)
		if err != nil {
			return nil, err
		}
		return file, nil
	default:
		header, err := bearer(o.token)
		if err != nil {
			return nil, err
		}
		return givenToken(header), nil
	}
}

// signed says who calls, beside what the caller's context sends along.
func signed(ctx context.Context, caller metadata.MD, token token) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	sent = sent.Copy()
	if sent == nil {
		sent = metadata.MD{}
	}
	for key, values := range caller {
		sent.Set(key, values...)
	}
	if token != nil {
		sent.Set(authorizationKey, token.header())
	}
	return metadata.NewOutgoingContext(ctx, sent)
}
