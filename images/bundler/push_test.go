package bundler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
	"resinos/bsp/bundle/pack"
	"resinos/containers/pull/pulltest"
	"resinos/services/reference"
	"resinos/services/registryclient"
)

// newBundle writes the bundle of a small slot.
func newBundle(t *testing.T) (string, bundle.Manifest) {
	t.Helper()
	slot := random(1, 74*4096)
	m := bundle.Manifest{Board: "b", Variant: "production", Version: "1.2.3"}
	m.Slot.Size = int64(len(slot))
	dir := t.TempDir()
	spool, err := os.CreateTemp(dir, "spool")
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	var out bytes.Buffer
	if m, err = pack.Write(&out, m, bytes.NewReader(slot), spool, newKeys(t, "a")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bundle")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, m
}

// TestPush pushes to the real registry behind a login, reads the bundle back like a device, and pushes again: nothing
// is sent the second time.
func TestPush(t *testing.T) {
	file, m := newBundle(t)
	r, dir := pulltest.New(t), t.TempDir()
	r.Settings(dir)
	puts := 0
	r.Answer(func(w http.ResponseWriter, q *http.Request) bool {
		if user, password, _ := q.BasicAuth(); user != "me" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if q.Method == http.MethodPut && strings.Contains(q.URL.Path, "/blobs/") {
			puts++
		}
		return false
	})
	ref := r.Host + "/fleet/os:1.2.3"
	if _, err := Push(t.Context(), ref, file, m, []string{dir}); err == nil || !strings.Contains(err.Error(), "login") {
		t.Fatalf("Push without a login = %v", err)
	}
	login := fmt.Sprintf(`{"auths":{%q:{"username":"me","password":"s3cret"}}}`, r.Host)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	pushed, err := Push(t.Context(), ref, file, m, []string{dir})
	if err != nil || !strings.HasPrefix(pushed, ref+"@sha256:") || puts != 2 {
		t.Fatalf("Push = %q, %v, with %d blobs", pushed, err, puts)
	}
	if again, err := Push(t.Context(), ref, file, m, []string{dir}); err != nil || again != pushed || puts != 2 {
		t.Errorf("the second Push = %q, %v, with %d blobs in all", again, err, puts)
	}
	name, err := reference.Parse(pushed)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := registryclient.Open(name, []string{dir})
	if err != nil || len(hosts) != 1 {
		t.Fatalf("%d hosts, %v", len(hosts), err)
	}
	text, err := hosts[0].Manifest(t.Context(), name.Digest, v1.MediaTypeImageManifest)
	var top v1.Manifest
	if err != nil || json.Unmarshal(text, &top) != nil || top.ArtifactType != httpsource.MediaType ||
		len(top.Layers) != 1 {
		t.Fatalf("manifest %s, %v", text, err)
	}
	src, err := httpsource.Open(t.Context(), hosts[0].Blob(string(top.Layers[0].Digest)),
		httpsource.Options{Client: hosts[0].Client()})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, src.Size())
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

func TestPushFaults(t *testing.T) {
	file, m := newBundle(t)
	r, dir := pulltest.New(t), t.TempDir()
	r.Settings(dir)
	r.Answer(func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodPut {
			w.WriteHeader(http.StatusInsufficientStorage)
			return true
		}
		return false
	})
	for ref, want := range map[string]string{
		"os:1":         "names no registry",
		r.Host + "/os": "507",
		r.Host + "/os@sha256:" + strings.Repeat("0", 64): "to a tag",
	} {
		_, err := Push(t.Context(), ref, file, m, []string{dir})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Push(%q) = %v, want %q", ref, err, want)
		}
	}
}
