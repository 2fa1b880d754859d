// Package pulltest provides the registry for tests of pulls: a real one (github.com/distribution/distribution) in this
// process, images made for it, and a line to it that counts, delays and cuts. Read Registry first.
package pulltest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // where the registry keeps everything
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
)

// Registry is a registry without TLS on loopback.
type Registry struct {
	// Host is the first part of the names of its images.
	Host string
	t    testing.TB
	url  string
	real http.Handler

	meter meter

	mu   sync.Mutex // guards what follows
	cut  func(r *http.Request) int64
	own  func(w http.ResponseWriter, r *http.Request) bool
	sent map[string]int64 // bytes of bodies by path
	gets map[string]int   // requests with GET by path
}

// New starts a registry that ends with the test.
func New(t testing.TB) *Registry {
	t.Helper()
	config := &configuration.Configuration{Storage: configuration.Storage{"inmemory": nil}}
	logrus.SetLevel(logrus.ErrorLevel) // it tells of each request
	config.Log.AccessLog.Disabled = true
	config.Catalog.MaxEntries = 10
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registry{t: t, real: handlers.NewApp(ctx, config), sent: map[string]int64{}, gets: map[string]int{}}
	server := httptest.NewUnstartedServer(r)
	server.Listener = metered{server.Listener, &r.meter}
	server.Start()
	t.Cleanup(cancel)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	r.url, r.Host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return r
}

// Settings writes into dir that the registry is to be spoken to without TLS.
func (r *Registry) Settings(dir string) {
	r.t.Helper()
	dir = filepath.Join(dir, r.Host)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte("server = \""+r.url+"\"\n"), 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Cut has the line end after so many bytes of the body of an answer; a negative number leaves it.
func (r *Registry) Cut(f func(r *http.Request) int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = f
}

// Answer has f answer in place of the registry when it returns true.
func (r *Registry) Answer(f func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = f
}

// Serve answers as the registry does.
func (r *Registry) Serve(w http.ResponseWriter, q *http.Request) { r.real.ServeHTTP(w, q) }

// WithExpiredTLS serves the registry with a certificate that was valid once, which the settings in dir vouch for, and
// returns the name that an image has there.
func (r *Registry) WithExpiredTLS(dir, image string) string {
	r.t.Helper()
	return r.WithTLS(dir, image, time.Unix(1e9, 0))
}

// WithTLS serves the registry with a certificate that ends then, which the settings in dir vouch for, and returns the
// name that an image has there.
func (r *Registry) WithTLS(dir, image string, end time.Time) string {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end, IsCA: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		r.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(r)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Listener = metered{server.Listener, &r.meter}
	server.StartTLS()
	r.t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	dir = filepath.Join(dir, host)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o644),
		os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte("server = \""+server.URL+"\"\nca = \"ca.pem\"\n"), 0o644))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Replace(image, r.Host, host, 1)
}

// Sent returns how many bytes of a blob went out.
func (r *Registry) Sent(d digest.Digest) int64 {
	return r.of(d, func(p string) int64 { return r.sent[p] })
}

// Gets returns how often a blob was asked for.
func (r *Registry) Gets(d digest.Digest) int64 {
	return r.of(d, func(p string) int64 { return int64(r.gets[p]) })
}

func (r *Registry) of(d digest.Digest, f func(path string) int64) (sum int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path := range r.gets {
		if strings.HasSuffix(path, d.String()) {
			sum += f(path)
		}
	}
	return sum
}

// ServeHTTP is the line.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.meter.request(q)
	r.mu.Lock()
	limit := int64(-1)
	if r.cut != nil && q.Method == http.MethodGet {
		limit = r.cut(q)
	}
	if q.Method == http.MethodGet {
		r.gets[q.URL.Path]++
	}
	own := r.own
	r.mu.Unlock()
	l := &line{ResponseWriter: w, left: limit}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if q.Method == http.MethodGet {
			r.sent[q.URL.Path] += l.sent
		}
		if l.cut {
			panic(http.ErrAbortHandler) // the connection goes
		}
	}()
	if own == nil || !own(l, q) {
		r.real.ServeHTTP(l, q)
	}
}

// line counts a body and ends it early.
type line struct {
	http.ResponseWriter
	left, sent int64
	cut        bool
}

// Write writes what may still go.
func (l *line) Write(b []byte) (int, error) {
	if l.left >= 0 && int64(len(b)) > l.left {
		n, _ := l.ResponseWriter.Write(b[:l.left])
		l.sent += int64(n)
		if f, ok := l.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		l.cut = true
		return n, io.ErrShortWrite
	}
	n, err := l.ResponseWriter.Write(b)
	l.sent += int64(n)
	if l.left >= 0 {
		l.left -= int64(n)
	}
	return n, err
}

// Image is an image in the registry.
type Image struct {
	Name     string
	Manifest digest.Digest
	Layers   []v1.Descriptor
}

// Layer returns a layer with one file of random bytes, or with what add adds.
func Layer(t testing.TB, name string, size int) []byte {
	t.Helper()
	source := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	data := make([]byte, size)
	_, _ = source.Read(data) // never fails
	return Tar(t, map[string][]byte{name: data}, 0o644)
}

// Tar makes a layer with these files.
func Tar(t testing.TB, files map[string][]byte, mode int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range files {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Push puts an image with these layers, for an architecture, into the registry.
func (r *Registry) Push(repository, tag, arch string, layers ...[]byte) Image {
	r.t.Helper()
	image := Image{Name: r.Host + "/" + repository + ":" + tag}
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: arch}, RootFS: v1.RootFS{Type: "layers"}}
	config.Config.Cmd = []string{"/bin/sh"}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		image.Layers = append(image.Layers, r.Blob(repository, v1.MediaTypeImageLayer, l))
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: r.Blob(repository, v1.MediaTypeImageConfig, r.json(config)), Layers: image.Layers}
	image.Manifest = r.PutManifest(repository, tag, v1.MediaTypeImageManifest, r.json(manifest)).Digest
	return image
}

func (r *Registry) json(v any) []byte {
	r.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// Blob puts a blob into the registry.
func (r *Registry) Blob(repository, mediaType string, data []byte) v1.Descriptor {
	r.t.Helper()
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	resp := r.send(http.MethodPost, r.url+"/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
	at := resp.Header.Get("Location")
	r.send(http.MethodPut, at+"&digest="+d.Digest.String(), "application/octet-stream", data, http.StatusCreated)
	return d
}

// PutManifest puts a manifest or an index into the registry.
func (r *Registry) PutManifest(repository, tag, mediaType string, data []byte) v1.Descriptor {
	r.t.Helper()
	r.send(http.MethodPut, r.url+"/v2/"+repository+"/manifests/"+tag, mediaType, data, http.StatusCreated)
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func (r *Registry) send(method, url, mediaType string, body []byte, want int) *http.Response {
	r.t.Helper()
	q, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close() // read whole
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		r.t.Fatal(fmt.Errorf("%s %s: %s: %s %v", method, url, resp.Status, text, err))
	}
	return resp
}

// SizeOf returns the size of a manifest, in digits.
func (r *Registry) SizeOf(repository string, d digest.Digest) string {
	r.t.Helper()
	resp, err := http.Head(r.url + "/v2/" + repository + "/manifests/" + d.String())
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close() // it has none
	return resp.Header.Get("Content-Length")
}
