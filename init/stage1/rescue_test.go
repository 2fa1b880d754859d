package stage1

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/bsp/slot"
)

// changeManifest writes the manifest of a slot again.
func changeManifest(t *testing.T, dir string, change func(*slot.Manifest)) {
	t.Helper()
	file := filepath.Join(dir, slot.ManifestFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := slot.ParseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	change(&m)
	if text, err = m.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestKeepRecovery: only what was installed is booted, and only with the kernel that it has the modules of.
func TestKeepRecovery(t *testing.T) {
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		t.Fatal(err)
	}
	here := func(m *slot.Manifest) { m.Kernel = unix.ByteSliceToString(kernel.Release[:]) }
	for want, spoil := range map[string]func(dir string){
		"": func(string) {},
		"is not what was installed": func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, slot.Recovery), []byte("damaged!"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"no such file": func(dir string) {
			if err := os.Remove(filepath.Join(dir, slot.Recovery)); err != nil {
				t.Fatal(err)
			}
		},
		"file does not exist": func(dir string) {
			changeManifest(t, dir, func(m *slot.Manifest) { m.Files = nil })
		},
		"for kernel 1.2.3": func(dir string) {
			changeManifest(t, dir, func(m *slot.Manifest) { m.Kernel = "1.2.3" })
		},
		"parse manifest.json": func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, slot.ManifestFile), []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir, to := writeSlot(t, map[string]string{slot.Recovery: "squashfs"}), filepath.Join(t.TempDir(), "kept")
		changeManifest(t, dir, here)
		spoil(dir)
		err := keepRecovery(dir, to)
		if want == "" {
			if text, readErr := os.ReadFile(to); err != nil || readErr != nil || string(text) != "squashfs" {
				t.Errorf("keepRecovery = %v; kept %q, %v", err, text, readErr)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("keepRecovery = %v, want %q", err, want)
		} else if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: what was copied stays in memory: %v", want, err)
		}
	}
	if err := keepRecovery(t.TempDir(), filepath.Join(t.TempDir(), "kept")); err == nil {
		t.Error("a slot that is not attached has a recovery root")
	}
}
