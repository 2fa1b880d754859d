package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/bootreport"
	"resinos/services/pid1"
)

// order is what the operation fault takes; see services/fault.
type order struct {
	Point string `json:"point"`
	Kind  string `json:"kind"`
	Errno string `json:"errno"`
	At    int64  `json:"at"`
	Times int    `json:"times"`
}

// four services: one that only runs, one that needs it, one that does its work and ends, one that takes its time to
// stop.
func four() map[string]string {
	return map[string]string{
		"base": service("", "exec busybox sleep 1000"),
		"top":  service(`needs = ["base"]`, "exec busybox sleep 1000"),
		"once": service(`type = "oneshot"`, "exit 0"),
		"slow": service("", "trap 'busybox sleep 0.05; exit 0' TERM; while :; do busybox sleep 0.02; done"),
	}
}

func (g *guest) breaks(o order) {
	g.t.Helper()
	o.At = max(o.At, 1)
	if err := g.call("fault", o, nil); err != nil {
		// The very call may be the one that panics.
		g.t.Logf("fault: %v", err)
	}
}

// points are the places where PID 1 can be broken, with the goroutine that then panics, and what visits the place.
var points = []struct{ point, daemon string }{
	{"reaper.round", "reaper"},
	{"control.accept", "control"},
	{"control.handle", "control client"},
	{"pid1.loop", "pid 1"},
}

// visit makes PID 1 come past each of its points.
func (g *guest) visit() {
	for range 3 {
		ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
		_ = g.callIn(ctx, "ping", nil, nil) // it may be what hangs
		cancel()
		if pid := g.hostPids(map[string]int{"base": g.quickPids()["base"]})["base"]; pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (g *guest) quickPids() map[string]int {
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
	defer cancel()
	var list []pid1.ServiceStatus
	_ = g.callIn(ctx, "status", nil, &list)
	pids := map[string]int{}
	for _, s := range list {
		pids[s.Name] = s.PID
	}
	return pids
}

// TestPanicAnywhere: whichever goroutine of PID 1 panics, PID 1 becomes itself, with the reason; no service notices.
func TestPanicAnywhere(t *testing.T) {
	g := startBinary(t, "faults", four(), "")
	settled := func() bool { return g.state("top") == "up" && g.state("slow") == "up" && g.state("once") == "done" }
	g.until("all settled", settled)
	for n, p := range points {
		before := g.pids()
		g.breaks(order{Point: p.point, Kind: "panic"})
		if p.point == "reaper.round" {
			// the answer may be lost with PID 1's old life
			_ = g.call("kill", map[string]string{"name": "slow", "signal": "KILL"}, nil)
			delete(before, "slow")
		} else {
			_ = g.call("ping", nil, nil)
		}
		life := g.reexecuted(n + 1)
		if !life.Panic || !strings.Contains(life.Reason, "panic in "+p.daemon+": fault point "+p.point) {
			t.Errorf("%s: life %+v", p.point, life)
		}
		g.until("all settled", settled)
		for name, pid := range before {
			if got := g.pids()[name]; got != pid {
				t.Errorf("%s: %s was pid %d, is %d", p.point, name, pid, got)
			}
		}
	}
	// A fault that comes back at once is not cured by another life: the bootloader gets its turn.
	// On a busy host, the first of them may be over a minute ago.
	gaveUp := func() bool { return strings.Contains(g.text(), "pid 1 gives up: rebooting") }
	for lives := len(points); !gaveUp() && lives < 50; lives++ {
		g.breaks(order{Point: "pid1.loop", Kind: "panic"})
		_ = g.call("ping", nil, nil)
		g.until("another life, or none", func() bool {
			var r bootreport.Report
			return gaveUp() || g.call("boot", nil, &r) == nil && r.Reexecs > lives
		})
	}
	g.expect("pid 1 gives up: rebooting")
	g.expect("more than 5 panics within 1m0s")
	g.expect("power goes off")
	g.end(syscall.SIGHUP)
}

// TestHangIsNotFed: whichever loop of PID 1 hangs, spinning or blocked, the watchdog goes hungry, and the log says
// because of whom.
func TestHangIsNotFed(t *testing.T) {
	kinds := []string{"block", "spin"}
	for i, p := range points {
		t.Run(p.point, func(t *testing.T) {
			t.Parallel()
			g := startBinary(t, "faults", four(), "")
			g.expect("watchdog fed")
			times := 1
			if p.point == "control.handle" {
				times = 1 << 20 // one client that hangs is no hang of PID 1
			}
			g.breaks(order{Point: p.point, Kind: kinds[i%2], Times: times})
			g.visit()
			g.expect("watchdog is not fed")
			meals := strings.Count(g.text(), "watchdog fed")
			testenv.Never(t, 3*time.Second, "the watchdog is fed while "+p.point+" hangs", func() bool {
				return strings.Count(g.text(), "watchdog fed") > meals
			})
		})
	}
}

// TestRefusedReexecReboots: a PID 1 that cannot become itself goes down at once, and in order. The watchdog of tests
// wants to be fed within a second, which is what the ten tries take, so it tells nothing here: see
// TestLastDownWaitsForNobody.
func TestRefusedReexecReboots(t *testing.T) {
	t.Parallel()
	g := startBinary(t, "faults", four(), "")
	g.expect("watchdog fed")
	g.breaks(order{Point: "exec", Kind: "error", Errno: "ENOMEM", Times: 1 << 20})
	if err := g.call("re-exec", nil, nil); err != nil {
		t.Fatal(err)
	}
	g.expect("pid 1 gives up")
	g.end(syscall.SIGHUP)
	if strings.Contains(g.text(), "takes too long") {
		t.Error("the way down is not what it should be")
	}
}

// TestEveryCallFails: whichever system call fails, for want of memory or of processes, PID 1 lives, and in the end each
// service is up or visibly failed.
func TestEveryCallFails(t *testing.T) {
	var total int64
	dry := startBinary(t, "faults", four(), "")
	scenario(dry)
	if err := dry.call("calls", nil, &total); err != nil {
		t.Fatal(err)
	}
	t.Logf("the scenario makes %d calls", total)
	step := int64(1)
	if testing.Short() {
		step = 8
	}
	for _, errno := range []string{"ENOMEM", "EAGAIN"} {
		for n := int64(1); n <= total+3; n += step {
			t.Run(fmt.Sprint(errno, " at ", n), func(t *testing.T) {
				t.Parallel()
				orders, err := json.Marshal([]order{{Kind: "error", Errno: errno, At: n, Times: 1}})
				if err != nil {
					t.Fatal(err)
				}
				g := startBinary(t, "faults", four(), string(orders))
				scenario(g)
				g.rebootNow()
			})
		}
	}
}

// scenario is a life of four services. What an operation answers does not count: the end does.
func scenario(g *guest) {
	g.t.Helper()
	g.settle("base", "top", "once", "slow")
	_ = g.call("kill", map[string]string{"name": "base", "signal": "KILL"}, nil)
	_ = g.call("restart", map[string]string{"name": "top"}, nil)
	_ = g.call("stop", map[string]string{"name": "slow"}, nil)
	g.settle("base", "top", "once", "slow")
}

// settle waits until each service has come to rest in a state that a person can see.
func (g *guest) settle(names ...string) {
	g.t.Helper()
	for _, name := range names {
		g.until(name+" settles", func() bool {
			switch g.state(name) {
			case "up", "done", "failed", "down":
				return true
			}
			return false
		})
	}
}

// rebootNow ends the guest without waiting for anybody.
func (g *guest) rebootNow() {
	g.t.Helper()
	g.until("the wish is taken", func() bool {
		return g.call("power", map[string]any{"action": "reboot", "force": true},
			nil) == nil
	})
	g.end(syscall.SIGHUP)
}

// TestShippedBinaryHasNoFaults: what breaks PID 1 in tests is not in what is shipped.
func TestShippedBinaryHasNoFaults(t *testing.T) {
	for tags, want := range map[string]bool{"": false, "faults": true} {
		binary, err := os.ReadFile(built(t, tags))
		if err != nil {
			t.Fatal(err)
		}
		for _, trace := range []string{"fault point ", "is no error to fail with", "resinos-faults"} {
			if got := bytes.Contains(binary, []byte(trace)); got != want {
				t.Errorf("built with tags %q: %q found: %v", tags, trace, got)
			}
		}
	}
}
