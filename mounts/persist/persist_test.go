package persist

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

func TestTable(t *testing.T) {
	binds, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, bind := range binds {
		fmt.Fprintln(&b, bind)
	}
	testenv.Golden(t, "table.golden", b.String())
}

func TestParseFaults(t *testing.T) {
	_, err := Parse("p.toml", `[[bind]]
path = "/etc/../x"
kind = "file"
[[bind]]
path = "/a"
kind = "dir"
[[bind]]
path = "/a/b"
kind = "file"
mode = "9"
owner = 3
`)
	for _, want := range []string{`"/etc/../x"`, `kind "dir"`, "/a and /a/b overlap", `mode "9"`,
		"line 11: unknown key bind.owner"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not name %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add("[[bind]]\npath=\"/\"\nkind=\"file\"")
	f.Fuzz(func(t *testing.T, text string) {
		binds, err := Parse("fuzz", text)
		for _, b := range binds {
			if err != nil || !strings.HasPrefix(b.Path, "/") || strings.Contains(b.Path, "/../") {
				t.Errorf("Parse gives %v, %v", b, err)
			}
		}
	})
}

// trees makes a state and a root as two tmpfs, and opens them.
func trees(t *testing.T) (state, root string, r *Root) {
	t.Helper()
	dir := t.TempDir()
	state, root = filepath.Join(dir, "state"), filepath.Join(dir, "root")
	for _, d := range []string{state, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", d, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(d, unix.MNT_DETACH) })
	}
	for name, text := range map[string]string{"etc/hostname": "factory\n", "etc/keys/a": "key a",
		"etc/keys/sub/b": "key b"} {
		os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(state, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return state, root, r
}

var (
	hostname = Bind{Path: "/etc/hostname", Kind: File, Mode: 0o644}
	keys     = Bind{Path: "/etc/keys", Kind: Directory, Mode: 0o700}
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestDirectoriesKeepTheirModes: what was closed to others in the image is so on the state partition.
func TestDirectoriesKeepTheirModes(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	state, root, r := trees(t)
	if err := os.Chmod(root+"/etc/keys/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(keys); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(state + "/root-overlay/etc/keys/sub"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a directory of mode 0700 became %v (%v)", info.Mode(), err)
	}
}

func TestApplyTwiceKeepsContent(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	state, root, r := trees(t)
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, b := range []Bind{hostname, keys} {
			if err := r.Apply(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, _ := os.ReadFile("/proc/self/mountinfo")
	if n := strings.Count(string(info), root+"/etc/hostname "); n != 1 {
		t.Errorf("bound %d times", n)
	}
	if got := read(t, root+"/etc/hostname"); got != "factory\n" {
		t.Errorf("first content %q", got)
	}
	if got := read(t, root+"/etc/keys/sub/b"); got != "key b" {
		t.Errorf("first content of a directory %q", got)
	}
	if info, err := os.Stat(root + "/etc/keys"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(root+"/etc/hostname", []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := read(t, state+"/root-overlay/etc/hostname"); got != "mine\n" {
		t.Errorf("state holds %q", got)
	}
	// A second boot: the binds are gone, the state is there.
	unix.Unmount(root+"/etc/hostname", 0)
	if err := r.Apply(hostname); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root+"/etc/hostname"); got != "mine\n" {
		t.Errorf("second boot sees %q", got)
	}
}

// TestApplyFollowsNoSymlinkOfState: what a stranger wrote onto the partition moves no bind elsewhere and is not lost.
func TestApplyFollowsNoSymlinkOfState(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	state, root, r := trees(t)
	victim := filepath.Join(root, "shadow")
	os.WriteFile(victim, []byte("secret"), 0o600)
	os.MkdirAll(state+"/root-overlay/etc", 0o755)
	os.Symlink(victim, state+"/root-overlay/etc/hostname")
	if err := r.Apply(hostname); err == nil ||
		!strings.Contains(err.Error(), "was a symlink; it was renamed to hostname.set-aside-1") {
		t.Errorf("a symlink as source gives %v", err)
	}
	if err := os.WriteFile(root+"/etc/hostname", []byte("mine"), 0o644); err != nil || read(t, victim) != "secret" {
		t.Errorf("the bind reaches the symlink's target (%v)", err)
	}
	unix.Unmount(root+"/etc/hostname", 0)
	for n, outside := range []string{"/etc", "../../root/etc", "."} {
		os.RemoveAll(state + "/root-overlay/etc")
		os.Symlink(outside, state+"/root-overlay/etc")
		if err := r.Apply(keys); err == nil || !strings.Contains(err.Error(), "root-overlay/etc was a symlink") {
			t.Errorf("a symlinked directory gives %v", err)
		}
		if to, err := os.Readlink(fmt.Sprintf("%s/root-overlay/etc.set-aside-%d", state, n+1)); err != nil ||
			to != outside {
			t.Errorf("the symlink is now %q, %v", to, err)
		}
		if got := read(t, state+"/root-overlay/etc/keys/a"); got != "key a" {
			t.Errorf("the source holds %q", got)
		}
		unix.Unmount(root+"/etc/keys", 0)
	}
	if got := read(t, root+"/etc/hostname"); got != "factory\n" {
		t.Errorf("hostname is now %q", got)
	}
}

func TestApplySetsWrongKindAside(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	state, root, r := trees(t)
	os.MkdirAll(state+"/root-overlay/etc/hostname", 0o755)
	os.WriteFile(state+"/root-overlay/etc/hostname/precious", []byte("kept"), 0o600)
	os.WriteFile(state+"/root-overlay/etc/keys", []byte("kept too"), 0o600)
	for _, b := range []Bind{hostname, keys} {
		if err := r.Apply(b); err == nil || !strings.Contains(err.Error(), "set-aside-1") {
			t.Errorf("%s: %v", b.Path, err)
		}
		if err := r.Apply(b); err != nil {
			t.Errorf("%s the second time: %v", b.Path, err)
		}
	}
	if got := read(t, state+"/root-overlay/etc/hostname.set-aside-1/precious"); got != "kept" {
		t.Errorf("the directory holds %q", got)
	}
	if got := read(t, state+"/root-overlay/etc/keys.set-aside-1"); got != "kept too" {
		t.Errorf("the file holds %q", got)
	}
	if err := os.WriteFile(root+"/etc/hostname", []byte("mine"), 0o644); err != nil ||
		read(t, state+"/root-overlay/etc/hostname") != "mine" {
		t.Errorf("the path does not persist: %v", err)
	}
}

func TestApplyOnFullState(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	state, root, r := trees(t)
	if err := unix.Mount("", state, "", unix.MS_REMOUNT, "size=64k"); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(root+"/etc/keys/big", make([]byte, 1<<20), 0o600)
	if err := r.Apply(keys); err == nil {
		t.Error("Apply on a full state succeeds")
	}
	if left, _ := os.ReadDir(state + "/root-overlay/etc"); len(left) != 0 {
		t.Errorf("a half copy is left: %v", left)
	}
	if got := read(t, root+"/etc/keys/a"); got != "key a" {
		t.Errorf("the root's own content is hidden: %q", got)
	}
}

func TestApplyMakesMissingTarget(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	_, root, r := trees(t)
	b := Bind{Path: "/var/lib/bluetooth", Kind: Directory, Mode: 0o700}
	if err := r.Apply(b); err != nil {
		t.Fatal(err)
	}
	unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	b.Path = "/opt/x"
	if err := r.Apply(b); err == nil {
		t.Error("a missing target on a read-only root is bound")
	}
}
