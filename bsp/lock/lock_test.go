package lock

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"resinos/bsp/boards"
	"resinos/mounts/disk"
)

func TestShippedLocks(t *testing.T) {
	for _, name := range boards.Names() {
		l, err := Load(name)
		if err != nil {
			t.Errorf("Load(%s): %v", name, err)
			continue
		}
		text, err := boards.LockText(name)
		if err != nil || string(Format(l)) != string(text) {
			t.Errorf("%s: Format gives other bytes than the file (%v)", File(name), err)
		}
	}
	if _, err := Load("pdp-11"); err == nil {
		t.Error("Load of a board that does not exist")
	}
}

func sample() Lock {
	digest := strings.Repeat("0123456789abcdef", 4)
	return Lock{Board: "b", Suite: "trixie", Kernel: "linux-image-6.12", Packages: []Package{
		{Name: "busybox-static", Version: "1:1.37.0-6+b9", Architecture: "amd64", SHA256: digest, Size: 5},
		{Name: "linux-image-6.12", Version: "6.12-1", Architecture: "amd64", SHA256: digest, Size: 7 * disk.MiB},
	}}
}

func TestSaveAndParse(t *testing.T) {
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, boards.Directory), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Save(tree, sample()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(tree, File("b")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse("b.lock", text); err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("Parse(Save(x)) = %+v, %v, want %+v", got, err, sample())
	}
	if err := Save(filepath.Join(tree, "nowhere"), sample()); err == nil || !strings.Contains(err.Error(), "b.lock") {
		t.Errorf("Save without the directory: %v, want the file named", err)
	}
}

func TestParseFaults(t *testing.T) {
	good := string(Format(sample()))
	for _, c := range []struct{ name, old, new, want string }{
		{"digest", `sha256 = "0123456789`, `sha256 = "X123456789`, "64 hexadecimal digits"},
		{"upper-case digest", "abcdef", "ABCDEF", "64 hexadecimal digits"},
		{"size", "size = 5", "size = 0", "size 0"},
		{"negative size", "size = 5", "size = -5", "size"},
		{"size is text", "size = 5", `size = "many"`, `"many"`},
		{"unknown key", "size = 5", "size = 5\nmirror = \"x\"", "unknown key package.mirror"},
		{"version for a shell", "1:1.37.0-6+b9", "1; reboot", "version"},
		{"version is an option", "1:1.37.0-6+b9", "-x", "version"},
		{"name leads out", `"busybox-static"`, `"../busybox"`, "no package name"},
		{"twice", `"busybox-static"`, `"linux-image-6.12"`, "is listed twice"},
		{"no kernel", `kernel = "linux-image-6.12"`, `kernel = "other"`, "other is not among"},
		{"cut off", `[[package]]`, `[[pack`, "b.lock:"},
		{"empty", good, "", "missing key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatalf("%q is not in the lock", c.old)
			}
			_, err := Parse("b.lock", []byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "b.lock") {
				t.Errorf("Parse: %v, want %q with the file in front", err, c.want)
			}
		})
	}
}

func TestServes(t *testing.T) {
	board := boards.Board{Name: "b", Suite: "trixie", DebianArch: "amd64",
		Kernel: boards.Kernel{Package: "linux-image-amd64"}}
	if err := sample().Serves(board); err != nil {
		t.Errorf("Serves: %v", err)
	}
	board.Userland.Packages = []string{"ca-certificates"}
	board.Suite, board.DebianArch, board.Name = "forky", "arm64", "c"
	err := sample().Serves(board)
	for _, want := range []string{"ca-certificates is not pinned", "suite trixie", "for amd64, not arm64",
		"lock of board b"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Serves: %v, want %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Format(sample()))
	f.Add([]byte("[[package]]\nsize = 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Parse("f", text)
		if err != nil {
			return
		}
		if again, err := Parse("f", Format(l)); err != nil || len(again.Packages) != len(l.Packages) {
			t.Errorf("Parse(Format(%+v)) = %+v, %v", l, again, err)
		}
	})
}
