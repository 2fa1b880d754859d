package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestScreen: the splash is asked for when a driver brings the first screen or replaces it, and not when it goes.
func TestScreen(t *testing.T) {
	drawn := 0
	s := &screen{at: filepath.Join(t.TempDir(), "fb0"), draw: func() { drawn++ }}
	for i, tt := range []struct {
		to   string // where the link leads; empty: there is none
		want int
	}{{"", 0}, {"efi", 1}, {"efi", 1}, {"", 1}, {"pci", 2}, {"pci", 2}, {"virtio", 3}} {
		if err := os.Remove(s.at); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if tt.to != "" {
			if err := os.Symlink(tt.to, s.at); err != nil {
				t.Fatal(err)
			}
		}
		if s.look(); drawn != tt.want {
			t.Errorf("%d: drawn %d times, want %d", i, drawn, tt.want)
		}
	}
}
