package treetar

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// first is the user of the device that is root in apart's process.
const first = 1<<20 + 1<<16

// apart starts a process in a user namespace of its own, whose root is dir.
func apart(t *testing.T, dir string) (pid int) {
	t.Helper()
	if os.Getuid() != 0 {
		testenv.Lacking(t, "root, for a user namespace")
	}
	busybox := "/bin/busybox"
	if exec.Command("ldd", busybox).Run() == nil {
		testenv.Lacking(t, "a static busybox: apt-get install busybox-static")
	}
	text, err := os.ReadFile(busybox)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "busybox"), text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	block := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 1 << 16}}
	cmd := exec.Command("/busybox", "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Cloneflags: unix.CLONE_NEWUSER, UidMappings: block,
		GidMappings: block, Credential: &syscall.Credential{}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		testenv.Lacking(t, "user namespaces: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return cmd.Process.Pid
}

// TestOwnUsers: what is copied into a container with users of its own belongs to these, also in a directory into which
// only they may write, and what is copied out has the owners that the container sees.
func TestOwnUsers(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != "/"; d = filepath.Dir(d) { // the process has to come through
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(d) == os.TempDir() {
			break
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "closed"), first+1000, first+1000); err != nil {
		t.Fatal(err)
	}
	r, err := OpenProcess(apart(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stream := func() io.Reader {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, h := range []tar.Header{
			{Name: "x", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 33, Gid: 34},
			{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 33, Gid: 34},
			{Name: "d/far", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 70_000, Gid: 34},
			{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "x", Uid: 33, Gid: 34},
		} {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	for _, c := range []struct {
		owners bool
		want   map[string][2]int // as the container sees them
	}{
		{false, map[string][2]int{"x": {0, 0}, "d/": {0, 0}, "d/far": {0, 0}, "link": {0, 0}}},
		{true, map[string][2]int{"x": {33, 34}, "d/": {33, 34}, "d/far": {nobody, 34}, "link": {33, 34}}},
	} {
		if err := r.Read(stream(), "/closed", c.owners); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := r.Write(&out, "/closed/.", "."); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for in := tar.NewReader(&out); ; {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want, known := c.want[h.Name]
			if seen[h.Name] = true; known && (h.Uid != want[0] || h.Gid != want[1]) {
				t.Errorf("owners %v: %s belongs to %d:%d, want %v", c.owners, h.Name, h.Uid, h.Gid, want)
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, "closed", h.Name), &st); err != nil || known &&
				(int(st.Uid) != first+want[0] || int(st.Gid) != first+want[1]) {
				t.Errorf("owners %v: %s belongs to %d:%d on the device, %v", c.owners, h.Name, st.Uid, st.Gid, err)
			}
		}
		if len(seen) != 5 { // with the directory itself
			t.Errorf("owners %v: copied %v", c.owners, seen)
		}
		if err := os.RemoveAll(filepath.Join(dir, "closed", "d")); err != nil {
			t.Fatal(err)
		}
	}
	if unix.Geteuid() != 0 {
		t.Error("the user of the thread has changed")
	}
}

func TestParseUsers(t *testing.T) {
	for text, want := range map[string]users{
		"         0          0 4294967295\n":   {},
		"         0    1114112      65536\n":   {1114112, 65536},
		"":                                     {},
		"0 x y\n":                              {},
		"0 1048576 65536\n65536 5000000 100\n": {},
	} {
		if got := parseUsers(text); got != want {
			t.Errorf("parseUsers(%q) = %v, want %v", text, got, want)
		}
	}
}
