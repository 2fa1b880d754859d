package testenv

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
)

var update = flag.Bool("update", false, "rewrite golden and generated files")

// Updating reports whether golden and generated files are to be rewritten: go test ./DIR/PACKAGE -update.
func Updating() bool { return *update }

// Golden compares the result of a test with a file below testdata, and shows the difference. With -update it writes the
// file.
func Golden(t testing.TB, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if Updating() {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the result differs from %s; if it is right, run: go test -update\n%s", file,
			diff.Diff(file, want, "got", []byte(got)))
	}
}
