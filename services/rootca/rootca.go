// Package rootca owns the certificate authorities that an owner adds to those of the system: balenaRootCA of
// config.json.
//
// It never judges whether a certificate is trustworthy or still valid: the programs that read the files do. Read Parse
// first.
package rootca

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"resinos/mounts/atomicfile"
)

// Where the files are, and what they are made of.
const (
	System = "/etc/ssl/certs/ca-certificates.crt" // of the image
	// Own holds the owner's alone. The link /etc/ssl/certs/owner.crt of the image points to it: our programs, which are
	// all written in Go, read every file of that directory.
	Own = "/run/resinos/ca/owner.crt"
	// Bundle holds those of the system and the owner's: for containers with the label root-ca, and programs that read
	// one file.
	Bundle = "/run/resinos/ca/ca-certificates.crt"
)

// most is far more than a few certificates.
const most = 64 << 10

// Parse reads the value of the key: PEM in base64, as the reference system has it, or PEM itself. It returns the
// certificates as PEM and nothing else that stood around them; nil for an empty value.
func Parse(value string) ([]byte, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return nil, nil
	}
	if len(value) > most {
		return nil, fmt.Errorf("longer than %d bytes", most)
	}
	text := []byte(value)
	if !strings.HasPrefix(value, "-----BEGIN") {
		var err error
		if text, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), "")); err != nil {
			return nil, errors.New("it is no base64; write: base64 -w0 ca.pem")
		}
	}
	var out bytes.Buffer
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it contains a %s, which does not belong here; only certificates do", block.Type)
		}
		if !isSequence(block.Bytes) {
			return nil, errors.New("a certificate in it is damaged")
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return nil, err
		}
		text = rest
	}
	if out.Len() == 0 {
		return nil, errors.New("it contains no certificate in the form PEM")
	}
	return out.Bytes(), nil
}

// isSequence reports whether der is one ASN.1 sequence (X.690 §8.1), as a certificate is. Whether it is a certificate
// that verifies anything, only the reader can tell; linking crypto/x509 here would make PID 1 larger by a megabyte.
func isSequence(der []byte) bool {
	if len(der) < 2 || der[0] != 0x30 {
		return false
	}
	length, head := int(der[1]), 2
	if der[1] >= 0x80 {
		n := int(der[1] & 0x7f)
		if n == 0 || n > 3 || len(der) < 2+n {
			return false
		}
		length = 0
		for _, b := range der[2 : 2+n] {
			length = length<<8 | int(b)
		}
		head += n
	}
	return len(der) == head+length
}

// Apply makes the files below root say what Parse returned: without certificates they are removed. It may run twice.
func Apply(root string, certificates []byte) error {
	own, bundle := filepath.Join(root, Own), filepath.Join(root, Bundle)
	if certificates == nil {
		err := os.RemoveAll(filepath.Dir(own))
		if err != nil {
			return fmt.Errorf("remove certificates of owner: %w", err)
		}
		return nil
	}
	if old, err := os.ReadFile(own); err == nil && bytes.Equal(old, certificates) {
		if _, err := os.Stat(bundle); err == nil {
			return nil
		}
	}
	system, err := os.ReadFile(filepath.Join(root, System))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("add certificates of owner: %w", err)
	}
	if len(system) > 0 && system[len(system)-1] != '\n' {
		system = append(system, '\n')
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		return fmt.Errorf("add certificates of owner: %w", err)
	}
	// The file that tells that all is done comes last.
	return errors.Join(atomicfile.Write(bundle, append(system, certificates...), 0o644),
		atomicfile.Write(own, certificates, 0o644))
}
