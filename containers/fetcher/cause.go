package fetcher

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remote "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"resinos/services/registries"
)

// causeOf tells what has to change before asking again has a point.
func causeOf(err error) Cause {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var verify *tls.CertificateVerificationError
	var settings registries.Fault
	var operation *net.OpError
	var lookup *net.DNSError
	var network net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &settings):
		return Settings
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired: // or not valid yet
		return Clock
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &verify):
		return Untrusted
	case errors.Is(err, errPlain), errors.Is(err, errEndless):
		return Broken
	case errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Offline
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return Denied
	}
	if cause := causeOfStatus(err); cause != "" {
		return cause
	}
	switch {
	case errdefs.IsNotFound(err):
		return Denied
	case errors.As(err, &operation), errors.As(err, &lookup), errors.As(err, &network) && network.Timeout():
		return Offline
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return Offline
	}
	return Broken
}

// causeOfStatus is that of an answer of the registry, if it is one.
func causeOfStatus(err error) Cause {
	var status remote.ErrUnexpectedStatus
	if !errors.As(err, &status) {
		return ""
	}
	switch code := status.StatusCode; {
	case code == http.StatusRequestedRangeNotSatisfiable:
		return NoRange
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return Offline
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound:
		return Denied
	}
	return Broken
}

// maxText bounds what a registry can have the device say.
const maxText = 400

// text is an error on one line, without anything that must not be seen.
func (s *session) text(err error) string {
	if err == nil {
		return ""
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if errors.Is(err, io.ErrUnexpectedEOF) {
		text = "the connection to the registry was cut: " + text
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		text += ": if it may speak without TLS, say server = \"http://HOST\" in hosts.toml"
	}
	for _, secret := range s.registry.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
