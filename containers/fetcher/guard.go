package fetcher

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"resinos/services/registries"
)

// maxAnswer bounds every answer that is not a blob: manifests, tokens, faults. Docker's registry takes manifests of 4
// MB.
const maxAnswer = 8 << 20

var (
	errStalled = fmt.Errorf("the registry sent less than %d bytes in %v", stallBytes, stall)
	errEndless = fmt.Errorf("an answer is larger than %d bytes", maxAnswer)
	errPlain   = errors.New("the registry leads to an address without TLS: if it may, " +
		"say server = \"http://HOST\" in hosts.toml")
)

// headerTime is how long a registry may think about a request.
const headerTime = 30 * time.Second

// guard is the way of every request, of redirects and of those for tokens too.
type guard struct {
	base  http.RoundTripper
	trust registries.Settings
}

// putGuard puts the guard before a client's transport, and takes from the transport what the library would trust by
// itself: any certificate of the device's own addresses.
func putGuard(c *http.Client, s registries.Settings) error {
	if _, ok := c.Transport.(guard); ok {
		return nil // a copy of a client that has it
	}
	t, ok := c.Transport.(*http.Transport)
	if !ok {
		return fmt.Errorf("guard requests: the transport is a %T", c.Transport)
	}
	t.TLSClientConfig.InsecureSkipVerify = t.TLSClientConfig.InsecureSkipVerify && s.Unknown
	t.ResponseHeaderTimeout = headerTime
	c.Transport = guard{t, s}
	return nil
}

// RoundTrip sends one request.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.trust.Plain[r.URL.Host] {
		return nil, errPlain
	}
	resp, err := g.base.RoundTrip(r)
	if err == nil && !ofBlob(r) {
		resp.Body = &bounded{resp.Body, maxAnswer}
	}
	return resp, err
}

// ofBlob is true for a request for a blob and for those that it was led to; whoever reads blobs knows their size.
func ofBlob(r *http.Request) bool {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// bounded ends an answer that does not end.
type bounded struct {
	io.ReadCloser
	left int
}

// Read fails when more comes than may.
func (b *bounded) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	if b.left -= n; b.left < 0 {
		return 0, errEndless
	}
	return n, err
}
