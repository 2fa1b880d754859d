package registryclient

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestRoots: a server whose authority only the owner knows is believed as soon as the bundle says so, in a process that
// has spoken TLS before.
func TestRoots(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	ask := func() error {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: Roots(bundle)}}}
		r, err := client.Get(server.URL)
		if err == nil {
			err = r.Body.Close()
		}
		return err
	}
	if err := ask(); err == nil {
		t.Error("a server that nobody knows is believed")
	}
	for _, text := range [][]byte{nil, []byte("no certificate")} {
		if err := os.WriteFile(bundle, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if Roots(bundle) != nil {
			t.Errorf("the bundle %q has authorities", text)
		}
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("with the owner's authority: %v", err)
	}
}
