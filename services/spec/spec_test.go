package spec

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

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
			got := fmt.Sprintf("%+v\n", s)
			if err != nil {
				got = err.Error() + "\n"
			}
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("Parse(%s) =\n%swant\n%s", file, got, want)
			}
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
	var f Fault
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
	var faults Faults
	if !errors.As(err, &faults) || len(faults) > maxFaults+2 {
		t.Errorf("Parse tells %d faults", len(faults))
	}
}

func TestLoadDirKeepsTheGood(t *testing.T) {
	fsys := fstest.MapFS{
		"s/a.toml":      {Data: []byte(`command = ["/bin/a"]`)},
		"s/bad.toml":    {Data: []byte("command = [\"/bin/b\"]\nneds = [\"a\"]\nrestart = \"sometimes\"")},
		"s/broken.toml": {Data: []byte("command = [")},
		"s/c.toml":      {Data: []byte(`command = ["/bin/c"]`)},
		"s/.hid.toml":   {Data: []byte("garbage")},
		"s/note.txt":    {Data: []byte("garbage")},
		"s/d.toml/x":    {Data: []byte("a folder")},
	}
	specs, errs := LoadDir(fsys, "s")
	if len(specs) != 2 || specs[0].Name != "a" || specs[1].Name != "c" {
		t.Errorf("LoadDir gives %+v", specs)
	}
	text := errors.Join(errs...).Error()
	for _, want := range []string{
		`s/bad.toml:2: key "neds": no such key (did you mean needs?)`,
		`s/bad.toml:3: key "restart": "sometimes" is not known`,
		"s/broken.toml:", "s/d.toml: is no regular file",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("LoadDir errors lack %q:\n%s", want, text)
		}
	}
	if specs, errs := LoadDir(fsys, "absent"); specs != nil || errs != nil {
		t.Errorf("LoadDir of a missing folder gives %v, %v", specs, errs)
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
		var faults Faults
		switch {
		case err == nil:
			if s.Name != "a" || len(s.Command) == 0 || s.Type == "" || s.Restart == "" || s.KillMode == "" {
				t.Errorf("Parse gives %+v without a fault", s)
			}
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
