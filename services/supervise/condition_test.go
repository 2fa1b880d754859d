package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/pid1"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/lifecycle"
)

// hang mounts a file system of which nobody answers a question, and returns what ends it: whoever waits for it then
// gets an error.
func hang(t *testing.T, dir string) (end func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		testenv.Lacking(t, "FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("nobody", dir, "fuse", 0, options); err != nil {
		unix.Close(fd)
		testenv.Lacking(t, "FUSE: %v", err)
	}
	return func() {
		unix.Close(fd)
		unix.Unmount(dir, unix.MNT_DETACH)
	}
}

// TestInitHungCondition: a path on a mount that hangs holds up neither the other services nor the stop of its own.
func TestInitHungCondition(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	end := hang(t, dir)
	defer end()
	hung := sh("hung", "exec sleep 1000")
	hung.Conditions = []precondition.Condition{{Kind: precondition.Path, Value: dir + "/there"}}
	each := listener("each", t.TempDir()+"/each.sock")
	each.Listen.Each, each.Start, each.Conditions = true, spec.AtBoot, hung.Conditions
	r := start(t, Config{Specs: []spec.Spec{hung, each, sh("other", "exec sleep 1000")}, Cgroups: tree})
	r.until("other", in("up"))
	for _, name := range []string{"hung", "each"} {
		if st := r.status(name); st.State != "starting" || st.PID != 0 {
			t.Errorf("while its condition is judged: %+v", st)
		}
		r.mustCall("stop", name)
		if st := r.status(name); st.State != "down" || st.Failures != 0 {
			t.Errorf("stopped while its condition is judged: %+v", st)
		}
	}
	go r.call("start", "hung") // answered when the mount is gone
	r.until("hung", in("starting"))
	end()
	r.until("hung", in("skipped"))
}

// TestInitHungProgram: a program or a working directory on a mount that hangs holds up neither the loop nor any other
// service, and what hangs there can be stopped.
func TestInitHungProgram(t *testing.T) {
	tree := asInit(t)
	// A mount each: of two that wait for one directory, the second waits for the first and cannot be killed before it.
	hung := func() string {
		dir := t.TempDir()
		t.Cleanup(hang(t, dir))
		return dir
	}
	program, place, user := sh("program", ""), sh("place", "exec sleep 1000"), sh("user", "exec sleep 1000")
	program.Command = []string{hung() + "/program"}
	place.WorkingDirectory = hung() + "/place"
	user.WorkingDirectory, user.User, user.Group = hung()+"/place", "7", "7" // one that is launched anyway
	for _, sp := range []*spec.Spec{&program, &place, &user} {
		sp.StopTimeout = 100 * time.Millisecond // who hangs there may not hear SIGTERM
	}
	r := start(t, Config{Specs: []spec.Spec{program, place, user, sh("other", "exec sleep 1000")}, Cgroups: tree,
		Launcher: self()})
	r.until("other", in("up"))
	for _, name := range []string{"program", "place", "user"} {
		r.until(name, func(s pid1.ServiceStatus) bool { return s.PID != 0 })
		r.mustCall("stop", name)
		if st := r.status(name); st.State != "down" {
			t.Errorf("stopped while it hangs: %+v", st)
		}
	}
}

// TestInitHungWatch: a watched path on a mount that hangs keeps no port from its service, and does not hold up
// the end.
func TestInitHungWatch(t *testing.T) {
	tree, dir, port := asInit(t), t.TempDir(), filepath.Join(t.TempDir(), "port")
	end := hang(t, dir)
	defer end()
	watch := sh("watch", "exec sleep 1000")
	watch.Start, watch.WatchPaths = spec.OnDemand, []string{dir + "/file"}
	r := start(t, Config{Specs: []spec.Spec{watch, listener("port", port)}, Cgroups: tree, Launcher: self()})
	r.until("watch", in("armed"))
	r.until("port", in("armed"))
	if got := ask(t, port, ""); !strings.HasPrefix(got, "served by ") {
		t.Errorf("the service of the port says %q", got)
	}
	over := make(chan error, 1)
	go func() { over <- r.stop() }()
	if err := testenv.Receive(t, "the end of the supervisor", over); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestInitElsewhere: what lies outside the image runs as it always did, and says what is wrong with it.
func TestInitElsewhere(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	program := dir + "/program"
	if err := os.WriteFile(program, []byte("#!/bin/sh\npwd > "+dir+"/at\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	there, missing, nowhere := sh("there", ""), sh("missing", ""), sh("nowhere", "exec sleep 1000")
	there.Command, there.WorkingDirectory = []string{program}, dir
	missing.Command, nowhere.WorkingDirectory = []string{dir + "/missing"}, dir+"/nowhere"
	r := start(t, Config{Specs: []spec.Spec{there, missing, nowhere}, Cgroups: tree, Launcher: self()})
	testenv.WaitFor(t, "the program in its directory", func() bool {
		at, _ := os.ReadFile(dir + "/at") // it comes
		return string(at) == dir+"\n"
	})
	for name, why := range map[string]string{
		"missing": "its program cannot be executed", "nowhere": "its working directory cannot be entered",
	} {
		r.until(name, func(s pid1.ServiceStatus) bool {
			return s.State == "backoff" && strings.Contains(s.Reason, why)
		})
	}
}

// TestConditionLimit: what nobody answers counts as a failed start and is tried again, but never asked twice at a
// time; a late answer is not taken for that of a later question.
func TestConditionLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, answer := 0, make(chan bool)
		judge := func(precondition.Condition) (bool, string) { asked++; return <-answer, "it is not" }
		s := assemble(Config{Conditions: judge, Reaper: proc.NewReaper()})
		s.background = t.Context()
		s.checks.Begin(s.background)
		sp := sh("a", "exit 1")
		sp.Command = []string{"/usr/nonexistent"}
		sp.Conditions = []precondition.Condition{{Kind: precondition.Path, Value: "/x"}}
		s.rebuild([]spec.Spec{sp})
		s.do(s.world.Begin(time.Now()))
		svc := &s.world.Services[0]
		for range 3 {
			(<-s.calls.C())() // nobody has answered
			if !svc.Spoiled || !strings.Contains(svc.Why, "no answer") {
				t.Fatalf("a condition that is not judged: %s, %q", svc.Phase, svc.Why)
			}
			if svc.Phase == lifecycle.Backoff {
				time.Sleep(time.Until(svc.Deadline))
				s.handleDeadlines(time.Now())
			}
			synctest.Wait()
			if svc.Phase != lifecycle.Starting || asked != 1 {
				t.Fatalf("%s after %q, asked %d times", svc.Phase, svc.Why, asked)
			}
		}
		answer <- false // to the first question, which nobody waits for any more
		synctest.Wait()
		if svc.Phase != lifecycle.Starting || asked != 2 {
			t.Fatalf("%s after a late answer, asked %d times", svc.Phase, asked)
		}
		answer <- true
		(<-s.calls.C())()
		if !strings.Contains(svc.Why, "/usr/nonexistent") {
			t.Errorf("not started once the condition holds: %s, %q", svc.Phase, svc.Why)
		}
		s.feed(0, lifecycle.Input{Event: lifecycle.Stop})
		s.calls.End()
	})
}
