package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"resinos/containers/app"
	"resinos/containers/health"
	"resinos/containers/restart"
)

// TestDependsOn holds what becomes of a container that depends on another one against the situation of that.
func TestDependsOn(t *testing.T) {
	const id = "shop.db"
	runs := restart.Record{Running: true, Starts: 1}
	ended := func(status uint32) restart.Record {
		return restart.Record{Starts: 1, Status: status, Ended: time.Hour}
	}
	check := &health.Check{Args: []string{"x"}}
	for _, c := range []struct {
		name      string
		condition app.Condition
		policy    app.Policy
		have      Have
		record    restart.Record
		health    health.Status
		fault     error
		want      string // start, or what it waits for; ! marks what only a person can change
	}{
		{"never started", app.ServiceStarted, app.Always, Have{}, restart.Record{}, "", nil,
			"start: it does not run yet"},
		{"runs", app.ServiceStarted, app.Always, Have{Task: Running}, runs, "", nil, "start"},
		{"in a crash loop", app.ServiceStarted, app.Always, Have{}, ended(1), "", nil, "start"},
		{"a job that is done", app.ServiceStarted, app.Never, Have{}, ended(0), "", nil, "start"},
		{"a job of an earlier boot", app.ServiceStarted, app.Never, Have{StaysEnded: "0"}, restart.Record{}, "", nil,
			"start"},
		{"stopped by a person", app.ServiceStarted, app.Always, Have{Held: "143"},
			restart.Record{Starts: 1, Held: true, Status: 143}, "", nil, "!start: it was stopped by a person"},
		{"stopped in an earlier boot", app.ServiceStarted, app.UnlessStopped, Have{Held: "143"}, restart.Record{}, "",
			nil,
			"!start: it was stopped by a person"},
		{"stopped in an earlier boot, always", app.ServiceStarted, app.Always, Have{Held: "143"}, restart.Record{},
			"", nil,
			"start: it does not run yet"},
		{"is restarted", app.ServiceStarted, app.Always, Have{Task: Running},
			restart.Record{Running: true, Starts: 1, Asked: restart.Restart}, "", nil, "start: it is restarted"},
		{"cannot be started", app.ServiceStarted, app.Always, Have{}, restart.Record{}, "", errors.New("no such image"),
			"!start: it cannot be started"},
		{"is replaced", app.ServiceStarted, app.Always, Have{Wish: "other", Task: Running}, runs, "", nil,
			"start: it is replaced"},

		{"starting", app.ServiceHealthy, app.Always, Have{Task: Running, Check: check}, runs, health.Starting, nil,
			"be healthy: it is starting"},
		{"not asked yet", app.ServiceHealthy, app.Always, Have{Task: Running, Check: check}, runs, "", nil,
			"be healthy: it is starting"},
		{"healthy", app.ServiceHealthy, app.Always, Have{Task: Running, Check: check}, runs, health.Healthy, nil,
			"start"},
		{"unhealthy", app.ServiceHealthy, app.Always, Have{Task: Running, Check: check}, runs, health.Unhealthy, nil,
			"!be healthy: it is unhealthy"},
		{"without a check", app.ServiceHealthy, app.Always, Have{Task: Running}, runs, "", nil,
			"!be healthy: it has no health check"},
		{"starts again", app.ServiceHealthy, app.Always, Have{Check: check}, ended(1), "", nil,
			"be healthy: it does not run yet"},
		{"ended for good", app.ServiceHealthy, app.Never, Have{Check: check}, ended(3), "", nil,
			"!be healthy: it ended with 3"},
		{"ends now", app.ServiceHealthy, app.Never, Have{Check: check, Task: Stopped, Status: 3}, runs, "", nil,
			"be healthy: it does not run yet"},

		{"a job runs", app.ServiceCompleted, app.Never, Have{Task: Running}, runs, "", nil, "end with 0: it runs"},
		{"a job is done", app.ServiceCompleted, app.Never, Have{}, ended(0), "", nil, "start"},
		{"a job was reaped, and nobody knows yet how it ended", app.ServiceCompleted, app.Never, Have{}, runs, "", nil,
			"end with 0: it does not run yet"},
		{"a job is to be done again", app.ServiceCompleted, app.Never, Have{},
			restart.Record{Starts: 1, Ended: time.Hour, Asked: restart.Start}, "", nil,
			"end with 0: it does not run yet"},
		{"is asked for", app.ServiceStarted, app.Never, Have{},
			restart.Record{Starts: 1, Ended: time.Hour, Asked: restart.Start}, "", nil, "start: it does not run yet"},
		{"a job failed", app.ServiceCompleted, app.Never, Have{}, ended(2), "", nil, "!end with 0: it ended with 2"},
		{"a job is tried again", app.ServiceCompleted, app.OnFailure, Have{}, ended(2), "", nil,
			"end with 0: it does not run yet"},
		{"a job was done in an earlier boot", app.ServiceCompleted, app.Never, Have{StaysEnded: "0"},
			restart.Record{}, "",
			nil, "start"},
		{"the power was cut during a job", app.ServiceCompleted, app.Never, Have{StaysEnded: markRuns},
			restart.Record{},
			"", nil, "end with 0: it does not run yet"},
		{"a job failed in an earlier boot", app.ServiceCompleted, app.Never, Have{StaysEnded: "1"}, restart.Record{},
			"", nil, "end with 0: it does not run yet"},
		{"a job ends now", app.ServiceCompleted, app.Never, Have{Task: Stopped}, runs, "", nil,
			"end with 0: it does not run yet"},
	} {
		for _, required := range []bool{true, false} {
			db := Want{Container: container("shop", "db", c.policy)}
			web := Want{Container: container("shop", "web", app.Always)}
			web.DependsOn = []app.Dependency{{Service: "db", Condition: c.condition, Required: required}}
			have := c.have
			if have.Wish == "" {
				have.Wish = db.Digest()
			}
			have.App = "shop"
			in := Input{Wanted: []Want{db, web}, Records: map[string]restart.Record{id: c.record},
				Health: map[string]health.Status{id: c.health}, Faults: map[string]error{id: c.fault},
				State: State{Images: map[string]string{db.Image: "sha256:x"}, Containers: map[string]Have{id: have}}}
			last := Step{}
			for _, s := range Make(in) {
				if s.Container == "shop.web" {
					last = s
				}
			}
			got := string(last.Verb)
			if last.Verb == Wait {
				got = strings.TrimPrefix(last.Why, "waits for shop.db to ")
			}
			if last.Failed {
				got = "!" + got
			}
			want := c.want
			if !required && strings.HasPrefix(want, "!") {
				want = "start" // without it, as it will not come
			}
			if got != want {
				t.Errorf("%s, required %t: %s, want %s", c.name, required, got, want)
			}
		}
	}
}

// TestDependsOnlyAtFirst: a policy starts again what ended, whatever it depends on; a person's start waits.
func TestDependsOnlyAtFirst(t *testing.T) {
	db, web := Want{Container: container("shop", "db", app.Always)}, Want{Container: container("shop", "web",
		app.Always)}
	web.DependsOn = []app.Dependency{{Service: "db", Condition: app.ServiceHealthy, Required: true}}
	for want, r := range map[string]restart.Record{
		"start": {Starts: 1, Status: 1, Ended: time.Hour}, "wait": {Starts: 1, Asked: restart.Start},
	} {
		steps := Make(Input{Wanted: []Want{db, web}, Records: map[string]restart.Record{"shop.web": r},
			State: State{Images: map[string]string{db.Image: "x"},
				Containers: map[string]Have{"shop.web": {App: "shop", Wish: web.Digest()}}}})
		if got := steps[len(steps)-1]; got.Container != "shop.web" || string(got.Verb) != want {
			t.Errorf("%+v: %v, want %s", r, got, want)
		}
	}
}

// TestJobIsDoneAgain: a job that the power cut short is done again for those that wait for its success, and only then.
func TestJobIsDoneAgain(t *testing.T) {
	job, web := Want{Container: container("shop", "job", app.Never)}, Want{Container: container("shop", "web",
		app.Always)}
	for _, condition := range []app.Condition{app.ServiceStarted, app.ServiceCompleted} {
		web.DependsOn = []app.Dependency{{Service: "job", Condition: condition, Required: true}}
		for mark, again := range map[string]bool{"0": false, "1": true, markRuns: true} {
			steps := Make(Input{Wanted: []Want{job, web}, State: State{Images: map[string]string{job.Image: "x"},
				Containers: map[string]Have{"shop.job": {App: "shop", Wish: job.Digest(), StaysEnded: mark}}}})
			starts := strings.Contains(print(steps), "shop.job: start")
			if starts != (again && condition == app.ServiceCompleted) {
				t.Errorf("%s, mark %s:\n%s", condition, mark, print(steps))
			}
		}
	}
}

// TestReverse: what depends on a container is stopped before it, be it through others, and a circle that older files
// made stops all the same.
func TestReverse(t *testing.T) {
	for name, c := range map[string]struct {
		depends map[string]string
		want    string
	}{
		"nothing":                       {map[string]string{"a": "", "b": ""}, "a b"},
		"one":                           {map[string]string{"a": "b", "b": ""}, "a"},
		"a chain":                       {map[string]string{"a": "b", "b": "c", "c": ""}, "a"},
		"through one that does not run": {map[string]string{"a": "x", "x": "c", "c": ""}, "a"},
		"a circle":                      {map[string]string{"a": "b", "b": "a"}, "a b"},
		"of two":                        {map[string]string{"a": "c", "b": "c", "c": ""}, "a b"},
	} {
		s := State{Containers: map[string]Have{}}
		for service, on := range c.depends {
			task := Running
			if service == "x" {
				task = NoTask
			}
			s.Containers["shop."+service] = Have{App: "shop", Task: task, Depends: strings.Fields(on)}
		}
		var got []string
		for _, step := range Make(Input{State: s}) { // the app is gone
			if step.Verb == Stop {
				got = append(got, strings.TrimPrefix(step.Container, "shop."))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: first to stop are %v, want %s", name, got, c.want)
		}
	}
}

// TestRestarts: with restart: true a container is restarted after one that it depends on.
func TestRestarts(t *testing.T) {
	wants := []Want{}
	s := State{Images: map[string]string{}, Containers: map[string]Have{}}
	for _, service := range []string{"a", "b", "c", "d"} { // a → b → c with restart, d → c without
		w := Want{Container: container("shop", service, app.Always)}
		switch service {
		case "a":
			w.DependsOn = []app.Dependency{{Service: "b", Restart: true}}
		case "b":
			w.DependsOn = []app.Dependency{{Service: "c", Restart: true}}
		case "d":
			w.DependsOn = []app.Dependency{{Service: "c"}}
		}
		wants = append(wants, w)
		s.Containers[w.ID()] = Have{App: "shop", Task: Running, Wish: w.Digest()}
		s.Images[w.Image] = "x"
	}
	for changed, want := range map[string]string{"shop.c": "[shop.a shop.b]", "shop.b": "[shop.a]", "shop.d": "[]"} {
		is := func(id string) bool { return id == changed }
		if got := fmt.Sprint(Restarts(Input{Wanted: wants, State: s}, is)); got != want {
			t.Errorf("%s changed: %s are restarted, want %s", changed, got, want)
		}
	}
	c := s.Containers["shop.c"]
	c.Wish = "other"
	s.Containers["shop.c"] = c
	if got := fmt.Sprint(Stale(Input{Wanted: wants, State: s})); got != "map[shop.c:true]" {
		t.Error(got)
	}
}

// TestStale: what others wait for as about to be replaced is what the plan replaces, and nothing else.
func TestStale(t *testing.T) {
	preload := &Preload{Path: "images/busybox.tar", Digest: "sha256:preloaded"}
	first := &Preload{Path: "images/busybox.tar", Digest: "sha256:preloaded", First: true}
	for _, c := range []struct {
		name    string
		preload *Preload
		policy  string
		image   string // that is there, of the name; the container has sha256:old
		record  restart.Record
		stale   bool
	}{
		{"as wanted", nil, "", "sha256:old", restart.Record{}, false},
		{"a newer image", nil, "", "sha256:new", restart.Record{}, false},
		{"a newer image, pull_policy", nil, app.PullAlways, "sha256:new", restart.Record{}, true},
		{"a newer image, pull_policy never", nil, app.PullNever, "sha256:new", restart.Record{}, false},
		{"a newer image, stopped by a person", nil, app.PullAlways, "sha256:new", restart.Record{Held: true}, false},
		{"a newer image, osctl up", nil, "", "sha256:new", restart.Record{Renew: true}, true},
		{"the app's own image changed", preload, "", "sha256:old", restart.Record{}, true},
		{"pulled after the preloaded one", first, "", "sha256:old", restart.Record{}, false},
		{"pulled after the preloaded one, pull_policy", first, app.PullAlways, "sha256:new", restart.Record{}, true},
	} {
		db, web := Want{Container: container("shop", "db", app.Always), Preload: c.preload},
			Want{Container: container("shop", "web", app.Always)}
		db.PullPolicy = c.policy
		web.DependsOn = []app.Dependency{{Service: "db", Required: true, Condition: app.ServiceStarted}}
		in := Input{Wanted: []Want{db, web}, Records: map[string]restart.Record{"shop.db": c.record},
			State: State{Images: map[string]string{db.Image: c.image}, Containers: map[string]Have{
				"shop.db": {App: "shop", Task: Running, Wish: db.Digest(), ImageName: db.Image,
					ImageDigest: "sha256:old"}}}}
		steps := print(Make(in))
		replaced := strings.Contains(steps, "shop.db: create")
		waits := strings.Contains(steps, "db to start: it is replaced")
		if stale := Stale(in)["shop.db"]; stale != c.stale || replaced != c.stale || waits != c.stale {
			t.Errorf("%s: stale %t, want %t; the plan is\n%s", c.name, stale, c.stale, steps)
		}
	}
}

// TestRunIsNoDependency: what waits for a service does not wait for the container in which a person runs a command.
func TestRunIsNoDependency(t *testing.T) {
	db, web := Want{Container: container("shop", "db", app.Always)}, Want{Container: container("shop", "web",
		app.Always)}
	web.DependsOn = []app.Dependency{{Service: "db", Required: true, Condition: app.ServiceHealthy}}
	run := db
	run.Hold, run.Number = "/usr/sbin/init", 1
	steps := print(Make(Input{Wanted: []Want{db, web, run}, Health: map[string]health.Status{"shop.db": health.Healthy},
		State: State{Images: map[string]string{db.Image: "x"}, Containers: map[string]Have{"shop.db": {App: "shop",
			Task: Running, Wish: db.Digest(), Check: &health.Check{Args: []string{"x"}}}}}}))
	if !strings.Contains(steps, "shop.web: start") {
		t.Errorf("it waits:\n%s", steps)
	}
}
