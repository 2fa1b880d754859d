package workload

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/containers/appstatus"
	"resinos/containers/plan"
)

func published(t *testing.T, dir string) map[string]appstatus.App {
	t.Helper()
	s, err := appstatus.Read(filepath.Join(dir, "apps.json"))
	if err != nil {
		t.Fatal(err)
	}
	apps := map[string]appstatus.App{}
	for _, a := range s.Apps {
		apps[a.Name] = a
	}
	return apps
}

// TestManagerTellsWhatIsWrong: a file that does not parse, a crash loop with since when, and its end.
func TestManagerTellsWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.state.Images["docker.io/library/there:latest"] = "sha256:there"
		dir, log, end := f.run(t, map[string]string{"bad": "services: [", "good": compose("there", "always"),
			"loop": compose("there", "always")})
		time.Sleep(time.Second)
		apps := published(t, dir)
		if a := apps["bad"]; a.State != appstatus.GivenUp || a.Cause != appstatus.NotUnderstood ||
			!strings.Contains(a.Reason, "compose.yaml:1") {
			t.Errorf("an app that does not parse: %+v", a)
		}
		if a := apps["good"]; !a.Well() || a.State != appstatus.Up || a.Restarts != 0 {
			t.Errorf("an app that runs: %+v", a)
		}
		var since float64
		for i := range 6 {
			synctest.Wait()
			f.end("loop.web")
			time.Sleep(9 * time.Second)
			a := published(t, dir)["loop"]
			if a.Wrong() != (i+1 >= 3) {
				t.Errorf("after %d ends: %+v", i+1, a)
			}
			if since == 0 {
				since = a.Since
			}
			if a.Since != since {
				t.Errorf("after %d ends it is wrong since %v, and before that since %v", i+1, a.Since, since)
			}
		}
		if a := published(t, dir)["loop"]; a.Restarts != 6 || a.Cause != appstatus.CrashLoop ||
			a.Containers[0].LastExit != "exited with status 1" {
			t.Errorf("crash loop: %+v", a)
		}
		time.Sleep(2 * time.Minute) // it stays up
		if a := published(t, dir)["loop"]; !a.Well() || a.Since != 0 {
			t.Errorf("after the loop: %+v", a)
		}
		f.mu.Lock()
		f.change("good.web", func(h *plan.Have) { h.Kills = 1 })
		f.mu.Unlock()
		f.end("good.web")
		time.Sleep(time.Second)
		if c := published(t, dir)["good"].Containers[0]; c.LastExit != "out of memory" {
			t.Errorf("killed for want of memory: %+v", c)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		for _, want := range []string{`msg="container out of memory" app=good container=good.web count=1`,
			`msg="container ended" container=good.web status="out of memory"`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log)
			}
		}
	})
}

// TestManagerTellsOfItself: an engine that is gone and a directory that cannot be read are told, and taken back.
func TestManagerTellsOfItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.state.Images["docker.io/library/there:latest"] = "sha256:there"
		dir, _, end := f.run(t, map[string]string{"a": compose("there", "always")})
		time.Sleep(5 * time.Second)
		f.die()
		synctest.Wait()
		s, err := appstatus.Read(filepath.Join(dir, "apps.json"))
		if err != nil || s.Cause != appstatus.NoEngine || s.Since == 0 || len(s.Apps) != 1 {
			t.Errorf("without an engine: %+v, %v", s, err)
		}
		time.Sleep(time.Second) // it is back
		if s, err = appstatus.Read(filepath.Join(dir, "apps.json")); err != nil || s.Wrong() {
			t.Errorf("with the engine again: %+v, %v", s, err)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestSinceSurvivesTheManager: a new manager goes on to tell since when something is wrong.
func TestSinceSurvivesTheManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apps.json")
	loop := appstatus.Trouble{Cause: appstatus.CrashLoop, Reason: "ended 4 times"}
	status := func() appstatus.Status {
		return appstatus.Status{Apps: []appstatus.App{{Name: "a",
			Containers: []appstatus.Container{{Name: "web", ID: "a.web", State: appstatus.Backoff, Trouble: loop}}}}}
	}
	at := 7 * time.Second
	tell := func(m *Manager) appstatus.App {
		m.c.Status, m.now = path, func() time.Duration { return at }
		m.tell(status())
		s, err := appstatus.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		return s.Apps[0]
	}
	first := tell(&Manager{})
	at = 70 * time.Second
	loop.Reason = "ended 9 times"
	if second := tell(&Manager{}); first.Since != 7 || second.Since != 7 || second.Entered != 7 ||
		!strings.Contains(second.Reason, "9 times") {
		t.Errorf("first %+v, then %+v", first, second)
	}
	if err := os.WriteFile(path, []byte("{garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if third := tell(&Manager{}); third.Since != 70 {
		t.Errorf("after garbage: %+v", third)
	}
}

// TestNothingChangedIsNotWritten: a look that finds nothing new leaves the file alone.
func TestNothingChangedIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apps.json")
	at := time.Second
	m := &Manager{c: Config{Status: path, Pulls: newFakePulls(nil)}, now: func() time.Duration { return at }}
	m.tell(appstatus.Status{Apps: []appstatus.App{{Name: "a", State: appstatus.GivenUp}}})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at = time.Minute
	m.tell(appstatus.Status{Apps: []appstatus.App{{Name: "a", State: appstatus.GivenUp}}})
	if after, err := os.ReadFile(path); err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("written again: %s, before %s, %v", after, before, err)
	}
}
