// Package trust owns the keys that a device believes: the trust file, and whether enough of its keys have signed a
// note.
//
// It never sees a private key. Read first: Keys, then Keys.Verify.
package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"resinos/bsp/tables"
)

// File is the file of the keys directory that Load reads.
const File = "trust.toml"

// Directory is where a device has its trust file, in the read-only root.
const Directory = "/usr/share/resinos/keys"

// Keys are the public keys that a device believes, in the form of golang.org/x/mod/sumdb/note.
type Keys struct {
	Threshold int      `toml:"threshold"` // how many of them have to sign a bundle
	Public    []string `toml:"keys"`      // NAME+HASH+KEY
	Revoked   []string `toml:"revoked"`   // NAME+HASH, or whole keys: their signatures never count
}

// Load reads the trust file of a directory.
func Load(dir string) (Keys, error) {
	name := filepath.Join(dir, File)
	text, err := os.ReadFile(name)
	if err != nil {
		return Keys{}, fmt.Errorf("read the trusted keys: %w", err)
	}
	return Parse(name, text)
}

// Parse reads a trust file; name is for messages. A file without keys is valid: it trusts nobody.
func Parse(name string, text []byte) (Keys, error) {
	var k Keys
	t := tables.Decode(name, text, &k)
	if err := t.Err(); err != nil {
		return Keys{}, err
	}
	if err := k.check(); err != nil {
		return Keys{}, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

// Encode returns the text of a trust file; Parse reads it.
func (k Keys) Encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# The keys that updates have to be signed with. See: resin keys --help\n")
	fmt.Fprintf(&b, "threshold = %d # so many of the keys have to sign a bundle\n", k.Threshold)
	for _, list := range []struct {
		name   string
		values []string
	}{{"keys", k.Public}, {"revoked", k.Revoked}} {
		fmt.Fprintf(&b, "%s = [\n", list.name)
		for _, v := range list.values {
			fmt.Fprintf(&b, "  %q,\n", v)
		}
		b.WriteString("]\n")
	}
	return []byte(b.String())
}

// Usable lists the keys that are not revoked.
func (k Keys) Usable() []string {
	return slices.DeleteFunc(slices.Clone(k.Public), func(key string) bool { return k.revoked(KeyID(key)) })
}

func (k Keys) check() error {
	var faults []error
	material := make(map[string]string) // the key itself -> its name
	for _, key := range k.Public {
		if _, err := note.NewVerifier(key); err != nil {
			faults = append(faults, fmt.Errorf("key %q: %w; want a line that resin keys shows", key, err))
			continue
		}
		id, bytes := KeyID(key), key[strings.LastIndex(key, "+")+1:]
		if other, found := material[bytes]; found {
			faults = append(faults, fmt.Errorf("keys %s and %s are the same key, which would count twice", other, id))
		}
		material[bytes] = id
	}
	for _, key := range k.Revoked {
		if strings.Count(key, "+") < 1 {
			faults = append(faults, fmt.Errorf("revoked key %q: want NAME+HASH", key))
		}
	}
	if len(k.Public) > 0 && (k.Threshold < 1 || k.Threshold > len(k.Usable())) {
		faults = append(faults, fmt.Errorf("threshold %d: want 1 to %d, the number of keys that are not revoked",
			k.Threshold, len(k.Usable())))
	}
	return errors.Join(faults...)
}

// KeyID returns NAME+HASH of a public key NAME+HASH+KEY.
func KeyID(key string) string {
	name, rest, _ := strings.Cut(key, "+")
	hash, _, _ := strings.Cut(rest, "+")
	return name + "+" + hash
}

func (k Keys) revoked(id string) bool {
	return slices.ContainsFunc(k.Revoked, func(r string) bool { return KeyID(r) == id })
}

// Faults of signatures, on which a caller may branch.
var (
	ErrNoKeys = errors.New("this device trusts no key, so it refuses every update; " +
		"build its image with: resin build --keys DIRECTORY")
	ErrSignature = errors.New("the signatures of the bundle are not enough")
)

// Verify returns the text of a signed note if enough of the keys have signed it.
func (k Keys) Verify(signed []byte) ([]byte, error) {
	usable := k.Usable()
	if len(usable) == 0 {
		return nil, ErrNoKeys
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	var known []note.Verifier
	for _, key := range usable {
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, err // check has found it
		}
		known = append(known, v)
	}
	n, err := note.Open(signed, note.VerifierList(known...))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		n = unverified.Note
	case errors.As(err, &invalid):
		return nil, fmt.Errorf("%w: that of key %s+%08x is wrong, the manifest or the signature was changed",
			ErrSignature, invalid.Name, invalid.Hash)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if len(n.Sigs) < k.Threshold {
		return nil, fmt.Errorf("%w: %d of %d needed%s", ErrSignature, len(n.Sigs), k.Threshold, k.others(n))
	}
	return []byte(n.Text), nil
}

// others lists the signatures that do not count, for messages.
func (k Keys) others(n *note.Note) string {
	var all []string
	for _, s := range n.UnverifiedSigs {
		id := fmt.Sprintf("%s+%08x", s.Name, s.Hash)
		if why := "not trusted"; len(all) < 8 {
			if k.revoked(id) {
				why = "revoked"
			}
			all = append(all, id+" is "+why)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "; " + strings.Join(all, ", ")
}
