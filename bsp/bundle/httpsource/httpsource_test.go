package httpsource

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 10_000)

// quick tries three times without a pause.
var quick = Options{Tries: 3, Pause: time.Nanosecond, Stall: time.Minute}

// partial answers with a range as it should, except for what the arguments say.
func partial(w http.ResponseWriter, body []byte, span string, header ...string) {
	w.Header().Set("ETag", `"one"`)
	for i := 0; i+1 < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.Header().Set("Content-Range", span)
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(body) // the client may be gone
}

// sends returns a server that always answers like partial.
func sends(body []byte, span string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { partial(w, body, span, header...) }
}

// whole sends the file without being asked for it.
func whole(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }

// status returns a server that only answers with a status.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// redirect returns a server that sends everybody to another address.
func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

// static answers every request for a range rightly.
func static(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestRead(t *testing.T) {
	s, err := Open(t.Context(), serve(t, static), quick)
	if err != nil || s.Size() != int64(len(content)) {
		t.Fatalf("Open = %v", err)
	}
	p := make([]byte, 5000)
	for _, at := range []int64{0, 1, 77_777, int64(len(content) - 5000)} {
		if n, err := s.ReadAt(p, at); n != len(p) || err != nil || !bytes.Equal(p, content[at:at+5000]) {
			t.Errorf("ReadAt(%d) = %d, %v", at, n, err)
		}
	}
	if n, err := s.ReadAt(p, int64(len(content)-10)); n != 10 || err == nil {
		t.Errorf("ReadAt at the end = %d, %v", n, err)
	}
	if n, err := s.ReadAt(p, int64(len(content)+10)); n != 0 || err == nil {
		t.Errorf("ReadAt behind the end = %d, %v", n, err)
	}
}

// TestFirstAnswer has the servers that no bundle can be read from.
func TestFirstAnswer(t *testing.T) {
	one := content[:1]
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"no ranges":         {whole, "does not send parts"},
		"endless, no range": {endless, "does not send parts"},
		"missing":           {http.NotFound, "404"},
		"forbidden":         {status(403), "403"},
		"broken":            {status(503), "503"},
		"no Content-Range":  {sends(one, ""), `range ""`},
		"another range":     {sends(one, "bytes 5-5/9"), "sends 5 to 5"},
		"a longer range":    {sends(content[:9], "bytes 0-8/9"), "sends 0 to 8"},
		"no size":           {sends(one, "bytes 0-0/*"), "bytes FROM-TO/SIZE"},
		"negative size":     {sends(one, "bytes 0-0/-1"), "bytes FROM-TO/SIZE"},
		"size too small":    {sends(one, "bytes 0-0/0"), "bytes FROM-TO/SIZE"},
		"huge size":         {sends(one, "bytes 0-0/99999999999999999999999"), "bytes FROM-TO/SIZE"},
		"other unit":        {sends(one, "lines 0-0/9"), "bytes FROM-TO/SIZE"},
		"wrong length":      {sends(content[:9], "bytes 0-0/9", "Content-Length", "9"), "announces 9 bytes"},
		"compressed":        {sends(one, "bytes 0-0/9", "Content-Encoding", "gzip"), "compresses"},
		"redirect loop":     {redirect("/"), "redirects"},
		"redirect nowhere":  {redirect("ftp://host/file"), "ftp"},
		"connection cut":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"huge header":       {sends(one, "bytes 0-0/9", "X-Long", strings.Repeat("x", 200<<10)), "header"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), serve(t, c.serve), quick)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %v, want %q", err, c.want)
			}
		})
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(content); err != nil {
			return
		}
	}
}

func TestHang(t *testing.T) {
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	o := Options{Tries: 2, Pause: time.Nanosecond, Stall: 10 * time.Millisecond}
	if _, err := Open(t.Context(), url, o); !errors.Is(err, errStalled) {
		t.Errorf("Open = %v, want %v", err, errStalled)
	}
}

// TestTrickle has a server that sends a byte and then nothing.
func TestTrickle(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "bytes=0-0" {
			static(w, r)
			return
		}
		<-r.Context().Done()
	})
	s, err := Open(t.Context(), url, quick)
	if err != nil {
		t.Fatal(err)
	}
	s.o.Stall = 10 * time.Millisecond
	if _, err := s.ReadAt(make([]byte, 100), 5); !errors.Is(err, errStalled) {
		t.Errorf("ReadAt = %v, want %v", err, errStalled)
	}
}

// TestLater has servers that answer the first request well.
func TestLater(t *testing.T) {
	other := bytes.Repeat([]byte("X"), len(content))
	for name, c := range map[string]struct {
		then http.HandlerFunc
		want error
	}{
		"another file, If-Range obeyed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"two"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(other))
		}, ErrChanged},
		"another file, If-Range ignored": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			w.Header().Set("ETag", `"two"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(other))
		}, ErrChanged},
		"a shorter file": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			w.Header().Set("ETag", `"one"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content[:100]))
		}, ErrChanged},
		"a longer file": {func(w http.ResponseWriter, _ *http.Request) {
			partial(w, content[:100], fmt.Sprintf("bytes 1000-1099/%d", len(content)+1))
		}, ErrChanged},
		"the whole file":  {whole, ErrChanged},
		"an endless file": {endless, ErrChanged},
	} {
		t.Run(name, func(t *testing.T) {
			var first atomic.Bool
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if first.CompareAndSwap(false, true) {
					static(w, r)
					return
				}
				c.then(w, r)
			})
			s, err := Open(t.Context(), url, quick)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.ReadAt(make([]byte, 100), 1000); !errors.Is(err, c.want) {
				t.Errorf("ReadAt = %v, want %v", err, c.want)
			}
		})
	}
}

// TestContinues has a server that cuts each answer after some bytes, and fails at times: the range is complete.
func TestContinues(t *testing.T) {
	var requests atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n := requests.Add(1); {
		case n%3 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case n == 1:
			static(w, r)
		default:
			var from, to int
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
			partial(w, content[from:min(from+700, to+1)], fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
		}
	})
	s, err := Open(t.Context(), url, quick)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5000)
	if _, err := s.ReadAt(p, 100); err != nil || !bytes.Equal(p, content[100:5100]) {
		t.Errorf("ReadAt = %v after %d requests", err, requests.Load())
	}
}

// TestBodyWithoutEnd wants that no more than the range is read from an endless answer.
func TestBodyWithoutEnd(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "bytes=0-0" {
			static(w, r)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 16-115/%d", len(content)))
		w.Header().Set("ETag", `"one"`)
		w.WriteHeader(http.StatusPartialContent)
		endless(w, r)
	})
	s, err := Open(t.Context(), url, quick)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if _, err := s.ReadAt(p, 16); err != nil || !bytes.Equal(p, content[:100]) {
		t.Errorf("ReadAt = %v", err)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-1/2")
	f.Add("bytes 0-1/*")
	f.Fuzz(func(t *testing.T, text string) {
		from, to, size, err := contentRange(text)
		if err == nil && (from < 0 || to < from || size <= to) {
			t.Errorf("contentRange(%q) = %d, %d, %d", text, from, to, size)
		}
	})
}
