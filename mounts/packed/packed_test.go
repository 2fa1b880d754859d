package packed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// kit is the name of the packed program. It differs for each process of tests, since all share the host's loop devices.
var kit = fmt.Sprint("kit", os.Getpid())

// root gives the calling test a mount namespace in which /usr/lib has the packed program "kit" only: busybox, and
// "text" a file. It returns false in the run outside of it, in which the test must return.
func root(t *testing.T) bool {
	t.Helper()
	busybox := testenv.NeedProgram(t, "busybox")
	testenv.NeedProgram(t, "mksquashfs")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		testenv.Lacking(t, "loop devices: %v", err)
	}
	if !testenv.Again(t, unix.CLONE_NEWNS) {
		return false
	}
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	testenv.Run(t, "cp", busybox, filepath.Join(dir, "busybox"))
	write(t, filepath.Join(dir, "text"), "of the kit\n")
	testenv.Run(t, "mksquashfs", dir, file, "-comp", "xz", "-quiet", "-no-progress")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range [][3]string{{"", "/", ""}, {"tmpfs", "/usr/lib", "tmpfs"}} {
		flags := uintptr(unix.MS_REC | unix.MS_PRIVATE)
		if mount[2] != "" {
			flags = 0
		}
		if err := unix.Mount(mount[0], mount[1], mount[2], flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(Path(kit), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, Path(kit)+Suffix, string(data))
	return true
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// unseen fails the test if this namespace sees the files of the kit.
func unseen(t *testing.T) {
	t.Helper()
	if files, err := os.ReadDir(Path(kit)); err != nil || len(files) > 0 {
		t.Errorf("the directory holds %v, %v", files, err)
	}
}

// attached returns how many loop devices have the file of the kit.
func attached(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), kit+Suffix) {
			n++
		}
	}
	return n
}

func free(t *testing.T) {
	t.Helper()
	testenv.WaitFor(t, "the loop device to be free", func() bool { return attached(t) == 0 })
}

// TestAttach: the files are in their directory, read-only, until they are unmounted.
func TestAttach(t *testing.T) {
	if !root(t) {
		return
	}
	if err := Attach(kit); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(Path(kit) + "/text"); string(text) != "of the kit\n" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.WriteFile(Path(kit)+"/text", nil, 0o644); err == nil {
		t.Error("the files can be written")
	}
	if err := unix.Unmount(Path(kit), 0); err != nil {
		t.Fatal(err)
	}
	free(t)
}

// TestCommand: a command sees the files by its descriptor, and nobody by a mount; all commands share one loop device,
// and the one that still runs keeps it when the program is closed.
func TestCommand(t *testing.T) {
	if !root(t) {
		return
	}
	link := filepath.Join(t.TempDir(), "busybox")
	target, err := filepath.Rel(filepath.Dir(link), Path(kit)+"/busybox")
	if err := errors.Join(err, os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	p := &Program{Path: link}
	start := func(script string) (*exec.Cmd, io.WriteCloser, *bytes.Buffer) {
		t.Helper()
		cmd, err := p.Command(t.Context(), "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		out := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = out, out
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, in, out
	}
	late, in, text := start("read x; read y <" + Visible + "/text; echo $x $y")
	for range 2 {
		cmd, _, out := start("read y <" + Visible + "/text; echo $y; " +
			"while read l; do case $l in *kit*) echo seen;; esac; done </proc/self/mountinfo")
		if err := cmd.Wait(); err != nil || out.String() != "of the kit\n" {
			t.Errorf("%q, %v", out, err)
		}
	}
	unseen(t)
	if n := attached(t); n != 1 {
		t.Errorf("%d loop devices", n)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "after\n"); err != nil {
		t.Fatal(err)
	}
	if err := late.Wait(); err != nil || text.String() != "after of the kit\n" {
		t.Errorf("after the end: %q, %v", text, err)
	}
	free(t)
	cmd, _, _ := start("exit 3")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("attached again: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	free(t)
}

// runVariable has TestRun become the packed program of that name.
const runVariable = "RESINOS_PACKED_RUN"

// TestRun: the files are visible to the process that became the program, and to nobody else.
func TestRun(t *testing.T) {
	if name := os.Getenv(runVariable); name != "" {
		script := "read x; read y <" + Path(name) + "/text; echo $x $y"
		t.Fatal(Run(name, "busybox", []string{"sh", "-c", script}, nil))
	}
	if !root(t) {
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRun$")
	cmd.Env = append(os.Environ(), runVariable+"="+kit)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.WaitFor(t, "the program to be attached", func() bool { return attached(t) == 1 })
	unseen(t)
	if _, err := io.WriteString(in, "ran\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "ran of the kit\n" {
		t.Errorf("%q, %v", out, err)
	}
	free(t)
}

// TestFaults: what cannot be attached is named, and leaves no loop device behind.
func TestFaults(t *testing.T) {
	if !root(t) {
		return
	}
	garbage := "garbage" + kit
	write(t, Path(garbage)+Suffix, strings.Repeat("garbage\n", 1<<10))
	write(t, Path("short")+Suffix, "x")
	for _, name := range []string{garbage, "short", "absent"} {
		p := &Program{Path: Path(name) + "/tool"}
		_, err := p.Command(t.Context())
		for what, err := range map[string]error{"Command": err, "Attach": Attach(name)} {
			if err == nil || !strings.Contains(err.Error(), "packed program "+name) {
				t.Errorf("%s(%s): %v", what, name, err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files {
		if text, _ := os.ReadFile(file); strings.Contains(string(text), garbage+Suffix) {
			t.Errorf("%s: %s, %v", file, text, err)
		}
	}
}

// TestVersion: it differs when size or content differ, and a packed program has that of its file.
func TestVersion(t *testing.T) {
	seen := map[string]string{}
	for i, text := range []string{"", "a", "b", "aa", strings.Repeat("a", head), strings.Repeat("a", head) + "b"} {
		p := &Program{Path: filepath.Join(t.TempDir(), "tool")}
		write(t, p.Path, text)
		version, err := p.Version()
		if other, there := seen[version]; err != nil || there {
			t.Errorf("%d: version %q as of %q, %v", i, version, other, err)
		}
		seen[version] = text
	}
	if v, err := (&Program{Path: Path("absent") + "/tool"}).Version(); err == nil {
		t.Errorf("what is not there has the version %q", v)
	}
}
