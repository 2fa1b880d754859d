package rootca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes a certificate authority.
func authority(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestParse(t *testing.T) {
	one, two := authority(t, "one"), authority(t, "two")
	encoded := base64.StdEncoding.EncodeToString(append(bytes.Clone(one), two...))
	for name, value := range map[string]string{
		"base64": encoded, "in lines": encoded[:76] + "\n" + encoded[76:] + "\n", "plain": string(one) + string(two),
		"words": base64.StdEncoding.EncodeToString([]byte("# mine\n" + string(one) + "and\n" + string(two))),
	} {
		got, err := Parse(value)
		if err != nil || string(got) != string(one)+string(two) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := Parse(" "); got != nil || err != nil {
		t.Errorf("an empty value gives %q, %v", got, err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")})
	damaged := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x82, 0xff, 0xff, 1}})
	for value, want := range map[string]string{
		"%%%":                       "no base64",
		"aGVsbG8=":                  "no certificate",
		string(key):                 "EC PRIVATE KEY",
		string(damaged):             "damaged",
		strings.Repeat("A", most+1): "longer",
	} {
		if got, err := Parse(value); err == nil || !strings.Contains(err.Error(), want) || got != nil {
			t.Errorf("Parse(%.20q) = %q, %v, want %q", value, got, err, want)
		}
	}
}

// TestApply: what a Go program believes after each change. SSL_CERT_DIR is read as /etc/ssl/certs is.
func TestApply(t *testing.T) {
	root := t.TempDir()
	image := authority(t, "image")
	certs := filepath.Join(root, filepath.Dir(System))
	if err := os.MkdirAll(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, System), bytes.TrimSpace(image), 0o644); err != nil {
		t.Fatal(err)
	}
	subjects := func(file string) string {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return ""
		}
		var names []string
		for {
			block, rest := pem.Decode(text)
			if block == nil {
				return strings.Join(names, " ")
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			names, text = append(names, c.Subject.CommonName), rest
		}
	}
	for _, step := range []struct{ ca, own, bundle string }{
		{"first", "first", "image first"}, {"second", "second", "image second"}, {"", "", ""}, {"", "", ""},
	} {
		var text []byte
		if step.ca != "" {
			text = authority(t, step.ca)
		}
		for range 2 { // it may run twice
			if err := Apply(root, text); err != nil {
				t.Fatal(err)
			}
		}
		if own, bundle := subjects(Own), subjects(Bundle); own != step.own || bundle != step.bundle {
			t.Errorf("with %q: %q and %q, want %q and %q", step.ca, own, bundle, step.own, step.bundle)
		}
	}
	// A power cut, or a full disk, between the two files.
	text := authority(t, "third")
	if err := Apply(root, text); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, Bundle)); err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, text); err != nil || subjects(Bundle) != "image third" {
		t.Errorf("a bundle that is missing is %q, %v", subjects(Bundle), err)
	}
}

// FuzzParse: what is accepted is nothing but certificates, and is accepted again unchanged.
func FuzzParse(f *testing.F) {
	one := string(authority(f, "one"))
	f.Add(one)
	f.Add(base64.StdEncoding.EncodeToString([]byte(one)))
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n# x\n")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := Parse(value)
		if err != nil || got == nil {
			return
		}
		if again, err := Parse(string(got)); err != nil || !bytes.Equal(again, got) {
			t.Errorf("Parse(%q) = %q, and of that %q, %v", value, got, again, err)
		}
		for line := range strings.Lines(string(got)) {
			if strings.Trim(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n- ") != "" {
				t.Errorf("Parse(%q) has the line %q", value, line)
			}
		}
	})
}
