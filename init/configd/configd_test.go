package configd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/mounts/atomicfile"
	"resinos/mounts/atomicfile/atomicfiletest"
	"resinos/services/config"
	"resinos/services/settings"
	"resinos/services/spec/precondition"
)

const made = "00112233445566778899aabbccddeeff"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a device: its boot partition, its /run, and what has been done to it.
type bench struct {
	Config
	hostnames []string
	rootCA    []string // the values that were given to SetRootCA
	moved     string   // what the services were judged by
}

// newBench is a device that has booted with a file, "-" being none.
func newBench(t *testing.T, file string) *bench {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "boot"), 0o755))
	b := &bench{}
	b.Config = Config{
		Store: config.Store{Path: filepath.Join(dir, "boot", "config.json")}, Published: filepath.Join(dir, "run",
			"config.json"),
		Lasts: func() bool { return true }, Patience: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Now:     func() time.Duration { return time.Second },
		InImage: func() []string { return []string{"sshd", "netd"} },
		SetRootCA: func(value string) error {
			b.rootCA = append(b.rootCA, value)
			return nil
		},
		SetHostname: func(name string) error {
			b.hostnames = append(b.hostnames, name)
			return nil
		},
		Services: func(_ context.Context, before, now Facts) error {
			b.moved = fmt.Sprint(before["mode"], " -> ", now["mode"])
			return nil
		},
	}
	b.write(t, file)
	_, err := settings.Publish(b.Published, config.InForce(config.Load(b.Store.Path), made)) // as PID 1 does
	must(t, err)
	return b
}

func (b *bench) write(t *testing.T, file string) {
	t.Helper()
	if file != "-" {
		must(t, os.WriteFile(b.Store.Path, []byte(file), 0o600))
		return
	}
	_ = os.Remove(b.Store.Path) // it need not be there
}

func (b *bench) run(t *testing.T) settings.Settings {
	t.Helper()
	must(t, Run(t.Context(), b.Config))
	s, err := settings.Read(b.Published)
	must(t, err)
	return s
}

func (b *bench) file(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(b.Store.Path)
	if err != nil {
		return "-"
	}
	return string(text)
}

// TestNewDevice: the file gets the identity, with all else as it was, and the copy is there.
func TestNewDevice(t *testing.T) {
	b := newBench(t, "{\n  \"mine\": {\"a\": 1}\n}\n")
	s := b.run(t)
	if want := "{\n  \"mine\": {\"a\": 1},\n  \"uuid\": \"" + made + "\"\n}\n"; b.file(t) != want {
		t.Errorf("the file is %s", b.file(t))
	}
	if good, err := config.Good(b.Store.Path); err != nil || string(good.Bytes()) != b.file(t) {
		t.Errorf("the copy is %s, %v", good.Bytes(), err)
	}
	if s.Text("hostname") != made[:7] || s.Values["hostname"].From != settings.Generated ||
		s.Values["uuid"].From != settings.File || !slices.Equal(s.Unknown, []string{"mine.a"}) {
		t.Errorf("in force is %+v", s)
	}
	before, err := os.Stat(b.Store.Path)
	must(t, err)
	b.run(t)
	if after, err := os.Stat(b.Store.Path); err != nil || !os.SameFile(before, after) {
		t.Error("a second run writes the file again")
	}
}

func TestChange(t *testing.T) {
	b := newBench(t, `{"hostname":"one","mode":"a"}`)
	b.run(t)
	b.write(t, `{"hostname":"two","mode":"b","uuid":"`+made+`"}`)
	s := b.run(t)
	if s.Text("hostname") != "two" || b.hostnames[len(b.hostnames)-1] != "two" || b.moved != "a -> b" {
		t.Errorf("hostnames %q, services %s, in force %+v", b.hostnames, b.moved, s)
	}
	all, err := settings.AllTaken(b.Published)
	if err != nil || len(all["hostname"]) != 1 || !all["hostname"][0].Of(s.Values["hostname"]) {
		t.Errorf("taken is %+v, %v", all, err)
	}
	if got := fmt.Sprintf("%q", b.rootCA); got != `["" ""]` {
		t.Errorf("certificates were set to %s, want nothing twice", got)
	}
	b.SetHostname = func(string) error { return errors.New("not permitted") }
	b.SetRootCA = func(string) error { return errors.New("no space") }
	b.run(t)
	if all, err := settings.AllTaken(b.Published); err != nil || all["balenaRootCA"][0].Error != "no space" {
		t.Errorf("taken is %+v, %v", all, err)
	}
	if all, err := settings.AllTaken(b.Published); err != nil || all["hostname"][0].Error != "not permitted" {
		t.Errorf("taken is %+v, %v", all, err)
	}
}

// TestIdentityStays: whatever happens to the file, the device is who it was; and another uuid is taken when it is one.
func TestIdentityStays(t *testing.T) {
	other := strings.Repeat("9", 32)
	for name, tt := range map[string]struct{ file, uuid, left string }{
		"dropped":   {`{"hostname":"x"}`, other, `{"hostname":"x","uuid":"` + other + `"}`},
		"null":      {`{"uuid":null}`, other, `{"uuid":"` + other + `"}`},
		"wrong":     {`{"uuid":"me"}`, other, `{"uuid":"me"}`},
		"broken":    {`{"uuid":`, other, `{"uuid":`},
		"empty":     {``, other, ``},
		"gone":      {`-`, other, `-`},
		"new":       {`{"uuid":"` + made + `"}`, made, `{"uuid":"` + made + `"}`},
		"all zeros": {strings.Repeat("\x00", 100), other, strings.Repeat("\x00", 100)},
	} {
		b := newBench(t, `{"uuid":"`+other+`"}`)
		b.run(t)
		b.write(t, tt.file)
		if s := b.run(t); s.Text("uuid") != tt.uuid {
			t.Errorf("%s: it is %s, want %s", name, s.Text("uuid"), tt.uuid)
		}
		if got := b.file(t); got != tt.left {
			t.Errorf("%s: the file is %q, want %q", name, got, tt.left)
		}
		if id := config.Identity(b.Store.Path, config.Load(b.Store.Path)); id != tt.uuid {
			t.Errorf("%s: the next boot finds %q, want %q", name, id, tt.uuid)
		}
	}
}

// TestMissingAtBoot: before anybody can be at work on it, a missing file is restored, or made.
func TestMissingAtBoot(t *testing.T) {
	b := newBench(t, `{"hostname":"x"}`)
	b.run(t)
	want := b.file(t)
	must(t, os.RemoveAll(filepath.Dir(b.Published))) // a boot
	b.write(t, "-")
	if s := b.run(t); b.file(t) != want || s.Source != settings.File || s.Fault != "" {
		t.Errorf("the file is %s, in force %+v", b.file(t), s)
	}
	b = newBench(t, "-")
	if s := b.run(t); !strings.Contains(b.file(t), made) || s.Source != settings.File {
		t.Errorf("the file is %s, in force %+v", b.file(t), s)
	}
}

// TestGoneBeforeFirstRun: a file that the boot has found and that is gone now was taken away by somebody, the copy too.
// Neither comes back, not even at configd's first run.
func TestGoneBeforeFirstRun(t *testing.T) {
	for _, copied := range []bool{false, true} {
		b := newBench(t, `{"hostname":"x","uuid":"`+made+`"}`)
		if copied {
			b.run(t)
			must(t, os.RemoveAll(filepath.Dir(b.Published))) // a boot
			_, err := settings.Publish(b.Published, config.InForce(config.Load(b.Store.Path), made))
			must(t, err)
		}
		must(t, os.RemoveAll(b.Store.Path+config.Sibling))
		b.write(t, "-")
		if s := b.run(t); b.file(t) != "-" || s.Text("uuid") != made {
			t.Errorf("copied %v: the file is %s, in force %+v", copied, b.file(t), s)
		}
	}
}

// TestBrokenKeepsWhatWasInForce: and says so.
func TestBrokenKeepsWhatWasInForce(t *testing.T) {
	b := newBench(t, `{"hostname":"good"}`)
	b.run(t)
	b.write(t, `{"hostname":"bro`)
	s := b.run(t)
	if s.Text("hostname") != "good" || s.Source != settings.LastGood || !strings.Contains(s.Fault, "unexpected end") {
		t.Errorf("in force is %+v", s)
	}
	b.write(t, `{"hostname":"mended"}`)
	if s := b.run(t); s.Text("hostname") != "mended" || s.Fault != "" {
		t.Errorf("in force is %+v", s)
	}
}

// TestWrongValue: a value that cannot be used leaves the last good one in force, over reboots and whatever else
// changes. Only one that is taken out goes.
func TestWrongValue(t *testing.T) {
	b := newBench(t, `{"hostname":"kitchen","mode":"a","listenPort":80}`)
	b.run(t)
	for _, file := range []string{`{"hostname":"bad name!","mode":"b","listenPort":"x"}`,
		`{"hostname":["worse"],"mode":"c","listenPort":-1}`, `{"hostn`} {
		b.write(t, file)
		for range 2 {
			s := b.run(t)
			if s.Text("hostname") != "kitchen" || s.Number("listenPort") != 80 ||
				b.hostnames[len(b.hostnames)-1] != "kitchen" || s.Text("uuid") != made {
				t.Errorf("after %s the device is %s, in force %+v", file, b.hostnames[len(b.hostnames)-1], s)
			}
			must(t, os.RemoveAll(filepath.Dir(b.Published))) // a boot
			loaded := config.Load(b.Store.Path)
			if name := config.DeviceName(config.InForce(loaded, made)); name != "kitchen" {
				t.Errorf("after %s and a boot the device is %s", file, name)
			}
			_, err := settings.Publish(b.Published, config.InForce(loaded, made))
			must(t, err)
		}
	}
	b.write(t, `{"listenPort":81}`)
	if s := b.run(t); s.Text("hostname") != made[:7] || s.Number("listenPort") != 81 {
		t.Errorf("taken out, in force is %+v", s)
	}
}

// TestSaidOnce: what is wrong with a file is said when it has changed, not whenever somebody touches it.
func TestSaidOnce(t *testing.T) {
	b := newBench(t, `{"hostname":"kitchen"}`)
	b.run(t)
	var log strings.Builder
	b.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, file := range []string{`{"hostname":"bad name!","uuid":"` + made + `"}`, `{"hostn`} {
		log.Reset()
		b.write(t, file)
		b.run(t)
		said := log.String()
		if strings.Count(said, "not usable") != 1 {
			t.Errorf("after %s the log has\n%s", file, said)
		}
		if b.run(t); log.String() != said {
			t.Errorf("a second run adds\n%s", strings.TrimPrefix(log.String(), said))
		}
	}
}

// TestHalfWritten: a file that is being written is waited for.
func TestHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, `{"hostname":"old"}`)
		b.run(t)
		b.Patience = time.Minute
		b.write(t, `{"hostname":"`)
		ended := make(chan error)
		go func() { ended <- Run(t.Context(), b.Config) }()
		synctest.Wait()
		b.write(t, `{"hostname":"new"}`)
		must(t, <-ended)
		if s, err := settings.Read(b.Published); err != nil || s.Text("hostname") != "new" ||
			!slices.Equal(b.hostnames, []string{"old", "new"}) {
			t.Errorf("in force is %+v, %v; names %q", s, err, b.hostnames)
		}
	})
}

// during is a disk on which somebody does something while the first file is written.
type during struct {
	atomicfile.Disk
	do func()
}

func (d *during) Create(path string, content []byte, mode fs.FileMode) error {
	if do := d.do; do != nil {
		d.do = nil
		do()
	}
	return d.Disk.Create(path, content, mode)
}

// TestAppliedIsKept: an editor is at work while a change is taken, and the next thing it writes is half a file. What
// has been applied stays in force: found by the story config_live, once, on a slow host.
func TestAppliedIsKept(t *testing.T) {
	b := newBench(t, `{"hostname":"one","uuid":"`+made+`"}`)
	b.run(t)
	b.write(t, `{"hostname":"two","uuid":"`+made+`"}`)
	b.Store.System = &during{do: func() { b.write(t, `{"hostname":"three","uuid":"`+made+`"}`) }}
	applied := b.run(t).Text("hostname")
	b.write(t, `{"hostname":"fo`)
	if s := b.run(t); s.Text("hostname") != applied || s.Source != settings.LastGood {
		t.Errorf("%s was applied; with half a file there is %+v", applied, s)
	}
}

// TestCut: wherever the power goes, the next boot is the same device with the old values or the new.
func TestCut(t *testing.T) {
	for at := range 8 {
		b := newBench(t, `{"hostname":"old"}`)
		b.Store.System = &atomicfiletest.Cut{At: at}
		_ = Run(t.Context(), b.Config) // it is cut
		b.Store.System = nil
		loaded := config.Load(b.Store.Path)
		if name := config.DeviceName(config.InForce(loaded, made)); name != "old" {
			t.Errorf("cut at %d: named %s by %s %s", at, name, loaded.Source, loaded.Document.Bytes())
		}
		if id := config.Identity(b.Store.Path, loaded); id != "" && id != made {
			t.Errorf("cut at %d: identity %s", at, id)
		}
		b.run(t)
		if !strings.Contains(b.file(t), made) {
			t.Errorf("cut at %d: the next run leaves %s", at, b.file(t))
		}
	}
}

func TestNothingLasts(t *testing.T) {
	b := newBench(t, `{"hostname":"x"}`)
	b.Lasts = func() bool { return false }
	if s := b.run(t); s.Text("hostname") != "x" || b.file(t) != `{"hostname":"x"}` ||
		!strings.Contains(s.Fault, "cannot be written") {
		t.Errorf("in force is %+v, the file %s", s, b.file(t))
	}
}

func TestVerdicts(t *testing.T) {
	endpoint := []precondition.Setting{{Key: "apiEndpoint"}}
	conditions := []Condition{
		{Service: "dev", Any: []precondition.Setting{{Key: "developmentMode", Value: "true", Valued: true}}},
		{Service: "cloud", Any: endpoint}, {Service: "alone", Any: endpoint, Not: true},
		{Service: "both", Any: endpoint},
		{Service: "both", Any: []precondition.Setting{{Key: "x"}}}, {Service: "nobody's", Any: endpoint, Not: true},
		{Service: "ssh", Any: []precondition.Setting{{Key: "keys"}, {Key: "developmentMode", Value: "true",
			Valued: true}}},
	}
	for _, tt := range []struct {
		before, now  Facts
		skipped, run string // services before: those of the first were skipped, those of the second run
		start, stop  string
		moved        bool
	}{
		{Facts{}, Facts{}, "dev cloud both", "alone", "[]", "[]", false},
		{Facts{"y": "1"}, Facts{"y": "2"}, "dev cloud both", "alone", "[]", "[]", false},
		{Facts{}, Facts{"developmentMode": "true"}, "dev cloud both", "alone", "[dev]", "[]", true},
		{Facts{"developmentMode": "true"}, Facts{"developmentMode": "false"}, "cloud both", "alone dev", "[]", "[dev]",
			true},
		{Facts{}, Facts{"apiEndpoint": "u"}, "dev cloud both", "alone", "[cloud]", "[alone]", true},
		{Facts{"apiEndpoint": "u"}, Facts{"apiEndpoint": "v"}, "dev both alone", "cloud", "[]", "[]", true},
		{Facts{"x": ""}, Facts{"x": "", "apiEndpoint": ""}, "dev cloud both", "alone", "[cloud both]", "[alone]", true},
		// One of two settings is enough.
		{Facts{}, Facts{"keys": "k"}, "dev cloud both ssh", "alone", "[ssh]", "[]", true},
		{Facts{"keys": "k"}, Facts{"keys": "k", "developmentMode": "true"}, "cloud both dev", "alone ssh", "[dev]",
			"[]", true},
		{Facts{"keys": "k", "developmentMode": "true"}, Facts{"developmentMode": "true"}, "cloud both", "alone ssh dev",
			"[]", "[]", true},
		{Facts{"developmentMode": "true"}, Facts{"developmentMode": "false"}, "cloud both", "alone ssh dev", "[]",
			"[dev ssh]", true},
		// The owner has stopped one.
		{Facts{}, Facts{"apiEndpoint": "u"}, "dev both", "alone", "[]", "[alone]", true},
		// The file of a new device changed before anybody knew what was in it.
		{nil, Facts{}, "dev both alone", "cloud", "[alone]", "[cloud]", true},
	} {
		skipped := map[string]bool{}
		for _, name := range strings.Fields(tt.skipped) {
			skipped[name] = true
		}
		for _, name := range strings.Fields(tt.run) {
			skipped[name] = false
		}
		start, stop := Verdicts(conditions, skipped, tt.now)
		moved := Moved(conditions, tt.before, tt.now)
		if fmt.Sprint(start) != tt.start || fmt.Sprint(stop) != tt.stop || moved != tt.moved {
			t.Errorf("%v -> %v: start %v, stop %v, moved %v", tt.before, tt.now, start, stop, moved)
		}
	}
	if Moved(nil, nil, Facts{"x": "1"}) {
		t.Error("without conditions something moved")
	}
}

// TestDevelopmentMode: what the image lacks is named if the owner asks for it, and only then.
func TestDevelopmentMode(t *testing.T) {
	b := newBench(t, `{}`)
	for _, c := range []struct{ file, on, fault string }{
		{`{}`, "false", ""},
		{`{"developmentMode": true}`, "true", "not in this image: console "},
		{`{"developmentMode": "true"}`, "true", "not in this image: console "},
		{`{"developmentMode": "maybe"}`, "true", "not in this image: console "}, // the last good value stays
		{`{"developmentMode": false}`, "false", ""},
		{`{"developmentMode": [1]}`, "false", ""},
	} {
		b.write(t, c.file)
		s := b.run(t)
		all, err := settings.AllTaken(b.Published)
		must(t, err)
		taken := all[config.DevelopmentMode]
		if len(taken) != 1 || (taken[0].Error == "") != (c.fault == "") || !strings.HasPrefix(taken[0].Error, c.fault) {
			t.Errorf("%s: recorded is %+v, want the fault %q", c.file, taken, c.fault)
		}
		if got := fmt.Sprint(s.Flag(config.DevelopmentMode)); got != c.on {
			t.Errorf("%s: the mode is %s, want %s", c.file, got, c.on)
		}
	}
}
