package unwind

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// host returns a program of the host that is linked with the C library.
func host(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("mksquashfs")
	if err != nil {
		testenv.Lacking(t, "mksquashfs: %v", err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Without the tables a program does what it did, and only the tables have changed.
func TestRemove(t *testing.T) {
	before := host(t)
	after, err := Remove(before)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(before))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(before)
	for _, name := range tables {
		s := f.Section(name)
		if s == nil {
			t.Fatalf("the program has no %s", name)
		}
		if bytes.Count(after[s.Offset:s.Offset+s.FileSize], []byte{0}) != int(s.FileSize) {
			t.Errorf("%s is not empty", name)
		}
		clear(changed[s.Offset : s.Offset+s.FileSize])
	}
	if !bytes.Equal(changed, after) {
		t.Error("something else has changed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, after, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(dir, "file"), filepath.Join(dir, "out"), "-quiet", "-no-progress"} // it has threads
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("the program does not run any more: %v: %s", err, out)
	}
}

func TestOther(t *testing.T) {
	for _, text := range []string{"", "#!/bin/sh\n", "\x7fELF"[:3]} {
		if got, err := Remove([]byte(text)); err != nil || string(got) != text {
			t.Errorf("Remove(%q) = %q, %v", text, got, err)
		}
	}
	file := host(t)
	for _, size := range []int{4, 20, 63, len(file) / 2, len(file) - 1} {
		if got, err := Remove(file[:size]); err == nil {
			t.Errorf("a file cut off after %d bytes gives %d bytes", size, len(got))
		}
	}
}

// A program of C++ may throw exceptions: its tables are needed.
func TestReader(t *testing.T) {
	path, err := exec.LookPath("apt-get")
	if err != nil {
		testenv.Lacking(t, "apt-get: %v", err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Remove(file); err == nil || !strings.Contains(err.Error(), "libstdc++") {
		t.Errorf("Remove = %v", err)
	}
}

func FuzzRemove(f *testing.F) {
	f.Add([]byte("#!/bin/sh\n"))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if out, err := Remove(file); err == nil && len(out) != len(file) {
			t.Errorf("%d bytes give %d", len(file), len(out))
		}
	})
}
