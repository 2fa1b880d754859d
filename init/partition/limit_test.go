package partition

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/quota"
	"resinos/mounts/testenv"
)

// bare is a kernel of which no module can be loaded.
type bare struct{}

func (bare) Load(name, _ string) error {
	return &fs.PathError{Op: "find module", Path: name, Err: fs.ErrNotExist}
}

// loopDisk makes an ext4 in a file, and a block device of that.
func loopDisk(t *testing.T, more ...string) string {
	t.Helper()
	file := testenv.Disk(t, 64)
	testenv.Run(t, "mke2fs", append([]string{"-q", "-F", "-t", "ext4", "-b", "4096"}, append(more, file)...)...)
	loop := testenv.Run(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })
	return loop
}

// TestLimitContainers has a data partition with and without quotas. Whether this kernel has what the first needs is its
// own affair: without it, that is what is said, and no program looks for a fault of the disk.
func TestLimitContainers(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for name, features := range map[string][]string{"quotas": {"-O", "quota,project", "-E", "quotatype=prjquota"},
		"none": nil} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			s := &Attacher{Log: slog.New(slog.NewTextHandler(&said, nil)),
				Modules: func() (Loader, error) { return bare{}, nil }}
			entry := places(disk.Data).entry
			entry.Source = loopDisk(t, features...)
			err := s.mount(entry)
			if err != nil {
				if features == nil || corrupt(err) || !strings.Contains(err.Error(), "lacks a module") {
					t.Errorf("mount: %v", err)
				}
				return
			}
			defer func() {
				if err := unix.Unmount(entry.Target, 0); err != nil {
					t.Error(err)
				}
			}()
			for range 2 {
				if err := s.LimitContainers(Disk{}); err != nil {
					t.Error(err)
				}
			}
			have, err := attach.ReadMounts()
			if err != nil {
				t.Fatal(err)
			}
			m, _ := attach.At(have, entry.Target)
			if quota.On(m.Super) != (features != nil) {
				t.Errorf("mounted with %s", m.Super)
			}
			want := map[bool]string{true: "containers are limited",
				false: "containers are not limited"}[features != nil]
			if strings.Count(said.String(), want) == 0 {
				t.Errorf("says %s, want %q", &said, want)
			}
			if used, limit, err := quota.Observe(entry.Target); features != nil &&
				(err != nil || used.Files != 1 || limit.Files == 0) {
				t.Errorf("containers use %v of %v, %v", used, limit, err)
			}
		})
	}
}
