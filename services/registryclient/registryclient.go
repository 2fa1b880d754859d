// Package registryclient speaks with OCI registries over HTTP: it handles logins, tokens, TLS and redirects. The
// updater and the builder of bundles use it; pulls of container images use containerd's client, which is larger than
// the updater may be. It owns the rules of trust: nothing goes without TLS unless the owner's settings say so, and a
// login goes only to its registry and to the server that the registry names for tokens, never with a redirect. It
// judges no content: the reader compares digests. Read Open first.
package registryclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"resinos/services/reference"
	"resinos/services/registries"
	"resinos/services/rootca"
)

// Bounds on what a registry can make us do.
const (
	maxAnswer  = 4 << 20 // of every answer that is not a blob
	maxHeader  = 64 << 10
	headerTime = 30 * time.Second // how long it may think about a request
	askTime    = 2 * time.Minute  // for a whole small answer
)

// ErrPlain is the fault of an address that may not be used.
var ErrPlain = errors.New("the address has no TLS: if it may be used, say server = \"http://HOST\" in hosts.toml")

// Host is one server that has the repository: a mirror, or the registry.
type Host struct {
	registries.Host
	repository string
	http       *http.Client
}

// Open returns the hosts that have what a reference names, in the order in which they should be asked: mirrors, then
// the registry. dirs are the directories of the owner's settings.
func Open(r reference.Reference, dirs []string) ([]Host, error) {
	settings, err := registries.Find(dirs, r.Host)
	if err != nil {
		return nil, err
	}
	logins, err := registries.ReadLogins(dirs, nil)
	if err != nil {
		return nil, err
	}
	all := settings.Hosts
	if !settings.Server {
		all = append(all, registries.Host{URL: &url.URL{Scheme: "https", Host: r.Host, Path: "/v2"}, Pull: true,
			Resolve: true})
	}
	hosts := make([]Host, 0, len(all))
	for i, one := range all {
		login, found := logins[one.URL.Host]
		if !found && i == len(all)-1 {
			login = logins[r.Host] // the registry itself, under the address that it is spoken to at
		}
		if one.Unsupported != "" {
			return nil, fmt.Errorf("read settings in %s: updates do not support the key %s", settings.Dir,
				one.Unsupported)
		}
		client, err := newClient(one, settings.Plain, login)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, Host{one, r.Repository, client})
	}
	return hosts, nil
}

// newClient returns a client that speaks as the settings want it.
func newClient(h registries.Host, plain map[string]bool, l registries.Login) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes, t.MaxConnsPerHost, t.DisableCompression = maxHeader, 2, true
	t.ResponseHeaderTimeout = headerTime
	roots := Roots(rootca.Bundle)
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: h.SkipVerify, RootCAs: roots}
	if len(h.CA) > 0 {
		if roots == nil {
			var err error
			if roots, err = x509.SystemCertPool(); err != nil {
				roots = x509.NewCertPool()
			}
		}
		for _, file := range h.CA {
			text, err := os.ReadFile(file)
			if err == nil && !roots.AppendCertsFromPEM(text) {
				err = errors.New("it has no certificate")
			}
			if err != nil {
				return nil, registries.Fault{File: file, Err: err}
			}
		}
		t.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{
		Transport: &session{base: t, host: h, plain: plain, login: l},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return errors.New("more than ten redirects")
			}
			return nil // the session judges the address
		},
	}, nil
}

// Roots returns the authorities of a bundle, which holds those of the system and the owner's; nil without the bundle,
// which stands for those of the system. A process reads those of the system only once, and the owner may add some at
// any time.
func Roots(bundle string) *x509.CertPool {
	text, err := os.ReadFile(bundle)
	if err != nil {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil
	}
	return roots
}

// Client is for requests for blobs; what it reads is not bounded.
func (h Host) Client() *http.Client { return h.http }

// Blob is the address of a blob.
func (h Host) Blob(digest string) string { return h.at("blobs", digest) }

func (h Host) at(parts ...string) string {
	return h.URL.String() + "/" + h.repository + "/" + strings.Join(parts, "/")
}

// Manifest returns a manifest by its tag or digest, and nothing that is not a manifest for one thing.
func (h Host) Manifest(ctx context.Context, name, mediaType string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.at("manifests", name), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", mediaType)
	text, _, err := h.ask(r, http.StatusOK)
	return text, err
}

// ask sends a request whose answer is small.
func (h Host) ask(r *http.Request, want int) ([]byte, http.Header, error) {
	resp, err := h.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() // only read
	text, err := readBounded(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = statusError(resp, text)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Redacted(), err)
	}
	return text, resp.Header, nil
}

func readBounded(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return text, err
}
