package definition

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/spec"
	"resinos/services/spec/keys"
)

// TestGolden decodes every testdata/*.toml and compares what comes out, spec or faults.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(filepath.Base(file), data)
			got := Render(s)
			if err != nil {
				got = err.Error() + "\n"
			}
			testenv.Golden(t, strings.TrimSuffix(filepath.Base(file), ".toml")+".golden", got)
		})
	}
}

func TestFileNames(t *testing.T) {
	good := []byte(`command = ["/bin/true"]`)
	for name, ok := range map[string]bool{
		"a.toml": true, "dir/net-time_2.toml": true, strings.Repeat("a", 64) + ".toml": true,
		"a": false, ".toml": false, "A.toml": false, "a b.toml": false, "-a.toml": false, "a.b.toml": false,
		"ä.toml": false, strings.Repeat("a", 65) + ".toml": false,
	} {
		if _, err := Parse(name, good); (err == nil) != ok {
			t.Errorf("Parse(%q) gives %v, want ok %t", name, err, ok)
		}
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	_, err := Parse("a.toml", []byte("command = [\"/x\"]\n#"+strings.Repeat("x", MaxSize)))
	var f keys.Fault
	if !errors.As(err, &f) || !strings.Contains(f.Text, "64 KiB") {
		t.Errorf("Parse of a large file gives %v", err)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "k%d = 1\n", i)
	}
	_, err := Parse("a.toml", []byte(b.String()))
	var faults keys.Faults
	if !errors.As(err, &faults) || len(faults) > maxFaults+2 {
		t.Errorf("Parse tells %d faults", len(faults))
	}
}

func TestLoadKeepsTheGood(t *testing.T) {
	fsys := fstest.MapFS{
		"s/a.toml":      {Data: []byte(`command = ["/bin/a"]`)},
		"s/bad.toml":    {Data: []byte("command = [\"/bin/b\"]\nneds = [\"a\"]\nrestart = \"sometimes\"")},
		"s/broken.toml": {Data: []byte("command = [")},
		"s/c.toml":      {Data: []byte(`command = ["/bin/c"]`)},
		"s/.hid.toml":   {Data: []byte("garbage")},
		"s/note.txt":    {Data: []byte("garbage")},
		"s/d.toml/x":    {Data: []byte("a directory")},
	}
	specs, errs := Load(Layer{FS: fsys, Dir: "s"})
	if len(specs) != 2 || specs[0].Name != "a" || specs[1].Name != "c" {
		t.Errorf("Load gives %+v", specs)
	}
	text := errors.Join(errs...).Error()
	for _, want := range []string{
		`s/bad.toml:2: key "neds": no such key (did you mean needs?)`,
		`s/bad.toml:3: key "restart": "sometimes" is not known`,
		"s/broken.toml:", "s/d.toml: is no regular file",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("Load errors lack %q:\n%s", want, text)
		}
	}
	if specs, errs := Load(Layer{FS: fsys, Dir: "absent"}); len(specs) > 0 || errs != nil {
		t.Errorf("Load of a missing directory gives %v, %v", specs, errs)
	}
}

// TestHostileFilesAreQuick bounds what the largest bad file costs PID 1.
func TestHostileFilesAreQuick(t *testing.T) {
	for name, one := range map[string]string{
		"unknown keys": "k%d = 1\n", "bad variables": "environment.k%d = 1\n",
		"good variables": "environment.k%d = \"1\"\n", "tables": "[k%d.a.b.c]\n",
	} {
		var b strings.Builder
		for i := 0; b.Len() < MaxSize-100; i++ {
			fmt.Fprintf(&b, one, i)
		}
		start := time.Now()
		if _, err := Parse("a.toml", []byte(b.String())); err == nil {
			t.Errorf("Parse takes %d bytes of %s", b.Len(), name)
		}
		testenv.AtMost(t, name, time.Since(start), 5*time.Second)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("dir/a.toml", data)
		var faults keys.Faults
		switch {
		case err == nil:
			if s.Name != "a" || len(s.Command) == 0 || s.Type == "" || s.Restart == "" || s.KillMode == "" {
				t.Errorf("Parse gives %+v without a fault", s)
			}
			roundTrip(t, s)
		case !errors.As(err, &faults) || len(faults) == 0:
			t.Errorf("Parse gives %v, want Faults", err)
		}
		for _, fault := range faults {
			if fault.File != "dir/a.toml" || fault.Text == "" || fault.Line > strings.Count(string(data), "\n")+1 {
				t.Errorf("fault %+v", fault)
			}
		}
	})
}

// roundTrip checks that what Render writes says the same.
func roundTrip(t *testing.T, s spec.Spec) {
	t.Helper()
	text := Render(s)
	again, err := Parse(s.Name+".toml", []byte(text))
	s.Files, again.Files = nil, nil
	if err != nil || !reflect.DeepEqual(s, again) {
		t.Errorf("%+v is rendered as\n%swhich gives\n%+v, %v", s, text, again, err)
	}
}

// TestEveryKeyIsRendered holds the table of keys and Render together; manual_test.go does so for the manual.
func TestEveryKeyIsRendered(t *testing.T) {
	var all string
	for _, name := range []string{"every", "each", "probes", "port", "watchdog", "stored"} {
		data, err := os.ReadFile("testdata/" + name + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(name+".toml", data)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s)
		all += "\n" + Render(s)
	}
	for i, k := range keys.All {
		if !strings.Contains(all, "\n"+k.Name+" = ") && !strings.Contains(all, "\n["+k.Name+"]\n") {
			t.Errorf("key %s is never rendered", k.Name)
		}
		if keys.Find(k.Name) != i {
			t.Errorf("key %s is in the table twice", k.Name)
		}
	}
	for _, c := range companions {
		for _, name := range append(c.of[:], c.key) {
			if name != "" && keys.Find(name) < 0 {
				t.Errorf("companions name %q, which is no key", name)
			}
		}
	}
}
