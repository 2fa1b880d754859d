package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/boards"
)

// TestFirmwareFromCache needs no network: files that are in the cache are not fetched.
func TestFirmwareFromCache(t *testing.T) {
	board, err := boards.Load("qemu-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files, absent := unpacked(board, dir)
	if len(files) != 2 || len(absent) != 2 {
		t.Fatalf("unpacked = %v, %v", files, absent)
	}
	if err := os.WriteFile(files[0].Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, absent = unpacked(board, dir); len(absent) != 1 {
		t.Errorf("absent = %v, want the second file", absent)
	}
}

func TestUnpackFaults(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.deb")
	if err := os.WriteFile(bad, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "cache")
	err := unpack(bad, dir, map[string]string{"usr/a": filepath.Join(dir, "a")}, nil)
	if err == nil || !strings.Contains(err.Error(), "usr/a is not in it") {
		t.Errorf("unpack = %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
