// Package selfsigned creates certificates that are signed by their own key only, for peers that know each other by the
// digest of their certificates. It links crypto/x509, which netd must not link; the packed tools link it anyway.
//
// It keeps nothing. Read first: New.
package selfsigned

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

// New returns a certificate for name, of at most 64 bytes, for a server or for a client, with a new key of the curve
// P-256, both DER: X.509 and PKCS #8. The certificate is valid from 2000 on and never ends (RFC 5280, 4.1.2.5): the
// clock of a device may be wrong. Its usages are those that openvpn asks for by remote-cert-tls.
func New(name string, server bool) (certificate, key []byte, err error) {
	usage := x509.ExtKeyUsageClientAuth
	if server {
		usage = x509.ExtKeyUsageServerAuth
	}
	template := &x509.Certificate{ // without a serial number, CreateCertificate chooses one
		Subject:     pkix.Name{CommonName: name},
		NotBefore:   time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:    time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	if certificate, err = x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair); err != nil {
		return nil, nil, fmt.Errorf("make certificate: %w", err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(pair); err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	return certificate, key, nil
}
