package keyimport

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

type place struct {
	t        *testing.T
	from, to string
}

// kind is that of the key files of this place.
func (p place) kind() Kind {
	k := KeyFiles()
	k.From, k.To, k.Volume = p.from, p.to, filepath.Dir(p.from)
	return k
}

func (p place) put(dir, name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p place) run(want ...string) {
	p.t.Helper()
	if got, err := Import(p.kind(), Unflushed); err != nil || !slices.Equal(got, want) {
		p.t.Errorf("Import = %q, %v; want %q", got, err, want)
	}
}

func (p place) holds(name, want string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.to, name))
	if want == "" && os.IsNotExist(err) {
		return
	}
	if err != nil || string(text) != want {
		p.t.Errorf("%s holds %q, %v; want %q", name, text, err, want)
	}
}

func TestImport(t *testing.T) {
	p := place{t, t.TempDir(), t.TempDir()}
	p.put(p.from, "office", "[a]\n")
	p.put(p.from, "plant", "[b]\n")
	p.put(p.from, "resin-sample", "# only\n\n#comments\n")
	p.put(p.from, "backup~", "[c]\n")
	p.put(p.to, "made-here", "[d]\n")
	p.run("copy office", "copy plant")
	p.run()
	p.holds("office", "[a]\n")
	p.holds("resin-sample", "")
	p.holds("backup~", "")
	if st, err := os.Stat(filepath.Join(p.to, "office")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("office: %v, %v", st.Mode(), err)
	}

	// A change on the device stays, until the file on resin-boot changes too.
	p.put(p.to, "office", "[changed here]\n")
	p.run()
	p.holds("office", "[changed here]\n")
	p.put(p.from, "office", "[a2]\n")
	p.run("copy office")
	p.holds("office", "[a2]\n")

	// What goes from resin-boot goes, unless it was changed on the device.
	p.put(p.to, "plant", "[changed here]\n")
	for _, name := range []string{"office", "plant"} {
		if err := os.Remove(filepath.Join(p.from, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.run("remove office")
	p.run()
	p.holds("office", "")
	p.holds("plant", "[changed here]\n")
	p.holds("made-here", "[d]\n")
}

// A power cut leaves no record, or garbage in its place: everything is copied once more, and nothing is lost.
func TestImportWithoutRecord(t *testing.T) {
	p := place{t, t.TempDir(), t.TempDir()}
	p.put(p.from, "office", "[a]\n")
	p.run("copy office")
	p.put(p.to, record, "\x00\x00{")
	p.run()
	p.put(p.from, "office", "[b]\n")
	p.run("copy office")
	text, err := os.ReadFile(filepath.Join(p.to, record))
	if err != nil || !strings.Contains(string(text), `"office"`) {
		t.Errorf("record: %q, %v", text, err)
	}
	p.put(p.to, "office", "") // as a power cut may leave it
	p.run("copy office")
	if err := os.RemoveAll(p.from); err != nil {
		t.Fatal(err)
	}
	p.run("remove office")
}

// One file that cannot be copied costs no other one, and is tried again.
func TestImportFault(t *testing.T) {
	p := place{t, t.TempDir(), t.TempDir()}
	p.put(p.from, "blocked", "[a]\n")
	p.put(p.from, "fine", "[b]\n")
	block := filepath.Join(p.to, "blocked")
	if err := os.MkdirAll(filepath.Join(block, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := Import(p.kind(), Unflushed)
	if err == nil || !strings.Contains(err.Error(), "blocked") || !slices.Equal(got, []string{"copy fine"}) {
		t.Errorf("Import = %q, %v", got, err)
	}
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	p.run("copy blocked")
}

// The step of the boot writes nothing, not even the same content again, where nothing has changed.
func TestImportWritesNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string // nil: the directory on resin-boot does not exist
		first []string
	}{
		{"no directory", nil, nil},
		{"empty directory", map[string]string{}, nil},
		{"sample only", map[string]string{"resin-sample": "# [connection]\n"}, nil},
		{"copied before", map[string]string{"office": "[a]\n", "plant": "[b]\n"},
			[]string{"copy office", "copy plant"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := place{t, t.TempDir(), t.TempDir()}
			p.put(p.to, "made-here", "[c]\n")
			for name, text := range tt.files {
				p.put(p.from, name, text)
			}
			if tt.files == nil {
				if err := os.Remove(p.from); err != nil {
					t.Fatal(err)
				}
			}
			before := p.state()
			p.run(tt.first...)
			if tt.first == nil && p.state() != before {
				t.Errorf("the first run wrote:\n%s\nbefore:\n%s", p.state(), before)
			}
			before = p.state()
			write := func(path string, _ []byte, _ fs.FileMode) error {
				t.Errorf("wrote %s", path)
				return nil
			}
			if changes, err := Import(p.kind(), write); err != nil || changes != nil {
				t.Errorf("Import = %q, %v", changes, err)
			}
			if p.state() != before {
				t.Errorf("the second run wrote:\n%s\nbefore:\n%s", p.state(), before)
			}
		})
	}
}

// state returns what any write to the directory of copies, or to a file in it, changes: inodes, and when they changed.
func (p place) state() string {
	p.t.Helper()
	list, err := os.ReadDir(p.to)
	if err != nil {
		p.t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range append([]string{"."}, names(list)...) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(p.to, name), &st); err != nil {
			p.t.Fatal(err)
		}
		fmt.Fprintln(&b, name, st.Ino, st.Size, st.Mtim, st.Ctim)
	}
	return b.String()
}

func names(list []os.DirEntry) (out []string) {
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// A resin-boot that cannot be attached costs nobody the network: the copies stay until it is there again.
func TestImportWithoutPartition(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	boot := t.TempDir()
	p := place{t, filepath.Join(boot, "system-connections"), t.TempDir()}
	if err := os.Mkdir(p.from, 0o755); err != nil {
		t.Fatal(err)
	}
	p.put(p.from, "office", "[a]\n")
	p.run("copy office")
	if err := unix.Mount("standin", boot, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	p.run()
	p.holds("office", "[a]\n")
	if err := unix.Unmount(boot, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.from, "office")); err != nil {
		t.Fatal(err)
	}
	p.run("remove office")
}

// TestImportHooks: scripts are copied executable, whatever FAT says, into directories that may not be there yet.
func TestImportHooks(t *testing.T) {
	p := place{t, t.TempDir(), filepath.Join(t.TempDir(), "pre-up.d")}
	p.put(p.from, "10-hook", "#!/bin/sh\necho hello\n")
	k := Hooks()[1]
	if filepath.Base(k.From) != "pre-up.d" || filepath.Base(k.To) != "pre-up.d" {
		t.Fatalf("kind %+v", k)
	}
	k.From, k.To, k.Volume = p.from, p.to, filepath.Dir(p.from)
	if got, err := Import(k, Unflushed); err != nil || !slices.Equal(got, []string{"copy 10-hook"}) {
		t.Fatalf("Import = %q, %v", got, err)
	}
	p.holds("10-hook", "#!/bin/sh\necho hello\n")
	if st, err := os.Stat(filepath.Join(p.to, "10-hook")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("10-hook: %v, %v", st, err)
	}
}
