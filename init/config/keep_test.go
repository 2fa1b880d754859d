package config

import (
	"bytes"
	"path/filepath"
	"testing"
)

// TestKeepIsNotLate has a look at the file that comes to its end after a newer change: found by images/powercut, where a cut in
// the edit after that brought the older change back.
func TestKeepIsNotLate(t *testing.T) {
	s := Store{Path: filepath.Join(t.TempDir(), "config.json")}
	set := func(name string) {
		t.Helper()
		if err := s.Update(func(d Document) (Document, error) { return d.With("hostname", []byte(`"`+name+`"`)) }); err != nil {
			t.Fatal(err)
		}
	}
	set("one")
	seen := Load(s.Path).Document
	set("two")
	if err := s.Keep(seen, seen); err != nil {
		t.Fatal(err)
	}
	now := Load(s.Path).Document
	if good, err := Good(s.Path); err != nil || !bytes.Equal(good.Bytes(), now.Bytes()) {
		t.Errorf("the last good copy is %s, %v, want %s", good.Bytes(), err, now.Bytes())
	}
	if err := s.Keep(now, now); err != nil {
		t.Fatal(err)
	}
}
