package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// keepAll has the file kept as it is.
func keepAll(now Loaded) (*Choice, error) { return &Choice{now.Document, now.Document}, nil }

// TestSettleIsNotLate has a look at the file that comes to its end after a newer change: found by images/powercut,
// where a cut in the edit after that brought the older change back. Here an editor that takes no lock is at work too:
// what Settle returns is what it has kept.
func TestSettleIsNotLate(t *testing.T) {
	s := Store{Path: filepath.Join(t.TempDir(), "config.json")}
	must(t, s.Update(setHostname("one")))
	must(t, s.Update(setHostname("two")))
	edited := parse(t, `{"hostname":"edited"}`)
	now, err := s.Settle(func(now Loaded) (*Choice, error) {
		must(t, os.WriteFile(s.Path, edited.Bytes(), 0o600))
		return keepAll(now)
	})
	must(t, err)
	good, err := Good(s.Path)
	must(t, err)
	if name := DeviceName(Effective(now.Document, now.Source)); name != "two" ||
		!bytes.Equal(good.Bytes(), now.Document.Bytes()) {
		t.Errorf("in force is %s, the copy is %s", now.Document.Bytes(), good.Bytes())
	}
	now, err = s.Settle(keepAll)
	must(t, err)
	if good, err := Good(s.Path); err != nil || !bytes.Equal(good.Bytes(), edited.Bytes()) ||
		!bytes.Equal(now.Document.Bytes(), edited.Bytes()) {
		t.Errorf("the next look: in force is %s, the copy is %s, %v", now.Document.Bytes(), good.Bytes(), err)
	}
}
