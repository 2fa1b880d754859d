package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Two public keys that resin keys new has created; nobody has their private keys.
const (
	alice = "alice+acd2db5b+AetEkV98lHnDYK0cI8LRrTBEjGCg9+yipxqamuQ70tZZ"
	bob   = "bob+87f3a52f+AR4AifxSEGYxi+1EyM7y7OYJfFvx2qQkidMxUlyGRSLM"
)

func TestKeysRoundTrip(t *testing.T) {
	for _, k := range []Keys{
		{},
		{Threshold: 1, Public: []string{alice}},
		{Threshold: 2, Public: []string{alice, bob}, Revoked: []string{"eve+00000000"}},
		{Threshold: 1, Public: []string{alice, bob}, Revoked: []string{bob}},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, File), k.Encode(), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Load(dir)
		if err != nil || got.Threshold != k.Threshold || !same(got.Public, k.Public) || !same(got.Revoked, k.Revoked) {
			t.Errorf("Load = %+v, %v, want %+v", got, err, k)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of an empty directory = %v", err)
	}
}

func same(a, b []string) bool { return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b)) }

func TestKeysFaults(t *testing.T) {
	for text, want := range map[string]string{
		"threshold = 1\nkeys = [\"hello\"]":                                               "malformed",
		"threshold = 1\nkeys = [\"" + strings.Replace(alice, "acd2", "acd3", 1) + "\"]":   "hash",
		"threshold = 0\nkeys = [\"" + alice + "\"]":                                       "threshold 0: want 1 to 1",
		"threshold = -1\nkeys = [\"" + alice + "\"]":                                      "threshold -1",
		"threshold = 2\nkeys = [\"" + alice + "\"]":                                       "threshold 2: want 1 to 1",
		"threshold = 2\nkeys = [\"" + alice + "\", \"" + alice + "\"]":                    "same key",
		"threshold = 1\nkeys = [\"" + alice + "\"]\nrevoked = [\"" + KeyID(alice) + "\"]": "want 1 to 0",
		"threshold = 1\nkeys = [\"" + alice + "\"]\nrevoked = [\"alice\"]":                "NAME+HASH",
		"threshold = 1\nkey = []":                                                         "trust.toml:2: unknown key",
		"threshold = \"1\"":                                                               "trust.toml:1",
		"threshold = 1 1":                                                                 "trust.toml",
	} {
		if _, err := Parse("trust.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Keys{Threshold: 1, Public: []string{alice, bob}}.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := Parse("trust.toml", text)
		if err != nil {
			return
		}
		if again, err := Parse("trust.toml", k.Encode()); err != nil || !same(again.Public, k.Public) {
			t.Errorf("Parse of Encode = %+v, %v", again, err)
		}
	})
}
