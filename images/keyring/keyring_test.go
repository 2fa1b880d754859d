package keyring

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"resinos/bsp/bundle/trust"
)

func create(t *testing.T, r Ring, name string) Ring {
	t.Helper()
	r, err := r.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLife creates, rotates and revokes a key, and reads after each step who signs.
func TestLife(t *testing.T) {
	r := Ring{Dir: filepath.Join(t.TempDir(), "keys")}
	signers := func(want ...string) {
		t.Helper()
		again, err := Open(r.Dir)
		if err != nil {
			t.Fatal(err)
		}
		private, err := ReadAll([]string{r.Dir})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range private {
			got = append(got, strings.Split(p, "+")[2])
		}
		keys, err := Public(private)
		if err != nil || !slices.Equal(keys.Public, again.Trust.Usable()) || !slices.Equal(got, want) {
			t.Errorf("signers %v, want %v; %v", got, want, err)
		}
	}
	r = create(t, r, "old")
	signers("old")
	r, err := r.Rotate("old", "new")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	signers("old", "new")
	if r, err = r.Revoke("old"); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	signers("new")
	if _, err := r.Revoke("new"); err == nil || !strings.Contains(err.Error(), "threshold 1") {
		t.Errorf("Revoke of the last key = %v", err)
	}
	if _, err := r.Require(2); err == nil {
		t.Error("two signatures of one key are possible")
	}
	for _, k := range r.Keys() {
		st, err := os.Stat(filepath.Join(r.Dir, strings.Split(k.ID, "+")[0]+".key"))
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("private key of %s: %v, %v", k.ID, st.Mode(), err)
		}
	}
	text, err := os.ReadFile(filepath.Join(r.Dir, trust.File))
	if err != nil || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("the trust file is %q, %v", text, err)
	}
}

func TestRefused(t *testing.T) {
	r := create(t, Ring{Dir: t.TempDir()}, "one")
	before, err := os.ReadFile(r.private("one"))
	if err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	for name, c := range map[string]struct {
		do   func() error
		want string
	}{
		"the same name again": {func() error { _, err := r.Create("one"); return err }, "file exists"},
		"a path as name":      {func() error { _, err := r.Create("../x"); return err }, "key name"},
		"a plus in the name":  {func() error { _, err := r.Create("a+b"); return err }, "key name"},
		"no name":             {func() error { _, err := r.Create(""); return err }, "key name"},
		"the same key twice":  {func() error { _, err := r.Add(r.Trust.Public[0]); return err }, "already"},
		"no public key":       {func() error { _, err := r.Add("hello"); return err }, "malformed"},
		"rotate unknown":      {func() error { _, err := r.Rotate("two", "x"); return err }, "no such key"},
		"revoke unknown":      {func() error { _, err := r.Revoke("two"); return err }, "no such key"},
		"no directory":        {func() error { _, err := ReadAll([]string{"/no/such"}); return err }, "/no/such"},
		"directory without":   {func() error { _, err := ReadAll([]string{empty}); return err }, "resin keys new"},
		"trust without file":  {func() error { _, err := Trust(empty, "production", ""); return err }, "trust.toml"},
	} {
		if err := c.do(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if after, err := os.ReadFile(r.private("one")); err != nil || string(after) != string(before) {
		t.Errorf("the private key has changed: %v", err)
	}
}

// TestReadPrivate refuses keys that others may have read, and never prints what it has read.
func TestReadPrivate(t *testing.T) {
	r := create(t, Ring{Dir: t.TempDir()}, "one")
	if err := os.Chmod(r.private("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(r.private("one")); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Read = %v", err)
	}
	broken := r.private("broken")
	if err := os.WriteFile(broken, []byte("PRIVATE+KEY+one+00000000+c2VjcmV0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(broken); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("Read = %v", err)
	}
}

func TestDryRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	r, err := Ring{Dir: dir, DryRun: true}.Create("one")
	if err != nil || len(r.Trust.Public) != 1 {
		t.Fatalf("Create = %+v, %v", r, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a dry run has created something: %v", err)
	}
}

// TestDevelopment wants one key, however many builds ask for it at once, and after a cut before the trust file.
func TestDevelopment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	var all [8]Ring
	var g sync.WaitGroup
	for i := range all {
		g.Go(func() {
			var err error
			if all[i], err = Development(dir); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if err := os.Remove(filepath.Join(dir, trust.File)); err != nil {
		t.Fatal(err)
	}
	after, err := Development(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(all[:], after) {
		if len(r.Trust.Public) != 1 || r.Trust.Public[0] != all[0].Trust.Public[0] || r.Trust.Threshold != 1 {
			t.Errorf("Development = %+v", r.Trust)
		}
	}
}

func TestTrust(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	own := create(t, Ring{Dir: t.TempDir()}, "release")
	for _, c := range []struct {
		dir, variant string
		want         string // the name of the only key
	}{
		{"", "production", ""}, {"", "standalone", ""}, {"", "development", "development"},
		{own.Dir, "production", "release"}, {own.Dir, "development", "release"},
	} {
		k, err := Trust(c.dir, c.variant, t.TempDir())
		got := strings.Join(k.Public, " ")
		if name, _, _ := strings.Cut(got, "+"); err != nil || name != c.want || len(k.Public) > 1 {
			t.Errorf("Trust(%q, %s) = %q, %v", c.dir, c.variant, got, err)
		}
	}
}
