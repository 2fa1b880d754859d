package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"resinos/services/control"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// recorder notes what it is asked for.
type recorder struct{ asked string }

func (r *recorder) Status(context.Context) ([]pid1.ServiceStatus, error) {
	r.asked = "status"
	return nil, nil
}

func (r *recorder) Show(_ context.Context, name string) (pid1.Shown, error) {
	r.asked = "show " + name
	return pid1.Shown{}, nil
}

func (r *recorder) Change(_ context.Context, op pid1.Change, name string) (pid1.ServiceStatus, error) {
	r.asked = string(op) + " " + name
	return pid1.ServiceStatus{}, nil
}

func (r *recorder) Kill(_ context.Context, k pid1.Kill) (pid1.ServiceStatus, error) {
	r.asked = fmt.Sprintf("kill %+v", k)
	return pid1.ServiceStatus{}, nil
}

func (r *recorder) Rescan(context.Context) (pid1.Rescanned, error) {
	r.asked = "rescan"
	return pid1.Rescanned{}, nil
}

// TestHandlers: each operation reaches its method with its arguments, and bad arguments reach none.
func TestHandlers(t *testing.T) {
	r := &recorder{}
	list := Handlers(r)
	want := map[string]string{
		"status": "status", "rescan": "rescan", "show": "show web", "kill": "kill {Name:web Signal:HUP All:true}",
		"start": "start web", "stop": "stop web", "restart": "restart web", "reload": "reload web",
	}
	if got := slices.Sorted(maps.Keys(list)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("operations %v", got)
	}
	for op, asked := range want {
		args := `{"name":"web"}`
		if op == "kill" {
			args = `{"name":"web","signal":"HUP","all":true}`
		}
		if _, err := list[op](t.Context(), json.RawMessage(args)); err != nil || r.asked != asked {
			t.Errorf("%s asks for %q, want %q; %v", op, r.asked, asked, err)
		}
		r.asked = ""
		_, err := list[op](t.Context(), json.RawMessage(`{"name":7}`))
		if asked != op && (err == nil || r.asked != "") {
			t.Errorf("%s with a number for its name asks for %q; %v", op, r.asked, err)
		}
	}
}

func TestStatus(t *testing.T) {
	now := time.Now()
	sp := &spec.Spec{
		Name: "a", Type: spec.Simple, Health: spec.Health{Command: []string{"x"}, Retries: 3}, ReloadSignal: "HUP",
		Listen: spec.Listen{Sockets: []spec.Socket{{Network: "unix", Address: "/run/a"}}},
		Timer:  spec.Timer{AfterBoot: time.Minute, Every: time.Hour}, WatchPaths: []string{"/etc/a"},
	}
	up := lifecycle.Service{Phase: lifecycle.Up, PID: 7, Lives: 3, Why: "exit code 1"}
	got := Status(View{Spec: sp, Service: &up, Failed: 1}, now)
	want := pid1.ServiceStatus{
		Name: "a", State: "up", Type: "simple", PID: 7, Restarts: 2, LastExit: "exit code 1",
		Health: "failed 1 of 3", Reloads: true,
		Demand: []string{"listen unix:/run/a", "1m0s after boot", "every 1h0m0s", "watch /etc/a"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("status %+v, want %+v", got, want)
	}
	for _, c := range []struct {
		name   string
		svc    lifecycle.Service
		masked bool
		want   func(pid1.ServiceStatus) bool
	}{
		{"never started", lifecycle.Service{Phase: lifecycle.Down}, false,
			func(s pid1.ServiceStatus) bool { return s.Restarts == 0 && s.Health == "" }},
		{"broken", lifecycle.Service{Phase: lifecycle.Failed, Broken: true, Why: "needs b"}, false,
			func(s pid1.ServiceStatus) bool { return s.LastExit == "" }},
		{"masked", lifecycle.Service{Phase: lifecycle.Down}, true,
			func(s pid1.ServiceStatus) bool { return s.State == "masked" }},
		{"masked while it runs", lifecycle.Service{Phase: lifecycle.Stopping}, true,
			func(s pid1.ServiceStatus) bool { return s.State == "stopping" }},
		{"backoff", lifecycle.Service{Phase: lifecycle.Backoff, Deadline: now.Add(3 * time.Second)}, false,
			func(s pid1.ServiceStatus) bool { return s.RetryIn == 3 && s.NextIn == 0 }},
		{"backoff that is over", lifecycle.Service{Phase: lifecycle.Backoff, Deadline: now.Add(-1)}, false,
			func(s pid1.ServiceStatus) bool { return s.RetryIn == 0 }},
		{"timer", lifecycle.Service{Phase: lifecycle.Armed, Deadline: now.Add(3 * time.Second)}, false,
			func(s pid1.ServiceStatus) bool { return s.NextIn == 3 && s.RetryIn == 0 }},
		{"healthy", lifecycle.Service{Phase: lifecycle.Up}, false,
			func(s pid1.ServiceStatus) bool { return s.Health == "ok" }},
	} {
		sp := *sp
		sp.Masked = c.masked
		if st := Status(View{Spec: &sp, Service: &c.svc}, now); !c.want(st) {
			t.Errorf("%s: %+v", c.name, st)
		}
	}
}

// TestRefusals: each has a hint that can be typed.
func TestRefusals(t *testing.T) {
	sp := &spec.Spec{Name: "a"}
	masked, reloads := &spec.Spec{Name: "a", Masked: true}, &spec.Spec{Name: "a", ReloadSignal: "HUP"}
	const silent = "service a cannot be reloaded: its file says neither reload-signal nor reload-command"
	for want, err := range map[string]error{
		`no service "b"; try: osctl status`:                            Unknown("b"),
		`no service named; give {"name": …}`:                           Unknown(""),
		`no signal "X"; use a name: TERM, HUP, KILL`:                   UnknownSignal("X"),
		"service a is masked; try: osctl unmask a":                     Unfit(masked, "x"),
		"service a has no process; try: osctl start a":                 NoProcess("a"),
		"broken; try: osctl logs -u a":                                 Failed("a", errors.New("broken")),
		"service a is armed, not up; try: osctl start a":               Reloadable(reloads, lifecycle.Armed),
		"service a cannot run: why; mend its file, then: osctl rescan": Unfit(sp, "why"),
		silent + "; try: osctl restart a":                              Reloadable(sp, lifecycle.Up),
	} {
		var refusal *control.Error
		if !errors.As(err, &refusal) || err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if err := Reloadable(reloads, lifecycle.Up); err != nil {
		t.Errorf("a service that can be reloaded: %v", err)
	}
}
