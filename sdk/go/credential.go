package phasegate

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// token is a bearer token (RFC 6750), ready to be sent.
type token interface {
	// header is the value of authorization.
	header() string
	// renewable says whether a later one may be another.
	renewable() bool
}

// givenToken is one that stays as it is.
type givenToken string

func (t givenToken) header() string  { return string(t) }
func (t givenToken) renewable() bool { return false }

// fileToken is one in a file, which is read again whenever the file has changed.
type fileToken struct {
	path   string
	logger *slog.Logger

	mu   sync.Mutex
	read stamp
	last string
}

// stamp is what tells one state of a file from another.
type stamp struct {
	changed time.Time
	size    int64
}

func stampOf(path string) (stamp, error) {
	found, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{found.ModTime(), found.Size()}, nil
}

func newFileToken(path string, logger *slog.Logger) (*fileToken, *Error) {
	// Before it is read: what is written in between is read again.
	read, _ := stampOf(path)
	last, err := readToken(path)
	if err != nil {
		return nil, err
	}
	return &fileToken{path: path, logger: logger, read: read, last: last}, nil
}

// A file that cannot be read any more, or has no token in it, leaves the last one.
func (t *fileToken) header() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := stampOf(t.path)
	if err != nil || now == t.read {
		return t.last
	}
	value, refused := readToken(t.path)
	if refused != nil {
		t.logger.Warn("the last token is used further", "error", refused)
		return t.last
	}
	t.read, t.last = now, value
	return t.last
}

func (t *fileToken) renewable() bool { return true }

func readToken(path string) (string, *Error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", local(codes.InvalidArgument, "cannot read the token: %v", err)
	}
	return bearer(string(content))
}

// bearer is the value of authorization. No error says what the token is.
func bearer(token string) (string, *Error) {
	token = strings.TrimSpace(token)
	if token == "" || !isPrintable(token) || strings.Contains(token, " ") {
		return "", local(codes.InvalidArgument, "a token is one word of printable ASCII")
	}
	return "Bearer " + token, nil
}

// isPrintable says whether the text can be sent as metadata, which is printable ASCII.
func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// certificates are the files of TLS: whom a client trusts, and what it shows for itself.
type certificates struct {
	// Empty: the authorities of the operating system.
	authorities string
	// Both empty, or both set.
	certificate, key string
}

func (c certificates) named() bool { return c != certificates{} }

func (c certificates) config() (*tls.Config, *Error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.authorities != "" {
		pem, err := os.ReadFile(c.authorities)
		if err != nil {
			return nil, local(codes.InvalidArgument, "cannot read the authorities: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, local(codes.InvalidArgument, "%s has no certificate in PEM", c.authorities)
		}
	}
	if c.certificate != "" || c.key != "" {
		pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
		if err != nil {
			return nil, local(codes.InvalidArgument, "cannot use the client certificate: %v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
