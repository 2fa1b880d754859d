package pack_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"resinos/bsp/bundle/httpsource"
)

// TestOverHTTP installs from Go's plain file server, which cuts every second answer short, and from a registry-like
// server that redirects. Most of the slot is in the running one: little is sent.
func TestOverHTTP(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	dir := t.TempDir()
	text := write(t, manifest(len(img)), img, k)
	if err := os.WriteFile(filepath.Join(dir, "update.bundle"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	var requests, sent atomic.Int64
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/blob" {
			http.Redirect(w, r, "/update.bundle?token=1", http.StatusTemporaryRedirect)
			return
		}
		half := requests.Add(1)%2 == 0
		files.ServeHTTP(&short{ResponseWriter: w, half: half, sent: &sent}, r)
	}))
	defer server.Close()
	seed := append(random(9, 3*4096), img[:len(img)-3*4096]...)
	copy(seed[400_000:], random(10, 50_000))
	for _, path := range []string{"/update.bundle", "/blob"} {
		sent.Store(0)
		src, err := httpsource.Open(t.Context(), server.URL+path, httpsource.Options{Pause: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		s := &slot{data: make([]byte, len(img))}
		p, err := install(t, src, trusting(1, k), seed, s)
		if err != nil || !bytes.Equal(s.data, img) || p.Copied < 800_000 {
			t.Errorf("%s: %v, %+v", path, err, p)
		}
		// What was cut short is asked for again from there on, so nothing is sent twice.
		if most := p.Fetched + 20_000; sent.Load() > most {
			t.Errorf("%s: %d bytes were sent, at most %d", path, sent.Load(), most)
		}
	}
}

// short ends an answer after half of each write, if it has more than a few bytes. It counts before it sends: the client
// may be done before a count behind that.
type short struct {
	http.ResponseWriter
	half bool
	sent *atomic.Int64
}

func (s *short) Write(p []byte) (int, error) {
	cut := s.half && len(p) > 64
	if cut {
		p = p[:len(p)/2]
	}
	s.sent.Add(int64(len(p)))
	n, err := s.ResponseWriter.Write(p)
	if cut && err == nil {
		err = http.ErrAbortHandler
	}
	return n, err
}
