package keyimport

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type place struct {
	t        *testing.T
	from, to string
}

func (p place) put(dir, name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p place) run(want ...string) {
	p.t.Helper()
	if got, err := Import(p.from, p.to, Unflushed); err != nil || !slices.Equal(got, want) {
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
	got, err := Import(p.from, p.to, Unflushed)
	if err == nil || !strings.Contains(err.Error(), "blocked") || !slices.Equal(got, []string{"copy fine"}) {
		t.Errorf("Import = %q, %v", got, err)
	}
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	p.run("copy blocked")
}
