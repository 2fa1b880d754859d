package keydir

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"resinos/mounts/testenv"
)

const good = "[connection]\nid=a\ntype=ethernet\n"

func TestRead(t *testing.T) {
	testenv.NeedRoot(t, "files that belong to others")
	d := Directory{Path: t.TempDir()}
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(d.Path, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want bool) {
		t.Helper()
		if changed, err := d.Read(); err != nil || changed != want {
			t.Errorf("Read = %t, %v; want %t", changed, err, want)
		}
	}
	read(false)
	put("a", good, 0o600)
	put(".hidden", good, 0o600)
	put("b~", good, 0o600)
	put("open", good, 0o644)
	put("strange", good, 0o600)
	if err := os.Chown(filepath.Join(d.Path, "strange"), 1000, 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(d.Path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(d.Path, "dangling")); err != nil {
		t.Fatal(err)
	}
	put("wrong", "[connection]\nid=a\ntype=pigeon\n", 0o600)
	read(true)
	read(false)
	faults := map[string]string{"open": "chmod 600", "strange": "user 1000", "fifo": "regular", "wrong": "no such type"}
	faults["a"] = ""
	if len(d.Files) != len(faults) {
		t.Errorf("files: %+v", d.Files)
	}
	for _, f := range d.Files {
		if !strings.Contains(f.Error, faults[f.Name]) || (f.Error == "") != (f.Name == "a") {
			t.Errorf("%s: %q, want %q", f.Name, f.Error, faults[f.Name])
		}
	}
	if e := d.Entries(); len(e) != 1 || e[0].File != "a" {
		t.Errorf("Entries = %+v", e)
	}

	// A file that becomes wrong keeps its profile, until it is right again or gone.
	put("a", good+"what is this\n", 0o600)
	read(true)
	if e := d.Entries(); len(e) != 1 || e[0].Profile.Connection.ID != "a" || d.Files[0].Error == "" {
		t.Errorf("Entries = %+v, %q", e, d.Files[0].Error)
	}
	put("a", strings.Replace(good, "id=a", "id=b", 1), 0o600)
	read(true)
	if e := d.Entries(); len(e) != 1 || e[0].Profile.Connection.ID != "b" || d.Files[0].Error != "" {
		t.Errorf("Entries = %+v", e)
	}
	if err := os.RemoveAll(d.Path); err != nil {
		t.Fatal(err)
	}
	read(true)
	if len(d.Entries()) != 0 {
		t.Errorf("Entries = %+v", d.Entries())
	}
}
