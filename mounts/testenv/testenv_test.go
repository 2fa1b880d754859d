package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is a test that tells how it first ended instead of ending.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) end(how, format string, args []any) {
	if r.ended == "" {
		r.ended = how + ": " + fmt.Sprintf(format, args...)
	}
}

func (*recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any)  { r.end("skip", format, args) }
func (r *recorder) Fatalf(format string, args ...any) { r.end("fatal", format, args) }
func (r *recorder) Fatal(args ...any)                 { r.end("fatal", "%s", []any{fmt.Sprint(args...)}) }
func (r *recorder) Errorf(format string, args ...any) { r.end("error", format, args) }

func TestLacking(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	packages["resinos-no-such-program"] = "resinos-no-such-package"
	defer delete(packages, "resinos-no-such-program")
	for ci, how := range map[string]string{"": "skip", "true": "fatal"} {
		t.Setenv("CI", ci)
		for what, ask := range map[string]func(t testing.TB){
			"root": func(t testing.TB) { Lacking(t, "%s", "root") },
			"resinos-no-such-program: apt-get install resinos-no-such-package": func(t testing.TB) {
				NeedPrograms(t,
					"resinos-no-such-program")
			},
		} {
			r := &recorder{TB: t}
			if ask(r); r.ended != how+": lacking: "+what {
				t.Errorf("with CI=%q the test ended with %q, want %s for %s", ci, r.ended, how, what)
			}
		}
	}
	r := &recorder{TB: t}
	if NeedProgram(r, "resinos-unheard-of"); !strings.HasPrefix(r.ended, "fatal: ") {
		t.Errorf("a program without a package ends with %q", r.ended)
	}
}

func TestGolden(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("testdata/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "deep", "a.golden"), []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &recorder{TB: t}
	if Golden(r, "deep/a.golden", "one\ntwo\n"); r.ended != "" {
		t.Errorf("the same text ends with %q", r.ended)
	}
	if Golden(r, "deep/a.golden", "one\n2\n"); !strings.Contains(r.ended, "-two\n+2\n") {
		t.Errorf("another text ends with %q", r.ended)
	}
}

func TestInNamespace(t *testing.T) {
	if !InNamespace(t) {
		return
	}
	mine, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	if parent, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid())); err != nil || parent == mine {
		t.Errorf("mounts of %s in both (%v)", mine, err)
	}
}
