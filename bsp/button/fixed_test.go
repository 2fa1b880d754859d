package button

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestCounted(t *testing.T) {
	for text, want := range map[string]int{
		"       0         disabled     unmasked\n": 0,
		"       0     STS disabled     unmasked\n": 0,
		"       0  EN     enabled      unmasked\n": 0,
		"      12  EN     enabled      unmasked\n": 12,
		"":        0,
		"garbage": 0,
	} {
		if got := counted(text); got != want {
			t.Errorf("counted(%q) = %d, want %d", text, got, want)
		}
	}
}

// TestEarlyPress: a press that ACPI counted before the device was open is told.
func TestEarlyPress(t *testing.T) {
	h := newFixture(t)
	file := filepath.Join(h.sys, fixedEvent)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
		os.WriteFile(file, []byte("       1  EN     enabled      unmasked\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	h.plug("event0", acpiButton)
	h.run()
	h.wantPress()
}
