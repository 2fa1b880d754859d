package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/fsck"
	"resinos/mounts/purge"
	"resinos/mounts/testenv"
)

func TestRunTool(t *testing.T) {
	status, said, err := RunTool(t.Context(), []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 3"})
	if status != 3 || said != "out\nerr\n" || err != nil {
		t.Errorf("RunTool = %d, %q, %v", status, said, err)
	}
	status, said, err = RunTool(t.Context(), []string{"/bin/sh", "-c", "yes | head -c 1000000; exit 0"})
	if status != 0 || len(said) != maxSaid || err != nil {
		t.Errorf("a tool that talks much: %d, %d bytes, %v", status, len(said), err)
	}
	if _, _, err := RunTool(t.Context(), []string{"/no/such/tool"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing tool: %v", err)
	}
	if _, _, err := RunTool(t.Context(), []string{"/bin/sh", "-c", "kill -9 $$"}); err == nil {
		t.Error("a tool that is killed has judged")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := RunTool(ctx, []string{"/bin/sh", "-c", "exec sleep 60"}); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("a tool that hangs: %v", err)
	}
}

func TestPurgePlace(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	const state = "/mnt/state"
	mount := func(kind, target string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(kind, target, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	have := func() (kind string, names []string) {
		t.Helper()
		mounts, err := attach.ReadMounts()
		if err != nil {
			t.Fatal(err)
		}
		m, _ := attach.At(mounts, state)
		entries, err := os.ReadDir(state)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return m.Type, names
	}
	var said bytes.Buffer
	s := &Attacher{Log: slog.New(slog.NewTextHandler(&said, nil))}
	step := (*Attacher).Purge
	mount("tmpfs", "/mnt", 0)
	if err := os.Mkdir(state, 0o755); err != nil {
		t.Fatal(err)
	}
	mount("tmpfs", state, 0) // it stands in
	if err := step(s, disk.State); err != nil {
		t.Error(err)
	}
	if _, names := have(); len(names) != 0 {
		t.Errorf("a stand-in gets %v", names)
	}
	if err := unix.Unmount(state, 0); err != nil {
		t.Fatal(err)
	}
	mount("ramfs", state, 0)
	if err := os.MkdirAll(state+"/root-overlay/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := step(s, disk.State); err != nil {
			t.Error(err)
		}
	}
	if _, names := have(); strings.Join(names, " ") != purge.Armed+" "+purge.Flag+" root-overlay" {
		t.Errorf("the first use leaves %v", names)
	}
	if err := os.Remove(filepath.Join(state, purge.Flag)); err != nil {
		t.Fatal(err)
	}
	s.repaired = []string{disk.State}
	if err := step(s, disk.State); err != nil || !strings.Contains(said.String(), "purge is not done") {
		t.Errorf("after a repair: %v, %s", err, &said)
	}
	if _, names := have(); len(names) != 3 {
		t.Errorf("after a repair: %v", names)
	}
	s.repaired = nil
	if err := os.Remove(filepath.Join(state, purge.Flag)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", state, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := step(s, disk.State); err == nil || !strings.Contains(err.Error(), "stands in") {
		t.Errorf("a purge that fails: %v", err)
	}
	if kind, names := have(); kind != "tmpfs" || len(names) != 0 {
		t.Errorf("a purge that fails leaves a %s with %v", kind, names)
	}
	if err := unix.Unmount(state, 0); err != nil {
		t.Fatal(err)
	}
	mount("ramfs", state, 0)
	for _, name := range []string{purge.Armed, "root-overlay", "last-boot.json"} {
		if err := os.WriteFile(filepath.Join(state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := step(s, disk.State); err != nil || !strings.Contains(said.String(), "partition purged") {
		t.Errorf("a purge: %v, %s", err, &said)
	}
	if _, names := have(); strings.Join(names, " ") != purge.Armed+" last-boot.json "+purge.Flag {
		t.Errorf("a purge leaves %v", names)
	}
}

// TestRenewStateKeepsWhatItCannotSetAside: without a copy of it the old state is left as it is.
func TestRenewStateKeepsWhatItCannotSetAside(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	node := filepath.Join(t.TempDir(), "node")
	old := bytes.Repeat([]byte("precious"), 1<<14)
	write := func(path string, content []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"/mnt", "/usr/lib"} {
		if err := unix.Mount("tmpfs", target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("/mnt/data", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("ramfs", "/mnt/data", "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	write(fsck.Template("state"), make([]byte, 64<<10))
	write(node, old)
	for n := range 3 {
		write(fmt.Sprintf("%s/%s-%d.img", asideDir, disk.State, n+1), nil)
	}
	on := Disk{Name: "sda", Partitions: []disk.Partition{{Disk: "sda", Device: "sda5", Label: disk.Data}}}
	s := &Attacher{Log: slog.New(slog.DiscardHandler)}
	attached, err := s.renewState(on, attach.Entry{Source: node, Target: "/mnt/state", Type: "ext4"}, fsck.ErrBeyond)
	if attached || err == nil || !strings.Contains(err.Error(), "remove one") {
		t.Errorf("renewState = %v, %v", attached, err)
	}
	if now, err := os.ReadFile(node); err != nil || !bytes.Equal(now, old) {
		t.Errorf("the old state is no more (%v)", err)
	}
}
