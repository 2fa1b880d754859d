// Package testenv is for tests only: it checks that the host has what a test needs. A test that lacks something names
// it and is skipped, or fails if the variable CI is set, because everything is installed there. The package is in
// mounts because every layer may import that. It never runs on a device. Read Lacking first.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// CI reports whether tests run in CI, where nothing may be missing and no test may be skipped.
func CI() bool { return os.Getenv("CI") != "" }

// Lacking ends a test that lacks something of its machine, and names it: the test is skipped, or fails in CI.
func Lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if CI() {
		t.Fatalf("lacking: "+format, args...)
	}
	t.Skipf("lacking: "+format, args...)
}

// LackingHere ends a test that lacks something which the kernel of a device has: the test is skipped on the host, also
// in CI, because the named boot story runs it on a device. There the variable RESINOS_ON_DEVICE is set, and the test
// fails.
func LackingHere(t testing.TB, story, format string, args ...any) {
	t.Helper()
	if os.Getenv("RESINOS_ON_DEVICE") != "" {
		t.Fatalf("lacking: "+format, args...)
	}
	t.Skipf("lacking: "+format+"; the boot story "+story+" runs this test on a device", args...)
}

// NeedRoot ends a test that root does not run. why says what the test needs root for: "a mount namespace".
func NeedRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "root, for %s", why)
	}
}

// packages are the Debian packages of the programs that tests run.
var packages = map[string]string{
	"openvpn": "openvpn",
	"apt-get": "apt", "busybox": "busybox-static", "debugfs": "e2fsprogs", "dumpe2fs": "e2fsprogs",
	"e2fsck": "e2fsprogs", "fsck.vfat": "dosfstools", "gpgv": "gpgv",
	"chronyd": "chrony", "wg": "wireguard-tools", "ethtool": "ethtool", "ip": "iproute2", "patchelf": "patchelf",
	"dnsmasq": "dnsmasq-base", "losetup": "mount", "mcopy": "mtools", "mke2fs": "e2fsprogs", "mkfs.vfat": "dosfstools",
	"mkswap": "util-linux", "mmd": "mtools",
	"qemu-img": "qemu-utils", "qemu-system-x86_64": "qemu-system-x86", "ssh": "openssh-client", "tune2fs": "e2fsprogs",
	"xz": "xz-utils",
}

// NeedProgram returns the path of a program of the host, from PATH or from /usr/sbin, which not everybody has in PATH.
// If it is missing, the test ends and names the Debian package to install.
func NeedProgram(t testing.TB, name string) string {
	t.Helper()
	for _, try := range []string{name, filepath.Join("/usr/sbin", name)} {
		if path, err := exec.LookPath(try); err == nil {
			return path
		}
	}
	lackingProgram(t, name)
	return ""
}

// NeedPrograms ends a test of code that runs programs by their names if one of them is not in PATH.
func NeedPrograms(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			lackingProgram(t, name)
		}
	}
}

func lackingProgram(t testing.TB, name string) {
	t.Helper()
	if packages[name] == "" {
		t.Fatalf("%s is missing, and testenv does not know its package: add it to packages", name)
	}
	Lacking(t, "%s: apt-get install %s", name, packages[name])
}

// Run runs a program of the host to its end and returns its output without white space around it. The test fails if the
// program does.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(NeedProgram(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Disk creates an empty disk of this many MiB, in a file that occupies no space.
func Disk(t testing.TB, mib int64) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, mib<<20); err != nil {
		t.Fatal(err)
	}
	return file
}

// InNamespace runs the calling test again with a mount namespace of its own, and reports whether this is that second
// run. The first run reports the result of the second as its own; the test must return in it.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if !Again(t, syscall.CLONE_NEWNS) {
		return false
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return true
}

// againVariable marks the run that Again starts.
const againVariable = "RESINOS_TESTENV_AGAIN"

// Again runs the calling test again in namespaces of its own, given as for clone(2), and reports whether this is that
// second run. The first run reports the result of the second as its own; the test must return in it.
func Again(t *testing.T, namespaces uintptr) bool {
	t.Helper()
	if os.Getenv(againVariable) == t.Name() {
		return true
	}
	NeedRoot(t, "namespaces")
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v",
		"-test.count=1", Timeout(t))
	cmd.Env = append(os.Environ(), againVariable+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	if namespaces&syscall.CLONE_NEWUSER != 0 {
		all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = all, all
	}
	runtime.LockOSThread() // Pdeathsig fires when the thread that started the child ends
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("in the namespaces: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("in the namespaces: %s", out)
	}
	t.Logf("%s", out)
	return false
}

// UserLimit runs the calling test again in a user namespace of its own. In the second run it returns a function that
// sets one of the namespace's limits for its root, given by its name below /proc/sys/user. In the first run it returns
// nil, and the test must return.
func UserLimit(t *testing.T, name string) (set func(n int)) {
	t.Helper()
	if !Again(t, syscall.CLONE_NEWUSER) {
		return nil
	}
	return func(n int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join("/proc/sys/user", name), []byte(strconv.Itoa(n)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// OwnCgroup makes cmd start in a cgroup and cgroup namespace of its own if the host has cgroup v2, and reports whether
// it has. The cgroup and all processes in it end with the test.
func OwnCgroup(t testing.TB, cmd *exec.Cmd) bool {
	t.Helper()
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var kind unix.Statfs_t
		if unix.Statfs(top, &kind) != nil || kind.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(top, "resinos-test-")
		if err != nil {
			continue
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			unix.Close(fd)
			// kernels before 5.14 lack the file; then the removal below fails
			os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
			removeCgroup(dir)
		})
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWCGROUP
		return true
	}
	return false
}

func removeCgroup(dir string) {
	entries, _ := os.ReadDir(dir) // what cannot be read cannot be removed either
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	for range 100 {
		if err := unix.Rmdir(dir); err != unix.EBUSY {
			return
		}
		time.Sleep(10 * time.Millisecond) // sleep: the dead leave their group a moment after their end
	}
}
