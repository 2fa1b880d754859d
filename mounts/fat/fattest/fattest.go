// Package fattest creates FAT file systems in files, and the damage that a power cut does to them. It is for tests only
// and never runs on a device. Read Cross first.
package fattest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"resinos/mounts/testenv"
)

// New creates a file system of this many MiB, with 12, 16 or 32 bits.
func New(t testing.TB, mib int64, bits string) string {
	t.Helper()
	file := testenv.Disk(t, mib)
	testenv.Run(t, "mkfs.vfat", "-F", bits, "-s", "1", file)
	return file
}

// Copy writes a file into a file system.
func Copy(t testing.TB, file, path, content string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), "from")
	if err := os.WriteFile(from, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "mcopy", "-i", file, from, "::"+path)
}

// Cross makes the directory entry of one file refer to the blocks of another. Both are given by their short names, 11
// bytes as they are on the disk. Their lengths stay the same.
func Cross(t testing.TB, file, owner, other string) {
	t.Helper()
	disk, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from, to := bytes.Index(disk, []byte(owner)), bytes.Index(disk, []byte(other))
	if from < 0 || to < 0 {
		t.Fatalf("%s has not both %q and %q", file, owner, other)
	}
	copy(disk[to+20:to+22], disk[from+20:])
	copy(disk[to+26:to+28], disk[from+26:])
	if err := os.WriteFile(file, disk, 0o600); err != nil {
		t.Fatal(err)
	}
}
