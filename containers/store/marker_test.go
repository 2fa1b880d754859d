package store

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestMarker(t *testing.T) {
	file := filepath.Join(t.TempDir(), "images-written")
	there := func() bool { _, err := os.Stat(file); return err == nil }
	log := slog.New(slog.DiscardHandler)
	m := NewMarker(file, log)
	if m.Cut() || there() {
		t.Error("a cut before anything was written")
	}
	first, second := m.Begin(), m.Begin()
	if first(); !there() {
		t.Error("no marker while somebody writes")
	}
	if cut := NewMarker(file, log); !cut.Cut() {
		t.Error("the next life sees no cut")
	} else {
		end := cut.Begin()
		if end(); !there() || !cut.Cut() {
			t.Error("a later writing has taken the marker away")
		}
		end = cut.Begin()
		if cut.checked(); !there() || cut.Cut() {
			t.Error("the check has taken the marker of a writing away")
		}
		end()
	}
	second()
	second()
	if there() {
		t.Error("the marker stays")
	}
	if n := new(Needs); !n.Now().Unsure {
		t.Error("sure of what nobody has said")
	} else if n.Set(Need{Images: []string{"a"}}); n.Now().Unsure || len(n.Now().Images) != 1 {
		t.Error("not what was said")
	}
}
