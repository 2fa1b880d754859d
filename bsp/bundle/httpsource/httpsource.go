// Package httpsource reads a bundle from a web server by requests for ranges.
//
// It handles the faults of servers: one that knows no ranges, or sends another range, another file, too much, too
// little or nothing. It never looks into the bundle, and keeps nothing on disk. It is a separate package because it
// links net/http. Read first: Open.
package httpsource

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MediaType is that of a bundle in a registry, of the artifact and of its only layer: the bundle file, so that a device
// reads it by ranges like from any web server.
const MediaType = "application/vnd.resinos.bundle.v1"

// Options say how patient a Source is. The zero value is for use on a device.
type Options struct {
	Client *http.Client   // nil: one of its own
	Roots  *x509.CertPool // the authorities that its own client believes; nil: those of the process
	Stall  time.Duration  // a request that brings less than 4 KiB in this time is given up; 0: 30 s
	Tries  int            // of one range, each of which continues where the last one was cut; 0: 5
	Pause  time.Duration  // before the second try; it doubles from then on; 0: 1 s
}

// progressStep is how many bytes count as progress.
const progressStep = 4 << 10

// Source is a file on a web server. It implements bundle.Source. It is for one goroutine at a time.
type Source struct {
	ctx    context.Context
	url    string
	o      Options
	size   int64
	tag    string // what names this version of the file: a strong ETag, or the time of its last change
	strong bool   // tag is an ETag
}

// Faults of a server, on which a caller may branch.
var (
	ErrNoRanges = errors.New("the server does not send parts of a file; " +
		"copy the bundle onto the device and install it from there")
	ErrChanged = errors.New("the file on the server was replaced meanwhile; start the update again")
	errStalled = errors.New("the server stopped sending")
)

// Open asks for the first byte of a file, and so learns its size and version. ctx bounds all later reads too.
func Open(ctx context.Context, url string, o Options) (*Source, error) {
	o.Stall, o.Tries, o.Pause = cmp.Or(o.Stall, 30*time.Second), cmp.Or(o.Tries, 5), cmp.Or(o.Pause, time.Second)
	if o.Client == nil {
		o.Client = client(o.Roots)
	}
	s := &Source{ctx: ctx, url: url, o: o, size: -1}
	if err := s.read(make([]byte, 1), 0); err != nil {
		return nil, err
	}
	return s, nil
}

// client returns a client that keeps one connection, bounds headers and never leaves TLS.
func client(roots *x509.CertPool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.MaxResponseHeaderBytes, t.MaxConnsPerHost, t.DisableCompression = 64<<10, 2, true
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than ten redirects")
		}
		if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return fmt.Errorf("redirect from https to %s", r.URL.Scheme)
		}
		return nil
	}}
}

// Size returns the size of the file.
func (s *Source) Size() int64 { return s.size }

// ReadAt reads a range of the file.
func (s *Source) ReadAt(p []byte, at int64) (int, error) {
	n := int(max(0, min(int64(len(p)), s.size-at)))
	if n > 0 {
		if err := s.read(p[:n], at); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read fills p, in as many tries as allowed.
func (s *Source) read(p []byte, at int64) error {
	pause := s.o.Pause
	for try := 1; ; try++ {
		n, err := s.try(p, at)
		p, at = p[n:], at+int64(n)
		if len(p) == 0 {
			return nil
		}
		var passing *passing
		if !errors.As(err, &passing) || try >= s.o.Tries || s.ctx.Err() != nil {
			return fmt.Errorf("fetch %s: %w", s.url, err)
		}
		if n > 0 {
			try, pause = 0, s.o.Pause // it is slow, not gone
		}
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// passing is a fault that another try may not meet.
type passing struct{ error }

func (p *passing) Unwrap() error { return p.error }

// try sends one request and returns how many bytes it has read.
func (s *Source) try(p []byte, at int64) (int, error) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	patience := time.AfterFunc(s.o.Stall, func() { cancel(errStalled) })
	defer patience.Stop()
	fault := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &passing{err}
	}
	r, err := s.request(ctx, at, len(p))
	if err != nil {
		return 0, err
	}
	resp, err := s.o.Client.Do(r)
	if err != nil {
		return 0, fault(err)
	}
	defer resp.Body.Close() // nothing was sent
	if err := s.judge(resp, at, int64(len(p))); err != nil {
		return 0, err
	}
	for n, since := 0, 0; ; {
		m, err := resp.Body.Read(p[n:])
		n, since = n+m, since+m
		switch {
		case n == len(p):
			return n, nil // whatever else it sends is not read
		case err != nil:
			return n, fault(fmt.Errorf("it sent %d of %d bytes: %w", n, len(p), err))
		case since >= progressStep:
			patience.Reset(s.o.Stall)
			since = 0
		}
	}
}

func (s *Source) request(ctx context.Context, at int64, n int) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, at+int64(n)-1))
	r.Header.Set("Accept-Encoding", "identity")
	if s.tag != "" {
		r.Header.Set("If-Range", s.tag)
	}
	return r, nil
}

// judge checks the head of an answer: only the range that was asked for, of the file that was opened, is good.
func (s *Source) judge(r *http.Response, at, n int64) error {
	switch {
	case r.StatusCode == http.StatusPartialContent:
	case r.StatusCode == http.StatusOK && s.size >= 0:
		return fmt.Errorf("it sent the whole file: %w", ErrChanged) // If-Range did not match
	case r.StatusCode == http.StatusOK:
		return ErrNoRanges
	case r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500:
		return &passing{fmt.Errorf("the server answers %s", r.Status)}
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && s.size >= 0:
		return fmt.Errorf("the server answers %s: %w", r.Status, ErrChanged)
	default:
		return fmt.Errorf("the server answers %s", r.Status)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("the server compresses it (%s), although it was asked not to", e)
	}
	from, to, size, err := contentRange(r.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return err
	case from != at || to != at+n-1:
		return fmt.Errorf("it was asked for bytes %d to %d and sends %d to %d", at, at+n-1, from, to)
	case r.ContentLength >= 0 && r.ContentLength != n:
		return fmt.Errorf("it announces %d bytes for a range of %d", r.ContentLength, n)
	}
	return s.same(r.Header, size)
}

// same checks that an answer is of the file that was opened; the first answer opens it.
func (s *Source) same(h http.Header, size int64) error {
	tag, strong := h.Get("ETag"), true
	if tag == "" || strings.HasPrefix(tag, "W/") { // a weak one is not allowed in If-Range
		tag, strong = h.Get("Last-Modified"), false
	}
	if s.size < 0 {
		s.size, s.tag, s.strong = size, tag, strong
		return nil
	}
	if size != s.size || s.strong == strong && tag != s.tag {
		return ErrChanged
	}
	return nil
}

// contentRange parses "bytes FROM-TO/SIZE".
func contentRange(text string) (from, to, size int64, err error) {
	fault := fmt.Errorf("the server sends the range %q: want bytes FROM-TO/SIZE", text)
	span, found := strings.CutPrefix(text, "bytes ")
	span, total, found2 := strings.Cut(span, "/")
	first, last, found3 := strings.Cut(span, "-")
	if !found || !found2 || !found3 {
		return 0, 0, 0, fault
	}
	numbers := [3]int64{}
	for i, digits := range []string{first, last, total} {
		n, err := strconv.ParseUint(digits, 10, 62)
		if err != nil {
			return 0, 0, 0, fault
		}
		numbers[i] = int64(n)
	}
	from, to, size = numbers[0], numbers[1], numbers[2]
	if from > to || to >= size {
		return 0, 0, 0, fault
	}
	return from, to, size, nil
}
