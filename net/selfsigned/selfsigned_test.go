package selfsigned

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"testing"
	"time"
)

// crypto/x509 reads what New makes, finds its signature right, its key that of the certificate, and its usage.
func TestNew(t *testing.T) {
	for _, server := range []bool{true, false} {
		certificate, private, err := New("my device", server)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(certificate)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
			t.Error(err)
		}
		key, err := x509.ParsePKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		if own, ok := key.(*ecdsa.PrivateKey); !ok || !own.PublicKey.Equal(c.PublicKey) {
			t.Errorf("the key %T is not that of the certificate", key)
		}
		usage := x509.ExtKeyUsageClientAuth
		if server {
			usage = x509.ExtKeyUsageServerAuth
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		for _, year := range []int{2001, 2999} {
			now := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
			options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
			if _, err := c.Verify(options); err != nil {
				t.Errorf("at %s: %v", now, err)
			}
		}
		if c.Subject.CommonName != "my device" || c.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("subject %s, usage %d", c.Subject, c.KeyUsage)
		}
		if again, _, err := New("my device", server); err != nil || bytes.Equal(again, certificate) {
			t.Errorf("the same certificate again, %v", err)
		}
	}
}
