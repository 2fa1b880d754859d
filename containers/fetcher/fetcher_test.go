package fetcher

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/mounts/testenv"
	"resinos/services/registries"
)

// fake is a registry with one manifest and one blob, which a case may make do otherwise.
type fake struct {
	manifest, blob []byte
	before         func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func (f fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.before != nil && f.before(w, r) {
		return
	}
	body := f.manifest
	switch {
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", v1.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(body).String())
	case strings.Contains(r.URL.Path, "/blobs/"):
		body = f.blob
	default:
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

var image = fake{manifest: []byte(`{"schemaVersion":2}`), blob: bytes.Repeat([]byte("0123456789abcdef"), 1<<16)}

func (f fake) descriptor() Blob {
	return Blob{v1.MediaTypeImageLayerGzip, digest.FromBytes(f.blob), int64(len(f.blob))}
}

func get(p *Process, b Blob, offset int64) ([]byte, error) {
	r, err := p.Open(b, offset)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// TestFetch: a confined fetcher with a registry that means well.
func TestFetch(t *testing.T) {
	_, host, settings := serve(t, image)
	p := start(t, host+"/app:1", settings)
	name, found, err := p.Resolve(context.Background())
	if err != nil || name != host+"/app:1" || found.Digest != digest.FromBytes(image.manifest) {
		t.Fatalf("Resolve = %q, %v, %v", name, found, err)
	}
	for _, offset := range []int64{0, 1, 1 << 19, int64(len(image.blob)) - 1} {
		data, err := get(p, image.descriptor(), offset)
		if err != nil || !bytes.Equal(data, image.blob[offset:]) {
			t.Errorf("from %d: %d bytes, %v", offset, len(data), err)
		}
	}
}

// TestConfined: the fetcher of a device, which is built without cgo, has no rights and fetches all the same.
func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Lacking(t, "root, whose rights are given up")
	}
	program := filepath.Join(t.TempDir(), "fetcher")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	_, host, settings := serve(t, image)
	p := startProgram(t, program, host+"/app:1", settings)
	if _, _, err := p.Resolve(context.Background()); err != nil {
		t.Fatal(err)
	}
	if data, err := get(p, image.descriptor(), 5); err != nil || !bytes.Equal(data, image.blob[5:]) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t75\t75\t75\t75", "Gid:\t75\t75\t75\t75", "Groups:\t \n",
		"CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("/proc/PID/status lacks %q:\n%s", want, status)
		}
	}
}

// TestHostile: each case is one line for people with the right cause, in bounded time and memory.
func TestHostile(t *testing.T) {
	blob := func(f func(w http.ResponseWriter, r *http.Request)) fake {
		return fake{image.manifest, image.blob, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				f(w, r)
				return true
			}
			return false
		}}
	}
	every := func(f func(w http.ResponseWriter, r *http.Request)) fake {
		return fake{before: func(w http.ResponseWriter, r *http.Request) bool { f(w, r); return true }}
	}
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the device was led to an address without TLS")
	}))
	defer inside.Close()
	for name, c := range map[string]struct {
		server fake
		want   Cause
		text   string
		offset int64
	}{
		"endless manifest": {server: every(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", v1.MediaTypeImageManifest)
			for r.Method == http.MethodGet {
				if _, err := w.Write(image.blob); err != nil {
					return
				}
			}
		}), want: Broken, text: "larger than 8388608 bytes"},
		"manifest of 100 MB": {server: every(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Docker-Content-Digest", digest.FromString("x").String())
			w.Header().Set("Content-Length", "100000000")
		}), want: Denied, text: "rejecting 100000000 byte manifest"},
		"endless blob": {server: blob(func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(image.blob); err != nil {
					return
				}
			}
		}), want: Broken, text: "past expected size"},
		"short blob": {server: blob(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1048576")
			_, _ = w.Write(image.blob[:100])
			panic(http.ErrAbortHandler)
		}), want: Offline, text: "EOF"},
		"redirects in a loop": {server: every(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		}), want: Broken, text: "10 redirects"},
		"redirect out of TLS": {server: every(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
		}), want: Broken, text: "without TLS"},
		"token from without TLS": {server: every(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+inside.URL+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}), want: Broken, text: "without TLS"},
		"endless token": {server: every(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "token") {
				fmt.Fprint(w, `{"token":"`)
				for {
					if _, err := w.Write(image.blob); err != nil {
						return
					}
				}
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+r.Host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}), want: Broken, text: "larger than"},
		"no such image": {server: every(status(http.StatusNotFound)), want: Denied, text: "not found"},
		"login wanted":  {server: every(status(http.StatusUnauthorized)), want: Denied, text: "401"},
		"forbidden":     {server: every(status(http.StatusForbidden)), want: Denied, text: "403"},
		"too many":      {server: every(status(http.StatusTooManyRequests)), want: Offline, text: "429"},
		"out of order":  {server: every(status(http.StatusServiceUnavailable)), want: Offline, text: "503"},
		"no ranges": {server: blob(status(http.StatusRequestedRangeNotSatisfiable)), want: NoRange, text: "416",
			offset: 7},
		"blob is missing": {server: blob(status(http.StatusNotFound)), want: Denied, text: "not found"},
		"cut at once": {server: every(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			want: Offline, text: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			server, host, settings := serve(t, c.server)
			server.Config.ErrorLog = nil
			p := start(t, host+"/app:1", settings)
			_, _, err := p.Resolve(context.Background())
			if c.server.manifest != nil {
				if err != nil {
					t.Fatal(err)
				}
				_, err = get(p, image.descriptor(), c.offset)
			}
			var f Failure
			if !errors.As(err, &f) || f.Cause != c.want || !strings.Contains(f.Text, c.text) ||
				strings.Contains(f.Text, "\n") {
				t.Errorf("cause %q, %v; want %q, …%s…", f.Cause, err, c.want, c.text)
			}
		})
	}
}

// TestTrust: nobody is believed whom the settings, or the roots of the device, do not vouch for.
func TestTrust(t *testing.T) {
	server, host, settings := serve(t, image)
	plain := httptest.NewServer(image)
	defer plain.Close()
	plainHost := strings.TrimPrefix(plain.URL, "http://")
	said := t.TempDir()
	write(t, filepath.Join(said, plainHost, registries.HostsFile), "server = \""+plain.URL+"\"\n")
	mirrored := t.TempDir()
	write(t, filepath.Join(mirrored, "example.invalid", registries.HostsFile),
		"server = \"https://example.invalid\"\n[host.\""+
			server.URL+"\"]\nca = \""+filepath.Join(settings, host, "ca.pem")+"\"\n")
	careless := t.TempDir()
	write(t, filepath.Join(careless, host, registries.HostsFile), "server = \""+server.URL+"\"\nskip_verify = true\n")
	wrong := t.TempDir()
	write(t, filepath.Join(wrong, host, registries.HostsFile), "server = \""+server.URL+"\"\nmirror = \"x\"\n")
	for name, c := range map[string]struct {
		image, settings string
		want            Cause
	}{
		"a certificate of its own":          {host + "/app", t.TempDir(), Untrusted},
		"that the settings vouch for":       {host + "/app", settings, ""},
		"that the settings do not look at":  {host + "/app", careless, ""},
		"no TLS":                            {plainHost + "/app", t.TempDir(), Broken},
		"no TLS, as the settings say":       {plainHost + "/app", said, ""},
		"a mirror":                          {"example.invalid/app", mirrored, ""},
		"no such name":                      {"example.invalid/app", settings, Offline},
		"settings that are not understood":  {host + "/app", wrong, Settings},
		"a settings file behind the second": {host + "/app", said + " " + settings, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, c.image+":1", strings.Fields(c.settings)...)
			_, _, err := p.Resolve(context.Background())
			var f Failure
			if errors.As(err, &f); f.Cause != c.want || c.want == "" && err != nil {
				t.Errorf("cause %q, %v; want %q", f.Cause, err, c.want)
			}
		})
	}
}

// TestLogin: the registry gets the login, and nobody else sees it.
func TestLogin(t *testing.T) {
	asked := make(chan string, 100)
	judge := func(w http.ResponseWriter, r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		asked <- user + " " + password
		if password != "s3cret" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s is not the password"}]}`, password)
		}
		return password != "s3cret"
	}
	_, host, settings := serve(t, fake{image.manifest, image.blob, judge})
	login := func(text string) string {
		text = base64.StdEncoding.EncodeToString([]byte(text))
		return fmt.Sprintf(`{"auths":{"https://%s/v1/":{"auth":"%s"}}}`, host, text)
	}
	write(t, filepath.Join(settings, registries.LoginsFile), login("me:s3cret"))
	if _, _, err := start(t, host+"/app:1", settings).Resolve(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "me s3cret" {
		t.Errorf("the registry was told %q", got)
	}
	write(t, filepath.Join(settings, registries.LoginsFile), login("me:0ther"))
	_, _, err := start(t, host+"/app:1", settings).Resolve(context.Background())
	if err == nil || strings.Contains(err.Error(), "0ther") {
		t.Errorf("with a wrong password: %v", err)
	}
	write(t, filepath.Join(settings, registries.LoginsFile), `{"auths":{"x":{"auth":"no base64 with s3cret"}}}`)
	_, _, err = start(t, host+"/app:1", settings).Resolve(context.Background())
	var f Failure
	if !errors.As(err, &f) || f.Cause != Settings || strings.Contains(f.Text, "s3cret") ||
		!strings.Contains(f.Text, registries.LoginsFile) {
		t.Errorf("with a file that is wrong: %v", err)
	}
}

// TestEnd: a fetcher that is killed fails what was asked, and one whose asker is gone ends.
func TestEnd(t *testing.T) {
	wait := make(chan struct{})
	_, host, settings := serve(t, fake{image.manifest, image.blob, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.Header().Set("Content-Length", fmt.Sprint(len(image.blob)))
			_, _ = w.Write(image.blob[:1000])
			w.(http.Flusher).Flush()
			<-wait
		}
		return false
	}})
	t.Cleanup(func() { close(wait) })
	p := start(t, host+"/app:1", settings)
	r, err := p.Open(image.descriptor(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("a killed fetcher ended well")
	}
	if _, _, err := p.Resolve(context.Background()); err == nil {
		t.Error("a killed fetcher answers")
	}
	q := start(t, host+"/app:1", settings)
	if _, err := q.Open(image.descriptor(), 0); err != nil {
		t.Fatal(err)
	}
	_ = q.conn.Close()
	if err := q.cmd.Wait(); err != nil {
		t.Errorf("a fetcher whose asker is gone ended with %v", err)
	}
}
