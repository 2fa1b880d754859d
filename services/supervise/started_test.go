package supervise

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/boottime"
	"resinos/services/pid1"
	"resinos/services/proc"
	"resinos/services/spec"
)

// ahead starts a process before there is a supervisor, and returns it with what reaps it.
func ahead(t *testing.T, r *proc.Reaper, line string) *Started {
	t.Helper()
	e := &Started{Began: boottime.Now()}
	p, err := r.Start(proc.Command{Path: "/bin/sh", Args: []string{"sh", "-c", line}, OnExit: e.Exit})
	if err != nil {
		t.Fatal(err)
	}
	e.Process = p
	return e
}

// startWith is start with the reaper of processes that run already.
func startWith(t *testing.T, r *proc.Reaper, sp spec.Spec, e *Started) *rig {
	t.Helper()
	s, err := New(Config{Reaper: r, Specs: []spec.Spec{sp}, Started: map[string]*Started{sp.Name: e},
		StopLimit: testenv.Patience()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })
	return &rig{Supervisor: s, t: t}
}

// reap has the reaper run until the end of the test.
func reap(t *testing.T, r *proc.Reaper) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func once(name, line string) spec.Spec {
	sp := sh(name, line)
	sp.Type, sp.Restart = spec.Oneshot, spec.Never
	return sp
}

// TestStarted: a process that was started before the supervisor is that of its service, whether it still runs or has
// ended; only the next start of the service is one of the supervisor.
func TestStarted(t *testing.T) {
	mark := t.TempDir() + "/mark"
	sp := once("a", "echo again >> "+mark)
	t.Run("runs", func(t *testing.T) {
		reaper := proc.NewReaper()
		e := ahead(t, reaper, "exec sleep 1000")
		r := startWith(t, reaper, sp, e)
		reap(t, reaper)
		st := r.until("a", func(st pid1.ServiceStatus) bool { return st.PID == e.Process.Pid })
		if st.State != "starting" || st.Began != e.Began.Seconds() {
			t.Errorf("%+v", st)
		}
		if err := e.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.until("a", in("failed"))
	})
	t.Run("has ended", func(t *testing.T) {
		reaper := proc.NewReaper()
		e := ahead(t, reaper, "exit 0")
		reap(t, reaper)
		testenv.Receive(t, "the end", e.Process.Done())
		r := startWith(t, reaper, sp, e)
		r.until("a", in("done"))
		if _, err := os.Stat(mark); err == nil {
			t.Fatal("the service was started twice")
		}
		r.mustCall("restart", "a")
		r.until("a", in("done"))
		if _, err := os.Stat(mark); err != nil {
			t.Error("the service is not started any more")
		}
	})
	t.Run("somebody else has reaped it", func(t *testing.T) {
		dead := exec.Command("/bin/sh", "-c", "exit 0")
		if err := dead.Run(); err != nil {
			t.Fatal(err)
		}
		reaper := proc.NewReaper()
		other := t.TempDir() + "/other"
		e := &Started{Process: &proc.Process{Pid: dead.Process.Pid}}
		r := startWith(t, reaper, once("b", "echo "+strconv.Itoa(dead.Process.Pid)+" > "+other), e)
		reap(t, reaper)
		r.until("b", in("done"))
		if _, err := os.Stat(other); err != nil {
			t.Error("the service was not started")
		}
	})
}
