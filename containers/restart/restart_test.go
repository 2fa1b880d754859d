package restart

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/containers/app"
	"resinos/mounts/atomicfile"
)

func TestRecord(t *testing.T) {
	var r Record
	for i := range 3 {
		r = r.Begin(time.Minute).End(time.Minute+time.Second, 1)
		if r.Quick != i+1 || r.Starts != i+1 || r.Running {
			t.Errorf("after %d quick ends: %+v", i+1, r)
		}
	}
	if r = r.Begin(time.Hour).End(time.Hour+Healthy, 0); r.Quick != 0 {
		t.Errorf("after a healthy run: %+v", r)
	}
	if r = r.Begin(2*time.Hour).Ask(Restart).End(2*time.Hour+time.Second, 143); r.Quick != 0 || r.Asked != Restart {
		t.Errorf("an end that was asked for counts as a crash: %+v", r)
	}
	if adopted := (Record{}).End(time.Hour, 3); adopted.Starts == 0 {
		t.Error("an adopted container that ended counts as never started")
	}
}

// TestCountAfterStart: on-failure:N counts from a start that a person asked for.
func TestCountAfterStart(t *testing.T) {
	twice := app.Restart{Policy: app.OnFailure, Limit: 2}
	var r Record
	for range 3 {
		r = r.Begin(time.Second).End(2*time.Second, 1)
	}
	if _, again := Next(twice, r); again {
		t.Errorf("started a fourth time: %+v", r)
	}
	r = r.Ask(Start).Begin(time.Minute).End(time.Minute+time.Second, 1)
	if _, again := Next(twice, r); !again || r.Starts != 1 || r.Quick != 1 {
		t.Errorf("after a person's start the earlier ones count: %+v", r)
	}
}

// TestNextAfterStop: no policy starts what a person stopped, until a person starts it.
func TestNextAfterStop(t *testing.T) {
	for _, policy := range []app.Policy{app.Never, app.OnFailure, app.Always, app.UnlessStopped} {
		r := Record{}.Begin(time.Second).Stop().End(2*time.Second, 1)
		if _, again := Next(app.Restart{Policy: policy}, r); again {
			t.Errorf("%s starts what was stopped", policy)
		}
		if r = r.Ask(Start); r.Asked != Start || r.Held {
			t.Errorf("%s: asked to start: %+v", policy, r)
		}
		if r = r.Begin(time.Minute).Ask(Start); r.Asked != Nothing {
			t.Errorf("%s: the start of what runs is still to be done: %+v", policy, r)
		}
	}
}

// TestReturns holds each policy to what Docker's daemon does when it starts.
func TestReturns(t *testing.T) {
	for policy, want := range map[app.Policy]string{
		app.Always:        "new ended held both",
		app.UnlessStopped: "new ended",
		app.OnFailure:     "new held", // its status was not 0, or it would stay ended
		app.Never:         "new held", // likewise: it stays ended once it was started
	} {
		var got []string
		for _, c := range []struct {
			name        string
			stays, held bool
		}{{"new", false, false}, {"ended", true, false}, {"held", false, true}, {"both", true, true}} {
			if Returns(policy, c.stays, c.held) {
				got = append(got, c.name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s returns %v, want %s", policy, got, want)
		}
	}
}

func TestDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "down.json")
	if got, err := LoadDown(file); err != nil || len(got) != 0 {
		t.Errorf("nothing kept: %v, %v", got, err)
	}
	want := map[string]bool{"a": true, "b": true}
	if err := SaveDown(file, want); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadDown(file); err != nil || len(got) != 2 || !got["a"] || !got["b"] {
		t.Errorf("kept: %v, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("[1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadDown(file); err == nil || len(got) != 0 || !strings.Contains(err.Error(), file) {
		t.Errorf("garbage: %v, %v", got, err)
	}
	if err := errors.Join(SaveDown(file, nil), SaveDown(file, nil)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file for no app: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{-1: 0, 0: 100 * time.Millisecond, 1: 200 * time.Millisecond,
		5: 3200 * time.Millisecond, 60: time.Minute, 1 << 30: time.Minute} {
		if got := Backoff(FirstDelay, LastDelay, n); got != want {
			t.Errorf("Backoff(%d) = %v, want %v", n, got, want)
		}
	}
}

func TestRecordsSurviveGarbage(t *testing.T) {
	dir := t.TempDir()
	if err := Save(dir, "a.web", Record{Starts: 2}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.web.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	rest := filepath.Join(dir, "c.web.json"+atomicfile.Suffix) // its manager was killed while it wrote
	if err := os.WriteFile(rest, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil || len(got) != 1 || got["a.web"].Starts != 2 {
		t.Errorf("Load = %v, %v", got, err)
	}
	if _, err := os.Stat(rest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the rest of an earlier manager's record is still there (%v)", err)
	}
	if err := errors.Join(Remove(dir, "a.web"), Remove(dir, "a.web")); err != nil {
		t.Error(err)
	}
}

// FuzzLoadRecords: whatever a record holds, it is read or forgotten, and the next restart is planned from it
// without a panic.
func FuzzLoadRecords(f *testing.F) {
	f.Add([]byte(`{"running":true,"starts":2,"quick":1,"status":137,"started":1000000000,"ended":2000000000}`))
	f.Add([]byte(`{"quick":-9223372036854775808,"started":9223372036854775807,"ended":-1}`))
	f.Add([]byte("null"))
	f.Add([]byte("{"))
	dir := f.TempDir()
	file := filepath.Join(dir, "a.web.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		all, err := Load(dir)
		if err != nil || len(all) > 1 {
			t.Fatalf("records of %q: %+v, %v", text, all, err)
		}
		r, known := all["a.web"]
		if !known {
			return
		}
		if _, again := Next(app.Restart{Policy: app.OnFailure, Limit: 3}, r); again && r.Status == 0 {
			t.Errorf("record %q: what has ended well is started again", text)
		}
		r.Held = false
		if _, again := Next(app.Restart{Policy: app.Always}, r.End(r.Started, r.Status)); !again {
			t.Errorf("record %q: what is always started again is not", text)
		}
		if err := Save(dir, "a.web", r); err != nil {
			t.Fatal(err)
		}
		if again, err := Load(dir); err != nil || again["a.web"] != r {
			t.Errorf("record %q is %+v, and saved again %+v (%v)", text, r, again["a.web"], err)
		}
	})
}
