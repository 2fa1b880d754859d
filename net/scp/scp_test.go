package scp

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

// The test binary is the program on the device, where its name is scp.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "scp" {
		os.Exit(m.Run())
	}
	if err := Run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scp:", err)
		os.Exit(1)
	}
}

// client copies with OpenSSH's scp in its old protocol, of which the other side is ours: a script in place of ssh
// starts it.
type client struct {
	t   *testing.T
	ssh string
	env []string
}

func newClient(t *testing.T) client {
	t.Helper()
	testenv.NeedProgram(t, "scp")
	dir := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "scp"))
	}
	ssh := filepath.Join(dir, "ssh")
	if err == nil { // its last argument is the command, which the device's shell takes
		err = os.WriteFile(ssh, []byte("#!/bin/sh\nfor last; do :; done\nexport PATH="+dir+
			":$PATH\nexec sh -c \"$last\"\n"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return client{t, ssh, os.Environ()}
}

// copy returns what scp says and whether it is content.
func (c client) copy(args ...string) (said string, ok bool) {
	c.t.Helper()
	cmd := exec.Command("scp", append([]string{"-O", "-S", c.ssh}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// tree lists what lies below a directory: path, mode, content, second of its time.
func tree(t *testing.T, root string, times bool) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", strings.TrimPrefix(path, root), info.Mode())
		if times {
			line += fmt.Sprint(" ", info.ModTime().Unix())
		}
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %.20q", len(text), text)
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err == nil {
		err = os.Chtimes(path, time.Time{}, time.Unix(1_600_000_000, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBothWays: files and directories come as they left, to the device and from it, with and without their times.
func TestBothWays(t *testing.T) {
	c := newClient(t)
	from := filepath.Join(t.TempDir(), "from")
	write(t, from+"/small", "hello\n", 0o644)
	write(t, from+"/program", "#!/bin/sh\n", 0o755)
	write(t, from+"/empty", "", 0o600)
	write(t, from+"/with blanks and ü", "x", 0o644)
	write(t, from+"/deep/er/large", strings.Repeat("0123456789abcdef", 200_000), 0o640)
	if err := os.Mkdir(from+"/hollow", 0o750); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{{"-r"}, {"-r", "-p"}} {
		for _, up := range []bool{true, false} {
			t.Run(fmt.Sprint(flags, " up ", up), func(t *testing.T) {
				to := filepath.Join(t.TempDir(), "to")
				args := append(slices.Clone(flags), "host:"+from, to)
				if up {
					args = append(slices.Clone(flags), from, "host:"+to)
				}
				if said, ok := c.copy(args...); !ok {
					t.Fatalf("scp says %s", said)
				}
				times := slices.Contains(flags, "-p")
				if got, want := tree(t, to, times), tree(t, from, times); got != want {
					t.Errorf("copied:\n%s\nwant:\n%s", got, want)
				}
				// Into a directory that is there; then over what is there, which was longer.
				write(t, to+"/from/small", "longer than hello", 0o644)
				if said, ok := c.copy(args...); !ok || tree(t, to+"/from", false) != tree(t, from, false) {
					t.Errorf("again: %s\n%s", said, tree(t, to, false))
				}
			})
		}
	}
	to := t.TempDir()
	if said, ok := c.copy("host:"+from+"/small", "host:"+from+"/e*", to); !ok ||
		!strings.Contains(tree(t, to, false), "/empty") {
		t.Errorf("several, by a pattern: %s", said)
	}
	if said, ok := c.copy(from+"/small", "host:"+to+"/renamed"); !ok ||
		!strings.Contains(tree(t, to, false), "/renamed -rw-r--r-- 6") {
		t.Errorf("renamed: %s", said)
	}
}

// TestRefusals: what cannot be copied is told with its name, costs only itself, and is an error in the end.
func TestRefusals(t *testing.T) {
	c := newClient(t)
	dir := t.TempDir()
	write(t, dir+"/good", "good", 0o644)
	write(t, dir+"/sub/inner", "inner", 0o644)
	if err := syscall.Mkfifo(dir+"/sub/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"missing source", []string{"host:" + dir + "/no", "."}, "no such file"},
		{"directory without -r", []string{"host:" + dir + "/sub", "."}, "not a regular file"},
		{"missing target", []string{dir + "/good", "host:" + dir + "/no/where"}, "no such file"},
		{"two files to one", []string{dir + "/good", dir + "/sub/inner", "host:" + dir + "/one"}, "not a directory"},
		{"a directory onto a file", []string{"-r", dir + "/sub", "host:" + dir + "/good"}, "exists"},
	} {
		if said, ok := c.copy(tt.args...); ok || !strings.Contains(strings.ToLower(said), tt.want) {
			t.Errorf("%s: ok %t, scp says %s; want %q", tt.name, ok, said, tt.want)
		}
	}
	to := t.TempDir()
	said, ok := c.copy("-r", "host:"+dir+"/sub", to)
	if ok || !strings.Contains(said, "fifo: not a regular file") ||
		!strings.Contains(tree(t, to, false), "/sub/inner") {
		t.Errorf("beside a FIFO: ok %t, scp says %s\n%s", ok, said, tree(t, to, false))
	}
	for _, args := range [][]string{{}, {"-t"}, {"-f"}, {"-t", "a", "b"}, {"-t", "-f", "a"}, {"-x", "-t", "a"},
		{"a", "host:b"}} {
		if err := Run(args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("Run(%q) is content", args)
		}
	}
}

// TestShrinks: a file that becomes shorter while it is read is told, and what comes after it is not lost.
func TestShrinks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "12345", 0o644)
	f, err := os.Open(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	s := &source{peer: newPeer(strings.NewReader("\x00"), &out)}
	if err := s.content(f, 9); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "12345\x00\x00\x00\x00\x01scp: ") || s.failed == nil {
		t.Errorf("sent %q, failed: %v", got, s.failed)
	}
}

// TestEvilClient: whatever a client says, nothing is written elsewhere than at the target.
func TestEvilClient(t *testing.T) {
	for name, script := range map[string]string{
		"up":              "C0644 1 ../x\nx\x00",
		"dot dot":         "C0644 1 ..\nx\x00",
		"absolute":        "C0644 1 /etc/x\nx\x00",
		"directory up":    "D0755 0 ..\nC0644 1 x\nx\x00E\n",
		"not asked for":   "D0755 0 sub\nC0644 1 x\nx\x00E\n",
		"negative":        "C0644 -1 x\n",
		"huge":            "C0644 9223372036854775807 x\nx",
		"too huge":        "C0644 9223372036854775808 x\nx",
		"mode":            "C9999 1 x\n",
		"end":             "E\n",
		"end of file":     "C0644 10 x\nabc",
		"no line":         "C0644",
		"long line":       "C0644 1 " + strings.Repeat("a", 2*maxLine) + "\n",
		"fatal":           "\x02I give up\n",
		"zeroes":          strings.Repeat("\x00", 100),
		"times":           "Tx 0 y 0\n",
		"escape in words": "\x01\x1b[2J\n",
	} {
		root := t.TempDir()
		target := filepath.Join(root, "target")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Run([]string{"-t", target}, strings.NewReader(script), io.Discard); err == nil {
			t.Errorf("%s: content", name)
		} else if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: the error has the client's bytes: %q", name, err)
		}
		if list, err := os.ReadDir(root); err != nil || len(list) != 1 {
			t.Errorf("%s: beside the target lies %v", name, list)
		}
	}
}

func FuzzSink(f *testing.F) {
	f.Add("C0644 5 name\nhello\x00")
	f.Add("T1 0 2 0\nD0755 0 sub\nC0600 0 x\n\x00E\n")
	f.Add("\x01message\nC0644 1 a\nx\x01message\n")
	f.Fuzz(func(t *testing.T, script string) {
		root := t.TempDir()
		target := filepath.Join(root, "target")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		// an error is one, a panic is none
		_ = Run([]string{"-r", "-p", "-t", target}, strings.NewReader(script), io.Discard)
		if list, err := os.ReadDir(root); err != nil || len(list) != 1 {
			t.Fatalf("beside the target lies %v, %v", list, err)
		}
	})
}
