package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/atomicfile/atomicfiletest"
	"resinos/mounts/testenv"
	"resinos/services/hostname"
	"resinos/services/settings"
)

const someUUID = "0123456789abcdef0123456789abcdef"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, text string) Document {
	t.Helper()
	d, err := Parse([]byte(text))
	must(t, err)
	return d
}

// broken are files that nobody can use, and what is said of them.
func broken() map[string]struct{ text, fault string } {
	return map[string]struct{ text, fault string }{
		"empty":         {"", "empty"},
		"blank":         {" \r\n\t", "empty"},
		"cut short":     {"{\n\"hostname\": \"bo", "line 2: unexpected end"},
		"not an object": {"[1]", "not an object"},
		"number":        {"1", "not an object"},
		"NUL":           {"{\x00}", "line 1: NUL"},
		"all NUL":       {strings.Repeat("\x00", 4096), "NUL"},
		"NUL in text":   {"{\"hostname\": \"a\x00b\"}", "NUL"},
		"only a mark":   {byteOrderMark, "empty"},
		"UTF-16":        {"\xff\xfe{\x00}\x00", "NUL"},
		"not UTF-8":     {"{\"hostname\": \"\xff\"}", "UTF-8"},
		"deep arrays":   {strings.Repeat("[", 100000), "nested deeper"},
		"deep objects":  {strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), "nested deeper"},
		"100 MB":        {strings.Repeat(" ", maxSize+1), "longer"},
		"two documents": {"{}{}", "line 1: invalid character"},
		"comma":         {"{\n\"a\": 1,\n}", "line 3: invalid character"},
		"many keys":     {"{" + strings.Repeat(`"a":1,`, 100000) + `"b":1}`, "more than"},
		"open quote":    {`{"a`, "unexpected end"},
	}
}

func TestParseBroken(t *testing.T) {
	for name, one := range broken() {
		if d, err := Parse([]byte(one.text)); err == nil || !strings.Contains(err.Error(), one.fault) {
			t.Errorf("%s: Parse = %v, %v, want %q", name, d, err, one.fault)
		}
	}
	deepest := strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth)
	if _, err := Parse([]byte(deepest)); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
}

func TestEffective(t *testing.T) {
	for _, tt := range []struct {
		name, text, key, want, fault string // want is JSON; empty: none
	}{
		{"text", `{"hostname":"box"}`, "hostname", `"box"`, ""},
		{"byte order mark", byteOrderMark + `{"hostname":"box"}`, "hostname", `"box"`, ""},
		{"number for text", `{"hostname":7}`, "hostname", `"7"`, ""},
		{"null", `{"hostname":null}`, "hostname", "", ""},
		{"empty text", `{"hostname":""}`, "hostname", "", ""},
		{"host name with a shell in it", `{"hostname":"a;reboot"}`, "hostname", "", "not a host name"},
		{"object for text", `{"hostname":{"a":1}}`, "hostname", "", "want a string"},
		{"string for a boolean", `{"persistentLogging":"True"}`, "persistentLogging", "true", ""},
		{"number for a boolean", `{"persistentLogging":1}`, "persistentLogging", "true", ""},
		{"no boolean", `{"persistentLogging":"maybe"}`, "persistentLogging", "false", "want true or false"},
		{"array for a boolean", `{"persistentLogging":[true]}`, "persistentLogging", "false", "want true or false"},
		{"default", `{}`, "listenPort", "48484", ""},
		{"string for a number", `{"listenPort":" 80 "}`, "listenPort", "80", ""},
		{"too large", `{"listenPort":99999}`, "listenPort", "48484", "1 to 65535"},
		{"negative", `{"listenPort":-1}`, "listenPort", "48484", "whole number"},
		{"fraction", `{"listenPort":1.5}`, "listenPort", "48484", "whole number"},
		{"words", `{"dnsServers":"1.1.1.1,  ::1\t9.9.9.9"}`, "dnsServers", `["1.1.1.1","::1","9.9.9.9"]`, ""},
		{"array of words", `{"dnsServers":["1.1.1.1","9.9.9.9"]}`, "dnsServers", `["1.1.1.1","9.9.9.9"]`, ""},
		{"the word null", `{"dnsServers":"null"}`, "dnsServers", `[]`, ""},
		{"no words", `{"dnsServers":""}`, "dnsServers", `[]`, ""},
		{"a bad word", `{"dnsServers":"1.1.1.1 dns.example"}`, "dnsServers", `["1.1.1.1"]`, `"dns.example"`},
		{"names that timed takes", `{"ntpServers":"a.example. a_b.example 0.0.0.0"}`, "ntpServers",
			`["a.example","a_b.example"]`, `"0.0.0.0"`},
		{"names", `{"ntpServers":"a.example 192.0.2.1 -x"}`, "ntpServers", `["a.example","192.0.2.1"]`, `"-x"`},
		{"nested", `{"os":{"sshKeys":["ssh-ed25519 A x"]}}`, "os.sshKeys", `["ssh-ed25519 A x"]`, ""},
		{"one line", `{"os":{"sshKeys":"ssh-ed25519 A x"}}`, "os.sshKeys", `["ssh-ed25519 A x"]`, ""},
		{"no lines", `{"os":{"sshKeys":{}}}`, "os.sshKeys", "", "array of strings"},
		{"table", `{"os":{"udevRules":{"50":"x"}}}`, "os.udevRules", `{"50":"x"}`, ""},
		{"no table", `{"os":{"udevRules":{"50":1}}}`, "os.udevRules", "", "object of strings"},
		{"any", `{"deviceApiKeys":{"h":"k"}}`, "deviceApiKeys", `{"h":"k"}`, ""},
		{"twice", `{"hostname":"a","hostname":"b"}`, "hostname", `"b"`, "written twice"},
		{"uuid", `{"uuid":"0123456789ABCDEF0123456789ABCDEF"}`, "uuid", `"` + someUUID + `"`, ""},
		{"short uuid", `{"uuid":"0123"}`, "uuid", "", "32 hex digits"},
		{"country", `{"country":"de"}`, "country", `"DE"`, ""},
		{"bad key spares the others", `{"uuid":"zz","hostname":"box"}`, "hostname", `"box"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Effective(parse(t, tt.text), settings.File)
			if got := string(s.Values[tt.key].JSON); got != tt.want {
				t.Errorf("%s is %s, want %s", tt.key, got, tt.want)
			}
			if got := s.Faults[tt.key]; (got == "") != (tt.fault == "") || !strings.Contains(got, tt.fault) {
				t.Errorf("fault %q, want %q", got, tt.fault)
			}
			if len(s.Unknown) > 0 {
				t.Errorf("unknown: %q", s.Unknown)
			}
		})
	}
}

// TestLastGoodValue: a value that cannot be used leaves the one before it in force, in the copy too; one that is taken
// out does not.
func TestLastGoodValue(t *testing.T) {
	const good = `{"hostname":"box","listenPort":80,"persistentLogging":true,"dnsServers":"1.1.1.1 9.9.9.9",` +
		`"os":{"sshKeys":["key"],"fan":{"profile":"cool"}}}`
	for _, tt := range []struct {
		name, text, key, want string // want is JSON; empty: none
		from                  settings.From
		usable                string // empty: the text
	}{
		{"bad name", `{"hostname":"bad name!","x":1}`, "hostname", `"box"`, settings.LastGood,
			`{"x":1,"hostname":"box"}`},
		{"good name", `{"hostname":"new"}`, "hostname", `"new"`, settings.File, ""},
		{"taken out", `{"listenPort":81}`, "hostname", "", "", ""},
		{"null", `{"hostname":null}`, "hostname", "", "", ""},
		{"number", `{"listenPort":"many"}`, "listenPort", "80", settings.LastGood, `{"listenPort": 80}`},
		{"flag", `{"persistentLogging":[]}`, "persistentLogging", "true", settings.LastGood,
			`{"persistentLogging": true}`},
		{"no good word", `{"dnsServers":"dns.example"}`, "dnsServers", `["1.1.1.1","9.9.9.9"]`, settings.LastGood,
			`{"dnsServers": "1.1.1.1 9.9.9.9"}`},
		{"a good word", `{"dnsServers":"dns.example 8.8.8.8"}`, "dnsServers", `["8.8.8.8"]`, settings.File, ""},
		{"no words", `{"dnsServers":[]}`, "dnsServers", `[]`, settings.File, ""},
		{"never good", `{"country":"nowhere","a":1}`, "country", "", "", `{"a":1}`},
		{"no object", `{"os":"x"}`, "os.sshKeys", `["key"]`, settings.LastGood,
			`{"os": {"fan": {"profile": "cool"},"sshKeys": ["key"]}}`},
		{"null for an object", `{"os":null}`, "os.sshKeys", "", "", ""},
		{"written twice", `{"hostname":"b","hostname":"-"}`, "hostname", `"box"`, settings.LastGood,
			`{"hostname": "box"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			must(t, os.WriteFile(path, []byte(tt.text), 0o600))
			must(t, os.WriteFile(path+Sibling, encodeSibling([]byte(good)), 0o600))
			l := Load(path)
			s := InForce(l, "")
			if v := s.Values[tt.key]; tt.key != "hostname" || tt.want != "" {
				if string(v.JSON) != tt.want || v.From != tt.from && tt.from != "" {
					t.Errorf("%s is %s from %s, want %s", tt.key, v.JSON, v.From, tt.want)
				}
			} else if v.From != settings.Generated {
				t.Errorf("%s is %s from %s, want none", tt.key, v.JSON, v.From)
			}
			if tt.usable == "" {
				tt.usable = tt.text
			}
			if got := string(l.Usable().Bytes()); strings.ReplaceAll(strings.ReplaceAll(got, " ", ""), "\n",
				"") != strings.ReplaceAll(tt.usable, " ", "") {
				t.Errorf("usable is %s, want %s", got, tt.usable)
			}
			if tt.from == settings.LastGood && !strings.Contains(s.Faults[tt.key], "the last good value stays") {
				t.Errorf("the fault is %q", s.Faults[tt.key])
			}
			must(t, Store{Path: path}.Update(func(d Document) (Document, error) {
				return d.With("a",
					json.RawMessage("2"))
			}))
			if again := InForce(Load(path), ""); !bytes.Equal(again.Values[tt.key].JSON, s.Values[tt.key].JSON) {
				t.Errorf("after a change of another key %s is %s", tt.key, again.Values[tt.key].JSON)
			}
			must(t, os.WriteFile(path, []byte("{"), 0o600))
			if broken := InForce(Load(path), ""); !bytes.Equal(broken.Values[tt.key].JSON, s.Values[tt.key].JSON) {
				t.Errorf("of a broken file %s is %s", tt.key, broken.Values[tt.key].JSON)
			}
		})
	}
}

func TestUnknownKeys(t *testing.T) {
	s := Effective(parse(t,
		`{"x":1,"os":{"new":{"a":1,"b":2},"sshKeys":[]},"os.sshKeys":[],"hostname":"box",`+
			`"deviceApiKeys":{"h":{"k":1}},"os2":{}}`), settings.File)
	if want := []string{"x", "os.new.a", "os.new.b", "os2"}; !slices.Equal(s.Unknown, want) {
		t.Errorf("unknown are %q, want %q", s.Unknown, want)
	}
}

// TestTable: each row says who lives by its key, once, and its default is a value of its kind.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		said := 0
		for _, who := range []string{k.Daemon, k.Others, k.Later, k.Refused} {
			if who != "" {
				said++
			}
		}
		if said != 1 || seen[k.Name] {
			t.Errorf("%s: %d of daemon, others and later are said, or it stands there twice", k.Name, said)
		}
		seen[k.Name] = true
		if k.Default != "" {
			if value, err := k.judge(json.RawMessage(k.Default)); err != nil || value == nil {
				t.Errorf("%s: default %s gives %v, %v", k.Name, k.Default, value, err)
			}
		}
	}
}

func TestHostname(t *testing.T) {
	for want, text := range map[string]string{"box": `{"hostname":"box","uuid":"` + someUUID + `"}`,
		"0123456": `{"uuid":"` + someUUID + `"}`, "resinos": "{}"} {
		if got := DeviceName(Effective(parse(t, text), settings.File)); got != want {
			t.Errorf("%s is called %q, want %q", text, got, want)
		}
	}
}

func TestEdit(t *testing.T) {
	for _, tt := range []struct{ name, before, key, value, after string }{
		{"replace", "{\n\t\"hostname\" : \"a\",\n\t\"x\": [1,  2]\n}\n", "hostname", `"b"`,
			"{\n\t\"hostname\" : \"b\",\n\t\"x\": [1,  2]\n}\n"},
		{"add", "{\n  \"a\": 1,\n  \"b\": 2\n}\n", "c", "3", "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}\n"},
		{"add to one line", `{"a":1}`, "c", "3", `{"a":1,"c":3}`},
		{"add behind one", "{\r\n    \"a\": 1\r\n}", "c", "3", "{\r\n    \"a\": 1,\r\n    \"c\": 3\r\n}"},
		{"commas in front", "{\n  \"a\": 1\n, \"b\": 2\n}", "c", "3", "{\n  \"a\": 1\n, \"b\": 2, \"c\": 3\n}"},
		{"add to nothing", "{}", "c", "3", "{\n  \"c\": 3\n}"},
		{"byte order mark", byteOrderMark + `{"a":1}`, "a", "2", byteOrderMark + `{"a":2}`},
		{"add nested", `{"os": {"a": 1}}`, "os.b.c", "3", `{"os": {"a": 1,"b": {"c": 3}}}`},
		{"add nested to nothing", "{\n  \"a\": 1\n}", "os.b.c", "3",
			"{\n  \"a\": 1,\n  \"os\": {\"b\": {\"c\": 3}}\n}"},
		{"empty object", `{"os":{}}`, "os.b", "3", `{"os":{"b": 3}}`},
		{"the last of two", `{"a":1,"a":2}`, "a", "3", `{"a":1,"a":3}`},
		{"what looks like it", `{"x":"\"a\":1,{","a":1}`, "a", "2", `{"x":"\"a\":1,{","a":2}`},
		{"escaped name", `{"\u0061":1}`, "a", "2", `{"\u0061":2}`},
		{"remove", "{\n  \"a\": 1,\n  \"b\": 2\n}\n", "a", "", "{\n  \"b\": 2\n}\n"},
		{"remove the last", "{\n  \"a\": 1,\n  \"b\": 2\n}\n", "b", "", "{\n  \"a\": 1\n}\n"},
		{"remove the only one", "{\n  \"a\": 1\n}", "a", "", "{}"},
		{"remove both", `{"a":1,"b":2,"a":3}`, "a", "", `{"b":2}`},
		{"remove nested", `{"os":{"a":1,"b":2},"c":3}`, "os.a", "", `{"os":{"b":2},"c":3}`},
		{"remove what is not there", `{"a":1}`, "b.c", "", `{"a":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := parse(t, tt.before)
			var err error
			if tt.value == "" {
				d, err = d.Without(tt.key)
			} else {
				d, err = d.With(tt.key, json.RawMessage(tt.value))
			}
			if got := string(d.Bytes()); err != nil || got != tt.after {
				t.Errorf("gives %q, %v, want %q", got, err, tt.after)
			}
		})
	}
	if d, err := parse(t, `{"os":1}`).With("os.a", json.RawMessage("1")); err == nil {
		t.Errorf("a member of a number is set: %s", d.Bytes())
	}
	if d, err := parse(t, `{}`).With("a", json.RawMessage("{")); err == nil {
		t.Errorf("what is no JSON is set: %s", d.Bytes())
	}
}

func TestEncode(t *testing.T) {
	for _, tt := range [][3]string{
		{"hostname", "true", `"true"`}, {"persistentLogging", "yes", "true"}, {"persistentLogging", "maybe", `"maybe"`},
		{"listenPort", "007", "7"},
		{"os.sshKeys", "ssh-ed25519 A", `["ssh-ed25519 A"]`}, {"os.sshKeys", `["a","b"]`, `["a","b"]`},
		{"mine", "<a>", `"<a>"`}, {"mine", "[1]", "[1]"},
	} {
		if got := Encode(tt[0], tt[1]); string(got) != tt[2] {
			t.Errorf("Encode(%s, %s) = %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}
	if err := Check("hostname", Encode("hostname", "a b")); err == nil || !strings.Contains(err.Error(), "hostname") {
		t.Errorf("a bad host name is good: %v", err)
	}
}

func TestFacts(t *testing.T) {
	got := fmt.Sprint(parse(t,
		byteOrderMark+`{"a":"text","b":true,"c":15,"d":{"e":1},"f":[1],"g":null,"h":""}`).Facts())
	if got != "map[a:text b:true c:15 d.e:1 h:]" {
		t.Errorf("Facts = %s", got)
	}
	for text, want := range map[string]string{
		`{"os":{"sshKeys":["a","b"]}}`: "map[os.sshKeys:a\nb]", `{"os":{"sshKeys":"a"}}`: "map[os.sshKeys:a]",
		`{"os":{"sshKeys":[]}}`: "map[]", `{"os":{"sshKeys":""}}`: "map[]", `{"os":{"sshKeys":null}}`: "map[]",
		`{"dnsServers":"null"}`: "map[]",
	} {
		if got := fmt.Sprint(parse(t, text).Facts()); got != want {
			t.Errorf("Facts of %s = %s, want %s", text, got, want)
		}
	}
}

// TestLoad: which copy wins.
func TestLoad(t *testing.T) {
	good := string(encodeSibling([]byte(`{"hostname":"copy"}`)))
	for name, tt := range map[string]struct {
		file, sibling string // "-": there is none
		want          settings.From
		hostname      string
		fault         string
	}{
		"file":          {`{"hostname":"file"}`, good, settings.File, "file", ""},
		"no copy":       {`{"hostname":"file"}`, "-", settings.File, "file", ""},
		"torn copy":     {`{"hostname":"file"}`, good[:40], settings.File, "file", ""},
		"missing":       {"-", good, settings.LastGood, "copy", "last good copy is in force"},
		"neither":       {"-", "-", settings.Default, "resinos", ""},
		"missing, torn": {"-", good[:len(good)-1], settings.Default, "resinos", "sum is wrong"},
		"cut":           {`{"hostname":"fi`, good, settings.LastGood, "copy", "last good copy is in force"},
		"cut, no copy":  {`{"hostname":"fi`, "-", settings.Default, "resinos", "no last good copy"},
		"cut, copy changed": {`{"hostname":"fi`, strings.Replace(good, "copy", "kopy", 1), settings.Default, "resinos",
			"sum is wrong"},
		"cut, bad copy": {`{"hostname":"fi`, string(encodeSibling([]byte("{"))), settings.Default, "resinos",
			"unexpected end"},
		"cut, empty copy": {`{"hostname":"fi`, "", settings.Default, "resinos", "sum is wrong"},
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		for file, text := range map[string]string{path: tt.file, path + Sibling: tt.sibling} {
			if text != "-" {
				must(t, os.WriteFile(file, []byte(text), 0o600))
			}
		}
		got := Load(path)
		if name2 := DeviceName(Effective(got.Document, got.Source)); got.Source != tt.want || name2 != tt.hostname ||
			got.Missing != (tt.file == "-") {
			t.Errorf("%s: %s %s, missing %v; want %s %s", name, got.Source, name2, got.Missing, tt.want, tt.hostname)
		}
		if fault := fmt.Sprint(got.Fault); (got.Fault == nil) != (tt.fault == "") || got.Fault != nil &&
			!strings.Contains(fault, tt.fault) {
			t.Errorf("%s: fault %v, want %q", name, got.Fault, tt.fault)
		}
	}
}

// TestLoadOdd: what is no file holds nobody up, and what is huge is not read.
func TestLoadOdd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	must(t, os.Mkdir(path, 0o755))
	if got := Load(path); got.Source != settings.Default || got.Fault == nil {
		t.Errorf("a directory gives %+v", got)
	}
	must(t, os.Remove(path))
	must(t, syscall.Mkfifo(path, 0o600))
	if got := Load(path); got.Source != settings.Default || got.Fault == nil {
		t.Errorf("a pipe gives %+v", got)
	}
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 100<<30))
	began := time.Now()
	if got := Load(path); got.Source != settings.Default || !strings.Contains(fmt.Sprint(got.Fault), "longer") {
		t.Errorf("100 GB give %+v", got)
	}
	testenv.AtMost(t, "not reading 100 GB", time.Since(began), time.Second)
}

func setHostname(name string) func(Document) (Document, error) {
	return func(d Document) (Document, error) { return d.With("hostname", json.RawMessage(quote(name))) }
}

func TestUpdateLeavesBrokenFileAlone(t *testing.T) {
	for name, one := range broken() {
		s := Store{Path: filepath.Join(t.TempDir(), "config.json")}
		must(t, os.WriteFile(s.Path, []byte(one.text), 0o600))
		must(t, s.keep(parse(t, `{"hostname":"good"}`)))
		if err := s.Update(setHostname("new")); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: Update = %v, want that it refuses", name, err)
		}
		if got, err := os.ReadFile(s.Path); err != nil || string(got) != one.text {
			t.Errorf("%s: the file now holds %.60q, %v", name, got, err)
		}
		must(t, s.Restore())
		if got := Load(s.Path); got.Source != settings.File ||
			DeviceName(Effective(got.Document, got.Source)) != "good" {
			t.Errorf("%s: after Restore there is %+v", name, got)
		}
		if got, err := os.ReadFile(s.Path + Bad); err != nil || string(got) != one.text {
			t.Errorf("%s: what was bad is gone: %.60q, %v", name, got, err)
		}
	}
}

// TestUpdateSurvivesCutAtEveryStep: whatever was cut, the old or the new is in force, and what was acknowledged stays.
func TestUpdateSurvivesCutAtEveryStep(t *testing.T) {
	const steps = 6
	for at := 0; at <= steps; at++ {
		for _, torn := range []bool{false, true} { // torn: the directory forgot the file that was being replaced
			path := filepath.Join(t.TempDir(), "config.json")
			must(t, os.WriteFile(path, []byte(`{"mine":[1,2],"hostname":"old"}`), 0o600))
			must(t, Store{Path: path}.keep(parse(t, `{"mine":[1,2],"hostname":"old"}`)))
			cut := &atomicfiletest.Cut{At: at}
			err := Store{Path: path, System: cut}.Update(setHostname("new"))
			if (err == nil) != (at == steps) {
				t.Errorf("cut at %d: Update = %v after %q", at, err, cut.Calls)
			}
			if torn && at > 3 && at < steps {
				must(t, os.Remove(path)) // the copy had been synced by then
			}
			got := Load(path)
			name := DeviceName(Effective(got.Document, got.Source))
			if name != "old" && name != "new" || at == steps && name != "new" ||
				!bytes.Contains(got.Document.Bytes(), []byte(`"mine":[1,2]`)) {
				t.Errorf("cut at %d, torn %v: %s %s is in force", at, torn, got.Source, got.Document.Bytes())
			}
			if err := (Store{Path: path}).Update(setHostname("next")); err != nil {
				t.Errorf("cut at %d: the next Update: %v", at, err)
			}
		}
	}
}

func TestUpdateOnReadOnlyDirectoryAndTwiceAtOnce(t *testing.T) {
	s := Store{Path: filepath.Join(t.TempDir(), "gone", "config.json")}
	if err := s.Update(setHostname("a")); err == nil || !strings.Contains(err.Error(), s.Path) {
		t.Errorf("without a directory: %v", err)
	}
	s.Path = filepath.Join(t.TempDir(), "config.json")
	const writers = 8
	ended := make(chan error)
	for i := range writers {
		go func() {
			ended <- s.Update(func(d Document) (Document, error) {
				return d.With(fmt.Sprintf("key%d", i),
					json.RawMessage("1"))
			})
		}()
	}
	for range writers {
		must(t, <-ended)
	}
	if got := Load(s.Path).Document.Facts(); len(got) != writers {
		t.Errorf("%d writers leave %v", writers, slices.Sorted(maps.Keys(got)))
	}
}

func FuzzParse(f *testing.F) {
	for _, one := range broken() {
		if len(one.text) < 10000 {
			f.Add([]byte(one.text), "hostname")
		}
	}
	f.Add([]byte(byteOrderMark+`{"hostname":"a","hostname":"b","os":{"sshKeys":["x"]}}`), "os.sshKeys")
	f.Add([]byte("{\n  \"a\" : {} ,\"b\":[1,{\"c\":null}]}"), "a.b")
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		d, err := Parse(text)
		valid := json.Valid(bytes.TrimPrefix(text, []byte(byteOrderMark)))
		if err != nil {
			return
		}
		if !valid || !bytes.Equal(d.Bytes(), text) {
			t.Fatalf("Parse takes %q, valid %v, for %q", text, valid, d.Bytes())
		}
		if name := DeviceName(Effective(d, settings.File)); !hostname.ValidLabel(name) {
			t.Errorf("it leads to the host name %q", name)
		}
		if strings.Count(key, ".") >= maxDepth-2 || strings.ContainsRune(key, 0) || !json.Valid([]byte(quote(key))) ||
			strings.ContainsRune(key, '\ufffd') || quote(key) != quote(strings.ToValidUTF8(key, "?")) {
			return
		}
		set, err := d.With(key, json.RawMessage(`"value"`))
		if err != nil {
			return // a part of it is no object, or it lies too deep
		}
		if raw, found := set.Get(key); !found || string(raw) != `"value"` {
			t.Errorf("%q with %q set is %q", text, key, set.Bytes())
		}
		gone, err := set.Without(key)
		if _, found := gone.Get(key); err != nil || found {
			t.Errorf("%q without %q is %q, %v", set.Bytes(), key, gone.Bytes(), err)
		}
	})
}

func FuzzSibling(f *testing.F) {
	f.Add(encodeSibling([]byte("{}")))
	f.Add([]byte(siblingHead))
	f.Fuzz(func(t *testing.T, text []byte) {
		if body, err := decodeSibling(text); err == nil && !bytes.Equal(encodeSibling(body), text) {
			t.Errorf("%q is taken for a copy of %q", text, body)
		}
	})
}

// TestDevelopmentMode: the owner decides; without a word, the variant of the image.
func TestDevelopmentMode(t *testing.T) {
	for _, c := range []struct {
		variant, file, good string
		want                bool
	}{
		{"development", `{}`, `{}`, true}, {"standalone", `{}`, `{}`, true}, {"production", `{}`, `{}`, false},
		{"", `{}`, `{}`, false},
		{"development", `{"developmentMode": false}`, `{}`, false}, {"production", `{"developmentMode": true}`, `{}`,
			true},
		{"production", `{"developmentMode": "true"}`, `{}`, true}, {"production", `{"developmentMode": "open"}`, `{}`,
			false},
		{"development", `{"developmentMode": {}}`, `{}`, true}, {"development", `{"developmentMode": 7}`,
			`{"developmentMode": false}`, false},
		{"development", `{"developmentMode": null}`, `{}`, true},
	} {
		l := Loaded{Document: parse(t, c.file), Source: settings.File, Good: parse(t, c.good), Variant: c.variant}
		s, fact := InForce(l, ""), l.Facts()[DevelopmentMode]
		if s.Flag(DevelopmentMode) != c.want || fact != fmt.Sprint(c.want) {
			t.Errorf("%s with %s, last good %s: the mode is %t, the fact %s; want %t", c.variant, c.file, c.good,
				s.Flag(DevelopmentMode), fact, c.want)
		}
	}
}
