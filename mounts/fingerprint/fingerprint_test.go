package fingerprint

import (
	"context"
	"crypto/md5"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

func line(name, content string) Line { return Line{name, md5.Sum([]byte(content))} }

func TestPrintIsReadAgain(t *testing.T) {
	// The first sum is that of "hello\n", from md5sum(1).
	lines := []Line{line("b/c", "x"), line("b.c", "y"), line("a", "hello\n")}
	text := Print(lines)
	if want := "b1946ac92492d2347c6235b4d2611184  /a\n"; !strings.HasPrefix(string(text), want) {
		t.Errorf("Print begins with %q, want %q", text[:len(want)], want)
	}
	got, err := Parse(text)
	if want := []Line{lines[2], lines[1], lines[0]}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Parse = %v, %v, want %v", got, err, want)
	}
}

func TestParseTellsAllFaults(t *testing.T) {
	sum := strings.Repeat("0a", 16)
	cases := map[string][]string{
		"":                                     {"it lists no file"},
		sum + " /a\n":                          {"line 1: want 32"},
		sum + "  /a\n" + sum + "  a\nzz  /b\n": {"line 2: a is listed twice", "line 3: want 32"},
		sum + "  /../etc/shadow\n":             {`line 1: "/../etc/shadow" is not the path`},
		sum + "  //etc\n":                      {"is not the path"},
		sum + "00  /a\n":                       {"line 1: want 32"},
		strings.Repeat("x\n", 100):             {"line 20:", "and more"},
	}
	for text, wants := range cases {
		_, err := Parse([]byte(text))
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Parse(%.40q) = %v, want %q", text, err, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 16) + "  /etc/passwd\n"))
	f.Add([]byte("\x00  /a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(Print(lines))
		if err != nil || len(again) != len(lines) {
			t.Errorf("what was read is not read again: %v", err)
		}
	})
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	list := Print([]Line{line("etc/a", "a"), line("etc/b", "b"), line("etc/c", "c"), line("etc/link", "d"),
		line("lost", "e")})
	root := fstest.MapFS{
		Name: {Data: list}, "etc/a": {Data: []byte("a")}, "etc/b": {Data: []byte("B")}, "etc/c": {Data: []byte("c")},
		"etc/link": {Mode: fs.ModeSymlink, Data: []byte("a")}, "etc/new": {Data: []byte("n")},
		"config.json": {Data: []byte("{}")},
	}
	p := Place{Name: "root", Changes: []string{Name, "config.json*"}}
	calls := 0
	got, err := Check(t.Context(), p, root, func(done, total int) {
		if calls++; done != calls || total != 5 {
			t.Errorf("progress %d of %d at call %d", done, total, calls)
		}
	})
	want := Report{Place: "root", Files: 2, Bytes: 2, Different: []string{"etc/b", "etc/link"},
		Missing: []string{"lost"}, Extra: []string{"etc/new"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Check = %+v, %v\nwant %+v", got, err, want)
	}
	if got.Good(p) {
		t.Error("a changed file is good")
	}
	only := Report{Extra: []string{"x"}}
	if only.Good(p) || !only.Good(Place{Shared: true}) {
		t.Error("a file that is not listed is a fault where the owner has no business, and only there")
	}
}

func TestCheckRefusesBadList(t *testing.T) {
	for name, root := range map[string]fstest.MapFS{
		"none":  {},
		"empty": {Name: {}},
		"large": {Name: {Data: make([]byte, maxSize+1)}},
	} {
		if _, err := Check(t.Context(), Place{Name: "boot"}, root, nil); err == nil ||
			!strings.Contains(err.Error(), "read fingerprint of boot") {
			t.Errorf("%s: Check = %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, Place{}, fstest.MapFS{Name: {Data: Print([]Line{line("a", "")})}}, nil); !errors.Is(err,
		context.Canceled) {
		t.Errorf("Check that is cancelled = %v", err)
	}
}

func TestLeaves(t *testing.T) {
	boot, _ := Find("boot")
	for name, want := range map[string]bool{
		"config.json": true, "config.json.good": true, "system-connections/office": true, "system-connections": false,
		"EFI/BOOT/BOOTX64.EFI": false, "boot.scr": false, "sub/config.json": false, Name: true,
	} {
		if got := boot.Leaves(name); got != want {
			t.Errorf("Leaves(%q) = %v, want %v", name, got, want)
		}
	}
}

// TestOpenSeesBelowMounts covers a file by a bind, as persistent paths do, and looks for what the image has there.
func TestOpenSeesBelowMounts(t *testing.T) {
	testenv.NeedRoot(t, "mounts")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for name, content := range map[string]string{"hostname": "factory", "other": "mine",
		Name: string(Print([]Line{line("hostname", "factory"), line("other", "mine")}))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(filepath.Join(dir, "other"), filepath.Join(dir, "hostname"), "", unix.MS_BIND,
		""); err != nil {
		t.Fatal(err)
	}
	root, done, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Check(t.Context(), Place{Name: "root", Changes: []string{Name}}, root, nil)
	if err != nil || got.Files != 2 || len(got.Different) > 0 {
		t.Errorf("Check below a bind = %+v, %v", got, err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}
