package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/bootreport"
	"resinos/services/pid1"
)

// pids are the main processes of the services, by name; none before PID 1 answers.
func (g *guest) pids() map[string]int {
	var list []pid1.ServiceStatus
	_ = g.call("status", nil, &list)
	pids := map[string]int{}
	for _, s := range list {
		if s.PID != 0 {
			pids[s.Name] = s.PID
		}
	}
	return pids
}

// state is the word that status shows for a service.
func (g *guest) state(name string) string {
	var list []pid1.ServiceStatus
	if err := g.call("status", nil, &list); err != nil {
		return err.Error()
	}
	for _, s := range list {
		if s.Name == name {
			return s.State
		}
	}
	return "missing"
}

// lastExit is what status tells of the latest end of a service.
func (g *guest) lastExit(name string) string {
	var list []pid1.ServiceStatus
	_ = g.call("status", nil, &list)
	for _, s := range list {
		if s.Name == name {
			return s.LastExit
		}
	}
	return ""
}

func (g *guest) report() bootreport.Report {
	g.t.Helper()
	var r bootreport.Report
	g.until("the report", func() bool { return g.call("boot", nil, &r) == nil })
	return r
}

// reexecuted waits for the nth re-exec and returns it.
func (g *guest) reexecuted(n int) bootreport.Life {
	g.t.Helper()
	var r bootreport.Report
	g.until(fmt.Sprintf("%d re-execs", n), func() bool {
		return g.call("boot", nil, &r) == nil && r.Reexecs >= n && r.Lives[len(r.Lives)-1].Took > 0
	})
	return r.Lives[len(r.Lives)-1]
}

// TestReexec: PID 1 becomes itself fifty services later. Every process stays, each exit before, during and after is
// known, the control socket never refuses, and the time line of the boot is whole.
func TestReexec(t *testing.T) {
	services := map[string]string{
		"once":  service("type = \"oneshot\"", "exit 0"),
		"short": service("", "busybox sleep 0.3; exit 3") + "restart = \"never\"\n",
	}
	for i := range 50 {
		services[fmt.Sprintf("s%02d", i)] = service("", "exec busybox sleep 1000")
	}
	g := startGuest(t, services)
	g.until("all up", func() bool { return len(g.pids()) >= 50 && g.state("once") == "done" })
	before, first := g.pids(), g.report()
	var took, cpu []float64
	for n := 1; n <= 5; n++ {
		stop := g.hammer()
		if n > 1 {
			stop() // the first is the one that clients come into; the others are timed
		}
		if err := g.call("re-exec", map[string]string{"reason": fmt.Sprint("try ", n)}, nil); err != nil {
			t.Fatal(err)
		}
		life := g.reexecuted(n)
		stop()
		took, cpu = append(took, 1e3*life.Took), append(cpu, 1e3*life.CPU)
		if life.Reason != fmt.Sprint("try ", n) || life.Panic {
			t.Errorf("life %+v", life)
		}
	}
	slices.Sort(took)
	slices.Sort(cpu)
	// Most of it is the kernel's and the runtime's work for any program as large, so that is the measure of how long it
	// may take.
	floor := bestStart(t, built(t, ""))
	t.Logf("re-exec with 50 children, ms: best %.1f, worst %.1f, of processor time %.1f; the binary alone starts and "+
		"ends in %.1f", took[0], took[4], cpu[0], floor)
	if testenv.Figures() && min(took[0], cpu[0]) > max(15, 4*floor) {
		t.Errorf("re-exec took %.1f ms at best, want 15, or on a slow host at most four times %.1f", took[0], floor)
	}
	delete(before, "short")
	after := g.pids()
	for name, pid := range before {
		if after[name] != pid {
			t.Errorf("%s was pid %d, is %d", name, pid, after[name])
		}
	}
	g.until("short has failed", func() bool { return g.state("short") == "failed" })
	if r := g.report(); len(r.Steps) != len(first.Steps) ||
		r.Milestones[bootreport.MilestoneRoot] != first.Milestones[bootreport.MilestoneRoot] {
		t.Errorf("the time line has %d steps, had %d", len(r.Steps), len(first.Steps))
	}
	g.kill("s07")
	g.until("s07 is started again", func() bool { pid := g.pids()["s07"]; return pid != 0 && pid != before["s07"] })
	if memory, err := anonymous(g.cmd.Process.Pid); err != nil || testenv.Figures() && memory > 4<<10 {
		t.Errorf("PID 1 has %d KiB of its own, %v", memory, err)
	} else {
		t.Logf("PID 1 has %d KiB of its own", memory)
	}
	g.off()
}

// hammer asks PID 1 again and again until the returned function is called. A refused connection fails the test.
func (g *guest) hammer() func() {
	stop := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := g.call("ping", nil, nil)
			// Who is in the middle of a question loses it with PID 1's old life.
			if err != nil && !strings.Contains(err.Error(), "closed without an answer") &&
				!errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				g.t.Errorf("the control socket says %v", err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-over
	})
}

// bestStart is how long the binary takes to start, find nothing to do and end, in ms: the best of ten.
func bestStart(t *testing.T, binary string) float64 {
	t.Helper()
	best := time.Hour
	for range 10 {
		begin := time.Now()
		if err := exec.Command(binary).Run(); err == nil { // it names its applets and fails
			t.Fatal("without an applet the binary does something")
		}
		best = min(best, time.Since(begin))
	}
	return 1e3 * best.Seconds()
}

// kill ends the main process of a service from outside.
func (g *guest) kill(name string) {
	g.t.Helper()
	if err := g.call("kill", map[string]string{"name": name, "signal": "KILL"}, nil); err != nil {
		g.t.Fatal(err)
	}
}

// off switches the guest off in order.
func (g *guest) off() {
	g.t.Helper()
	if err := g.call("power", map[string]string{"action": "poweroff"}, nil); err != nil {
		g.t.Fatal(err)
	}
	g.expect("power goes off")
	g.end(syscall.SIGINT)
}

// TestReexecLosesNoExit: fifty services die while PID 1 becomes itself; each is started again.
func TestReexecLosesNoExit(t *testing.T) {
	services := map[string]string{}
	for i := range 50 {
		services[fmt.Sprintf("s%02d", i)] = service("", "exec busybox sleep 1000")
	}
	g := startGuest(t, services)
	g.until("all up", func() bool { return len(g.pids()) == 50 })
	for n := 1; n <= 3; n++ {
		before := g.pids()
		if err := g.call("re-exec", nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, pid := range g.hostPids(before) {
			time.Sleep(2 * time.Millisecond) // sleep: spread over the moment of the exec; any moment will do
			syscall.Kill(pid, syscall.SIGKILL)
		}
		g.reexecuted(n)
		g.until("all started again", func() bool {
			after := g.pids()
			for name, pid := range before {
				if after[name] == 0 || after[name] == pid {
					return false
				}
			}
			return true
		})
	}
}

// hostPids translates pids of the guest into ours.
func (g *guest) hostPids(inside map[string]int) map[string]int {
	wanted := map[string]string{}
	for name, pid := range inside {
		wanted[fmt.Sprint(pid)] = name
	}
	found := map[string]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "NSpid:")
		line, _, _ := strings.Cut(rest, "\n")
		fields := strings.Fields(line)
		if len(fields) != 2 || !g.inside(fields[0]) {
			continue
		}
		if name := wanted[fields[1]]; name != "" {
			var pid int
			fmt.Sscan(fields[0], &pid)
			found[name] = pid
		}
	}
	return found
}

func (g *guest) inside(pid string) bool {
	own, err1 := os.Readlink("/proc/" + pid + "/ns/pid")
	its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", g.cmd.Process.Pid))
	return err1 == nil && err2 == nil && own == its
}

// TestReexecDuringShutdown: a shutdown goes on in the next life.
func TestReexecDuringShutdown(t *testing.T) {
	g := startGuest(t, map[string]string{
		"slow": service("", "trap 'busybox sleep 1; echo slow-stopped >/dev/console; exit 0' TERM; echo trap-set "+
			">/dev/console; while :; do busybox sleep 0.05; done"),
	})
	g.until("up", func() bool { return g.state("slow") == "up" })
	g.expect("trap-set")
	if err := g.call("power", map[string]string{"action": "reboot"}, nil); err != nil {
		t.Fatal(err)
	}
	g.expect("stopping services")
	if err := g.call("re-exec", nil, nil); err != nil {
		t.Fatal(err)
	}
	g.expect("pid 1 re-executed")
	g.expect("slow-stopped")
	g.expect("power goes off")
	g.end(syscall.SIGHUP)
}

// TestSecondWishIsUrgent: who asks again does not wait for a service that takes its time.
func TestSecondWishIsUrgent(t *testing.T) {
	g := startGuest(t, map[string]string{
		"deaf": service("", "trap '' TERM; while :; do busybox sleep 0.05; done") + "stop-timeout = \"1h\"\n",
	})
	g.until("up", func() bool { return g.state("deaf") == "up" })
	for range 2 {
		if err := g.call("power", map[string]string{"action": "poweroff"}, nil); err != nil {
			t.Fatal(err)
		}
		g.expect("stopping services")
	}
	g.expect("shutdown is urgent")
	g.end(syscall.SIGINT)
	if strings.Contains(g.text(), "stop services: not within") {
		t.Error("it waited for the service after all")
	}
}
