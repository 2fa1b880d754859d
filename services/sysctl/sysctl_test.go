package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"resinos/mounts/testenv"
)

func TestApply(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/kernel", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/kernel/panic", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Setting{{"kernel.panic", "10"}, {"kernel.missing", "1"}} {
		if err := Apply(root, s); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(root + "/kernel/missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that the kernel lacks is created: %v", err)
	}
	if got, _ := os.ReadFile(root + "/kernel/panic"); string(got) != "10\n" {
		t.Errorf("kernel.panic is %q", got)
	}
	if _, err := Parse("x", "[[sysctl]]\nkey=\"../../etc/passwd\"\nvalue=\"1\"\nmode=3\n"); err == nil ||
		!strings.Contains(err.Error(), "not a key") || !strings.Contains(err.Error(), "mode") {
		t.Errorf("faults %v", err)
	}
}

// TestSet: a setting has the value afterwards, and one that the kernel lacks is an error.
func TestSet(t *testing.T) {
	if !testenv.Again(t, syscall.CLONE_NEWNET) {
		return
	}
	const key = "net/ipv4/conf/lo/route_localnet"
	for _, value := range []string{"1", "1", "0"} {
		if err := Set(key, value); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(Root, key)); err != nil || string(got) != value+"\n" {
			t.Errorf("%s is %q, %v, want %s", key, got, err, value)
		}
	}
	if err := Set("net/ipv4/conf/nowhere/route_localnet", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Set of a setting of no link: %v", err)
	}
}
