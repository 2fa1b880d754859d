// Package shutdown takes the device down: it stops services, kills the remaining processes, writes caches to disk,
// detaches mounts, records the end for the next boot, and switches the power off. Each phase has a limit, and so have
// all together, so that no hanging process or disk keeps a device on; each further request makes the shutdown faster.
// It never begins a shutdown itself. Read phases first, then Shutdown.
package shutdown

import (
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

	"resinos/bsp/slot"
	"resinos/init/console"
	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/init/walk"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/net/savedtime"
	"resinos/services/boottime"
	"resinos/services/cgroup"
	"resinos/services/log/line"
	"resinos/services/pid1"
	"resinos/services/sysctl"
)

var powerCommand = map[pid1.Power]int{
	pid1.PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF,
	pid1.Reboot:   unix.LINUX_REBOOT_CMD_RESTART,
	pid1.Halt:     unix.LINUX_REBOOT_CMD_HALT,
}

// PowerFile holds the Power while the device goes down. It tells a service that is being stopped that the device goes
// down: the manager then stops the containers.
const PowerFile = "/run/resinos/power"

// SplashLimit is the longest that the logo may take while the device goes down: part of the time of what is left.
const SplashLimit = 2 * time.Second

// Known reports whether the kernel has a command for an action.
func Known(action pid1.Power) bool {
	_, known := powerCommand[action]
	return known
}

// Config holds what a shutdown stops, and how it ends.
type Config struct {
	Action  pid1.Power
	End     lastboot.Marker   // the record of this end for the next boot
	Marking *lastboot.Marking // the record of the beginning of this boot; nil: there is none
	Log     *slog.Logger
	Out     *line.Handler
	Verbose bool // the console shows what happens

	Stop        func()          // ends the supervisor; nil: there is none
	Ended       <-chan struct{} // closed when the supervisor has ended
	Splash      func()          // draws the owner's logo, within SplashLimit; nil: there is none
	BeforePower func()          // called right before the power goes off; nil: nothing
	Force       bool            // processes are killed at once
}

// Shutdown is one shutdown. It is created once, at the first request.
type Shutdown struct {
	Config
	since time.Duration // on the kernel's clock, so that a re-exec does not lengthen it

	mu     sync.Mutex // guards the rest
	level  level
	urgent chan struct{} // closed, and replaced, at every escalation
}

// New prepares a shutdown.
func New(cfg Config) *Shutdown {
	d := &Shutdown{Config: cfg, since: boottime.Now(), urgent: make(chan struct{})}
	if cfg.Force {
		d.level = hurried
	}
	return d
}

// Saved is the state of a running shutdown, with which the next life of PID 1 continues it.
type Saved struct {
	Action pid1.Power      `json:"action"`
	End    lastboot.Marker `json:"end"`
	Since  time.Duration   `json:"since"`
	Level  level           `json:"level"`
}

// Save returns what Resume needs.
func (d *Shutdown) Save() Saved {
	l, _ := d.urgency()
	return Saved{d.Action, d.End, d.since, l}
}

// Resume continues a shutdown that a re-exec interrupted. Its action and its end are those that were saved.
func Resume(cfg Config, s Saved) *Shutdown {
	cfg.Action, cfg.End = s.Action, s.End
	d := New(cfg)
	d.since, d.level = s.Since, s.Level
	return d
}

// Overdue reports whether the time for the whole shutdown is over.
func (d *Shutdown) Overdue() bool { return boottime.Now()-d.since >= hardLimit }

// Hurry makes the shutdown one level more urgent.
func (d *Shutdown) Hurry() {
	l, _ := d.urgency()
	d.escalate(l + 1)
}

// escalate makes the shutdown more urgent.
func (d *Shutdown) escalate(to level) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if to <= d.level {
		return
	}
	d.level = min(to, cut)
	d.Log.Warn("shutdown is urgent", "count", int(d.level))
	close(d.urgent)
	d.urgent = make(chan struct{})
}

func (d *Shutdown) urgency() (level, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.level, d.urgent
}

// Run never returns: if the kernel refuses a power command, Run tries the next one, and finally waits for the watchdog.
func (d *Shutdown) Run() {
	left := max(time.Second, hardLimit-(boottime.Now()-d.since))
	time.AfterFunc(left, func() {
		d.Log.Error("shutdown takes too long: power is cut", "after", hardLimit)
		d.cutPower()
	})
	if err := announce(d.Action); err != nil {
		d.Log.Warn("shutdown not reported to services", "error", err)
	}
	for _, p := range phases() {
		d.pass(p)
	}
	d.Log.Info("power goes off", "action", string(d.Action))
	d.cutPower()
}

// pass runs one phase until it is done, its time is over or a request makes the shutdown more urgent. A phase that
// hangs is left running: a sync on a dead disk cannot be ended.
func (d *Shutdown) pass(p phase) {
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
			go func() { // ends with the phase, or with the power if the phase hangs
				defer close(done)
				if err := walk.Shielded(func() error { p.do(d); return nil }); err != nil {
					d.Log.Error("shutdown phase failed", "phase", p.name, "error", err)
				}
			}()
		}
		select {
		case <-done:
			return
		case <-limit.C:
			d.Log.Error("shutdown phase takes too long", "phase", p.name, "after", p.limit)
			return
		case <-urgent:
		}
	}
}

// KillAll ends every process but this one, and waits for them no longer than its phase does.
func KillAll(log *slog.Logger) {
	New(Config{Log: log}).pass(phase{name: "kill", limit: 5 * time.Second, do: (*Shutdown).killAll})
}

// LastResort is the shutdown when no state can be saved: it records the end for the next boot, writes caches to disk
// and switches the power off. It does not return.
func LastResort(cfg Config) {
	d := New(cfg)
	d.pass(phase{name: "mark", limit: lastSync, do: (*Shutdown).mark})
	d.pass(phase{name: "sync", limit: lastSync, do: (*Shutdown).sync})
	d.cutPower()
}

// cutPower gives the kernel the power command, and does not return.
func (d *Shutdown) cutPower() {
	if d.BeforePower != nil {
		d.BeforePower()
	}
	if !d.Verbose {
		_ = sysctl.Write("/proc/sys/kernel/printk", "0") // "reboot: Power down" would come out even at 1
	}
	cutPower(d.Action, d.Log)
}

func cutPower(action pid1.Power, log *slog.Logger) {
	err := unix.Reboot(powerCommand[action])
	log.Error("power command refused", "action", string(action), "error", err)
	// For root of the initial PID namespace this works even if reboot(2) hangs in a driver.
	err = sysctl.Write("/proc/sysrq-trigger", "b")
	log.Error("forced reboot refused", "error", err)
	select {} // PID 1 never exits; the hardware watchdog will reset the device
}

// stopServices ends the supervisor, which stops all services in reverse order.
func (d *Shutdown) stopServices() {
	d.Log.Info("stopping services", "action", string(d.Action))
	if d.Stop == nil {
		return
	}
	d.Stop()
	<-d.Ended
}

// askLeftovers gives processes that services have left the time to end by themselves. The containers are gone: first
// the logo shows people that the device goes down.
func (d *Shutdown) askLeftovers() {
	if d.Splash != nil {
		d.Splash()
	}
	d.sweep(syscall.SIGTERM)
}

// kill kills all remaining processes, by cgroup first: a process that forks as fast as it is killed does not escape
// that.
func (d *Shutdown) kill() {
	if d.Stop != nil {
		d.Stop() // no phase before has stopped it in an urgent shutdown
	}
	// logd has ended; the last lines go to the kernel log, where the next boot may find them.
	d.Out.Redirect(console.KernelLog(), console.Console(d.Verbose))
	d.killAll()
}

// killAll ends every process but this one, by cgroup first.
func (d *Shutdown) killAll() {
	_ = sysctl.Write(filepath.Join(cgroup.Root, "cgroup.kill"), "1") // without cgroups only the signal below kills
	d.sweep(syscall.SIGKILL)
}

// sweep signals every process and waits until none is left. The phase's limit ends it.
func (d *Shutdown) sweep(sig syscall.Signal) {
	left := living()
	if len(left) == 0 {
		return
	}
	d.Log.Info("ending processes", "signal", sig.String(), "processes", len(left))
	if err := unix.Kill(-1, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		d.Log.Warn("processes cannot be signalled", "error", err)
	}
	// The reaper reaps children of PID 1, but nothing reports the end of other descendants, so sweep lists the
	// processes.
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for range look.C {
		if left = living(); len(left) == 0 {
			return
		}
	}
}

// living lists the processes of this PID namespace except PID 1, kernel threads and zombies.
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
func (d *Shutdown) sync() { unix.Sync() }

// detachMost takes off all but the state partition, on which the marker is still to be written.
func (d *Shutdown) detachMost() { d.detach(partition.Target(disk.State)) }

func (d *Shutdown) detachAll() {
	d.detach("")
	unix.Sync()
}

func (d *Shutdown) detach(but string) {
	// Three rounds: what held a mount busy may itself come off in the round before.
	for range 3 {
		have, err := attach.ReadMounts()
		if err != nil {
			d.Log.Error("mounts cannot be listed", "error", err)
			return
		}
		var faults []error
		for _, step := range attach.DetachOrder(have, slot.Target) {
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
		d.Log.Warn("not everything is detached", "error", errors.Join(faults...))
	}
}

// mark tells the next boot how this one ended.
func (d *Shutdown) mark() {
	d.saveClock()
	if err := d.Marking.End(lastboot.MarkerFile, d.End); err != nil {
		d.Log.Warn("end of this boot not recorded for the next boot", "error", err)
	}
}

// saveClock is the last that a boot does for the next one's clock.
func (d *Shutdown) saveClock() {
	if err := savedtime.Save(savedtime.Path, time.Now()); err != nil {
		d.Log.Warn("time not saved for the next boot", "error", err)
	}
}

// announce leaves the action for services that are about to be stopped.
func announce(action pid1.Power) error {
	if err := os.WriteFile(PowerFile, []byte(action+"\n"), 0o644); err != nil {
		return fmt.Errorf("announce shutdown: %w", err)
	}
	return nil
}
