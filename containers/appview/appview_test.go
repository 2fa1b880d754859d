package appview

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"resinos/containers/app"
	"resinos/containers/health"
	"resinos/containers/plan"
	"resinos/containers/pull"
	"resinos/containers/restart"
)

// TestStateOfContainer goes through what can be known of one container.
func TestStateOfContainer(t *testing.T) {
	const now = 100 * time.Second
	always, never, twice := app.Restart{Policy: app.Always}, app.Restart{Policy: app.Never},
		app.Restart{Policy: app.OnFailure, Limit: 2}
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
		{name: "runs", restart: always, task: plan.Running, record: restart.Record{Running: true, Starts: 1,
			Started: time.Second}, want: "up"},
		{name: "no image", restart: always, err: fault, want: "backoff not-as-wanted pull x: no such host"},
		{name: "the old one runs, the new one has no image", restart: always, task: plan.Running,
			record: restart.Record{Running: true, Starts: 1}, err: fault,
			want: "up not-as-wanted pull x: no such host"},
		{name: "is starting", restart: always, task: plan.Running, health: health.Starting,
			record: restart.Record{Running: true, Starts: 1}, want: "up"},
		{name: "is unhealthy", restart: always, task: plan.Running, health: health.Unhealthy,
			record: restart.Record{Running: true, Starts: 1}, want: "up unhealthy unhealthy: its check fails"},
		{name: "was unhealthy", restart: never, health: health.Unhealthy,
			record: restart.Record{Starts: 1, Ended: now}, want: "done last: exited with status 0"},
		{name: "ended once", restart: always, record: restart.Record{Starts: 1, Quick: 1, Status: 1, Ended: now},
			want: "backoff last: exited with status 1"},
		{name: "job done", restart: never, record: restart.Record{Starts: 1, Quick: 1, Ended: now},
			want: "done last: exited with status 0"},
		{name: "job failed", restart: never, record: restart.Record{Starts: 1, Quick: 1, Status: 3, Ended: now},
			want: "failed failed exited with status 3, and is not started again (restart: no)" +
				" last: exited with status 3"},
		{name: "tries used up", restart: twice, record: restart.Record{Starts: 3, Quick: 3, Status: 137, OOM: true,
			Ended: now},
			want: "failed failed out of memory, and is not started again (restart: on-failure:2) last: out of memory"},
		{name: "loop, waiting", restart: always, record: restart.Record{Starts: 4, Quick: 4,
			First: now - 200*time.Second, Status: 137, Ended: now},
			want: "backoff crash-loop crash loop: ended 4 times in 3 min, each time within 10s of its start," +
				" last: killed (status 137) last: killed (status 137)"},
		{name: "loop, running for a moment", restart: always, task: plan.Running,
			record: restart.Record{Running: true, Starts: 5, Quick: 4, First: now - 200*time.Second,
				Ended: now - 2*time.Second, Started: now - time.Second},
			want: "up crash-loop crash loop: ended 4 times in 3 min, each time within 10s of its start," +
				" last: exited with status 0 last: exited with status 0"},
		{name: "loop, over", restart: always, task: plan.Running, record: restart.Record{Running: true, Starts: 5,
			Quick: 4, Ended: time.Second, Started: now - restart.Healthy}, want: "up last: exited with status 0"},
		{name: "two quick ends are no loop", restart: always, record: restart.Record{Starts: 2, Quick: 2, Ended: now},
			want: "backoff last: exited with status 0"},
		{name: "no answer", restart: always, task: "unknown", record: restart.Record{Running: true, Starts: 1},
			want: "unknown unanswered its shim does not answer"},
		{name: "held", restart: always, record: restart.Record{Held: true, Starts: 1, Status: 143, Ended: now},
			want: "stopped last: exited with status 143"},
		{name: "is to stop", restart: always, task: plan.Running, record: restart.Record{Held: true, Running: true,
			Starts: 1}, want: "stopping"},
		{name: "taken away", gone: true, task: plan.Running, busy: true, record: restart.Record{Running: true,
			Starts: 1}, want: "stopping"},
	} {
		w := plan.Want{Container: app.Container{App: "a", Service: "web", Image: "x", Restart: c.restart}}
		v := View{Now: now, Pulls: func(string) (pull.Status, bool) { return pull.Status{}, false },
			Health:  func(string) health.Status { return c.health },
			Records: map[string]restart.Record{"a.web": c.record},
			State:   plan.State{Containers: map[string]plan.Have{"a.web": {App: "a", Task: c.task}}},
			Busy:    map[string]bool{"a.web": c.busy}, Errors: map[string]error{}}
		if c.err != nil {
			v.Errors["a.web"] = c.err
		}
		if !c.gone {
			v.Apps.Wanted = []plan.Want{w}
		}
		got := v.All()[0].Containers[0]
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
