package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const uuid = "0123456789abcdef0123456789abcdef"
	for _, tt := range []struct {
		name, text string
		want       Config
		fault      string // empty: no error
	}{
		{"usual", `{"hostname":"box","uuid":"` + uuid + `","persistentLogging":true,"deviceType":"x"}`, Config{"box", uuid, true}, ""},
		{"strings for booleans", `{"persistentLogging":"true"}`, Config{PersistentLogging: true}, ""},
		{"byte order mark", "\xef\xbb\xbf" + `{"hostname":"box"}`, Config{Hostname: "box"}, ""},
		{"null", `{"hostname":null}`, Config{}, ""},
		{"empty", "", Config{}, "empty"},
		{"blank", " \n", Config{}, "empty"},
		{"cut short", `{"hostname":"bo`, Config{}, "unexpected end"},
		{"not an object", `[1]`, Config{}, "array"},
		{"NUL", "{\x00}", Config{}, "invalid character"},
		{"bad key spares the others", `{"hostname":7,"uuid":"zz","persistentLogging":true}`, Config{PersistentLogging: true}, "key uuid"},
		{"host name with a shell in it", `{"hostname":"a;reboot"}`, Config{}, "not a host name"},
		{"deep nesting", strings.Repeat("[", 100000), Config{}, "depth"},
		{"100 MB", strings.Repeat(" ", maxSize+1), Config{}, "longer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse([]byte(tt.text))
			if got != tt.want {
				t.Errorf("Parse = %+v, want %+v", got, tt.want)
			}
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("Parse reports %v, want %q", err, tt.fault)
			}
		})
	}
}

func TestReadMissingAndFolder(t *testing.T) {
	dir := t.TempDir()
	if c, err := Read(filepath.Join(dir, "config.json")); err != nil || c != (Config{}) {
		t.Errorf("missing file gives %+v, %v", c, err)
	}
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	if c, err := Read(filepath.Join(dir, "d")); err == nil || c != (Config{}) {
		t.Errorf("a folder gives %+v, %v", c, err)
	}
}

func TestDerivedHostname(t *testing.T) {
	for want, c := range map[string]Config{"box": {Hostname: "box", UUID: "0123456789"}, "0123456": {UUID: "0123456789"}, "resinos": {}} {
		if got := c.DerivedHostname(); got != want {
			t.Errorf("%+v is called %q, want %q", c, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"hostname":"box","uuid":"x","persistentLogging":1}`))
	f.Add([]byte(`{"hostname":"a","hostname":"b"}`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, _ := Parse(text)
		if name := c.DerivedHostname(); !ValidHostname(name) {
			t.Errorf("Parse(%q) leads to the host name %q", text, name)
		}
	})
}

func TestValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	os.WriteFile(path, []byte("\xef\xbb\xbf"+`{"a":"text","b":true,"c":15,"d":{"e":1},"f":[1],"g":null,"h":""}`), 0o644)
	if got := fmt.Sprint(Values(path)); got != "map[a:text b:true c:15 h:]" {
		t.Errorf("Values = %s", got)
	}
	os.WriteFile(path, []byte(`{"a":`), 0o644)
	if got := Values(path); got != nil {
		t.Errorf("Values of half a file = %v", got)
	}
}
