package bootfiles

import (
	"bytes"
	"crypto/md5"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"resinos/mounts/atomicfile"
	"resinos/mounts/atomicfile/atomicfiletest"
	"resinos/mounts/fingerprint"
)

// files are the files of a directory by their paths.
type files map[string]string

func (f files) list() []fingerprint.Line {
	boot, _ := fingerprint.Find("boot")
	var lines []fingerprint.Line
	for name, content := range f {
		if !boot.Leaves(name) {
			lines = append(lines, fingerprint.Line{Path: name, Sum: md5.Sum([]byte(content))})
		}
	}
	return lines
}

// write writes the files and their list.
func (f files) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, content string) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range f {
		put(name, content)
	}
	put(fingerprint.Name, string(fingerprint.Print(f.list())))
	return dir
}

// read returns all files but the list.
func read(t *testing.T, dir string) files {
	t.Helper()
	all := files{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == fingerprint.Name {
			return err
		}
		text, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		all[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	older = files{"EFI/BOOT/BOOTX64.EFI": "grub 1", "EFI/debian/grub.cfg": "script 1", "image-version-info": "1",
		"gone": "1", "replaced": "1", "same": "same"}
	newer = files{"EFI/BOOT/BOOTX64.EFI": "grub 2", "EFI/debian/grub.cfg": "script 2", "image-version-info": "2",
		"more/new": "2", "same": "same"}
	owners = files{"config.json": "{}", "config.json.good": "{}", "system-connections/office": "secret",
		"grubenv": "slot=B", "notes": "mine", "replaced": "mine"}
)

// partition is a boot partition of the older version, with the files of an owner who has replaced one.
func partition(t *testing.T) string {
	dir := older.write(t)
	for name, content := range owners {
		name = filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestInstall(t *testing.T) {
	// A version that lists files of the owner must not get them.
	wicked := files{"config.json": "wicked", "grubenv": "wicked", "system-connections/office": "wicked"}
	source, target := newer.write(t), partition(t)
	list := append(newer.list(), func() (all []fingerprint.Line) {
		for name, content := range wicked {
			all = append(all, fingerprint.Line{Path: name, Sum: md5.Sum([]byte(content))})
		}
		return all
	}()...)
	if err := os.WriteFile(filepath.Join(source, fingerprint.Name), fingerprint.Print(list), 0o644); err != nil {
		t.Fatal(err)
	}
	done, err := Install(source, target)
	want := []Step{{Path: "EFI/BOOT/BOOTX64.EFI"}, {Path: "EFI/debian/grub.cfg"}, {Path: "image-version-info"},
		{Path: "more/new"}, {Path: "gone", Remove: true}, {Path: fingerprint.Name}}
	if err != nil || !slices.Equal(done, want) {
		t.Errorf("Install = %v, %v, want %v", done, err, want)
	}
	all := files{}
	for _, some := range []files{newer, owners} {
		for name, content := range some {
			all[name] = content
		}
	}
	if got := read(t, target); !reflect.DeepEqual(got, all) {
		t.Errorf("the partition has %v, want %v", got, all)
	}
	if done, err := Install(source, target); err != nil || len(done) != 0 {
		t.Errorf("a second time: %v, %v", done, err)
	}
}

// TestCut: after a cut in any call, each file is the old or the new one, no script is newer than its bootloader, and
// the next Install ends where one without a cut does.
func TestCut(t *testing.T) {
	for at := 0; ; at++ {
		source, target := newer.write(t), partition(t)
		cut := &atomicfiletest.Cut{At: at}
		_, err := installTo(removing{cut}, source, target)
		got := read(t, target)
		for name, content := range got {
			if strings.HasSuffix(name, atomicfile.Suffix) {
				continue
			}
			if content != older[name] && content != newer[name] && content != owners[name] {
				t.Errorf("cut %d: %s is %q", at, name, content)
			}
		}
		loader, script := got["EFI/BOOT/BOOTX64.EFI"], got["EFI/debian/grub.cfg"]
		if loader == "" || script == "" || loader == "grub 1" && script == "script 2" {
			t.Errorf("cut %d: %s with %s", at, loader, script)
		}
		if err == nil {
			if at < 10 {
				t.Errorf("only %d calls", at)
			}
			break
		}
		if _, err := Install(source, target); err != nil {
			t.Errorf("after cut %d: %v", at, err)
		}
		for name, content := range newer {
			if got := read(t, target); got[name] != content {
				t.Errorf("after cut %d: %s is %q", at, name, got[name])
			}
		}
	}
}

// removing lets Remove have its effect unless the power is off.
type removing struct{ *atomicfiletest.Cut }

func (r removing) Remove(name string) error {
	if len(r.Calls) >= r.At {
		return atomicfiletest.ErrCut
	}
	r.Calls = append(r.Calls, "remove")
	return atomicfile.Disk{}.Remove(name)
}

// forgetful is a disk that changes what it is given.
type forgetful struct{ atomicfile.Disk }

func (f forgetful) Create(name string, content []byte, mode fs.FileMode) error {
	content = bytes.Clone(content)
	content[0] ^= 1
	return f.Disk.Create(name, content, mode)
}

func TestFaultsChangeNothing(t *testing.T) {
	for what, test := range map[string]struct {
		spoil func(source string) error
		sys   atomicfile.System
		want  string
	}{
		"damaged source": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "more/new"), []byte("3"), 0o644)
		}, atomicfile.Disk{}, "not what its list says"},
		"missing source": {func(dir string) error { return os.Remove(filepath.Join(dir, "more/new")) },
			atomicfile.Disk{}, "no such file"},
		"damaged list": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, fingerprint.Name), []byte("x\n"), 0o644)
		}, atomicfile.Disk{}, "line 1"},
		"no list": {func(dir string) error { return os.Remove(filepath.Join(dir, fingerprint.Name)) },
			atomicfile.Disk{}, "no such file"},
		"other content": {func(string) error { return nil }, forgetful{}, "not what was written"},
	} {
		t.Run(what, func(t *testing.T) {
			source, target := newer.write(t), partition(t)
			before := read(t, target)
			if err := test.spoil(source); err != nil {
				t.Fatal(err)
			}
			done, err := installTo(test.sys, source, target)
			if err == nil || !strings.Contains(err.Error(), test.want) || len(done) > 0 {
				t.Errorf("Install = %v, %v, want %q", done, err, test.want)
			}
			if after := read(t, target); !reflect.DeepEqual(before, after) {
				t.Errorf("it left %v of %v", after, before)
			}
		})
	}
}

// TestLostList: without the list of the old version nothing is removed, and everything else is done.
func TestLostList(t *testing.T) {
	for _, text := range []string{"", "garbage"} {
		source, target := newer.write(t), partition(t)
		if err := os.WriteFile(filepath.Join(target, fingerprint.Name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Install(source, target)
		if got := read(t, target); err != nil || got["gone"] != "1" || got["EFI/debian/grub.cfg"] != "script 2" {
			t.Errorf("with the list %q: %v, %v", text, got, err)
		}
	}
}

func TestRoom(t *testing.T) {
	if err := room(t.TempDir(), 1<<60); err == nil || !strings.Contains(err.Error(), "remove files") {
		t.Errorf("room = %v", err)
	}
}

func TestRank(t *testing.T) {
	order := []string{"EFI/BOOT/BOOTX64.EFI", "x.dtb", "boot.scr", "device-type.json"}
	for i := range order[1:] {
		if rank(order[i]) >= rank(order[i+1]) {
			t.Errorf("%s does not come before %s", order[i], order[i+1])
		}
	}
}
