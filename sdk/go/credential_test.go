package phasegate

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestATokenThatIsRenewedInItsFileIsSentFromThenOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var logged strings.Builder
	write("pgt_one\n")
	token, err := newFileToken(path, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	sends := func(expected string) {
		t.Helper()
		if got := token.header(); got != expected {
			t.Errorf("%q is sent", got)
		}
	}
	sends("Bearer pgt_one")
	write("pgt_number_two\n")
	sends("Bearer pgt_number_two")
	// Half a renewal, or none, is no reason to send nothing.
	write("")
	sends("Bearer pgt_number_two")
	if !strings.Contains(logged.String(), "the last token is used further") {
		t.Errorf("logged is %q", logged.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	sends("Bearer pgt_number_two")
	write("pgt_3")
	sends("Bearer pgt_3")
	if strings.Contains(logged.String(), "pgt_") {
		t.Errorf("a token is logged: %q", logged.String())
	}
}

func TestATokenIsOneWordAndShownToNobody(t *testing.T) {
	for _, bad := range []string{"", " ", "two words", "pgt_ü", "pgt_a\nb", "pgt_\x7f"} {
		_, err := New("http://127.0.0.1:1", WithToken(bad))
		if err == nil || strings.Contains(err.Error(), "pgt_") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := New("http://127.0.0.1:1", WithTokenFile(filepath.Join(t.TempDir(), "none"))); err == nil {
		t.Error("there is no such file")
	}
}

func TestATokenGoesOverTLSOrStaysOnThisMachine(t *testing.T) {
	token := WithToken("pgt_x")
	for _, good := range []string{
		"http://127.0.0.1:1", "http://127.3.2.1", "http://[::1]:1", "http://localhost:1", "https://a.example",
	} {
		if _, err := New(good, token); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"http://10.0.0.1:1", "http://a.example", "http://127.0.0.1.example:1", "http://[::2]:1"} {
		if _, err := New(bad, token); err == nil || !strings.Contains(err.Error(), "use https") {
			t.Errorf("%s: %v", bad, err)
		}
		if _, err := New(bad, token, WithInsecurePlaintextToken()); err != nil {
			t.Errorf("%s: %v", bad, err)
		}
		if _, err := New(bad); err != nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestWhatCannotBeSentIsRefusedBeforeAnythingIsSent(t *testing.T) {
	for _, address := range []string{
		"", "127.0.0.1:7433", "ftp://127.0.0.1:7433", "http//x", "http:///x", "http://:80", "a b", "http://a.example/x",
		"http://a.example?x", "http://ann@a.example",
	} {
		if _, err := New(address); err == nil || !strings.Contains(err.Error(), "is no address such as") {
			t.Errorf("%q: %v", address, err)
		}
	}
	folder := t.TempDir()
	empty := filepath.Join(folder, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		address string
		option  Option
		says    string
	}{
		{"http://a.example", WithPrincipal("J\u00fcrgen"), "printable ASCII"},
		{"http://a.example", WithPrincipal("a\nb"), "printable ASCII"},
		{"http://a.example", WithGroups("sre", "a,b"), "comma"},
		{"http://a.example", WithGroups("a\x00"), "printable ASCII"},
		{"http://a.example", WithCAFile("none.pem"), "need an https address"},
		{"http://a.example", WithCertificateFiles("none.pem", "none.key"), "need an https address"},
		{"https://a.example", WithCAFile(filepath.Join(folder, "none.pem")), "none.pem"},
		{"https://a.example", WithCAFile(empty), "has no certificate in PEM"},
		{"https://a.example", WithCertificateFiles(empty, empty), "client certificate"},
	} {
		if _, err := New(row.address, row.option); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", row.says, err)
		}
	}
}
