// Package keyring owns directories of keys on the build host: private keys that sign bundles, and the trust file with
// the public keys that an image believes.
//
//	NAME.key     a private key, readable by its owner alone
//	trust.toml   the public keys, how many of them have to sign, and the revoked ones (bsp/bundle)
//
// It never prints a private key and never writes one anywhere else. What a command changes is computed first
// (Rotate, Revoke, ...), so that it can be shown instead. Read first: Ring.
package keyring

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"resinos/bsp/bundle/trust"
)

const privateSuffix = ".key"

// Ring is a directory of keys as it was read.
type Ring struct {
	Dir    string
	Trust  trust.Keys
	DryRun bool // Create writes nothing
}

// Open reads a directory of keys. One that does not exist or has no trust file trusts nobody.
func Open(dir string) (Ring, error) {
	keys, err := trust.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return Ring{Dir: dir, Trust: keys}, err
}

// Create creates a private key and returns the ring that trusts it too. Only the private key is written; see Save.
func (r Ring) Create(name string) (Ring, error) {
	if err := checkName(name); err != nil {
		return r, err
	}
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return r, err
	}
	next, err := r.Add(public)
	if err != nil || r.DryRun {
		return next, err
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return r, err
	}
	if err := writeNew(r.private(name), private); err != nil {
		return r, fmt.Errorf("create key %s: %w", name, err)
	}
	return next, nil
}

// Rotate creates a key that will replace another one, which is trusted until Revoke.
func (r Ring) Rotate(old, name string) (Ring, error) {
	if _, err := r.find(old); err != nil {
		return r, err
	}
	return r.Create(name)
}

// find returns NAME+HASH of a trusted key, by that or by its name.
func (r Ring) find(name string) (string, error) {
	for _, public := range r.Trust.Usable() {
		if id := trust.KeyID(public); id == name || strings.HasPrefix(id, name+"+") {
			return id, nil
		}
	}
	return "", fmt.Errorf("find key %s: %s trusts no such key; see: resin keys show %s", name, r.Dir, r.Dir)
}

// nameRule is what a key may be called: its name is a file name, and a word in a signature.
const nameRule = `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`

func checkName(name string) error {
	if !regexp.MustCompile(nameRule).MatchString(name) {
		return fmt.Errorf("key name %q: want letters, digits, dots and hyphens", name)
	}
	return nil
}

// writeNew creates a file for its owner alone, whole or not at all, and never replaces one.
func writeNew(name, text string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".key-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // its content has another name then, or is worth nothing
	_, err = f.WriteString(text + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), name) // fails if there is one
}

func (r Ring) private(name string) string { return filepath.Join(r.Dir, name+privateSuffix) }

// Add returns the ring that trusts a public key too.
func (r Ring) Add(public string) (Ring, error) {
	if slices.Contains(r.Trust.Public, public) {
		return r, fmt.Errorf("trust key %s: it is trusted already", trust.KeyID(public))
	}
	r.Trust.Public = append(slices.Clone(r.Trust.Public), public)
	r.Trust.Threshold = max(1, r.Trust.Threshold)
	return r, r.check()
}

// Require returns the ring that wants the signatures of this many keys.
func (r Ring) Require(threshold int) (Ring, error) {
	r.Trust.Threshold = threshold
	return r, r.check()
}

// Revoke returns the ring in which the key of a name does not count any more. It stays listed, so that a device can say
// why it refuses a signature.
func (r Ring) Revoke(name string) (Ring, error) {
	id, err := r.find(name)
	if err != nil {
		return r, err
	}
	r.Trust.Revoked = append(slices.Clone(r.Trust.Revoked), id)
	return r, r.check()
}

// check judges a ring like the device that gets its trust file.
func (r Ring) check() error {
	_, err := trust.Parse(filepath.Join(r.Dir, trust.File), r.Trust.Encode())
	return err
}

// Save writes the trust file, whole or not at all.
func (r Ring) Save() error {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(r.Dir, ".trust-") // a name of its own: two builds may save at the same time
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it has another name then, or is worth nothing
	_, err = f.Write(r.Trust.Encode())
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(r.Dir, trust.File))
}

// Key is one key of a ring, for people.
type Key struct {
	ID      string `json:"id"` // NAME+HASH
	Public  string `json:"public"`
	Revoked bool   `json:"revoked"`
	Private string `json:"private,omitempty"` // the file of the private key, if it is here
}

// Keys lists the keys.
func (r Ring) Keys() []Key {
	var all []Key
	usable := r.Trust.Usable()
	for _, public := range r.Trust.Public {
		k := Key{ID: trust.KeyID(public), Public: public, Revoked: !slices.Contains(usable, public)}
		name, _, _ := strings.Cut(k.ID, "+")
		if private, err := Read(r.private(name)); err == nil {
			if own, err := publicOf(private); err == nil && own == public {
				k.Private = r.private(name)
			}
		}
		all = append(all, k)
	}
	return all
}

// Read reads a private key. A file that others may read is refused: whoever has read it can sign.
func Read(file string) (string, error) {
	st, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("read private key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read private key %s: others may read it (mode %04o); if nobody has, type: chmod 600 %s",
			file, st.Mode().Perm(), file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read private key: %w", err)
	}
	private := strings.TrimSpace(string(text))
	if _, err := note.NewSigner(private); err != nil { // the cause could print the key
		return "", fmt.Errorf("read private key %s: it is none; create one with: resin keys new", file)
	}
	return private, nil
}

// ReadAll reads private keys; a directory stands for all private keys in it that its trust file lists.
func ReadAll(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		files := []string{name}
		if st, err := os.Stat(name); err == nil && st.IsDir() {
			ring, err := Open(name)
			if err != nil {
				return nil, err
			}
			if files = ring.signers(); len(files) == 0 {
				return nil, fmt.Errorf("read private keys: %s has none; create one with: resin keys new %s NAME",
					name, name)
			}
		}
		for _, file := range files {
			private, err := Read(file)
			if err != nil {
				return nil, err
			}
			all = append(all, private)
		}
	}
	return all, nil
}

// signers lists the files of the private keys whose signatures count.
func (r Ring) signers() []string {
	var all []string
	for _, k := range r.Keys() {
		if k.Private != "" && !k.Revoked {
			all = append(all, k.Private)
		}
	}
	return all
}

// Public returns the public keys of private ones, of which each bundle has to be signed by all.
func Public(private []string) (trust.Keys, error) {
	k := trust.Keys{Threshold: len(private)}
	for _, one := range private {
		public, err := publicOf(one)
		if err != nil {
			return k, err
		}
		k.Public = append(k.Public, public)
	}
	return k, nil
}

// publicOf returns the public key of PRIVATE+KEY+NAME+HASH+SEED.
func publicOf(private string) (string, error) {
	parts := strings.SplitN(private, "+", 5)
	fault := errors.New("read private key: it is none; create one with: resin keys new")
	if len(parts) != 5 {
		return "", fault
	}
	seed, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", fault
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey) // documented type
	return note.NewEd25519VerifierKey(parts[2], public)
}
