package phasegate

import (
	"log/slog"
	"time"
)

// Option is something about a client that is not as it usually is.
type Option func(*options)

// options is all that can be said about a client but its address.
type options struct {
	token               string
	tokenFile           string
	plaintextToken      bool
	certificates        certificates
	principal           string
	groups              []string
	timeout             time.Duration
	retry               Retry
	silence             time.Duration
	logger              *slog.Logger
	hasToken, hasCaller bool
}

func defaultOptions() options {
	return options{
		timeout: 30 * time.Second,
		retry:   DefaultRetry,
		silence: 45 * time.Second,
		logger:  slog.New(slog.DiscardHandler),
	}
}

// WithToken gives a bearer token, by which the server knows the caller: a static one, or a JWT of an issuer that it
// trusts.
func WithToken(token string) Option {
	return func(o *options) { o.token, o.tokenFile, o.hasToken = token, "", true }
}

// WithTokenFile gives a bearer token in a file, which is read again whenever it has changed.
func WithTokenFile(path string) Option {
	return func(o *options) { o.token, o.tokenFile, o.hasToken = "", path, true }
}

// WithInsecurePlaintextToken sends a token in plain text to another machine, too, where whoever is on the way can take
// it. Without this it is sent over https, or on this machine.
func WithInsecurePlaintextToken() Option {
	return func(o *options) { o.plaintextToken = true }
}

// WithCAFile names the authorities that the server's certificate has to be from, in PEM, instead of those of the
// operating system.
func WithCAFile(path string) Option {
	return func(o *options) { o.certificates.authorities = path }
}

// WithCertificateFiles names a certificate with its chain, and its key, in PEM, by which the server knows the caller.
func WithCertificateFiles(certificate, key string) Option {
	return func(o *options) { o.certificates.certificate, o.certificates.key = certificate, key }
}

// WithPrincipal says who calls, where the server believes it: on loopback without an authentication file. Without it
// such a server takes the caller for "anonymous".
func WithPrincipal(principal string) Option {
	return func(o *options) { o.principal, o.hasCaller = principal, true }
}

// WithGroups says which groups the caller is in, which approvals are counted by, where the server believes it.
func WithGroups(groups ...string) Option {
	return func(o *options) { o.groups = groups }
}

// WithTimeout says how long one call may take, all its attempts together, unless its context ends before. Watches have
// no such limit. 30 s unless given.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = timeout }
}

// WithRetry says how calls are made again. DefaultRetry unless given.
func WithRetry(retry Retry) Option {
	return func(o *options) { o.retry = retry }
}

// WithSilence says after how long a watch that hears nothing takes its connection for dead. The server is never silent
// for more than 15 s. 45 s unless given.
func WithSilence(silence time.Duration) Option {
	return func(o *options) { o.silence = silence }
}

// WithLogger names where the client writes what it does of its own accord: calls that are made again, watches that are
// opened again, a token file that cannot be read. Nowhere unless given, and not nil.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if logger != nil {
			o.logger = logger
		}
	}
}
