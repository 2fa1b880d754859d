package workload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/containers/app"
	"resinos/containers/appstatus"
	"resinos/containers/health"
	"resinos/containers/plan"
	"resinos/containers/restart"
)

// TestStateOfContainer goes through what can be known of one container.
func TestStateOfContainer(t *testing.T) {
	const now = 100 * time.Second
	always, never, twice := app.Restart{Policy: app.Always}, app.Restart{Policy: app.Never}, app.Restart{Policy: app.OnFailure, Limit: 2}
	fault := errors.New("pull x: no such host")
	for _, c := range []struct {
		name    string
		restart app.Restart
		gone    bool // not wanted any more
		task    plan.Task
		record  restart.Record
		health  health.Status
		busy    bool
		err     error
		want    string // state, cause, reason, last exit
	}{
		{name: "new", restart: always, busy: true, want: "starting"},
		{name: "runs", restart: always, task: plan.Running, record: restart.Record{Running: true, Starts: 1, Started: time.Second}, want: "up"},
		{name: "no image", restart: always, err: fault, want: "backoff not-as-wanted pull x: no such host"},
		{name: "the old one runs, the new one has no image", restart: always, task: plan.Running, record: restart.Record{Running: true, Starts: 1}, err: fault, want: "up not-as-wanted pull x: no such host"},
		{name: "is starting", restart: always, task: plan.Running, health: health.Starting,
			record: restart.Record{Running: true, Starts: 1}, want: "up"},
		{name: "is unhealthy", restart: always, task: plan.Running, health: health.Unhealthy,
			record: restart.Record{Running: true, Starts: 1}, want: "up unhealthy unhealthy: its check fails"},
		{name: "was unhealthy", restart: never, health: health.Unhealthy,
			record: restart.Record{Starts: 1, Ended: now}, want: "done last: exited with status 0"},
		{name: "ended once", restart: always, record: restart.Record{Starts: 1, Quick: 1, Status: 1, Ended: now}, want: "backoff last: exited with status 1"},
		{name: "job done", restart: never, record: restart.Record{Starts: 1, Quick: 1, Ended: now}, want: "done last: exited with status 0"},
		{name: "job failed", restart: never, record: restart.Record{Starts: 1, Quick: 1, Status: 3, Ended: now},
			want: "failed failed exited with status 3, and is not started again (restart: no) last: exited with status 3"},
		{name: "tries used up", restart: twice, record: restart.Record{Starts: 3, Quick: 3, Status: 137, OOM: true, Ended: now},
			want: "failed failed out of memory, and is not started again (restart: on-failure:2) last: out of memory"},
		{name: "loop, waiting", restart: always, record: restart.Record{Starts: 4, Quick: 4, First: now - 200*time.Second, Status: 137, Ended: now},
			want: "backoff crash-loop crash loop: ended 4 times in 3 min, each time within 10s of its start, last: killed (status 137) last: killed (status 137)"},
		{name: "loop, running for a moment", restart: always, task: plan.Running, record: restart.Record{Running: true, Starts: 5, Quick: 4, First: now - 200*time.Second, Ended: now - 2*time.Second, Started: now - time.Second},
			want: "up crash-loop crash loop: ended 4 times in 3 min, each time within 10s of its start, last: exited with status 0 last: exited with status 0"},
		{name: "loop, over", restart: always, task: plan.Running, record: restart.Record{Running: true, Starts: 5, Quick: 4, Ended: time.Second, Started: now - restart.Healthy}, want: "up last: exited with status 0"},
		{name: "two quick ends are no loop", restart: always, record: restart.Record{Starts: 2, Quick: 2, Ended: now}, want: "backoff last: exited with status 0"},
		{name: "no answer", restart: always, task: "unknown", record: restart.Record{Running: true, Starts: 1}, want: "unknown unanswered its shim does not answer"},
		{name: "held", restart: always, record: restart.Record{Held: true, Starts: 1, Status: 143, Ended: now}, want: "stopped last: exited with status 143"},
		{name: "is to stop", restart: always, task: plan.Running, record: restart.Record{Held: true, Running: true, Starts: 1}, want: "stopping"},
		{name: "taken away", gone: true, task: plan.Running, busy: true, record: restart.Record{Running: true, Starts: 1}, want: "stopping"},
	} {
		w := plan.Want{Container: app.Container{App: "a", Service: "web", Image: "x", Restart: c.restart}}
		v := view{now: now, pulls: newFakePulls(nil).Status, health: func(string) health.Status { return c.health }, records: map[string]restart.Record{"a.web": c.record},
			state: plan.State{Containers: map[string]plan.Have{"a.web": {App: "a", Task: c.task}}},
			busy:  map[string]bool{"a.web": c.busy}, errors: map[string]error{}}
		if c.err != nil {
			v.errors["a.web"] = c.err
		}
		if !c.gone {
			v.apps.Wanted = []plan.Want{w}
		}
		got := v.all()[0].Containers[0]
		words := fmt.Sprintf("%s %s %s", got.State, got.Cause, got.Reason)
		if got.LastExit != "" {
			words += " last: " + got.LastExit
		}
		if words = strings.Join(strings.Fields(words), " "); words != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, words, c.want)
		}
		if got.Name != "web" || got.ID != "a.web" {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

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
		dir, log, end := f.run(t, map[string]string{"bad": "services: [", "good": compose("there", "always"), "loop": compose("there", "always")})
		time.Sleep(time.Second)
		apps := published(t, dir)
		if a := apps["bad"]; a.State != appstatus.GivenUp || a.Cause != appstatus.NotUnderstood || !strings.Contains(a.Reason, "compose.yaml:1") {
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
			if a.Wrong() != (i+1 >= loopAfter) {
				t.Errorf("after %d ends: %+v", i+1, a)
			}
			if since == 0 {
				since = a.Since
			}
			if a.Since != since {
				t.Errorf("after %d ends it is wrong since %v, and before that since %v", i+1, a.Since, since)
			}
		}
		if a := published(t, dir)["loop"]; a.Restarts != 6 || a.Cause != appstatus.CrashLoop || a.Containers[0].LastExit != "exited with status 1" {
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
		for _, want := range []string{`msg="container out of memory" app=good container=good.web count=1`, `msg="container ended" container=good.web status="out of memory"`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log)
			}
		}
	})
}

// TestManagerTellsOfItself: an engine that is gone and a folder that cannot be read are told, and taken back.
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
		return appstatus.Status{Apps: []appstatus.App{{Name: "a", Containers: []appstatus.Container{{Name: "web", ID: "a.web", State: appstatus.Backoff, Trouble: loop}}}}}
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
	if second := tell(&Manager{}); first.Since != 7 || second.Since != 7 || second.Entered != 7 || !strings.Contains(second.Reason, "9 times") {
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
