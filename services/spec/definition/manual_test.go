package definition

import (
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"resinos/services/spec/keys"
)

// manual is the owner's manual of service files.
const manual = "../../../docs/services.md"

// What the tests read in the manual: an example begins with a comment that names its file.
var (
	keyRow   = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| [^|]+ \\| *([^|]*?) *\\| [^|]+ \\|$")
	examples = regexp.MustCompile("(?s)```toml\n(.*?)```")
	fileLine = regexp.MustCompile(`^# /etc/resinos/services/([^/\n]+\.toml)\n`)
)

func readManual(t *testing.T) string {
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// manualExamples returns the examples as the owner's directory of service files.
func manualExamples(t *testing.T) fstest.MapFS {
	files := fstest.MapFS{}
	for _, m := range examples.FindAllStringSubmatch(readManual(t), -1) {
		name := fileLine.FindStringSubmatch(m[1])
		if name == nil {
			t.Fatalf("an example does not begin with # /etc/resinos/services/NAME.toml:\n%s", m[1])
		}
		if files[name[1]] != nil {
			t.Errorf("%s: two examples have this name", name[1])
		}
		files[name[1]] = &fstest.MapFile{Data: []byte(m[1])}
	}
	return files
}

// TestManualExamples uses all examples together on top of the shipped files, as a device would, and wants no fault and
// no warning; each key must be in one of them.
func TestManualExamples(t *testing.T) {
	files := manualExamples(t)
	layers := []Layer{
		{FS: os.DirFS("../../shipped"), Dir: ".", Path: "/usr/lib/resinos/services"},
		{FS: files, Dir: ".", Path: "/etc/resinos/services"},
	}
	if _, errs := Load(layers...); len(errs) > 0 {
		t.Errorf("load all examples: %v", errors.Join(errs...))
	}
	used := map[string]bool{}
	for name, file := range files {
		_, warnings, err := Check(path.Join(layers[1].Path, name), file.Data, layers...)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: faults %v, warnings %v", name, err, warnings)
		}
		src, f := read(name, file.Data)
		if f != nil {
			t.Fatalf("%s: %v", name, f)
		}
		for key := range src.top {
			used[key] = true
		}
	}
	for i := range keys.All {
		if !used[keys.All[i].Name] {
			t.Errorf("%s: no example uses %q", manual, keys.All[i].Name)
		}
	}
}

// TestManualKeys wants a row for each key of the parser, and no other row.
func TestManualKeys(t *testing.T) {
	var rows []string
	for _, m := range keyRow.FindAllStringSubmatch(readManual(t), -1) {
		rows = append(rows, m[1])
	}
	for i := range keys.All {
		if n := len(slices.DeleteFunc(slices.Clone(rows),
			func(r string) bool { return r != keys.All[i].Name })); n != 1 {
			t.Errorf("%s: %d rows for key %q, want 1", manual, n, keys.All[i].Name)
		}
	}
	for _, row := range rows {
		if keys.Find(row) < 0 {
			t.Errorf("%s: a row for %q, which is no key", manual, row)
		}
	}
}

// defaultBase gives each key a file in which its default holds.
const defaultBase = `command = ["/bin/true"]`

// TestManualDefaults wants the first default of each row to be what the parser takes when the file does not say the
// key.
func TestManualDefaults(t *testing.T) {
	documented := map[string]string{}
	for _, m := range keyRow.FindAllStringSubmatch(readManual(t), -1) {
		if first, ok := strings.CutPrefix(m[2], "`"); ok {
			documented[m[1]], _, _ = strings.Cut(first, "`")
		}
	}
	with := map[string]string{
		"give-up-within":     "give-up-after = 3",
		"health-every":       `health-command = ["/bin/true"]`,
		"health-timeout":     `health-command = ["/bin/true"]`,
		"health-retries":     `health-command = ["/bin/true"]`,
		"listen-mode":        `listen = ["unix:/run/x"]`,
		"listen-each":        `listen = ["unix:/run/x"]`,
		"listen-max":         "listen = [\"unix:/run/x\"]\nlisten-each = true",
		"timer-random-delay": `timer-every = "1h"`,
		"propagation":        "private-tmp = true",
		"listen-stored":      "fd-store = 1",
	}
	parse := func(text string) string {
		s, err := Parse("x.toml", []byte(text))
		if err != nil {
			t.Fatalf("parse\n%s\n%v", text, err)
		}
		s.Files = nil
		return fmt.Sprintf("%+v", s)
	}
	for key, value := range documented {
		base := defaultBase + "\n" + with[key]
		if got, want := parse(base+"\n"+key+" = "+value), parse(base); got != want {
			t.Errorf("%s: %s = %s is not the default:\n%s\nwithout the key\n%s", manual, key, value, got, want)
		}
	}
	// And what holds without a word must be told.
	s, err := Parse("x.toml", []byte(defaultBase+
		"\nprivate-tmp = true\nhealth-command = [\"/bin/true\"]\ngive-up-after = 3\nlisten = [\"unix:/run/x\"]"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(Render(s)) {
		key, _, is := strings.Cut(line, " = ")
		if is && !slices.Contains([]string{"command", "health-command", "listen"}, key) && documented[key] == "" {
			t.Errorf("%s: %s has no default, but the parser takes one: %s", manual, key, line)
		}
	}
}
