package reach

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"resinos/services/hostname"
)

// Target is what a probe asks for, from os.network.connectivity.* of config.json.
type Target struct {
	Off      bool   // nothing is asked, not even a gateway
	Host     string // name or address; empty: only gateways are asked
	Port     uint16
	Path     string // begins with "/", printable ASCII without spaces
	Response string // what the body begins with; empty: status 204 is expected
	Interval time.Duration
	secure   bool // the URL was https: the redirect to it is the expected answer
}

// Limits and defaults of the owner's keys.
const (
	minInterval     = time.Second
	maxInterval     = 30 * 24 * time.Hour
	defaultInterval = time.Hour
	maxURL          = 1024
	maxResponse     = 1024
	defaultPath     = "/connectivity-check"
)

// ParseTarget reads the owner's keys. uri is the URL to ask, or "null" for no probes at all; without one, the check of
// the cloud at endpoint is asked, and without an endpoint only the gateways are. seconds is the time between two
// questions, 0 the default. With an error, the target is one that asks only gateways.
func ParseTarget(uri, endpoint, response string, seconds int64) (Target, error) {
	t := Target{Interval: defaultInterval, Response: response}
	if seconds > 0 {
		seconds = min(seconds, int64(maxInterval/time.Second))
		t.Interval = max(time.Duration(seconds)*time.Second, minInterval)
	}
	if uri == "null" {
		t.Off = true
		return t, nil
	}
	if uri == "" && endpoint != "" {
		uri = strings.TrimRight(endpoint, "/") + defaultPath
	}
	if uri == "" {
		return t, nil
	}
	plain := t
	if err := t.url(uri); err != nil {
		return plain, err
	}
	if len(response) > maxResponse {
		return plain, errors.New("the expected answer is longer than 1024 bytes")
	}
	return t, nil
}

// url reads http://HOST[:PORT][/PATH]. Of an https URL, plain HTTP is asked: a portal answers it, and the server itself
// redirects to the URL.
func (t *Target) url(uri string) error {
	if len(uri) > maxURL {
		return errors.New("the URL is longer than 1024 bytes")
	}
	for _, c := range []byte(uri) {
		if c <= ' ' || c >= 0x7f {
			return errors.New("the URL has characters other than printable ASCII")
		}
	}
	scheme, rest, found := strings.Cut(uri, "://")
	scheme = strings.ToLower(scheme)
	if !found || scheme != "http" && scheme != "https" {
		return errors.New("the URL does not begin with http://")
	}
	rest, _, _ = strings.Cut(rest, "#")
	host, path := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	t.secure, t.Path, t.Port = scheme == "https", path, 80
	if strings.Contains(host, "@") {
		return errors.New("the URL has a user: it would be sent to strangers")
	}
	name, port, err := net.SplitHostPort(host)
	switch {
	case err != nil:
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	case t.secure: // its port speaks TLS
	default:
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return errors.New("the URL has no usable port")
		}
		t.Port = uint16(n)
	}
	addr, err := netip.ParseAddr(name)
	if err == nil && addr.Zone() != "" || err != nil && !hostname.ValidServer(name) {
		return errors.New("the URL has no usable host")
	}
	t.Host = strings.ToLower(name)
	return nil
}

// authority is the host in a request, with the port if it is not 80.
func (t Target) authority() string {
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if t.Port != 80 {
		host += ":" + strconv.Itoa(int(t.Port))
	}
	return host
}

// request is the whole question. HTTP/1.0 keeps the server from sending its answer in pieces and from waiting for more.
func (t Target) request() string {
	return "GET " + t.Path + " HTTP/1.0\r\nHost: " + t.authority() +
		"\r\nUser-Agent: resinOS\r\nAccept: */*\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n"
}
