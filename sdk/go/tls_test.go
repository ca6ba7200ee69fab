package phasegate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	phasegate "github.com/phasegate/phasegate/sdk/go"
)

// authority makes certificates, and the files that name them.
type authority struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	made := &authority{folder: t.TempDir()}
	made.certificate, made.key = made.issue(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true})
	return made
}

func (a *authority) path(name string) string { return filepath.Join(a.folder, name) }

// issue makes a certificate, and writes it and its key to NAME.pem and NAME.key.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	made, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(err)
	certificate, err := x509.ParseCertificate(made)
	must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	write := func(suffix, kind string, bytes []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
		must(os.WriteFile(a.path(name+suffix), text, 0o600))
	}
	write(".pem", "CERTIFICATE", made)
	write(".key", "PRIVATE KEY", private)
	return certificate, key
}

func TestOverTLSTheServerIsCheckedAndTheClientShowsItsCertificate(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	ours.issue(t, "server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	ours.issue(t, "ann", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	pair, err := tls.LoadX509KeyPair(ours.path("server.pem"), ours.path("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ours.certificate)
	server := start(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.VerifyClientCertIfGiven,
	})))
	server.address = strings.Replace(server.address, "http://", "https://", 1)

	shown := make(chan string, 1)
	server.reply(func(stream grpc.ServerStream) error {
		from, _ := peer.FromContext(stream.Context())
		shown <- from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName
		return paused()(stream)
	})
	client := server.client(t, phasegate.WithCAFile(ours.path("ca.pem")), phasegate.WithToken("pgt_x"),
		phasegate.WithCertificateFiles(ours.path("ann.pem"), ours.path("ann.key")))
	if _, err := client.PauseRelease(t.Context(), pause()); err != nil {
		t.Fatal(err)
	}
	if name := <-shown; name != "ann" || server.seen()[0].text("authorization") != "Bearer pgt_x" {
		t.Errorf("%q, %v", name, server.seen()[0].metadata)
	}

	for name, row := range map[string]struct {
		options []phasegate.Option
		says    string
	}{
		"another authority":             {[]phasegate.Option{phasegate.WithCAFile(other.path("ca.pem"))}, "certificate"},
		"the authorities of the system": {nil, "certificate"},
		// The server's word may be lost, because it closes the connection behind it.
		"a certificate of a stranger": {[]phasegate.Option{phasegate.WithCAFile(ours.path("ca.pem")), eve(t, other)}, ""},
	} {
		_, err := phasegate.Connect(t.Context(), server.address, row.options...)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// eve has a certificate that the server does not trust.
func eve(t *testing.T, by *authority) phasegate.Option {
	by.issue(t, "eve", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return phasegate.WithCertificateFiles(by.path("eve.pem"), by.path("eve.key"))
}
