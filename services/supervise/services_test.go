package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/pid1"
	"resinos/services/spec"
)

func TestInitWatchdog(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	hangs := actor("hangs", spec.Notify, "pings", "3")
	hangs.WatchdogEvery = 200 * time.Millisecond
	lives := actor("lives", spec.Notify, "pings", "100")
	lives.WatchdogEvery = testenv.Patience()
	r := start(t, Config{Specs: []spec.Spec{hangs, lives}, Cgroups: tree, NotifyPath: dir + "/notify",
		Launcher: self()})
	before := r.until("lives", in("up"))
	st := r.until("hangs", func(s pid1.ServiceStatus) bool { return s.Restarts >= 1 && s.State == "up" })
	if !strings.Contains(st.LastExit, "no watchdog message for 300ms") {
		t.Errorf("after the watchdog: %+v", st)
	}
	if st := r.status("lives"); st.PID != before.PID {
		t.Errorf("the one that pings was killed: %+v", st)
	}
}

func TestInitHealth(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	s := sh("s", "exec sleep 1000")
	s.Health = spec.Health{Command: []string{"/bin/sh", "-c", "test ! -e " + dir + "/ill"},
		Every: 30 * time.Millisecond, Timeout: testenv.Patience(), Retries: 2}
	r := start(t, Config{Specs: []spec.Spec{s}, Cgroups: tree})
	first := r.until("s", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.Health == "ok" })
	r.never(200*time.Millisecond, "s", func(s pid1.ServiceStatus) bool { return s.PID != first.PID })
	os.WriteFile(dir+"/ill", nil, 0o644)
	st := r.until("s", func(s pid1.ServiceStatus) bool { return s.Restarts >= 1 })
	os.Remove(dir + "/ill")
	if !strings.Contains(st.LastExit, "sh") || !strings.Contains(st.LastExit, "exit code 1") {
		t.Errorf("after the health check: %+v", st)
	}
	r.until("s", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.Health == "ok" })
}

func TestInitReady(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	path := filepath.Join(dir, "p.sock")
	port := sh("port", "sleep 0.2; touch "+dir+"/ready; exec sleep 1000")
	port.Ready.Command, port.StartTimeout = []string{"/bin/sh", "-c", "test -e " + dir + "/ready"}, testenv.Patience()
	never := sh("never", "exec sleep 1000")
	never.Ready.Port, never.StartTimeout, never.Restart = "unix:"+path, 200*time.Millisecond, spec.Never
	r := start(t, Config{Specs: []spec.Spec{port, never}, Cgroups: tree, Launcher: self()})
	if st := r.until("port", in("up")); st.Ready-st.Began < 0.2 {
		t.Errorf("up after %fs, before it was ready", st.Ready-st.Began)
	}
	if st := r.until("never", in("failed")); !strings.Contains(st.Reason, "not up in time") {
		t.Errorf("never ready: %+v", st)
	}
}

func TestInitMainPID(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	r := start(t, Config{Specs: []spec.Spec{actor("h", spec.Notify, "handover", dir+"/followed")}, Cgroups: tree,
		NotifyPath: dir + "/notify"})
	first := r.until("h", in("up"))
	if err := os.WriteFile(dir+"/followed", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the parent ends", func() bool {
		pids, err := tree.Procs("h")
		return err == nil && len(pids) == 1 && pids[0] == first.PID
	})
	r.never(100*time.Millisecond, "h", func(s pid1.ServiceStatus) bool {
		return s.State != "up" || s.PID != first.PID || s.Restarts != 0
	})
	if err := os.Remove(dir + "/followed"); err != nil {
		t.Fatal(err)
	}
	r.mustCall("kill", "h")
	r.until("h", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.Restarts == 1 && s.PID != first.PID })
}

func TestInitFDStore(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	s := actor("s", spec.Notify, "store", dir+"/got")
	s.FDStore = 1
	r := start(t, Config{Specs: []spec.Spec{s}, Cgroups: tree, NotifyPath: dir + "/notify", Launcher: self()})
	r.until("s", func(s pid1.ServiceStatus) bool { return s.State == "up" && s.Stored == 1 })
	r.mustCall("kill", "s")
	var got []byte
	waitFor(t, "the descriptor back", func() bool {
		got, _ = os.ReadFile(dir + "/got")
		return strings.HasSuffix(string(got), "memory")
	})
	if string(got) != "kept over a restart as memory" {
		t.Errorf("it read %q", got)
	}
	// Who waits for an answer of the other end must not wait for ever once nobody will come.
	r.mustCall("stop", "s")
	if st := r.status("s"); st.State != "down" || st.Stored != 0 {
		t.Errorf("stopped for good, it still keeps a descriptor: %+v", st)
	}
}

func TestInitGiveUp(t *testing.T) {
	tree := asInit(t)
	s := sh("s", "exit 3")
	s.GiveUp, s.RestartPause = spec.GiveUp{Lives: 3, Within: time.Minute}, time.Millisecond
	r := start(t, Config{Specs: []spec.Spec{s}, Cgroups: tree})
	st := r.until("s", in("failed"))
	if st.Restarts != 2 || !strings.Contains(st.Reason, "given up: lost too often within 1m0s") {
		t.Errorf("given up: %+v", st)
	}
	r.call("start", "s") // it is up for a moment, which counts, or is told to have failed
	r.until("s", func(s pid1.ServiceStatus) bool { return s.State == "failed" && s.Restarts == 5 })
}

func TestInitReload(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	sig := sh("sig", "trap 'touch "+dir+"/hup' USR1; touch "+dir+"/set; while :; do sleep 0.05; done")
	sig.ReloadSignal = "USR1"
	cmd := sh("cmd", "exec sleep 1000")
	cmd.ReloadCommand = []string{"/bin/sh", "-c", "touch " + dir + "/cmd"}
	bad := sh("bad", "exec sleep 1000")
	bad.ReloadCommand = []string{"/bin/sh", "-c", "exit 4"}
	r := start(t, Config{Specs: []spec.Spec{sig, cmd, bad, sh("not", "exec sleep 1000")}, Cgroups: tree})
	waitFor(t, "trap set", func() bool { _, err := os.Stat(dir + "/set"); return err == nil })
	for _, name := range []string{"cmd", "bad", "not"} {
		r.until(name, in("up"))
	}
	r.mustCall("reload", "sig")
	waitFor(t, "signal taken", func() bool { _, err := os.Stat(dir + "/hup"); return err == nil })
	r.mustCall("reload", "cmd")
	if _, err := os.Stat(dir + "/cmd"); err != nil {
		t.Error("reload answered before its command was done")
	}
	for name, want := range map[string]string{"bad": "exit code 4", "not": "osctl restart not"} {
		if _, err := r.call("reload", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reload %s: %v, want %q", name, err, want)
		}
	}
}
