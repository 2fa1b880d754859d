package ocisource

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"resinos/bsp/bundle/httpsource"
	"resinos/containers/pull/pulltest"
	"resinos/services/registries"
)

// quick tries without a pause.
var quick = httpsource.Options{Tries: 3, Pause: time.Nanosecond, Stall: time.Minute}

// content stands for a bundle: this package does not look into it.
var content = func() []byte {
	b := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}()

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// manifestOf returns a manifest with a layer.
func manifestOf(kind, digest string, size int) []byte {
	config := digestOf([]byte("{}"))
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/json","digest":%q,`+
		`"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`, mediaType, config, kind, digest, size)
}

// push puts the bundle into a registry.
func push(r *pulltest.Registry) (manifest []byte) {
	r.Blob("os", "application/json", []byte("{}"))
	r.Blob("os", httpsource.MediaType, content)
	manifest = manifestOf(httpsource.MediaType, digestOf(content), len(content))
	r.PutManifest("os", "1", mediaType, manifest)
	return manifest
}

// readAll reads a source as an installation does.
func readAll(s *Source) ([]byte, error) {
	got := make([]byte, 0, s.Size())
	for at := int64(0); at < s.Size(); {
		p := make([]byte, min(1<<20, s.Size()-at))
		n, err := s.ReadAt(p, at)
		if err != nil && (!errors.Is(err, io.EOF) || n < len(p)) {
			return got, err
		}
		got, at = append(got, p[:n]...), at+int64(n)
	}
	return got, nil
}

// TestRegistry reads from the real registry, by tag and by digest, over a line that is cut at random places: nothing is
// sent twice.
func TestRegistry(t *testing.T) {
	r, dir := pulltest.New(t), t.TempDir()
	r.Settings(dir)
	manifest := push(r)
	dice := rand.New(rand.NewPCG(3, 4))
	var cuts atomic.Int64
	r.Cut(func(q *http.Request) int64 {
		if !strings.Contains(q.URL.Path, "/blobs/") || q.Header.Get("Range") == "bytes=0-0" || dice.IntN(4) == 0 {
			return -1
		}
		cuts.Add(1)
		return int64(1 + dice.IntN(300_000))
	})
	for _, ref := range []string{r.Host + "/os:1", r.Host + "/os:gone@" + digestOf(manifest)} {
		before := r.Sent(r.Blob("os", httpsource.MediaType, content).Digest)
		s, err := Open(t.Context(), ref, []string{dir}, quick)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(s)
		if err != nil || !bytes.Equal(got, content) || cuts.Load() == 0 {
			t.Errorf("%s: %d bytes, %v, after %d cuts", ref, len(got), err, cuts.Load())
		}
		sent := r.Sent(r.Blob("os", httpsource.MediaType, content).Digest) - before
		if most := int64(len(content)) + 1; sent > most {
			t.Errorf("%s: %d bytes were sent, at most %d", ref, sent, most)
		}
	}
}

// server returns a registry of our own that answers as f wants, and settings that trust it without TLS.
func server(t *testing.T, f http.HandlerFunc) (host, dir string) {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	host, dir = strings.TrimPrefix(s.URL, "http://"), t.TempDir()
	settings(t, dir, host, "server = \""+s.URL+"\"\n")
	return host, dir
}

func settings(t *testing.T, dir, host, text string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Join(dir, host), 0o755),
		os.WriteFile(filepath.Join(dir, host, registries.HostsFile), []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// good answers for the manifest and the blob.
func good(w http.ResponseWriter, r *http.Request) {
	body := content
	if strings.Contains(r.URL.Path, "/manifests/") {
		body = manifestOf(httpsource.MediaType, digestOf(content), len(content))
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(content); err != nil {
			return
		}
	}
}

// TestHostile has registries that no bundle can be read from: each is one error that says why.
func TestHostile(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the updater was led to an address without TLS")
	}))
	defer inside.Close()
	manifest := func(text []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				good(w, r)
				return
			}
			_, _ = w.Write(text)
		}
	}
	blob := func(f http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				f(w, r)
				return
			}
			good(w, r)
		}
	}
	to := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusTemporaryRedirect) }
	}
	asks := func(challenge string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	sum, size := digestOf(content), len(content)
	for name, c := range map[string]struct {
		serve     http.HandlerFunc
		ref, want string
	}{
		"missing":          {http.NotFound, "", "404"},
		"endless manifest": {endless, "", "larger than"},
		"no JSON":          {manifest([]byte("hello")), "", "parse manifest"},
		"another digest":   {good, "@sha256:" + strings.Repeat("0", 64), "another one than its digest"},
		"index":            {manifest([]byte(`{"schemaVersion":2,"manifests":[]}`)), "", "no bundle"},
		"container image":  {manifest(manifestOf("application/x-tar", sum, size)), "", "no bundle"},
		"digest of a path": {manifest(manifestOf(httpsource.MediaType, "sha256:../../x", size)), "", "digest"},
		"empty blob":       {manifest(manifestOf(httpsource.MediaType, sum, 0)), "", "0 bytes"},
		"blob too long":    {manifest(manifestOf(httpsource.MediaType, sum, size-1)), "", "the manifest says"},
		"blob missing":     {blob(http.NotFound), "", "404"},
		"blob not partial": {blob(func(w http.ResponseWriter, _ *http.Request) { endless(w, nil) }), "", "parts"},
		"redirect loop":    {blob(to("/v2/os/blobs/again")), "", "redirects"},
		"redirect, no TLS": {blob(to(inside.URL)), "", "no TLS"},
		"token, no TLS":    {asks(`Bearer realm="` + inside.URL + `/token"`), "", "no TLS"},
		"token of nobody":  {asks(`Bearer scope="x"`), "", "nobody to ask"},
		"wants a login":    {asks(`Basic realm="x"`), "", "wants a login"},
		"unknown login":    {asks(`Digest realm="x"`), "", "which login"},
		"no challenge":     {asks(""), "", "which login"},
	} {
		t.Run(name, func(t *testing.T) {
			host, dir := server(t, c.serve)
			ref := host + "/os:1"
			if c.ref != "" {
				ref = host + "/os" + c.ref
			}
			s, err := Open(t.Context(), ref, []string{dir}, quick)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %v, %v, want %q", s, err, c.want)
			}
		})
	}
	if _, err := Open(t.Context(), strings.TrimPrefix(inside.URL, "http://")+"/os:1", nil, quick); err == nil {
		t.Error("a registry without TLS was spoken to, and nobody said that it may be")
	}
}

// TestLogin: the login goes to the registry and for a token, and not with a redirect; a token that is too old is
// replaced while the bundle is read.
func TestLogin(t *testing.T) {
	const secret = "Basic bWU6czNjcmV0" // me:s3cret
	var tokens atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("a redirect took the login along: %q", a)
		}
		good(w, r)
	}))
	defer elsewhere.Close()
	var host string
	host, dir := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if r.Header.Get("Authorization") != secret || r.URL.Query().Get("scope") != "repository:os:pull" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			fmt.Fprintf(w, `{"token":"t%d"}`, tokens.Add(1))
			return
		}
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", tokens.Load()) {
			w.Header().Set("WWW-Authenticate",
				`Bearer realm="http://`+host+`/token",service="r",scope="repository:os:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		good(w, r)
	})
	other := strings.TrimPrefix(elsewhere.URL, "http://")
	settings(t, dir, host, "server = \"http://"+host+"\"\n[host.\"http://"+other+"\"]\ncapabilities = [\"push\"]\n")
	if _, err := Open(t.Context(), host+"/os:1", []string{dir}, quick); err == nil {
		t.Error("Open without a login succeeded")
	}
	login := filepath.Join(dir, registries.LoginsFile)
	if err := os.WriteFile(login, []byte(`{"auths":{"`+host+`":{"auth":"bWU6czNjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), host+"/os:1", []string{dir}, quick)
	if err != nil {
		t.Fatal(err)
	}
	tokens.Add(1) // what it has is too old now
	if got, err := readAll(s); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := os.WriteFile(login, []byte(`{"auths":{"`+host+`":{"auth":"bWU6MHRoZXI="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), host+"/os:1", []string{dir}, quick); err == nil ||
		!strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "0ther") {
		t.Errorf("Open with a wrong login = %v", err)
	}
}

// TestMirror reads from a mirror until it fails, and then from the registry, which the mirror was in front of.
func TestMirror(t *testing.T) {
	r, dir := pulltest.New(t), t.TempDir()
	r.Settings(dir)
	push(r)
	var served atomic.Int64
	mirror, _ := server(t, func(w http.ResponseWriter, q *http.Request) {
		if served.Add(1) > 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		good(w, q)
	})
	settings(t, dir, "registry.invalid",
		"server = \"http://"+r.Host+"\"\n[host.\"http://"+mirror+"\"]\n[host.\"http://127.0.0.1:1\"]\n")
	s, err := Open(t.Context(), "registry.invalid/os:1", []string{dir}, quick)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(s); err != nil || !bytes.Equal(got, content) || served.Load() < 4 {
		t.Errorf("%d bytes, %v; the mirror was asked %d times", len(got), err, served.Load())
	}
	if n := r.Sent(r.Blob("os", httpsource.MediaType, content).Digest); n > int64(len(content))-(1<<20)+1 {
		t.Errorf("the registry sent %d bytes, although the mirror had sent 1 MiB", n)
	}
}

func TestSettingsFaults(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"server = \"https://r.invalid\"\nca = \"none.pem\"":                        "none.pem",
		"server = \"https://r.invalid\"\nclient = \"x.pem\"":                       "do not support the key client",
		"server = \"https://r.invalid\"\ncapabilities = [\"push\"]":                "let no host",
		"server = \"http://127.0.0.1:1\"\n[header]\nx = 1":                         "header.x",
		"server = \"https://r.invalid\"\n[host.\"https://m.invalid\"]\nmirror = 1": "unknown key",
	} {
		settings(t, dir, "r.invalid", text)
		if _, err := Open(t.Context(), "r.invalid/os:1", []string{dir}, quick); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%q: Open = %v, want %q", text, err, want)
		}
	}
	if _, err := Open(t.Context(), "os:1", nil, quick); err == nil || !strings.Contains(err.Error(), "no registry") {
		t.Errorf("Open = %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(manifestOf(httpsource.MediaType, digestOf(nil), 5))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parse(text)
		if err == nil && (l.Size <= 0 || len(l.Digest) != len("sha256:")+64) {
			t.Errorf("parse(%q) = %+v", text, l)
		}
	})
}
