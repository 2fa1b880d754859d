package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/console"
	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/init/walk"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/services/boottime"
	"resinos/services/log/line"
	"resinos/services/pid1"
	"resinos/services/sysctl"
)

var powerCommand = map[pid1.Power]int{
	pid1.PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF,
	pid1.Reboot:   unix.LINUX_REBOOT_CMD_RESTART,
	pid1.Halt:     unix.LINUX_REBOOT_CMD_HALT,
}

// PowerFile holds the Power while the device goes down. A service that is stopped and finds it knows that this is the end,
// not a restart: the manager then stops the containers.
const PowerFile = runtimeDir + "/power"

// down takes everything apart and ends the device. It is made once, at the first wish for it.
type down struct {
	action pid1.Power
	end    lastboot.Marker // what the next boot is told of this end
	since  time.Duration   // on the kernel's clock, so that a re-exec does not lengthen it
	log    *slog.Logger
	out    *line.Handler
	stop   func()        // ends the supervisor; nil where there is none
	ended  chan struct{} // closed when the supervisor has ended
	leave  func()        // the watchdog's last meal, right before the power goes

	marking *lastboot.Marking // what the next boot is told of the beginning; nil where nothing is

	mu     sync.Mutex // guards the rest
	level  level
	urgent chan struct{} // closed, and made anew, at every escalation
}

// escalate makes the shutdown more urgent.
func (d *down) escalate(to level) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if to <= d.level {
		return
	}
	d.level = min(to, cut)
	d.log.Warn("shutdown is urgent", "count", int(d.level))
	close(d.urgent)
	d.urgent = make(chan struct{})
}

func (d *down) urgency() (level, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.level, d.urgent
}

// run never returns: when the kernel refuses the power command it tries the next, and in the end waits for the watchdog.
func (d *down) run() {
	left := max(time.Second, hardLimit-(boottime.Now()-d.since))
	time.AfterFunc(left, func() {
		d.log.Error("shutdown takes too long: power is cut", "after", hardLimit)
		d.cutPower()
	})
	if err := announce(d.action); err != nil {
		d.log.Warn("services not told of the shutdown", "error", err)
	}
	for _, p := range wayDown() {
		d.pass(p)
	}
	d.log.Info("power goes off", "action", string(d.action))
	d.cutPower()
}

// pass goes through one phase until it is done, its time is over or somebody is in a hurry. What hangs is left behind: there is
// no way to end a sync on a dead disk.
func (d *down) pass(p phase) {
	done := make(chan struct{})
	limit := time.NewTimer(p.limit)
	defer limit.Stop()
	started := false
	for {
		l, urgent := d.urgency()
		if p.skips(l) {
			return
		}
		if !started {
			started = true
			go func() { // ends with the phase; when that hangs, so does the device's life
				defer close(done)
				if err := walk.Shielded(func() error { p.do(d); return nil }); err != nil {
					d.log.Error("shutdown phase failed", "phase", p.name, "error", err)
				}
			}()
		}
		select {
		case <-done:
			return
		case <-limit.C:
			d.log.Error("shutdown phase takes too long", "phase", p.name, "after", p.limit)
			return
		case <-urgent:
		}
	}
}

// cutPower gives the command to the kernel and does not return.
func (d *down) cutPower() {
	if d.leave != nil {
		d.leave()
	}
	cutPower(d.action, d.log)
}

func cutPower(action pid1.Power, log *slog.Logger) {
	err := unix.Reboot(powerCommand[action])
	log.Error("power command refused", "action", string(action), "error", err)
	// As root of the real pid name space this works where reboot(2) hangs in a driver.
	err = sysctl.Write("/proc/sysrq-trigger", "b")
	log.Error("forced reboot refused", "error", err)
	select {} // PID 1 never exits; the hardware watchdog is left
}

// stopServices ends the supervisor, which stops all services in reverse order.
func (d *down) stopServices() {
	d.log.Info("stopping services", "action", string(d.action))
	if d.stop == nil {
		return
	}
	d.stop()
	<-d.ended
}

// askLeftovers gives what the services left behind the time to end by itself.
func (d *down) askLeftovers() { d.sweep(syscall.SIGTERM) }

// kill ends everything that is left, by cgroup first: what forks as fast as it is killed does not escape that.
func (d *down) kill() {
	if d.stop != nil {
		d.stop() // in a hurry nobody has
	}
	// logd is gone; the last lines go where the next boot may find them.
	d.out.Redirect(console.KernelLog(), console.Console(true))
	d.killAll()
}

// killAll ends every process but this one, by cgroup first.
func (d *down) killAll() {
	_ = sysctl.Write(filepath.Join(cgroupRoot, "resinos/cgroup.kill"), "1") // without cgroups the signal has to do
	d.sweep(syscall.SIGKILL)
}

// sweep signals every process and waits until none is left. The phase's limit ends it.
func (d *down) sweep(sig syscall.Signal) {
	left := living()
	if len(left) == 0 {
		return
	}
	d.log.Info("ending processes", "signal", sig.String(), "processes", len(left))
	if err := unix.Kill(-1, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		d.log.Warn("processes cannot be signalled", "error", err)
	}
	// The reaper takes our children, but grandchildren elsewhere end without telling us: so this looks.
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for range look.C {
		if left = living(); len(left) == 0 {
			return
		}
	}
}

// living lists the processes of this pid name space but PID 1, kernel threads and the dead.
func living() []int {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}
		if text, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil && lives(string(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lives reads /proc/PID/stat: "pid (name) state ppid pgrp session tty tpgid flags …". The name may hold anything.
func lives(stat string) bool {
	const kernelThread = 0x00200000 // PF_KTHREAD in include/linux/sched.h
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 32)
	return err == nil && flags&kernelThread == 0
}

// sync writes out what is dirty. A dead disk holds it up until the phase is over.
func (d *down) sync() { unix.Sync() }

// detachMost takes off all but the state partition, on which the marker is still to be written.
func (d *down) detachMost() { d.detach(partition.Target(disk.State)) }

func (d *down) detachAll() {
	d.detach("")
	unix.Sync()
}

func (d *down) detach(but string) {
	// Three rounds: what held a mount busy may itself come off in the round before.
	for range 3 {
		have, err := attach.ReadMounts()
		if err != nil {
			d.log.Error("mounts cannot be listed", "error", err)
			return
		}
		var faults []error
		for _, step := range attach.DetachOrder(have, partition.Slot) {
			if step.Target == but {
				continue
			}
			if err := step.Apply(); err != nil {
				faults = append(faults, err)
			}
		}
		if len(faults) == 0 {
			return
		}
		d.log.Warn("not everything is detached", "error", errors.Join(faults...))
	}
}

// mark tells the next boot how this one ended.
func (d *down) mark() {
	d.saveClock()
	if err := d.marking.End(lastboot.MarkerFile, d.end); err != nil {
		d.log.Warn("end of this boot not recorded for the next boot", "error", err)
	}
}

// announce leaves the action for services that are about to be stopped.
func announce(action pid1.Power) error {
	if err := os.WriteFile(PowerFile, []byte(action+"\n"), 0o644); err != nil {
		return fmt.Errorf("announce shutdown: %w", err)
	}
	return nil
}

// wish is somebody's request for a power action.
type wish struct {
	action pid1.Power
	force  bool // do not wait for anybody
	why    string
	failed bool // it is no clean end
}

// request hands a wish to PID 1's loop; when that has one waiting already, this one adds nothing.
func request(ctx context.Context, wishes chan<- wish, w wish) error {
	if _, known := powerCommand[w.action]; !known {
		return fmt.Errorf("power: action %.20q is not poweroff, reboot or halt", w.action)
	}
	select {
	case wishes <- w:
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
	}
	return nil
}
