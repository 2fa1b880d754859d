package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/pid1"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// reborn freezes the supervisor, ends its reaper, does what happens in between, and starts another
// one on what it saved, as PID 1 does when it executes itself again.
func (r *rig) reborn(cfg Config, between func()) *rig {
	r.t.Helper()
	if err := r.Freeze(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.stop(); !errors.Is(err, ErrFrozen) {
		r.t.Fatalf("a frozen supervisor ends with %v", err)
	}
	state, files, err := r.Save()
	if err != nil {
		r.t.Fatal(err)
	}
	var again []int
	for _, f := range files {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			r.t.Fatal(err)
		}
		again = append(again, fd)
	}
	between()
	cfg.Specs, cfg.Saved, cfg.Files = nil, state, again
	return start(r.t, cfg)
}

// TestInitReborn: no process is lost, no exit, no descriptor, no wish.
func TestInitReborn(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	path, eachPath := filepath.Join(dir, "web.sock"), filepath.Join(dir, "each.sock")
	each := listener("each", eachPath)
	each.Command, each.Listen.Each = []string{self(), "play", "connection"}, true
	late := sh("late", "sleep 0.7; touch "+dir+"/ready; exec sleep 1000")
	late.Ready.Command, late.StartTimeout = []string{"/bin/sh", "-c", "test -e " + dir + "/ready"}, testenv.Patience()
	store := actor("store", spec.Notify, "store", dir+"/got")
	store.FDStore = 1
	needs := sh("needs", "exec sleep 1000")
	needs.Needs = []string{"dies"}
	waits := sh("waits", "exec sleep 1000")
	waits.Needs = []string{"late"}
	cfg := Config{
		Specs: []spec.Spec{
			listener("web", path), each, late, store, needs, waits, sh("dies", "exec sleep 1000"), sh("loop", "exit 1"),
			actor("lives", spec.Notify, "ready", "hello"), sh("off", "exec sleep 1000"),
		},
		Cgroups: tree, NotifyPath: dir + "/notify", Launcher: self(),
	}
	r := start(t, cfg)
	for _, name := range []string{"each", "store", "needs", "lives", "off"} {
		r.until(name, in("up"))
	}
	r.until("web", in("armed"))
	r.until("loop", in("backoff"))
	r.mustCall("stop", "off")
	conn, err := net.Dial("unix", eachPath)
	if err != nil {
		t.Fatal(err)
	}
	var client int
	fmt.Fscan(conn, &client)
	before := map[string]pid1.ServiceStatus{}
	for _, name := range []string{"store", "lives", "dies", "needs"} {
		before[name] = r.status(name)
	}
	r = r.reborn(cfg, func() {
		syscall.Kill(before["dies"].PID, syscall.SIGKILL) // dies while nobody reaps
	})
	for _, name := range []string{"store", "lives", "needs"} {
		st, was := r.status(name), before[name]
		if st.PID != was.PID || st.State != "up" || st.Text != was.Text || st.Ready != was.Ready {
			t.Errorf("%s was %+v and is %+v", name, was, st)
		}
	}
	dies := r.until("dies", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.PID != before["dies"].PID })
	if dies.Restarts != 1 || !strings.Contains(dies.LastExit, "signal 9") {
		t.Errorf("the exit in between is lost: %+v", dies)
	}
	if st := r.status("each"); st.Clients != 1 || !exists(fmt.Sprint(client)) {
		t.Errorf("the connection is lost: %+v", st)
	}
	conn.Close()
	r.until("each", func(s pid1.ServiceStatus) bool { return s.Clients == 0 })
	r.until("waits", in("up"))
	if answer := ask(t, path, ""); !strings.HasPrefix(answer, "served by") {
		t.Errorf("the socket answers %q", answer)
	}
	if st := r.status("off"); st.State != "down" {
		t.Errorf("a stopped service is %s", st.State)
	}
	r.mustCall("kill", "store")
	waitFor(t, "the stored descriptor back", func() bool { _, err := os.Stat(dir + "/got"); return err == nil })
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	noZombies(t)
}

// TestInitRebornAgain: again and again while services die.
func TestInitRebornAgain(t *testing.T) {
	tree := asInit(t)
	var specs []spec.Spec
	for i := range 20 {
		specs = append(specs, sh(fmt.Sprintf("s%d", i), "exec sleep 1000"))
	}
	cfg := Config{Specs: specs, Cgroups: tree}
	r := start(t, cfg)
	for round := range 30 {
		if round%3 == 0 {
			r.until(fmt.Sprintf("s%d", round%20), in("up"))
		}
		for _, i := range []int{round % 20, (round * 7) % 20} {
			r.call("kill", fmt.Sprintf("s%d", i)) // or it has no process right now
		}
		r = r.reborn(cfg, func() {})
	}
	seen := map[int]bool{}
	for i := range 20 {
		name := fmt.Sprintf("s%d", i)
		var st pid1.ServiceStatus
		waitFor(t, name+" up with one process", func() bool { // the latest kill may still be on its way
			st = r.until(name, in("up"))
			pids, err := tree.Procs(name)
			return err == nil && len(pids) == 1 && pids[0] == st.PID
		})
		if seen[st.PID] {
			t.Errorf("%+v", st)
		}
		seen[st.PID] = true
	}
}

// TestSaveWithoutLoop: a state saved in the middle of anything can be read, and one of another
// version cannot.
func TestSaveWithoutLoop(t *testing.T) {
	s, err := New(Config{Specs: []spec.Spec{sh("a", "x"), sh("b", "y")}, Reaper: proc.NewReaper()})
	if err != nil {
		t.Fatal(err)
	}
	s.world.Begin(time.Now()) // decided, not done
	s.handles[0].OOMs = 3
	state, files, err := s.Save()
	if err != nil || len(files) != 0 {
		t.Fatal(err, files)
	}
	again, err := New(Config{Reaper: proc.NewReaper(), Saved: state})
	if err != nil {
		t.Fatal(err)
	}
	if svc := again.world.Services[0]; svc.Phase != lifecycle.Starting || !svc.Wanted || svc.Lives != 1 {
		t.Errorf("restored: %+v", svc)
	}
	if n := again.handles[0].OOMs; n != 3 {
		t.Errorf("kills for want of memory restart at %d, want 3: the next end would be blamed on them", n)
	}
	for _, bad := range []string{"", "{}", `{"version":0}`, `{"version":2}`,
		`{"version":1,"services":[{"spec":{"Name":"a"},"phase":"x"}]}`,
		`{"version":1,"services":[{"spec":{"Name":"a"},"phase":"up","Sockets":[3]}]}`, `{"version":1,"notify":-1}`} {
		if _, err := New(Config{Reaper: proc.NewReaper(), Saved: []byte(bad)}); err == nil {
			t.Errorf("state %q is taken", bad)
		}
	}
}

// TestSavedBeforeItListens: a life that was to begin to take connections begins in the next one.
func TestSavedBeforeItListens(t *testing.T) {
	each := listener("each", filepath.Join(t.TempDir(), "each.sock"))
	each.Listen.Each, each.Listen.Max = true, 4
	s, err := New(Config{Specs: []spec.Spec{each}, Reaper: proc.NewReaper()})
	if err != nil {
		t.Fatal(err)
	}
	s.world.Begin(time.Now()) // decided, not done
	state, _, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{Saved: state})
	r.until("each", in("up"))
}

func TestInitRescan(t *testing.T) {
	tree := asInit(t)
	keep, change, gone := sh("keep", "exec sleep 1000"), sh("change", "exec sleep 1000"), sh("gone", "exec sleep 1000")
	user := sh("user", "exec sleep 1000")
	user.Needs = []string{"gone"}
	hide := sh("hide", "exec sleep 1000")
	hide.Masked = true
	list := []spec.Spec{keep, change, gone, user, hide}
	r := start(t, Config{Specs: list, Cgroups: tree, Load: func() ([]spec.Spec, []error) {
		return list, []error{errors.New("x.toml:1: bad")}
	}})
	for _, name := range []string{"keep", "change", "user"} {
		r.until(name, in("up"))
	}
	if st := r.status("hide"); st.State != "masked" {
		t.Errorf("masked: %+v", st)
	}
	if _, err := r.call("start", "hide"); err == nil || !strings.Contains(err.Error(), "osctl unmask hide") {
		t.Errorf("start of a masked service: %v", err)
	}
	before, kept := r.status("change"), r.status("keep")
	fresh := sh("fresh", "exec sleep 1000")
	change.Environment, hide.Masked = map[string]string{"A": "b"}, false
	keep.Description = "" // as it was
	list = []spec.Spec{keep, change, user, hide, fresh}
	got, err := r.Rescan(context.Background())
	if err != nil || fmt.Sprint(got) != "{[fresh] [gone] [change hide] [x.toml:1: bad]}" {
		t.Errorf("rescan says %v, %v", got, err)
	}
	r.until("fresh", in("up"))
	r.until("hide", in("up"))
	waitFor(t, "gone stopped", func() bool { p, _ := tree.Populated("gone"); return !p })
	waitFor(t, "gone forgotten", func() bool { return !r.knows("gone") })
	r.until("user", func(s pid1.ServiceStatus) bool { return s.State == "down" && strings.Contains(s.Reason, "gone") })
	if st := r.status("change"); st.PID != before.PID || !st.Changed {
		t.Errorf("a changed service: %+v", st)
	}
	if st := r.status("keep"); st.PID != kept.PID || st.Changed {
		t.Errorf("a service that is as it was: %+v", st)
	}
	if st := r.mustCall("restart", "change"); st.Changed {
		t.Errorf("after its restart: %+v", st)
	}
	list = []spec.Spec{keep}
	if _, err := r.Rescan(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.until("keep", in("up"))
	waitFor(t, "all others stopped", func() bool {
		for _, name := range []string{"fresh", "hide", "change"} {
			if p, _ := tree.Populated(name); p {
				return false
			}
		}
		return true
	})
}

// TestInitRemoved: a service whose file is gone is shown as such while it stops, then forgotten at once; who waits
// for it hears so.
func TestInitRemoved(t *testing.T) {
	tree, trapped, leave := asInit(t), filepath.Join(t.TempDir(), "trapped"), filepath.Join(t.TempDir(), "leave")
	trap := "trap 'until test -e " + leave + "; do sleep 0.01; done; exit 3' TERM"
	slow := sh("slow", trap+"; : >"+trapped+"; while :; do sleep 0.05; done")
	long, stuck := sh("long", "exec sleep 1000"), sh("stuck", "exec sleep 1000")
	long.Type, stuck.Needs = spec.Oneshot, []string{"long"}
	other := sh("other", "exec sleep 1000")
	var list []spec.Spec
	load := func() ([]spec.Spec, []error) { return list, nil }
	r := start(t, Config{Specs: []spec.Spec{slow, other, long, stuck}, Cgroups: tree, Load: load})
	asked := make(chan error, 1)
	go func() {
		_, err := r.call("start", "stuck")
		asked <- err
	}()
	waitFor(t, "start asked for", func() bool {
		n := 0
		r.calls.Do(context.Background(), func() { n = r.requests.Len() })
		return n == 1
	})
	r.until("slow", in("up"))
	waitFor(t, "trap set", func() bool { _, err := os.Lstat(trapped); return err == nil })
	before := r.until("other", in("up"))
	list = []spec.Spec{other, long}
	if _, err := r.Rescan(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := r.status("slow"); !st.Removed || st.State != "stopping" {
		t.Errorf("while it stops: %+v", st)
	}
	if err := os.WriteFile(leave, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if st := r.mustCall("stop", "slow"); st.State != pid1.Removed {
		t.Errorf("who stops it hears %+v", st)
	}
	if r.knows("slow") || r.knows("stuck") {
		t.Error("they are still there")
	}
	if err := <-asked; err == nil || !strings.Contains(err.Error(), "its file was removed") {
		t.Errorf("who waited for one that is gone hears %v", err)
	}
	if st := r.status("other"); st.PID != before.PID || st.State != "up" {
		t.Errorf("the other one: %+v, before %+v", st, before)
	}
	if st := r.mustCall("restart", "other"); st.PID == before.PID {
		t.Errorf("numbers are mixed up: %+v", st)
	}
}
