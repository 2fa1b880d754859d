// Package selfsigned makes certificates that nobody but their own key has signed, for peers that know each other by the
// digest of their certificates. It writes the few fields itself: crypto/x509 would cost netd several times as much.
//
// It keeps nothing. Read first: New.
package selfsigned

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Identity is a certificate with its key, both DER: X.509 and PKCS #8.
type Identity struct {
	Certificate []byte
	Key         []byte
	Digest      [sha256.Size]byte // of the certificate
}

// The object identifiers (RFC 5480, 5758, 5280).
func ecPublicKey() asn1.ObjectIdentifier     { return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} }
func prime256v1() asn1.ObjectIdentifier      { return asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7} }
func ecdsaWithSHA256() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2} }
func commonName() asn1.ObjectIdentifier      { return asn1.ObjectIdentifier{2, 5, 4, 3} }
func keyUsage() asn1.ObjectIdentifier        { return asn1.ObjectIdentifier{2, 5, 29, 15} }
func extendedUsage() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{2, 5, 29, 37} }
func serverAuth() asn1.ObjectIdentifier      { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1} }
func clientAuth() asn1.ObjectIdentifier      { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2} }

// New returns a certificate for name, of at most 64 bytes, for a server or for a client, with a new key of the curve
// P-256. It is valid from 2000 on and never ends (RFC 5280, 4.1.2.5): the clock of a device may be wrong.
func New(name string, server bool) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make key: %w", err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return Identity{}, fmt.Errorf("make key: %w", err)
	}
	private, err := key.Bytes()
	if err != nil {
		return Identity{}, fmt.Errorf("make key: %w", err)
	}
	serial := make([]byte, 15)
	rand.Read(serial) // never fails since Go 1.24
	tbs, err := body(name, server, public, serial)
	if err != nil {
		return Identity{}, err
	}
	sum := sha256.Sum256(tbs)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return Identity{}, fmt.Errorf("sign certificate: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		algorithm(b)
		b.AddASN1BitString(signature)
	})
	var id Identity
	if id.Certificate, err = b.Bytes(); err != nil {
		return Identity{}, err
	}
	id.Digest = sha256.Sum256(id.Certificate)
	id.Key, err = pkcs8(private, public)
	return id, err
}

func algorithm(b *cryptobyte.Builder) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(ecdsaWithSHA256()) })
}

// curve writes for what a key is.
func curve(b *cryptobyte.Builder) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(ecPublicKey())
		b.AddASN1ObjectIdentifier(prime256v1())
	})
}

// body returns what is signed (TBSCertificate).
func body(name string, server bool, public, serial []byte) ([]byte, error) {
	called := func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(commonName())
					b.AddASN1(tags.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
				})
			})
		})
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tags.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1(tags.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(append([]byte{1}, serial...)) })
		algorithm(b)
		called(b)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.UTCTime, func(b *cryptobyte.Builder) { b.AddBytes([]byte("000101000000Z")) })
			b.AddASN1(tags.GeneralizedTime, func(b *cryptobyte.Builder) { b.AddBytes([]byte("99991231235959Z")) })
		})
		called(b)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			curve(b)
			b.AddASN1BitString(public)
		})
		b.AddASN1(tags.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { usages(b, server) })
		})
	})
	return b.Bytes()
}

// usages writes what the key may be used for: openvpn asks for it by remote-cert-tls.
func usages(b *cryptobyte.Builder, server bool) {
	extension := func(id asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddASN1(tags.OCTET_STRING, value)
		})
	}
	extension(keyUsage(), func(b *cryptobyte.Builder) { b.AddBytes([]byte{3, 2, 7, 0x80}) }) // digitalSignature
	extension(extendedUsage(), func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			if server {
				b.AddASN1ObjectIdentifier(serverAuth())
			} else {
				b.AddASN1ObjectIdentifier(clientAuth())
			}
		})
	})
}

// pkcs8 returns a private key (RFC 5208, 5915).
func pkcs8(private, public []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		curve(b)
		b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1OctetString(private)
				b.AddASN1(tags.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1BitString(public)
				})
			})
		})
	})
	return b.Bytes()
}
