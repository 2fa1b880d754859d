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

	"resinos/services/proc"
	"resinos/services/spec"
)

// sh makes a service that runs a shell line.
func sh(name, line string) spec.Spec {
	return spec.Spec{
		Name: name, Command: []string{"/bin/sh", "-c", line}, Type: spec.Simple, Restart: spec.Always,
		StopTimeout: 2 * time.Second, KillMode: spec.Group, Log: spec.Ring, WorkingDirectory: "/",
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

func (r *rig) status(name string) ServiceStatus {
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
	return ServiceStatus{}
}

// knows reports whether there is such a service.
func (r *rig) knows(name string) bool {
	list, err := r.Status(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.ContainsFunc(list, func(st ServiceStatus) bool { return st.Name == name })
}

// until waits for the service to be as ok says.
func (r *rig) until(name string, ok func(ServiceStatus) bool) ServiceStatus {
	r.t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		s := r.status(name)
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			r.t.Fatalf("service %s stays %+v", name, s)
		}
		time.Sleep(time.Millisecond)
	}
}

func in(state string) func(ServiceStatus) bool {
	return func(s ServiceStatus) bool { return s.State == state }
}

func (r *rig) call(op, name string) (ServiceStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	st, err := r.Handlers()[op](ctx, fmt.Appendf(nil, `{"name":%q}`, name))
	if err != nil {
		return ServiceStatus{}, err
	}
	return st.(ServiceStatus), nil
}

func TestCrashComesBack(t *testing.T) {
	r := start(t, Config{Specs: []spec.Spec{sh("a", "exec sleep 1000")}})
	first := r.until("a", in("up"))
	if _, err := r.call("kill", "a"); err != nil {
		t.Fatal(err)
	}
	second := r.until("a", func(s ServiceStatus) bool { return s.State == "up" && s.PID != first.PID })
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
	a := sh("a", "trap '' TERM; while :; do sleep 1; done")
	a.StopTimeout = 50 * time.Millisecond
	r := start(t, Config{Specs: []spec.Spec{a}})
	r.until("a", in("up"))
	time.Sleep(50 * time.Millisecond) // let the shell set its trap
	begin := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > a.StopTimeout+time.Second {
		t.Errorf("stop took %s", d)
	}
}
