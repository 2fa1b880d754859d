package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/pid1"
	"resinos/services/proc"
	"resinos/services/spec"
)

// sh makes a service that runs a shell line.
func sh(name, line string) spec.Spec {
	return spec.Spec{
		Name: name, Command: []string{"/bin/sh", "-c", line}, Type: spec.Simple, Restart: spec.Always,
		StopTimeout: testenv.Patience(), KillMode: spec.Group, Log: spec.Ring, WorkingDirectory: "/",
	}
}

// rig is a running supervisor with real processes.
type rig struct {
	*Supervisor
	t    *testing.T
	stop func() error
}

func start(t *testing.T, cfg Config) *rig {
	t.Helper()
	reaper := proc.NewReaper()
	cfg.Reaper = reaper
	if cfg.StopLimit == 0 {
		cfg.StopLimit = testenv.Patience()
	}
	if cfg.Log == nil && testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	reaping, cancelReaper := context.WithCancel(context.Background())
	reaped := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	go func() { reaped <- reaper.Run(reaping) }()
	var over bool
	r := &rig{Supervisor: s, t: t}
	r.stop = func() error {
		if over {
			return nil
		}
		over = true
		cancel()
		err := <-ran
		cancelReaper()
		<-reaped
		return err
	}
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) status(name string) pid1.ServiceStatus {
	r.t.Helper()
	list, err := r.Status(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no service %s", name)
	return pid1.ServiceStatus{}
}

// knows reports whether there is such a service.
func (r *rig) knows(name string) bool {
	list, err := r.Status(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.ContainsFunc(list, func(st pid1.ServiceStatus) bool { return st.Name == name })
}

// until waits for the service to be as ok says.
func (r *rig) until(name string, ok func(pid1.ServiceStatus) bool) pid1.ServiceStatus {
	r.t.Helper()
	var last pid1.ServiceStatus
	reached := false
	defer func() {
		if !reached {
			r.t.Logf("service %s stays %+v", name, last)
		}
	}()
	testenv.WaitFor(r.t, "service "+name, func() bool { last = r.status(name); return ok(last) })
	reached = true
	return last
}

// never wants that the service does not become as bad says within a time.
func (r *rig) never(within time.Duration, name string, bad func(pid1.ServiceStatus) bool) {
	r.t.Helper()
	testenv.Never(r.t, within, "service "+name+" changes", func() bool {
		st := r.status(name)
		if bad(st) {
			r.t.Logf("service %s has become %+v", name, st)
		}
		return bad(st)
	})
}

// waitFor is testenv.WaitFor, which many tests here need.
func waitFor(t *testing.T, what string, happened func() bool) {
	t.Helper()
	testenv.WaitFor(t, what, happened)
}

func in(state string) func(pid1.ServiceStatus) bool {
	return func(s pid1.ServiceStatus) bool { return s.State == state }
}

func (r *rig) call(op, name string) (pid1.ServiceStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	st, err := r.Handlers()[op](ctx, fmt.Appendf(nil, `{"name":%q}`, name))
	if err != nil {
		return pid1.ServiceStatus{}, err
	}
	return st.(pid1.ServiceStatus), nil
}

func TestCrashComesBack(t *testing.T) {
	r := start(t, Config{Specs: []spec.Spec{sh("a", "exec sleep 1000")}})
	first := r.until("a", in("up"))
	if _, err := r.call("kill", "a"); err != nil {
		t.Fatal(err)
	}
	second := r.until("a", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.PID != first.PID })
	if second.Restarts != 1 || !strings.Contains(second.LastExit, "signal 9") {
		t.Errorf("after kill: %+v", second)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestNotifyIsUpWhenItSaysSo(t *testing.T) {
	s := sh("n", "")
	s.Type, s.Command = spec.Notify, []string{self(), "play", "ready", "at your service"}
	d := sh("d", "exec sleep 1000")
	d.Needs = []string{"n"}
	r := start(t, Config{Specs: []spec.Spec{s, d}, NotifyPath: filepath.Join(t.TempDir(), "n.sock")})
	r.until("d", in("up"))
	if st := r.status("n"); st.State != "up" || st.Text != "at your service" {
		t.Errorf("notify service is %+v", st)
	}
}

func TestStartStopRestartByOperator(t *testing.T) {
	a, b := sh("a", "exec sleep 1000"), sh("b", "exec sleep 1000")
	b.Needs = []string{"a"}
	r := start(t, Config{Specs: []spec.Spec{a, b}})
	first := r.until("b", in("up"))
	if st, err := r.call("restart", "a"); err != nil || st.State != "up" {
		t.Fatalf("restart a: %+v, %v", st, err)
	}
	if st := r.status("b"); st.PID != first.PID {
		t.Errorf("a restart of its need changed b: %+v", st)
	}
	if st, err := r.call("stop", "a"); err != nil || st.State != "down" {
		t.Fatalf("stop a: %+v, %v", st, err)
	}
	if st := r.status("b"); st.State != "waiting" || !strings.Contains(st.Reason, "needs a, which is down") {
		t.Errorf("b without a: %+v", st)
	}
	if _, err := r.call("start", "a"); err != nil {
		t.Fatal(err)
	}
	r.until("b", in("up"))
	if _, err := r.call("start", "none"); err == nil {
		t.Error("start of an unknown service succeeds")
	}
}

func TestIgnoredTermIsKilled(t *testing.T) {
	trapped := filepath.Join(t.TempDir(), "trapped")
	a := sh("a", "trap '' TERM; : >"+trapped+"; while :; do sleep 1000; done")
	a.StopTimeout = 50 * time.Millisecond
	r := start(t, Config{Specs: []spec.Spec{a}})
	r.until("a", in("up"))
	waitFor(t, "trap set", func() bool { _, err := os.Lstat(trapped); return err == nil })
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	if err := testenv.Receive(t, "an end of what ignores SIGTERM", ended); err != nil {
		t.Error(err)
	}
}
