package supervise

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/log/pipe"
	"resinos/services/pid1"
	"resinos/services/spec"
)

// actor makes a service that the test binary plays.
func actor(name string, typ spec.Type, args ...string) spec.Spec {
	s := sh(name, "")
	s.Type, s.Command, s.StartTimeout = typ, append([]string{self(), "play"}, args...), testenv.Patience()
	return s
}

func (r *rig) mustCall(op, name string) pid1.ServiceStatus {
	r.t.Helper()
	st, err := r.call(op, name)
	if err != nil {
		r.t.Fatalf("%s %s: %v", op, name, err)
	}
	return st
}

func noZombies(t *testing.T) {
	t.Helper()
	testenv.WaitFor(t, "an end of all zombies", func() bool {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		return !slices.ContainsFunc(stats, func(file string) bool {
			data, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(data), ") Z ")
		})
	})
}

// TestInitEngine is the story of the container engine: killed, its shim and the manager live on
// and it comes back beside them; stopped, only the manager goes; at the shutdown all goes.
func TestInitEngine(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	engine := actor("engine", spec.Notify, "engine", dir+"/shim")
	engine.KillMode, engine.CgroupDelegate = spec.Process, true
	manager := sh("manager", "exec sleep 1000")
	manager.Needs = []string{"engine"}
	r := start(t, Config{Specs: []spec.Spec{engine, manager}, Cgroups: tree, NotifyPath: dir + "/notify"})
	managed := r.until("manager", in("up"))
	shim, err := os.ReadFile(dir + "/shim")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		before := r.status("engine")
		r.mustCall("kill", "engine")
		r.until("engine", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.PID != before.PID })
		if !exists(string(shim)) {
			t.Fatal("the shim died with the engine")
		}
		if st := r.status("manager"); st.PID != managed.PID || st.State != "up" {
			t.Fatalf("the manager noticed: %+v", st)
		}
	}
	if pids, err := tree.Procs("engine/main"); err != nil || len(pids) != 2 {
		t.Errorf("the engine's leaf holds %v, %v", pids, err)
	}
	r.mustCall("stop", "engine")
	if !exists(string(shim)) {
		t.Error("the shim died when the engine was stopped")
	}
	if st := r.status("manager"); st.State != "waiting" {
		t.Errorf("the manager without its engine: %+v", st)
	}
	r.mustCall("start", "engine")
	r.until("manager", in("up"))
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	// Its group is empty; if it has died after the reaper's last round, nobody takes it any more.
	waitFor(t, "the shim is dead after the shutdown", func() bool {
		stat, err := os.ReadFile("/proc/" + string(shim) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// TestInitLitter: what a service left behind, 300 daemons in sessions of their own, is dead
// and reaped before the next life begins; and nothing of the storm hides the exit of another.
func TestInitLitter(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	mark := dir + "/ready"
	litter := actor("litter", spec.Simple, "litter", "300", mark)
	other := sh("other", "exec sleep 1000")
	r := start(t, Config{Specs: []spec.Spec{litter, other}, Cgroups: tree})
	for range 2 {
		waitFor(t, "litter made", func() bool { _, err := os.Stat(mark); return err == nil })
		os.Remove(mark)
		first, second := r.until("litter", in("up")), r.until("other", in("up"))
		syscall.Kill(second.PID, syscall.SIGKILL)
		r.mustCall("kill", "litter")
		r.until("other", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.PID != second.PID })
		r.until("litter", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.PID != first.PID })
		if pids, err := tree.Procs("litter"); err != nil || len(pids) > 301 {
			t.Errorf("two lives of litter: %d processes, %v", len(pids), err)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	noZombies(t)
}

// TestInitNotify: only what lives in the service's group is heard.
func TestInitNotify(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	path := dir + "/notify"
	deaf := sh("deaf", "exec sleep 1000")
	deaf.Type, deaf.StartTimeout = spec.Notify, 0
	parent := sh("parent", self()+" play ready child; :") // the shell's child speaks
	parent.Type, parent.Command[2] = spec.Notify, "/proc/"+strconv.Itoa(os.Getpid())+"/exe play ready child; :"
	stranger := actor("stranger", spec.Simple, "stranger", path)
	r := start(t, Config{Specs: []spec.Spec{deaf, parent, stranger}, Cgroups: tree, NotifyPath: path})
	if st := r.until("parent", in("up")); st.Text != "child" {
		t.Errorf("parent is %+v", st)
	}
	r.until("stranger", in("up"))
	r.never(100*time.Millisecond, "deaf", func(s pid1.ServiceStatus) bool { return s.State != "starting" })
}

// TestInitOrder: the shutdown asks in reverse order, each after its dependants are gone.
func TestInitOrder(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	file := dir + "/order"
	var specs []spec.Spec
	for _, name := range []string{"a", "b", "c", "d"} {
		specs = append(specs, actor(name, spec.Notify, "term", file, name))
	}
	specs[1].Needs, specs[2].Wants, specs[3].After = []string{"a"}, []string{"b"}, []string{"c"}
	r := start(t, Config{Specs: specs, Cgroups: tree, NotifyPath: dir + "/notify"})
	r.until("d", in("up"))
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "d\nc\nb\na\n" {
		t.Errorf("stopped in the order %q", got)
	}
}

// TestInitCannotStop: the shutdown has an end even when a service has none; who was left is named
// and nothing lives on.
func TestInitCannotStop(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	deaf := sh("deaf", "trap '' TERM; touch "+dir+"/set; while :; do sleep 1; done")
	deaf.StopTimeout = time.Hour
	r := start(t, Config{Specs: []spec.Spec{deaf, sh("good", "exec sleep 1000")}, Cgroups: tree,
		StopLimit: 300 * time.Millisecond})
	waitFor(t, "trap set", func() bool { _, err := os.Stat(dir + "/set"); return err == nil })
	err := r.stop()
	if err == nil || !strings.Contains(err.Error(), "deaf") || strings.Contains(err.Error(), "good") {
		t.Errorf("the shutdown says %v", err)
	}
	waitFor(t, "all killed", func() bool { p, _ := tree.Populated("."); return !p })
}

// TestInitBadServices: a program that is missing, one that exits at once for ever, one that
// closes its pipes, one that is never ready; each is shown as what it is and the good one runs.
func TestInitBadServices(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	missing := sh("missing", "")
	missing.Command = []string{"/usr/no/such/program"}
	loop := sh("loop", "exit 3")
	mute := sh("mute", "exec <&- >&- 2>&-; while :; do sleep 1; done")
	never := sh("never", "exec sleep 1000")
	never.Type, never.StartTimeout = spec.Notify, 100*time.Millisecond
	never.Restart = spec.Never
	once := sh("once", "exit 5")
	once.Type, once.Restart = spec.Oneshot, spec.Never
	child := sh("child", "exec sleep 1000")
	child.Needs = []string{"once"}
	ghost := sh("ghost", "exec sleep 1000")
	ghost.Needs = []string{"nobody"}
	r := start(t, Config{
		Specs:   []spec.Spec{missing, loop, mute, never, once, child, ghost, sh("good", "exec sleep 1000")},
		Cgroups: tree, NotifyPath: dir + "/notify",
	})
	for name, want := range map[string][2]string{
		"missing": {"backoff", "no such file"}, "loop": {"backoff", "exit code 3"}, "mute": {"up", ""},
		"never": {"failed", "not up in time"}, "once": {"failed", "exit code 5"},
		"child": {"waiting", "needs once, which is failed"}, "good": {"up", ""},
		"ghost": {"failed", "needs nobody, which does not exist"},
	} {
		r.until(name, func(s pid1.ServiceStatus) bool {
			return s.State == want[0] && strings.Contains(s.Reason, want[1]) && (want[1] != "" || s.Reason == "")
		})
	}
	if _, err := r.call("start", "ghost"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("start of a broken service: %v", err)
	}
	if _, err := r.call("start", "once"); err == nil || !strings.Contains(err.Error(), "exit code 5") {
		t.Errorf("start of a failing oneshot: %v", err)
	}
	// The model holds how long the pauses are; here it is that they are made.
	r.until("loop", func(s pid1.ServiceStatus) bool { return s.State == "backoff" && s.Restarts >= 2 })
}

// TestInitConsoleAndOutput: a console service has the terminal as all three, a ring service its
// pipe; both are born in their groups.
func TestInitConsoleAndOutput(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	console := sh("console", "echo to the console; exec sleep 1000")
	console.Log = spec.Console
	ring := sh("ring", "echo out; echo err >&2; exec sleep 1000")
	term := dir + "/tty"
	if err := os.WriteFile(term, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	r := start(t, Config{Specs: []spec.Spec{console, ring}, Cgroups: tree, ConsolePath: term,
		Output: func(name string) (*os.File, error) {
			if name != "ring" {
				t.Errorf("output of %s is asked for", name)
			}
			return out, nil
		}})
	waitFor(t, "console written", func() bool {
		data, _ := os.ReadFile(term)
		return string(data) == "to the console\n"
	})
	buf := make([]byte, 100)
	got := ""
	for !strings.Contains(got, "pid ") || !strings.Contains(got, "err\n") {
		n, err := in.Read(buf)
		if err != nil {
			t.Fatalf("ring wrote %q, %v", got, err)
		}
		got += string(buf[:n])
	}
	st := r.status("ring")
	mark := string(pipe.AppendPID(nil, st.PID)) // on a busy machine it may come late
	if !strings.Contains(got, mark) || strings.Replace(got, mark, "", 1) != "out\nerr\n" {
		t.Errorf("the pipe of ring holds %q", got)
	}
	if got := tree.Owner(st.PID); got != "ring" {
		t.Errorf("ring lives in group %q", got)
	}
}

// TestInitKillStorm kills every service again and again; each comes back, none is started twice.
func TestInitKillStorm(t *testing.T) {
	tree := asInit(t)
	names := []string{"a", "b", "c", "d", "e"}
	var specs []spec.Spec
	for _, name := range names {
		specs = append(specs, sh(name, "exec sleep 1000"))
	}
	r := start(t, Config{Specs: specs, Cgroups: tree})
	for range 4 {
		list, err := r.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range list {
			if st.PID > 1 {
				syscall.Kill(st.PID, syscall.SIGKILL)
			}
		}
		for _, st := range list {
			r.until(st.Name, func(now pid1.ServiceStatus) bool { return now.State == "up" && now.PID != st.PID })
			if pids, _ := tree.Procs(st.Name); len(pids) != 1 {
				t.Errorf("%s has processes %v", st.Name, pids)
			}
		}
	}
}
