package supervise

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
	"resinos/services/pid1"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/handle"
)

// rescans is a running supervisor whose service files are what the returned function last said.
func rescans(t *testing.T, list ...spec.Spec) (*rig, func(...spec.Spec) pid1.Rescanned) {
	t.Helper()
	r := start(t, Config{Specs: list, Load: func() ([]spec.Spec, []error) { return list, nil }})
	return r, func(now ...spec.Spec) pid1.Rescanned {
		t.Helper()
		list = now
		found, err := r.Rescan(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
}

// never makes a service that is never up.
func never(name string) spec.Spec {
	sp := sh(name, "exec sleep 1000")
	sp.Ready.Command = []string{"/bin/false"}
	return sp
}

// TestRescanForgetsWhatIsAwaited: who waits for the start of a service hears that its file is gone.
func TestRescanForgetsWhatIsAwaited(t *testing.T) {
	slow, stuck := never("slow"), sh("stuck", "exec sleep 1000")
	stuck.Needs = []string{"slow"}
	r, rescan := rescans(t, slow, stuck)
	r.until("stuck", in("waiting"))
	answer := make(chan error, 1)
	go func() {
		_, err := r.call("start", "stuck")
		answer <- err
	}()
	waitFor(t, "the operator waits", func() (waits bool) {
		if err := r.calls.Do(context.Background(), func() { waits = r.requests.Len() == 1 }); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	rescan(slow)
	err := testenv.Receive(t, "an answer to who waits for a service that is no more", answer)
	if err == nil || !strings.Contains(err.Error(), "stuck is gone") {
		t.Errorf("start of a service without a file: %v", err)
	}
}

// TestRescanBringsBack: a service whose file was removed and is there again is as good as new, also
// while its old process has not left yet.
func TestRescanBringsBack(t *testing.T) {
	trapped, leave := filepath.Join(t.TempDir(), "trapped"), filepath.Join(t.TempDir(), "leave")
	trap := "trap 'until test -e " + leave + "; do sleep 0.01; done; exit 0' TERM"
	quick := sh("quick", "exec sleep 1000")
	slow := sh("slow", trap+"; : >"+trapped+"; while :; do sleep 0.02; done")
	r, rescan := rescans(t, quick, slow)
	first := r.until("quick", in("up"))
	waitFor(t, "trap set", func() bool { _, err := os.Lstat(trapped); return err == nil })
	if found := rescan(); len(found.Removed) != 2 {
		t.Errorf("removed: %+v", found)
	}
	waitFor(t, "quick is forgotten", func() bool { return !r.knows("quick") })
	if found := rescan(quick, slow); len(found.Added) != 2 || len(found.Changed) != 0 {
		t.Errorf("there again: %+v", found)
	}
	if err := os.WriteFile(leave, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if again := r.until("quick", in("up")); again.PID == first.PID {
		t.Errorf("quick has not been started again: %+v", again)
	}
	r.until("slow", func(st pid1.ServiceStatus) bool { return st.State == "up" && st.Restarts == 1 })
}

// TestRescanClosesSockets: what listened for a service that is no more is closed.
func TestRescanClosesSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	base, web := sh("base", "exec sleep 1000"), listener("web", path)
	web.Needs = []string{"base"}
	r, rescan := rescans(t, base, web)
	r.until("web", in("armed"))
	if _, err := r.call("stop", "base"); err != nil {
		t.Fatal(err)
	}
	r.until("web", in("waiting"))
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("whoever comes meanwhile is refused: %v", err)
	}
	rescan(base)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket of a forgotten service is still there")
	}
}

// TestExitOfTheForgotten: the late end of a process whose service is no more concerns nobody.
func TestExitOfTheForgotten(t *testing.T) {
	s, err := New(Config{Specs: []spec.Spec{sh("a", "x"), sh("b", "y")}, Reaper: proc.NewReaper()})
	if err != nil {
		t.Fatal(err)
	}
	forgotten := s.handles[1]
	s.applySpecs([]spec.Spec{sh("a", "x")})
	s.exits.Add(handle.Exit{Handle: forgotten, Status: proc.Status{Pid: 1 << 22}})
	s.takeExits()
}
